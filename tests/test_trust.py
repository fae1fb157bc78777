"""Trust in metrics: planted truths are true, metrics of known worth are told apart, the file is read strictly."""

# ruff: noqa: ARG001 (metrics share one signature)
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from recommender import Measured, Query, recommend
from recommender.case import standings
from runners import metrics
from runners.registry import MetricResult
from runners.trust import ORDERS, SEEDS, judge, mappers, planted
from runners.truths import blobs, errors, shapes, sums
from taxonomy import AtlasError, load_kb
from taxonomy.trust import FILE, Trust, trust, trust_in_words, weights, write_trust

KB = load_kb()
CASES = planted(images=2)


# --- planted truth ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", [shapes, sums, blobs])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_truth_is_what_each_pixel_adds_to_the_score(maker, dims):
    """Against taking pixels away one at a time: exact as long as no unit switches."""
    case = maker(dims, 2, 7)
    maps = case.exact(case.model, case.x, case.score)
    rows = torch.zeros(1, dtype=torch.long)
    whole = case.score(case.model(case.x[:1]), rows)
    order = maps[0].flatten().abs().argsort(descending=True)
    for place in [*order[:3].tolist(), *order[-3:].tolist()]:
        step = torch.zeros_like(maps[0]).flatten()
        step[place] = 1e-2 * case.x[0].flatten()[place]  # a small step, so that no ReLU switches
        less = case.score(case.model(case.x[:1] - step.view_as(case.x[:1])), rows)
        assert float(whole - less) == pytest.approx(1e-2 * float(maps[0].flatten()[place]), abs=2e-5)


@pytest.mark.parametrize("case", CASES[:6], ids=lambda case: case.name)
def test_the_model_decides_for_the_target_by_the_evidence(case):
    maps = case.exact(case.model, case.x, case.score).sum(1).clamp_min(0)
    inside = (maps * case.mask).flatten(1).sum(1) / maps.flatten(1).sum(1)
    assert (inside > 0.9).all()
    assert not (case.mask & case.ignored).any()
    gone = case.x.where(~case.mask[:, None], 0.0)
    rows = torch.arange(len(gone))
    before, after = (case.score(case.model(x), rows) for x in (case.x, gone))
    assert (after < 0.2 * before).all()
    if case.task == "classification":
        assert (case.model(case.x).argmax(1) == case.target).all()
        assert (case.model(case.reference).argmax(1) == case.target).tolist() == [True, False] * 12


@pytest.mark.parametrize("dims", [2, 3])
def test_the_planted_errors_are_errors(dims):
    case = errors(dims, 2, 7)
    wrong = (case.model(case.x).argmax(1) == case.target) != case.mask
    assert torch.equal(case.exact(case.model, case.x, case.score)[:, 0] > 0, wrong)
    assert wrong.flatten(1).any(1).all()


