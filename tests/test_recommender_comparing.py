"""Methods side by side, and why one is not the first choice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_recommender_rank import ASK, claim, method, paper, small

from recommender import Query, compare, parse, recommend, why_not
from taxonomy import KB, UnknownIdError, load_kb


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb()


AB = ("a", "b")


def duels(kb: KB, *outcomes: str, modality: str = "ultrasound", **given: bool) -> KB:
    papers = [
        paper(f"p{i}", AB, modality=modality, claims=[claim(["a"], one, ["b"], text=f"Finding {i}.", **given)])
        for i, one in enumerate(outcomes)
    ]
    return small(kb, [method("a"), method("b", "perturbation"), method("c")], papers)


def verdict(kb: KB, methods: tuple[str, ...] = AB, query: Query = ASK) -> list[str]:
    return [one.text for one in compare(methods, query, kb).verdict]


def test_head_to_head_comes_first_and_is_counted(kb: KB) -> None:
    toy = duels(kb, "better", "better", "worse", "better")
    found = compare(AB, ASK, toy)
    assert [told.favours for told in found.head_to_head] == [("a",), ("a",), ("b",), ("a",)]
    assert found.findings == {"a": (), "b": ()}
    assert found.verdict[0].text == "Of 4 head-to-head findings on ultrasound, 3 favour A, 1 favours B."
    assert found.verdict[0].cites == ("p0", "p1", "p2", "p3")
    assert found.verdict[1].text == "So the comparisons on ultrasound favour A."
    assert compare(("b", "a"), ASK, toy).head_to_head == found.head_to_head


def test_the_verdict_does_not_claim_more_than_was_found(kb: KB) -> None:
    assert verdict(duels(kb, "better", "better"))[1].startswith(
        "That is too little to say which is better on ultrasound"
    )
    assert "are divided" in verdict(duels(kb, "better", "worse", "better", "worse"))[1]
    assert "too little" in verdict(duels(kb, "better", "better", "better", self_reported=True))[1]
    assert "3 reported by authors" in verdict(duels(kb, "better", "better", "better", self_reported=True))[0]
    assert "are divided" not in verdict(duels(kb, "equal", "mixed", "equal"))[1]
    assert "3 are open" in verdict(duels(kb, "equal", "mixed", "equal"))[0]


def test_distance_is_told(kb: KB) -> None:
    told = verdict(duels(kb, "better", "better", "better", modality="mri"))
    assert told[0] == "No study compares A and B on ultrasound; elsewhere some did."
    assert told[1] == "Of 3 head-to-head findings on other modalities, 3 favour A."
    assert "too little" in told[2]
    near = compare(AB, ASK, duels(kb, "better", modality="breast_ultrasound"))
    assert near.head_to_head[0].near == "near"
    assert near.head_to_head[0].text == "Finding 0 (Breast_Ultrasound, a related modality; localisation)."


def test_nothing_found_is_said(kb: KB) -> None:
    told = verdict(duels(kb), ("a", "c"))
    assert told[0] == "No study of the knowledge base compares A and C with each other."
    assert told[-2:] == [f"Nothing was found about the quality of {one}." for one in "AC"]


def test_one_method_is_judged_by_its_own_findings(kb: KB) -> None:
    claims = [
        claim(["a"], "adequate", text="Good."),
        claim(["a"], "inadequate", text="Bad.", self_reported=True),
        claim(["a"], "adequate", criterion="feasibility", text="Used."),
        claim(["b"], "better", ["a"], text="B is better."),
    ]
    toy = small(kb, [method("a"), method("b")], [paper("p", ["a"], claims=claims)])
    found = compare(["a", "a"], ASK, toy)
    assert found.methods == ("a",)
    assert [(t.side, t.text.split(" (")[0]) for t in found.findings["a"]] == [
        (1, "Good"),
        (-1, "Bad"),
        (-1, "B is better"),
    ]
    assert found.verdict[0].text == (
        "A: 1 finding for it, 2 against, 0 mixed on ultrasound; 1 reported by its own authors."
    )
    assert "none on mri" in verdict(toy, ("a",), replace(ASK, modality=("mri",)))[0]


def test_umbrellas_stand_for_their_variants(kb: KB) -> None:
    methods = [method("shap", umbrella=True), method("kern", parent="shap"), method("deep", parent="shap"), method("x")]
    told = [claim(["kern"], "better", ["x"], text="K."), claim(["shap"], "adequate", text="S.")]
    toy = small(kb, methods, [paper("p", ["kern"], claims=told)])
    found = compare(["shap", "x"], ASK, toy)
    assert found.head_to_head[0].favours == ("shap",)
    assert "said of Shap" in compare(["kern", "x"], ASK, toy).findings["kern"][0].text
    between = compare(["kern", "deep"], ASK, toy)
    assert between.findings["deep"] == ()  # what is said of both decides nothing between them
    assert [t.text for t in compare(["shap", "kern"], ASK, toy).findings["shap"]] == ["S (Ultrasound; localisation)."]


def test_on_the_real_one_every_citation_resolves(kb: KB) -> None:
    found = compare(["grad_cam", "shap", "lime"], parse("chest X-ray", kb), kb)
    assert found.head_to_head
    cites = {t.publication for t in (*found.head_to_head, *sum(found.findings.values(), ()))}
    assert cites | {c for one in found.verdict for c in one.cites} <= kb.publications.keys()
    assert not any(kb.publications[one].retracted for one in cites)


def test_unknown_methods_are_refused(kb: KB) -> None:
    for asked in (lambda: compare(["gradcam"], ASK, kb), lambda: why_not("gradcam", ASK, kb)):
        with pytest.raises(UnknownIdError):
            asked()


# --- why not ----------------------------------------------------------------------------------------------------------


def test_what_sets_a_method_back_adds_up(kb: KB) -> None:
    toy = small(kb, [method("a"), method("b", passes=5000)], [paper(f"p{i}", ["a"]) for i in range(9)])
    found = why_not("b", ASK, toy)
    ranked = recommend(ASK, toy)
    assert found.rank == 2
    assert found.text.startswith("B is number 2 of 2 with ")
    assert "A leads with" in found.text
    assert [one.criterion for one in found.setbacks] == ["evidence", "cost"]
    assert "studies that used it (-" in found.text
    assert "computing time (-" in found.text
    lost = sum(one.points for one in found.setbacks)
    assert lost == pytest.approx(ranked[1].score - ranked[0].score, abs=0.01)
    assert found.setbacks[0].first[0].cites[0] == "p0"


def test_the_first_choice_has_no_setback(kb: KB) -> None:
    toy = small(kb, [method("a"), method("b")], [paper("p", ["a"])])
    found = why_not("a", ASK, toy)
    assert (found.rank, found.setbacks) == (1, ())
    assert "first choice of 2" in found.text
    assert found.reasons


def test_a_gap_is_the_answer(kb: KB) -> None:
    toy = small(kb, [method("a"), method("b", needs=["gradients"])])
    found = why_not("b", replace(ASK, access="black_box"), toy)
    assert (found.rank, found.score) == (None, None)
    assert found.text == "B is out: it needs gradients, and this model gives none."


def test_an_umbrella_answers_by_its_best_variant(kb: KB) -> None:
    methods = [method("shap", umbrella=True), method("kern", parent="shap"), method("deep", parent="shap", passes=9000)]
    toy = small(kb, [*methods, method("a")], [paper(f"p{i}", ["a"]) for i in range(5)])
    found = why_not("shap", ASK, toy)
    assert found.method == "kern"
    assert found.text.startswith("Shap stands for several methods; Kern is the one that ranks best. Kern is number 2")
    assert "do not say which" in why_not("alone", ASK, small(kb, [method("alone", umbrella=True), method("a")])).text


def test_without_a_question_nothing_is_ranked(kb: KB) -> None:
    found = why_not("lime", Query(), kb)
    assert found.rank is None
    assert "name a modality or a task" in found.text
