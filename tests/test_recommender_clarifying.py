"""Asking back: the one answer that changes most, and only when it changes something."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_recommender_rank import ASK, method, paper, small

from recommender import Query, clarify, parse, recommend
from taxonomy import KB, Profile, load_kb

CASES = [method(f"m{i}", f) for i, f in enumerate(("gradient", "perturbation", "class_activation"))]


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb()


def test_it_asks_for_what_changes_the_ranking(kb: KB) -> None:
    inside = [method(f"g{i}", needs=["gradients"]) for i in range(5)]
    papers = [paper(f"p{i}", [m.id for m in inside]) for i in range(9)]
    toy = small(kb, [*inside, *(method(f"h{i}", "perturbation") for i in range(5))], papers)
    found = clarify(ASK, toy)
    assert found
    assert found.field == "access"
    assert found.change == 2.5  # none for one answer, all five for the other
    yes, no = found.choices
    assert "gradients" in yes.query.has
    assert no.query.access == "black_box"
    assert {r.method for r in recommend(no.query, toy)} == {f"h{i}" for i in range(5)}
    assert found.as_json()["choices"][1]["query"]["access"] == "black_box"


@pytest.mark.parametrize(
    "known", [{"access": "black_box"}, {"has": frozenset({"gradients"})}, {"architecture": "cnn"}], ids=str
)
def test_it_never_asks_what_is_known(kb: KB, known: dict[str, object]) -> None:
    query = replace(ASK, **known)
    found = clarify(query, kb)
    assert not found or found.field != "access"
    profile = Profile(frozenset({"gradients"}), {}, "classification", 2, "cnn")
    asked = clarify(query, kb, profile=profile)
    assert not asked or asked.field not in ("access", "task", "architecture", "dimension")


def test_nothing_to_ask(kb: KB) -> None:
    assert clarify(Query(), kb) is None
    assert clarify(ASK, small(kb, CASES)) is None


def test_moves_below_the_first_three_are_not_worth_a_question(kb: KB) -> None:
    sure = [method(f"a{i}") for i in range(3)]
    inside = [method(f"g{i}", needs=["gradients"]) for i in range(2)]
    papers = [paper(f"p{i}", [m.id for m in sure]) for i in range(9)] + [paper("q", [m.id for m in inside])]
    toy = small(kb, [*sure, *inside, method("late"), method("later")], papers)
    assert [r.method for r in recommend(ASK, toy)[3:5]] == ["g0", "g1"]
    assert [r.method for r in recommend(replace(ASK, access="black_box"), toy)[3:5]] == ["late", "later"]
    assert clarify(ASK, toy) is None


def test_usual_answers_weigh_more(kb: KB) -> None:
    for_segments = [method(f"s{i}", tasks=["segmentation"]) for i in range(6)]
    for_classes = [method(f"c{i}", tasks=["classification"]) for i in range(6)]
    query = Query(modality=("ultrasound",), has=frozenset({"gradients"}))

    def change(segmented: int) -> float:
        papers = [paper(f"p{i}", ["c0"]) for i in range(9)]
        papers += [paper(f"q{i}", ["c0"], task="segmentation") for i in range(segmented)]
        found = clarify(query, small(kb, [*for_segments, *for_classes], papers))
        assert found
        assert found.field == "task"
        return found.change

    assert change(9) > change(1) > 0


@pytest.mark.parametrize("text", ["ultrasound segmentation", "which method for brain MRI?", "chest X-ray classifier"])
def test_choices_change_what_they_promise(kb: KB, text: str) -> None:
    query = parse(text, kb)
    found = clarify(query, kb)
    assert found
    assert 2 <= len(found.choices) <= 5
    now = [r.method for r in recommend(query, kb)[:5]]
    thens = [[r.method for r in recommend(choice.query, kb)[:5]] for choice in found.choices]
    assert any(set(then[:3]) != set(now[:3]) for then in thens)
    for choice in found.choices:
        assert choice.query != query
        assert choice.query.modality == query.modality or found.field == "modality"


@pytest.mark.parametrize("text", ["ultrasound segmentation", "dermoscopy ViT"])
def test_leaders_alone_rank_as_all_do(kb: KB, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranking the leaders only gives the same question as ranking everything."""
    import recommender.clarifying as module

    query = parse(text, kb)
    quick = clarify(query, kb)
    monkeypatch.setattr(module, "_leaders", lambda _: frozenset(kb.methods))
    exact = clarify(query, kb)
    assert (quick and quick.field) == (exact and exact.field)