def test_planted_is_the_same_for_the_same_seed_and_leaves_no_trace():
    state = torch.get_rng_state()
    again, other = planted(images=2), planted(images=2, seed=1)
    assert all(torch.equal(a.x, b.x) for a, b in zip(CASES, again, strict=True))
    assert not any(torch.equal(a.x, b.x) for a, b in zip(CASES, other, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_kinds_of_maps():
    case = CASES[0]
    made = mappers(case, 3)
    maps = {kind: mapper(case.model, case.x, case.score) for kind, mapper in made.items()}
    again = {kind: mapper(case.model, case.x, case.score) for kind, mapper in made.items()}
    assert {kind for kind in maps if not torch.equal(maps[kind], again[kind])} == {"fresh"}
    assert torch.equal(maps["shifted"].roll(-case.reach, -1), maps["true"])
    best = maps["true"].flatten(1).argmax(1)
    assert torch.equal(maps["wrong"].flatten(1).argmin(1), best)
    assert torch.equal(maps["fixed"][0], maps["fixed"][1])
    assert {kind for order in ORDERS.values() for pair in order for kind in pair} == set(maps)


# --- judging ----------------------------------------------------------------------------------------------------------


def registered(monkeypatch, function, *, metric="relevance_mass_accuracy"):
    monkeypatch.setitem(metrics, metric, function)
    return metric


def test_a_metric_that_knows_the_truth_is_trusted(monkeypatch):
    """Overlap with the mask is one; its negative is worth nothing, and a constant is chance."""

    def overlap(model, x, score, values, *, mask):
        return MetricResult((values * mask).flatten(1).sum(1) / values.abs().flatten(1).sum(1))

    found = judge(registered(monkeypatch, overlap), KB, CASES)
    assert found.order > 0.98
    assert found.weight == pytest.approx(2 * found.order - 1, abs=2e-3)
    assert found.images == 12
    assert (found.seeds, found.noise, found.infill) == (None, None, None)

    def against(model, x, score, values, *, mask):
        return MetricResult(-overlap(model, x, score, values, mask=mask).score)

    found = judge(registered(monkeypatch, against), KB, CASES)
    assert found.order < 0.02
    assert found.weight == 0

    for nothing in (1.0, float("nan")):

        def constant(model, x, score, values, *, mask, nothing=nothing):
            return MetricResult(torch.full((len(x),), nothing))

        found = judge(registered(monkeypatch, constant), KB, CASES)
        assert (found.order, found.low, found.high, found.weight) == (0.5, 0.5, 0.5, 0)
        assert found.undefined == (nothing != nothing)


def test_noise_and_infill_cost_weight(monkeypatch):
    calls = []

    def noisy(model, x, score, values, *, baseline="mean", mask, generator):
        calls.append(baseline)
        kept = (values * mask).flatten(1).sum(1) / values.abs().flatten(1).sum(1)
        drawn = (torch.randn(values.shape, generator=generator) * values).flatten(1).sum(1)
        return MetricResult(drawn if baseline == "mean" else -kept if baseline == "black" else kept)

    found = judge(registered(monkeypatch, noisy), KB, CASES)
    assert 0.2 < found.seeds < 0.8
    assert found.noise > 0.5
    assert found.infills["black"] < 0.1 < 0.9 < found.infills["blur"] == found.infills["inpaint"]
    assert found.infill < 0.6
    assert found.weight == pytest.approx(max(0, 2 * found.order - 1) * found.seeds * found.infill, abs=2e-3)
    kinds = 5
    asked = 6 * kinds, 2 * (SEEDS - 1) * kinds, 2 * 3 * kinds  # the usual infill is not asked again
    assert len(calls) == sum(asked)


def test_what_cannot_be_judged_says_why(monkeypatch):
    assert "neither high nor low" in judge("mm_shap", KB, CASES).why

    def fails(model, x, score, values, *, mask):
        raise AtlasError("it does not fit")

    assert judge(registered(monkeypatch, fails), KB, CASES).why == "it does not fit"


def test_the_same_seed_gives_the_same_numbers_and_progress_ends():
    told = []
    one = judge("average_drop", KB, CASES[:2], progress=lambda done, total: told.append((done, total)))
    assert one == judge("average_drop", KB, CASES[:2])
    assert told[-1][0] == told[-1][1] == len(told)
    assert one.order > 0.6
    assert set(one.infills) == {"black", "mean", "blur", "inpaint"}
    assert one.low <= one.order <= one.high


@pytest.mark.parametrize("metric", ["sparseness", "uncertainty_error_overlap", "mprt", "max_sensitivity", "msfi"])
def test_every_property_has_its_truth(metric):
    found = judge(metric, KB, CASES)
    assert found.order > 0.9, found.why
    assert found.pairs.keys() == {f"{a} > {b}" for a, b in ORDERS.get(metric, ORDERS[KB.metrics[metric].property])}


def test_every_measured_property_has_an_order():
    assert {KB.metrics[one].property for one in metrics} <= ORDERS.keys() | {"axiomatic"}
    assert {one for one in metrics if KB.metrics[one].property == "axiomatic"} <= ORDERS.keys()


# --- the file ---------------------------------------------------------------------------------------------------------


def kb_in(folder: Path):
    return replace(KB, root=folder)


def test_the_file_comes_back_and_is_read_strictly(tmp_path):
    kb = kb_in(tmp_path)
    assert trust(kb) == {}
    assert trust_in_words(kb, ["deletion"]) == ""
    judged = Trust(order=0.95, low=0.9, high=0.98, images=24, pairs={"true > wrong": 1.0}, weight=0.9, seeds=0.99)
    path = write_trust({"insertion": Trust(why="it failed"), "deletion": judged}, {"seed": "0"}, kb)
    assert path == tmp_path / "measured" / FILE
    assert trust(kb) == {"deletion": judged, "insertion": Trust(why="it failed")}
    assert list(json.loads(path.read_text())["metrics"]) == ["deletion", "insertion"]
    assert weights(kb) == {"deletion": 0.9}
    assert judged.phrase == "trust 0.90: orders 95% of planted pairs rightly, 99% alike with another seed"
    assert "it failed" in trust(kb)["insertion"].phrase
    assert trust_in_words(kb, ["insertion", "deletion", "deletion"]).endswith("planted truth: Deletion AUC 0.90.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "metrics.json: file: "),
        ('{"about": {}, "metrics": {"deletion": {"order": 1.5}}}', "metrics.deletion.order: "),
        ('{"about": {}, "metrics": {"deletion": {"ordre": 0.5}}}', "metrics.deletion.ordre: "),
        ('{"about": {}, "metrics": {"delete": {}}}', "metrics.delete: no metric"),
    ],
)
def test_a_broken_file_is_told(tmp_path, text, words):
    path = tmp_path / "measured" / FILE
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(AtlasError, match=words):
        trust(kb_in(tmp_path))


def test_what_the_package_carries_covers_the_registry():
    judged = trust(KB)
    assert judged.keys() == metrics.keys(), "run `xai-atlas trust run`"


# --- what it is used for ----------------------------------------------------------------------------------------------


def test_scores_count_by_the_weight_of_their_metric():
    def points(weight: float) -> dict[str, float]:
        rows = [Measured(m, "deletion", v, "", weight) for m, v in (("rise", 0.1), ("grad_cam", 0.5), ("lime", 0.9))]
        found = recommend(Query(modality=("ultrasound",)), KB, measured=rows)
        texts = {r.text for one in found for r in one.reasons if r.criterion == "measured" and r.points}
        assert all(("trusted little" in text) == (weight < 0.5) for text in texts)
        return {one.method: sum(r.points for r in one.reasons if r.criterion == "measured") for one in found}

    full, half, none = points(1.0), points(0.4), points(0.0)
    assert full["rise"] > 0 > full["lime"]
    assert half["rise"] == pytest.approx(0.4 * full["rise"], abs=2e-3)
    assert none["rise"] == 0
    rows = [Measured("rise", "deletion", 0.1, str(i), 0.4) for i in range(3)]
    assert standings(rows, KB)["rise"]["deletion"].weight == pytest.approx(0.4)
    assert Measured("rise", "deletion", 0.1).weight == 1


def test_faces_say_it(monkeypatch, tmp_path):
    import cli

    kb = kb_in(tmp_path)
    monkeypatch.setattr(cli, "load_kb", lambda: kb)
    run = CliRunner().invoke
    assert "run `xai-atlas trust run`" in run(cli.app, ["trust", "list"]).output
    done = run(cli.app, ["trust", "run", "--metric", "sparseness", "--images", "2"])
    assert done.exit_code == 0, done.output
    assert trust(kb)["sparseness"].weight > 0.9
    assert trust(kb)["sparseness"].phrase in " ".join(run(cli.app, ["trust", "list"]).output.split())
    shown = json.loads(run(cli.app, ["show", "sparseness", "--json"]).output)
    assert shown["trust"]["in_words"] == trust(kb)["sparseness"].phrase
