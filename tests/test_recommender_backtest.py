"""The back-test: what is hidden stays hidden, the measures are right by hand, and the weights are frozen."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from recommender import Query, recommend
from recommender import backtest as bt
from recommender.backtest import (
    CONTENDERS,
    MEASURES,
    POPULARITY,
    Hider,
    Setting,
    aimed,
    ask_all,
    fixed_questions,
    held_up,
    in_test,
    measured,
    page,
    questions,
    stability,
)
from recommender.points import AGAINST, CLOSENESS, FOR, Points
from taxonomy import KB, load_kb
from taxonomy.graph import methods_of
from taxonomy.schema import Effect, Publication, Statement
from tests.toykb import TOY

FROZEN = {
    "NAMED": 12.0,
    "FAMILY": 6.0,
    "GOAL": 6.0,
    "OFF_GOAL": -8.0,
    "MAP": 0.2,
    "MADE_FOR_TASK": 2.0,
    "MADE_FOR_ARCHITECTURE": 2.5,
    "EVIDENCE": 2.0,
    "AGAINST": -1.0,
    "SHRINK": 0.3,
    "USED": 0.4,
    "SELF_REPORTED": 0.4,
    "CLINICIANS": 1.3,
    "SMALL_STUDY": 0.7,
    "HALF_LIFE": 20.0,
    "SHRINK_AUDIENCE": 3.0,
    "ASKED_CRITERION": 1.6,
    "IDLE_RIVAL": 0.3,
    "UMBRELLA": 0.2,
    "ANATOMY": 0.5,
    "DIMENSION": 0.3,
    "ARCHITECTURE": 0.5,
    "OTHER_KIND": 0.3,
    "BENCHMARK": 1.0,
    "OTHER_DIMS": 0.7,
    "CHALLENGE": 0.25,
    "PASSES": -0.1,
    "WITHIN_BUDGET": 0.5,
    "OVER_BUDGET": -4.0,
    "INTRINSIC": -15.0,
    "MAYBE_INTRINSIC": -0.3,
    "INTRINSIC_AIMED": -5.0,
    "BUILT_IN": 4.0,
    "ADDED_ON": -4.0,
    "NO_TOOL": -0.4,
    "WANTED_EFFORT": 0.2,
    "NOT_DISCRIMINATIVE": -0.2,
    "GLOBAL": -0.8,
    "RUNNABLE": 1.0,
    "MEASURED": 8.0,
    "OTHER_TRUST": 0.3,
    "SHRINK_MEASURED": 1.0,
    "INSANE": -24.0,
    "SANE": 0.5,
    "DOUBTFUL": 0.5,
    "ALIKE": 0.02,
}


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb()


@pytest.fixture(scope="module")
def toy() -> KB:
    return load_kb(TOY)


def named_in(kb: KB) -> set[str]:
    """Every id of a publication that any entity or word cites."""
    return set(Hider(kb).citing)


# --- hiding -----------------------------------------------------------------------------------------------------------


def test_nothing_names_a_hidden_publication(kb: KB, toy: KB) -> None:
    for whole, number in ((toy, None), (kb, 25)):
        hider = Hider(whole)
        for hidden in sorted(whole.publications)[:number]:
            less = hider.without([hidden])
            assert hidden not in less.publications
            assert hidden not in named_in(less)
            assert hidden not in json.dumps([vars(less.index)[t] for t in ("by_method", "by_modality")])
            assert not any(
                p == hidden for table in (less.index.claims, less.index.versus) for c in table.values() for p, _ in c
            )
            assert set(less.publications) == set(whole.publications) - {hidden}


def test_what_rests_on_it_alone_goes_and_the_rest_stays(toy: KB) -> None:
    one, other = sorted(toy.publications)[:2]
    method_id = next(iter(toy.methods))
    both = Statement(text="Both say so.", sources=[one, other])
    alone = Statement(text="One says so.", sources=[one])
    changed = toy.methods[method_id].model_copy(update={"strengths": [both, alone], "source": one})
    challenge_id = next(iter(toy.challenges))
    effects = [
        Effect(method=method_id, text="Eases.", sources=[one]),
        Effect(method=method_id, text="E.", sources=[other]),
    ]
    challenge = toy.challenges[challenge_id].model_copy(update={"sources": [other], "eased_by": effects})
    rich = replace(
        toy,
        methods={**toy.methods, method_id: changed},
        challenges={**toy.challenges, challenge_id: challenge},
    )
    less = Hider(rich).without([one])
    assert [s.sources for s in less.methods[method_id].strengths] == [[other]]
    assert less.methods[method_id].source is None
    assert [e.sources for e in less.challenges[challenge_id].eased_by] == [[other]]
    gone = Hider(rich).without([other])
    assert challenge_id not in gone.challenges
    assert not any(d.challenge == challenge_id for m in gone.modalities.values() for d in m.challenges)
    assert rich.methods[method_id].strengths == [both, alone]  # the whole is as before


def test_what_a_hidden_publication_found_changes_nothing(kb: KB) -> None:
    """The leak test: turn its findings round, and no contender answers otherwise."""
    turn = {"better": "worse", "adequate": "inadequate"}
    asked = [q for q in questions(kb) if q.held_up][::30]
    assert len(asked) >= 5
    for question in asked:
        publication = kb.publications[question.publication]
        claims = [c.model_copy(update={"outcome": turn.get(c.outcome, "better")}) for c in publication.claims]
        lie = publication.model_copy(update={"claims": claims, "methods": list(kb.methods)[:9], "clinicians": True})
        other = replace(kb, publications={**kb.publications, question.publication: lie})
        (true,), (false,) = (list(ask_all(one, [question])) for one in (kb, other))
        # a difference of whole rankings takes pytest minutes to print
        moved = [n for n in true.rankings if true.rankings[n] != false.rankings[n]]
        assert not moved
        moved = [n for n in true.ablated if true.ablated[n] != false.ablated.get(n)]
        assert not moved


def test_the_check_for_leaks_can_fail(kb: KB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hider, "without", lambda self, _: self.kb)
    with pytest.raises(AssertionError):
        test_what_a_hidden_publication_found_changes_nothing(kb)


# --- questions --------------------------------------------------------------------------------------------------------


def test_what_held_up(toy: KB) -> None:
    one = next(p for p in toy.publications.values() if p.claims and p.study)
    given = one.claims[0]

    def with_claim(**changes: Any) -> Publication:
        return one.model_copy(update={"claims": [given.model_copy(update=changes)]})

    good = {"outcome": "adequate", "criterion": "localisation", "methods": ["m"]}
    assert held_up(with_claim(**good)) == {"m"}
    assert held_up(with_claim(**good, versus=["n"])) == {"m"}
    for changes in (
        {"criterion": "feasibility"},
        {"criterion": "diagnosis_gain"},
        {"outcome": "mixed"},
        {"outcome": "worse"},
    ):
        assert held_up(with_claim(**{**good, **changes})) == set()


def test_a_question_says_what_was_known_before(kb: KB) -> None:
    asked = questions(kb)
    assert len(asked) > 300
    for question in asked:
        query, study = question.query, kb.publications[question.publication].study
        assert study is not None
        assert query.modality == tuple(study.modalities)
        told = ("modality", "task", "architecture", "dimension", "anatomy")
        assert replace(query, **dict.fromkeys(told, ())) == Query(task=(), architecture=(), dimension=())  # type: ignore[arg-type]
        assert question.held_up <= question.used
        assert all(kb.methods[m].source != question.publication and not kb.methods[m].umbrella for m in question.used)


def test_the_split_is_fixed() -> None:
    assert [in_test(one) for one in "abcdefgh"] == [False, False, False, False, False, False, True, True]
    assert 0.28 < sum(in_test(str(i)) for i in range(3000)) / 3000 < 0.38


def test_as_of_a_year_nothing_later_is_known(kb: KB, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[Any] = []
    monkeypatch.setitem(CONTENDERS, "spy", lambda setting: settings.append(setting) or [])
    question = next(q for q in questions(kb) if q.held_up and q.year == 2021)
    (case,) = ask_all(kb, [question], as_of=True)
    serving = settings[0].serving
    assert [method for method, _ in case.serving] == [r.method for r in serving]
    cited = {c for r in serving for reason in r.reasons for c in reason.cites}
    assert cited
    assert all((kb.publications[c].year or 0) <= 2021 for c in cited)
    sources = [kb.methods[r.method].source for r in serving]
    assert all((kb.publications[s].year or 0) <= 2021 for s in sources if s)
    assert not list(ask_all(kb, [replace(question, year=None)], as_of=True))


# --- contenders -------------------------------------------------------------------------------------------------------


def test_baselines_by_hand(kb: KB) -> None:
    query = Query(modality=("oct",), task="classification")
    setting = Setting(query, kb, tuple(recommend(query, kb)))
    popular = CONTENDERS["popularity"](setting)
    uses = {m: sum(m in methods_of(p) for p in kb.publications.values() if not p.retracted) for m in kb.methods}
    flat = [m for group in popular for m in group]
    assert [uses[m] for m in flat] == sorted((uses[m] for m in flat), reverse=True)
    assert popular[0] == ["grad_cam"]

    def on_oct(method: str) -> int:
        return sum(
            method in methods_of(p)
            for p in kb.publications.values()
            if p.study and "oct" in p.study.modalities and not p.retracted
        )

    here = [m for group in CONTENDERS["popularity_in_modality"](setting) for m in group]
    assert [on_oct(m) for m in here] == sorted((on_oct(m) for m in here), reverse=True)
    assert set(flat) == set(here) == {r.method for r in setting.serving}
    assert CONTENDERS["random_feasible"](setting) == [[r.method for r in setting.serving]]


def test_pnpxai_lists_by_layers_alone(kb: KB) -> None:
    def listed(**given: Any) -> set[str]:
        (group,) = CONTENDERS["pnpxai_rule"](Setting(Query(**given), kb, ()))
        return set(group)

    cnn = listed(architecture="cnn")
    assert len(cnn) == 14
    assert listed(architecture="unet", task="segmentation", dimension="3d") == cnn
    assert listed(architecture="vit") == cnn - {"grad_cam", "guided_grad_cam"} | {"attention_rollout", "chefer_lrp"}


def test_the_aim_cuts_to_the_same_stage_and_goals(kb: KB) -> None:
    kept = aimed(kb, [["attention_gate", "grad_cam"], ["mc_dropout", "lime"]], ["occlusion"])
    assert kept == [["grad_cam"], ["lime"]]


# --- measures ---------------------------------------------------------------------------------------------------------


def test_measures_by_hand() -> None:
    found = measured([["a"], ["b"], ["c"], ["d"], ["e"], ["f"]], {"b", "f"})
    assert (found["hit@1"], found["hit@3"], found["hit@5"], found["mrr"]) == (0, 1, 1, 0.5)
    assert found["ndcg@5"] == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))
    assert measured([["a"]], {"z"}) == dict.fromkeys(MEASURES, 0.0)


@pytest.mark.parametrize("wanted", [{"b"}, {"b", "e"}, {"a", "c", "d"}, {"z", "c"}])
def test_ties_count_as_the_mean_over_all_orders(wanted: set[str]) -> None:
    groups = [["a"], ["b", "c", "d", "e"], ["f", "g"]]
    orders = [
        [[m] for m in ("a", *middle, *last)] for middle in permutations(groups[1]) for last in permutations(groups[2])
    ]
    expected = {m: sum(measured(one, wanted)[m] for one in orders) / len(orders) for m in MEASURES}
    assert measured(groups, wanted) == pytest.approx(expected)


def test_intervals_hold_the_mean_and_narrow_with_the_number() -> None:
    few, many = (bt._Bootstrap(n).mean([0.0, 1.0] * (n // 2)) for n in (20, 400))
    assert few.low < few.mean == 0.5 < few.high
    assert many.high - many.low < few.high - few.low
    assert bt._Bootstrap(4).ratio([1.0] * 4, [0.5] * 4) == bt.Interval(2.0, 2.0, 2.0)
    assert bt._Bootstrap(2).ratio([1.0, 1.0], [0.0, 0.0]) is None


# --- the whole --------------------------------------------------------------------------------------------------------


def test_dropping_a_publication_is_seen(toy: KB) -> None:
    found = stability(toy)
    assert found["dropped"] > 0
    assert found["questions"] == len(fixed_questions(toy))
    assert 0 <= found["least_kept"] <= found["mean_kept_of_5"] <= 5
    assert stability(toy, sample=1)["dropped"] == 1


def test_only_what_a_publication_touches_is_ranked_anew(kb: KB) -> None:
    """The shortcut of the stability against ranking everything anew."""
    hider = Hider(kb)
    challenging = [p for p, cited in hider.citing.items() if any(kind == "challenges" for kind, _ in cited)]
    dropped = [*sorted(kb.publications)[::220], *sorted(challenging)[::60]]
    assert len(dropped) >= 6
    moved = 0
    for publication in dropped:
        less = hider.without([publication])
        touched = bt.touched_by(kb, publication, hider)
        for query in fixed_questions(kb)[:6]:
            before, after = ({r.method: r.score for r in recommend(query, one)} for one in (kb, less))
            changed = {m for m in before | after if before.get(m) != after.get(m)}
            assert changed <= touched, (publication, query)
            moved += len(changed)
    assert moved


def test_the_goal_is_what_was_tried_not_what_held_up(kb: KB) -> None:
    asked = [q for q in questions(kb) if q.held_up]
    assert {q.with_goal.goal for q in asked} >= {"where", "uncertainty", "which_concept"}
    for question in asked[::10]:
        publication = kb.publications[question.publication]
        lie = publication.model_copy(
            update={"claims": [c.model_copy(update={"outcome": "mixed"}) for c in publication.claims]}
        )
        assert bt.goal_of(kb, lie) == bt.goal_of(kb, publication)
        assert replace(question.with_goal, goal=None, intrinsic=False) == question.query


def test_baselines_hear_the_goal(kb: KB) -> None:
    query = Query(modality=("mri",), goal="uncertainty")
    setting = Setting(query, kb, tuple(recommend(query, kb)))
    for name in ("popularity", "popularity_in_modality", "random_feasible"):
        listed = [m for group in CONTENDERS[name](setting) for m in group]
        assert listed
        assert {kb.methods[m].family for m in listed} == {"uncertainty"}


def test_the_ceiling_by_hand(kb: KB) -> None:
    asked = [q for q in questions(kb) if q.held_up][:12]
    cases = list(ask_all(kb, asked))
    top = bt._ceiling(cases)
    hits = [measured(c.rankings["xai_atlas"], c.question.held_up)["hit@5"] for c in cases]
    assert 1 >= top["evidence"] >= top["evidence_here"] > 0
    assert top["evidence"] >= sum(hits) / len(hits)
    for case in cases:
        rest = {i: p for i, p in kb.publications.items() if i != case.question.publication and p.study}
        for method in case.question.held_up & {m for m, _ in case.serving}:
            used = any(method in methods_of(p) for p in rest.values())
            assert method in case.evidenced or not used
            here = [p for p in rest.values() if set(p.study.modalities) & set(case.question.query.modality)]
            assert method in case.evidenced_here or not any(method in methods_of(p) for p in here)
    single = [replace(c, question=replace(c.question, held_up=frozenset({f"m{i % 6}"}))) for i, c in enumerate(cases)]
    assert bt._ceiling(single)["five_in_hindsight"] == pytest.approx(10 / 12, abs=1e-4)


def test_the_whole_back_test_on_a_small_one(toy: KB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bt, "in_test", lambda publication: publication == sorted(toy.publications)[0])
    said: list[str] = []
    result = bt.backtest(toy, progress=said.append)
    assert len(said) == 4
    assert json.loads(json.dumps(result)) == result
    for parts in result["results"].values():
        assert parts["all"]["publications"] == parts["development"]["publications"] + parts["test"]["publications"]
    text = page(result)
    assert text.startswith("# ")
    assert "XAI Atlas" in text


def test_better_than_popularity_on_the_development_part(kb: KB) -> None:
    """A sample, for time; the whole is in docs/backtest.md."""
    asked = [q for q in questions(kb) if q.held_up and not q.test][::3]
    cases = list(ask_all(kb, asked))
    hits = {
        name: sum(measured(c.rankings[name], c.question.held_up)["hit@5"] for c in cases)
        for name in ("xai_atlas", *POPULARITY)
    }
    assert hits["xai_atlas"] > max(hits[name] for name in POPULARITY)


def test_the_weights_are_frozen() -> None:
    """Change one only for a reason that can be told, look at the development part, and write docs/backtest.md anew."""
    weights = {k: v for k, v in vars(Points).items() if k.isupper()}
    scalars = {k: v for k, v in weights.items() if isinstance(v, float)}
    assert scalars == FROZEN
    assert weights["READ"] == {"fulltext": 1.0, "abstract": 0.8, "title": 0.4}
    assert weights["CRITERIA"] == {"faithfulness": 1.3, "sanity": 1.3, "complexity": 0.7, "speed": 0.3}
    assert list(CLOSENESS.values()) == [1.0, 0.4, 0.5, 0.2, 0.2, 0.08]
    assert list(FOR.values()) == [1.0, 0.7, 0.0, 0.0, -0.8, -1.0]
    assert list(AGAINST.values()) == [-0.8, 0.8]
