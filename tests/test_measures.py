"""What holds for every metric: batch is single, seeds hold, nothing is left behind, bad parameters are named."""

import copy
import inspect

import pytest
import torch
from metric_toys import SHAPES, Net, gradients, images, mask_of, run

from runners import measurable, metrics
from runners.registry import INJECTED, injected, parameters
from taxonomy import load_kb
from taxonomy.errors import TargetError

ONLY_TIES = {
    "deletion", "insertion", "pixel_flipping", "selectivity", "irof", "abpc", "symmetric_relevance_gain", "pic_aic_sic",
    "monotonicity_arya", "faithfulness_estimate", "saco", "sufficiency",
    "average_drop", "average_gain", "average_increase", "adcc", "road",
}  # fmt: skip
"""Their generator only breaks ties, or adds a little noise, or none at their default baseline."""
ROUGH = {"random_logit", "input_independence_rate", "consistency_dasgupta", "completeness", "continuity"}
"""Shares of a few, or what draws only with some settings: another seed may give the same."""
ONLY_NOISE = {"msfi", "modality_shapley"}
"""Their generator is only that of the noise baseline."""
COARSE = {
    "average_gain",
    "average_increase",
    "monotonicity_arya",
    "road",
    "sufficiency",
    "relevance_rank_accuracy",
    "topk_intersection",
    "pointing_game",
    "input_independence_rate",
    "input_dependence_rate",
    "consistency_dasgupta",
    "hit_rate",
    "modality_shapley",
    "effective_complexity",
    "iou_threshold",
    "dice_localisation",
}
"""Scores that may be alike for different images."""
SEQUENCES = {"msfi", "modality_shapley", "mm_shap"}
"""Not defined for a single channel."""
SEGMENTING = {"uncertainty_error_overlap"}
"""Not defined for a classifier."""


@pytest.mark.parametrize("metric", measurable())
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_is_single_seeds_hold_and_nothing_is_left_behind(metric, shape):
    function = metrics[metric]
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values, mask = gradients(model, x), mask_of(x)
    before, state, copied = copy.deepcopy(model.state_dict()), torch.get_rng_state(), x.clone()
    whole = run(function, model, x, values, mask=mask)
    assert whole.score.shape == (3,)
    if metric in SEGMENTING or (metric in SEQUENCES and shape[1] == 1):
        assert whole.score.isnan().all()
        assert sum("not defined" in note for note in whole.notes) == 3
        return
    assert whole.score.isfinite().all()
    assert len(whole.score.unique()) > 1 or metric in COARSE
    alone = [run(function, model, x[i : i + 1], values[i : i + 1], mask=mask[i : i + 1]) for i in range(3)]
    assert torch.allclose(torch.cat([one.score for one in alone]), whole.score, rtol=1e-4, atol=1e-5)
    if whole.curve is not None:
        assert torch.allclose(torch.cat([one.curve for one in alone]), whole.curve, atol=1e-4)
    assert torch.equal(run(function, model, x, values, mask=mask).score, whole.score)
    if "generator" in injected(function) and metric not in ONLY_TIES | ONLY_NOISE | ROUGH:
        assert not torch.equal(run(function, model, x, values, mask=mask, seed=1).score, whole.score)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, copied)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("metric", measurable())
def test_signature_is_what_the_gate_reads_and_the_knowledge_base_says(metric):
    function, needs = metrics[metric], load_kb().metrics[metric].needs
    assert not set(INJECTED) & set(parameters(function))
    assert all(f"{name}:" in inspect.getdoc(function) for name in parameters(function))
    assert ("mask" in injected(function)) == ("mask" in needs)
    assert ("explain_again" in injected(function)) == ("explainer" in needs)
    assert ("reference" in injected(function)) == ("reference_data" in needs)
    assert ("members" in injected(function)) == ("retraining" in needs)


