"""Measured on your case: what is tried, what is kept when time is up or somebody stops it, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toys

import trial
from recommender import Query
from runners import Image, case
from runners.case import Measured, Subject, subject
from runners.load import Model, ModelCard
from taxonomy import KB, AtlasError, ModelError, load_kb
from trial import Candidate, Trial, choose, settings

METHODS = ("grad_cam", "lrp_epsilon", "occlusion", "vanilla_gradient")
ASK = Query(text="", modality=("xray",), task="classification")


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb()


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "runnable", lambda: METHODS)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(toys.make("cnn2d"), ModelCard(id="toy", name="Toy", task="classification", labels=["a", "b", "c"]))


@pytest.fixture(scope="module")
def one(model: Model) -> Subject:
    return subject(picture(), model)


def picture(seed: int = 0) -> Image:
    values = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(seed))
    values[:, 8:16, 8:16] += 1
    return Image(values, (0.0, 2.0), f"{seed}" * 64, "PNG")


def run(kb: KB, model: Model, *subjects: Subject, budget: float = 60, **more: Any) -> Trial:
    *_, last = trial.trial(ASK, kb, model, subjects, budget=budget, **more)
    return last


@pytest.fixture(scope="module")
def whole(kb: KB, model: Model, one: Subject) -> Trial:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "runnable", lambda: METHODS)
        return run(kb, model, one)


# --- what is tried ----------------------------------------------------------------------------------------------------


def ids(chosen: list[Candidate]) -> list[str]:
    return [one.method for one in chosen]


def test_the_best_of_three_families_come_first_then_others_and_cheap_ones_run_first() -> None:
    ranked = [Candidate("cam", "cam", 4), Candidate("cam2", "cam", 1), Candidate("cam3", "cam", 1)]
    ranked += [Candidate("grad", "gradient", 3), Candidate("lrp", "lrp", 2), Candidate("rise", "perturbation", 1)]
    assert set(ids(choose(ranked, 18))) == {"cam", "grad", "lrp"}, "half of the budget is planned with"
    assert ids(choose(ranked, 60)) == ["cam2", "rise", "lrp", "grad", "cam"], "a third of the family says little"
    assert set(ids(choose(ranked, 8))) == {"cam2", "lrp", "rise"}, "a dear leader gives way"
    assert set(ids(choose([Candidate("a", "a", 4), Candidate("b", "b", 4)], 10))) == {"a", "b"}, "too few: nine tenths"


def test_named_methods_are_tried_and_unknown_costs_only_then() -> None:
    ranked = [Candidate("a", "cam", 8, named=True), Candidate("b", "cam", 0.1, named=True), Candidate("c", "d", None)]
    assert ids(choose(ranked, 10)) == ["b", "a"]
    assert ids(choose([replace(ranked[2], named=True)], 10)) == ["c"]
    assert choose([Candidate("a", "cam", 8)], 1) == []
    many = [Candidate(str(n), str(n), 0.01) for n in range(20)]
    assert len(choose(many, 100)) == trial.MOST


def test_settings_change_one_parameter_and_never_repeat_the_default(one: Subject) -> None:
    assert settings("occlusion", one.wired, (32, 32)) == [
        {"window": 2},
        {"window": 8},
        {"baseline": "black"},
        {"baseline": "blur"},
    ]
    assert settings("smoothgrad", one.wired, (32, 32)) == [{"noise": 0.05}, {"noise": 0.3}]
    assert settings("ss_cam", one.wired, (32, 32))[-1] != {"noise": 0.05}, "its noise means something else"
    layers = [found["layer"] for found in settings("grad_cam", one.wired, (32, 32))]
    assert layers
    assert one.wired.place is not None
    assert one.wired.place.name not in layers
    assert settings("vanilla_gradient", one.wired, (32, 32)) == []


# --- the whole --------------------------------------------------------------------------------------------------------


def test_a_trial_measures_everything_and_ranks_again(whole: Trial) -> None:
    assert set(whole.tried) == set(METHODS) == set(whole.planned)
    assert whole.ended is None
    assert not whole.skipped
    expected = {"deletion", "insertion", "sparseness", "mprt", "max_sensitivity"}
    for result in whole.results[0]:
        assert {score.metric for score in result.measured} == expected
    assert {row.method for row in whole.measured} == set(METHODS)
    assert "measured" not in {r.criterion for found in whole.before.recommendations for r in found.reasons}
    assert "measured" in {r.criterion for found in whole.after.recommendations for r in found.reasons}
    assert whole.before.query.modality == ("xray",)


def test_states_grow_and_the_model_stays_as_it_was(kb: KB, model: Model, one: Subject) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    heard: list[str] = []
    states = list(trial.trial(ASK, kb, model, [one], progress=lambda words, *_: heard.append(words)))
    counts = [len(state.measured) for state in states]
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[-1]
    assert any(heard)
    assert "Grad-CAM: Insertion AUC" in heard
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(not module._forward_hooks for module in model.modules())


def test_several_images_a_mask_and_a_modality_of_the_image(kb: KB, model: Model) -> None:
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[8:16, 8:16] = True
    two = [subject(picture(seed), model, mask=mask, modality="mri") for seed in (1, 2)]
    *_, last = trial.trial(Query(text=""), kb, model, two)
    assert last.before.query.modality == ("mri",)
    assert {row.image for row in last.measured} == {"0", "1"}
    assert {"pointing_game", "relevance_mass_accuracy"} <= {row.metric for row in last.measured}
    assert any("over your 2 images" in r.text for found in last.after.recommendations for r in found.reasons)


def test_what_changed_is_told_with_its_reasons(whole: Trial) -> None:
    order = whole.literature
    scores = {method: Measured("deletion", 0.7 - 0.2 * place) for place, method in enumerate(order)}
    turned = replace(whole, results=(tuple(replace(r, measured=(scores[r.method],)) for r in whole.results[0]),))
    assert turned.tried != order
    assert len(turned.changes) >= 2
    rose = next(change for change in turned.changes if change.method == order[-1])
    assert rose.after < rose.before == 4
    assert f"rose from 4 to {rose.after}: Deletion AUC 0.1 on your image, best of 4 methods." in rose.text
    assert all(" fell from " in change.text for change in turned.changes if change.after > change.before)
    found = turned.as_json()
    assert [row["method"] for row in found["tried"]] == list(turned.tried)
    assert {row["literature"] for row in found["tried"]} == {1, 2, 3, 4}


def test_failing_the_randomisation_test_is_named(whole: Trial) -> None:
    first = whole.literature[0]
    bad = tuple(replace(r, measured=(Measured("mprt", 0.99 if r.method == first else 0.0),)) for r in whole.results[0])
    turned = replace(whole, results=(bad,))
    assert turned.failed == {first: ("mprt",)}
    assert turned.tried[-1] == first
    caution = next(r for r in turned.after.recommendations if r.method == first).cautions[0]
    assert "Do not rely on it here" in caution.text
    assert caution.sources == [whole.kb.metrics["mprt"].source]


# --- time, stopping, failures -----------------------------------------------------------------------------------------


def test_a_stop_in_the_middle_keeps_what_is_done(kb: KB, model: Model, one: Subject) -> None:
    heard: list[str] = []
    last = run(kb, model, one, progress=lambda words, *_: heard.append(words), stop=lambda: len(set(heard)) > 4)
    assert last.ended == "you stopped it"
    assert 0 < len(last.measured) < 20
    assert {skip.why for skip in last.skipped} == {"you stopped it"}
    assert last.tried


def test_ctrl_c_inside_an_explainer_keeps_what_is_done(kb: KB, model: Model, one: Subject) -> None:
    def progress(words: str, done: int, _total: int) -> None:
        if words == kb.methods["occlusion"].name and done:
            raise KeyboardInterrupt

    last = run(kb, model, one, progress=progress)
    assert last.ended == "you stopped it"
    assert "occlusion" not in last.tried
    assert {"grad_cam", "vanilla_gradient"} <= set(last.tried)
    assert last.measured


def test_time_up_inside_an_explainer_stops_it(
    kb: KB, model: Model, one: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[bool] = []

    def progress(words: str, done: int, _total: int) -> None:
        if words == kb.methods["occlusion"].name and done:
            late.append(True)

    monkeypatch.setattr("runners.clock.time", SimpleNamespace(monotonic=lambda: 1e6 if late else 0.0))
    last = run(kb, model, one, progress=progress)
    assert len(late) == 1, "it is stopped at its next word"
    assert trial.Skipped("occlusion", None, "the time was up") in last.skipped
    assert "occlusion" not in last.tried
    assert {"grad_cam", "vanilla_gradient"} <= set(last.tried)
    assert last.ended == "not all fitted into the budget of 60 s"
    assert any(skip.metric == "mprt" and skip.method == "grad_cam" for skip in last.skipped)


def test_nothing_fits_and_nothing_is_given(kb: KB, model: Model, one: Subject) -> None:
    last = run(kb, model, one, budget=1e-6)
    assert last.tried == ()
    assert last.ended
    assert {skip.why for skip in last.skipped} == {"too slow for 1e-06 s"}
    with pytest.raises(AtlasError, match="above 0"):
        run(kb, model, one, budget=0)
    with pytest.raises(AtlasError, match="no image"):
        run(kb, model)


def test_what_fails_and_what_is_blank_is_told_and_does_not_stop_the_others(
    kb: KB, model: Model, one: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = case.explain

    def explain(model: Any, x: Any, method: str, *rest: Any, **more: Any) -> Any:
        if method == "grad_cam":
            raise ModelError("it broke")
        found = real(model, x, method, *rest, **more)
        return replace(found, values=0 * found.values) if method == "occlusion" else found

    monkeypatch.setattr(case, "explain", explain)
    last = run(kb, model, one)
    assert set(last.tried) == {"lrp_epsilon", "vanilla_gradient"}
    assert [row["error"] for row in last.as_json()["errors"]] == ["it broke"]
    assert "same everywhere" in next(skip.why for skip in last.skipped if skip.method == "occlusion")
    assert {row.method for row in last.measured} == {"lrp_epsilon", "vanilla_gradient"}


# --- tuning -----------------------------------------------------------------------------------------------------------


def test_tuning_tries_the_grid_and_keeps_the_ranking_at_the_defaults(
    kb: KB, model: Model, one: Subject, whole: Trial
) -> None:
    last = run(kb, model, one, tune=True)
    tuned = {each.method: each for each in last.tuned}
    assert set(tuned) == {"grad_cam", "occlusion"}, "the others have nothing to tune"
    found = tuned["occlusion"]
    assert [dict(a.parameters) for a in found.tried] == [{}, *settings("occlusion", one.wired, (32, 32))]
    assert found.best.share == max(a.share for a in found.tried)
    assert all(set(a.scores) == {"deletion", "insertion"} for a in found.tried)
    assert all(math.isfinite(v) for a in found.tried for v in a.scores.values())
    rows = {(row.method, row.metric): row.value for row in last.measured}
    assert rows == pytest.approx({(row.method, row.metric): row.value for row in whole.measured})
    assert "flatter" in last.as_json()["tuned"][0]["note"]


def test_the_default_wins_a_tie(whole: Trial) -> None:
    result = whole.results[0]
    same = trial.Attempt({"window": 2}, {}, 0.5, result)
    tuned = trial.Tuning("occlusion", (trial.Attempt({}, {}, 0.5, result), same))
    assert tuned.best.parameters == {}
    assert replace(whole, tuned=(tuned,)).kept(0) == list(result)