@pytest.mark.parametrize(
    ("metric", "given", "words"),
    [
        ("deletion", {"steps": 0}, "steps = 0"),
        ("deletion", {"baseline": "grey"}, "'grey'"),
        ("insertion", {"batch_size": 0}, "batch_size = 0"),
        ("pixel_flipping", {"steps": 0}, "steps = 0"),
        ("selectivity", {"patches": 0}, "patches = 0"),
        ("region_perturbation", {"steps": 0}, "steps = 0"),
        ("irof", {"segments": 0}, "segments = 0"),
        ("abpc", {"steps": 0}, "steps = 0"),
        ("symmetric_relevance_gain", {"segments": 0}, "segments = 0"),
        ("road", {"steps": 1}, "steps = 1"),
        ("pic_aic_sic", {"steps": 0}, "steps = 0"),
        ("monotonicity_arya", {"baseline": "grey"}, "'grey'"),
        ("faithfulness_correlation", {"samples": 2}, "samples = 2"),
        ("faithfulness_correlation", {"share": 0.0}, "share = 0.0"),
        ("faithfulness_correlation", {"share": 1.5}, "share = 1.5"),
        ("sensitivity_n", {"sizes": 0}, "sizes = 0"),
        ("faithfulness_estimate", {"steps": 2}, "steps = 2"),
        ("saco", {"groups": 1}, "groups = 1"),
        ("monotonicity_correlation", {"samples": 0}, "samples = 0"),
        ("infidelity", {"perturbation": "blob"}, "'blob': square, noise"),
        ("infidelity", {"perturbation": "noise"}, "needs slopes"),
        ("infidelity", {"grain": 0.0}, "grain = 0.0"),
        ("average_drop", {"baseline": "grey"}, "'grey'"),
        ("adcc", {"batch_size": 0}, "batch_size = 0"),
        ("sufficiency", {"neighbours": 0}, "neighbours = 0"),
        ("sufficiency", {"reference": None}, "give reference="),
        ("max_sensitivity", {"radius": 0.0}, "radius = 0.0"),
        ("max_sensitivity", {"samples": 0}, "samples = 0"),
        ("pointing_game", {"tolerance": -1}, "tolerance = -1"),
        ("mprt", {"stages": 0}, "stages = 0"),
        ("max_sensitivity", {"batch_size": 0}, "batch_size = 0"),
        ("avg_sensitivity", {"samples": 0}, "samples = 0"),
        ("local_lipschitz", {"radius": -1.0}, "radius = -1.0"),
        ("continuity", {"steps": 0}, "steps = 0"),
        ("continuity", {"reach": 1.5}, "reach = 1.5"),
        ("continuity", {"baseline": "grey"}, "'grey'"),
        ("relative_input_stability", {"samples": 0}, "samples = 0"),
        ("relative_output_stability", {"radius": 0.0}, "radius = 0.0"),
        ("relative_output_stability", {"floor": 1.0}, "floor = 1.0"),
        ("relative_representation_stability", {"samples": 0}, "samples = 0"),
        ("consistency_dasgupta", {"samples": 0}, "samples = 0"),
        ("consistency_dasgupta", {"cells": 0}, "cells = 0"),
        ("consistency_dasgupta", {"radius": 0.0}, "radius = 0.0"),
        ("cose", {"models": 0}, "models = 0"),
        ("input_independence_rate", {"samples": 0}, "samples = 0"),
        ("input_independence_rate", {"side": 1.0}, "side = 1.0"),
        ("input_independence_rate", {"tolerance": 0.0}, "tolerance = 0.0"),
        ("smooth_mprt", {"samples": 0}, "samples = 0"),
        ("smooth_mprt", {"noise": 0.0}, "noise = 0.0"),
        ("smooth_mprt", {"stages": 0}, "stages = 0"),
        ("efficient_mprt", {"bins": 1}, "bins = 1"),
        ("efficient_mprt", {"samples": 0}, "samples = 0"),
        ("random_logit", {"samples": 0}, "samples = 0"),
        ("csc", {"samples": 1}, "samples = 1"),
        ("csc", {"layers": 0}, "layers = 0"),
        ("completeness", {"baseline": "grey"}, "'grey'"),
        ("non_sensitivity", {"cells": 0}, "cells = 0"),
        ("non_sensitivity", {"samples": 0}, "samples = 0"),
        ("non_sensitivity", {"baseline": "grey"}, "'grey'"),
        ("non_sensitivity", {"tolerance": -1.0}, "tolerance = -1.0"),
        ("input_invariance", {"shift": 0.0}, "shift = 0.0"),
        ("topk_intersection", {"share": 0.0}, "share = 0.0"),
        ("iou_threshold", {"cut": "half"}, "'half'"),
        ("dice_localisation", {"level": 1.0}, "level = 1.0"),
        ("hausdorff_localisation", {"percentile": 101.0}, "percentile = 101.0"),
        ("uncertainty_error_overlap", {"label": -1}, "label = -1"),
        ("effective_complexity", {"eps": 1.0}, "eps = 1.0"),
        ("mm_shap", {"channel": 1}, "channel = 1"),
        ("mm_shap", {"orders": 0}, "orders = 0"),
    ],
)
def test_bad_parameters_are_named(metric, given, words):
    x = images(1, 1, 8, 8)
    with pytest.raises(TargetError, match=words):
        run(metrics[metric], Net(), x, x[:, 0], mask=mask_of(x), **given)
