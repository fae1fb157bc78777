"""Localisation in closed forms, against scikit-learn, scikit-image, MONAI and Quantus."""

import math

import numpy as np
import pytest
import torch
from metric_toys import images, mask_of, run
from torch import nn

from runners import measurable, metrics
from runners.measures.localisation import (
    attribution_localisation,
    auprc_localisation,
    dice_localisation,
    energy_pointing_game,
    hausdorff_localisation,
    hit_rate,
    iou_threshold,
    localisation_auc,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    topk_intersection,
    uncertainty_error_overlap,
)
from taxonomy import load_kb
from taxonomy.errors import TargetError

SHAPES = [(4, 11, 13), (4, 7, 9, 8)]
SAID_OF_THE_MAP = sorted(m for m in measurable() if load_kb().metrics[m].property == "localisation")


def found(function, values, mask, **given):
    return run(function, None, None, values, mask=mask, **given)


def maps(shape, ties=False):
    values = images(*shape)
    return (values * 2).round() if ties else values


@pytest.mark.parametrize("shape", [(4, 9, 9), (4, 7, 9, 9)])
def test_pointing_game(shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[..., 2:4, 2:4] = True
    values = torch.zeros(shape)
    middle = (3,) * (len(shape) - 3)
    values[(0, *middle, 3, 3)] = 1  # inside
    values[(1, *middle, 6, 3)] = 1  # 3 below
    values[(2, *middle, 5, 5)] = 1  # 2 and 2 off: 2.83 away
    values[3] = 1  # no preference
    share = float(mask[0].double().mean())
    exact = found(pointing_game, values, mask)
    assert exact.score.tolist() == pytest.approx([1, 0, 0, share])
    assert f"{share:.1%}" in exact.notes[0]
    assert torch.equal(found(hit_rate, values, mask).score, exact.score)
    assert found(pointing_game, values, mask, tolerance=2).score[:3].tolist() == [1, 0, 0]
    assert found(pointing_game, values, mask, tolerance=3).score[:3].tolist() == [1, 1, 1]


def test_pointing_game_shares_a_plateau():
    values, mask = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    values[0, 1, :] = 3
    mask[0, :, 1:] = True
    assert float(found(pointing_game, values, mask).score) == 0.75


def test_shares_of_the_mass():
    values, mask = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    values[0, 0, 0], values[0, 3, 3], values[0, 0, 1] = 3, 1, -6
    values[1] = -1
    values[2] = 2
    mass = found(relevance_mass_accuracy, values, mask)
    assert mass.score[[0, 2]].tolist() == [0.75, 0.5]
    assert mass.score[1].isnan()
    assert "image 2: not defined: the map has no positive value." in mass.notes
    own = found(attribution_localisation, values, mask)
    assert torch.equal(own.score.nan_to_num(-1), mass.score.nan_to_num(-1))
    assert found(attribution_localisation, values, mask, weighted=True).score[[0, 2]].tolist() == [1.5, 1.0]
    for function, given in ((attribution_localisation, {"absolute": True}), (energy_pointing_game, {})):
        assert found(function, values, mask, **given).score.tolist() == pytest.approx([0.9, 0.5, 0.5])


@pytest.mark.parametrize("shape", SHAPES)
def test_energy_in_the_box_around_the_mask(shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[..., 2, 3] = mask[..., 5, 4] = True
    if len(shape) == 4:
        mask[:, :2] = mask[:, 5:] = False
    box = torch.zeros(shape, dtype=torch.bool)
    box[..., 2:6, 3:5] = True
    if len(shape) == 4:
        box[:, :2] = box[:, 5:] = False
    values = images(*shape)
    wanted = found(energy_pointing_game, values, box).score
    assert torch.equal(found(energy_pointing_game, values, mask, box=True).score, wanted)
    assert not torch.equal(found(energy_pointing_game, values, mask).score, wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_most_relevant_pixels_against_a_loop(shape):
    values, mask = maps(shape), mask_of(torch.zeros(shape[0], 1, *shape[1:]))
    mask[1, ..., 2:7, :] = True
    rank = found(relevance_rank_accuracy, values, mask).score
    top = found(topk_intersection, values, mask, share=0.1).score
    concept = found(topk_intersection, values, mask, share=0.1, concept_influence=True).score
    n = math.prod(shape[1:])
    for i in range(4):
        order = np.argsort(-values[i].numpy().ravel())
        inside = mask[i].numpy().ravel()[order]
        assert float(rank[i]) == pytest.approx(inside[: inside.sum()].mean())
        assert float(top[i]) == pytest.approx(inside[: round(0.1 * n)].mean())
        assert float(concept[i]) == pytest.approx(float(top[i]) * n / inside.sum())


def test_equal_values_at_the_limit_share_what_is_left():
    values, mask = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0] = True  # 4 pixels
    values[0, 0, 0], values[0, 3, 3] = 2, 2  # one of them inside, then 14 equal ones for 2 places, 3 of them inside
    assert float(found(relevance_rank_accuracy, values, mask).score) == pytest.approx((1 + 2 * 3 / 14) / 4)
    assert float(found(topk_intersection, values, mask, share=0.25).score) == pytest.approx((1 + 2 * 3 / 14) / 4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ties", [False, True])
def test_areas_are_those_of_scikit_learn(shape, ties):
    sk = pytest.importorskip("sklearn.metrics")
    values, mask = maps(shape, ties), mask_of(torch.zeros(shape[0], 1, *shape[1:]))
    auc, ap = (found(f, values, mask).score for f in (localisation_auc, auprc_localisation))
    for i in range(4):
        truth, given = mask[i].numpy().ravel(), values[i].numpy().ravel()
        assert float(auc[i]) == pytest.approx(sk.roc_auc_score(truth, given), abs=1e-6)
        assert float(ap[i]) == pytest.approx(sk.average_precision_score(truth, given), abs=1e-6)
    everywhere = found(localisation_auc, values, torch.ones_like(mask))
    assert everywhere.score.isnan().all()
    assert "covers the whole image" in everywhere.notes[1]


def test_a_constant_map_gets_what_chance_gets():
    values, mask = torch.ones(1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :2] = True
    assert float(found(localisation_auc, values, mask).score) == 0.5
    assert float(found(auprc_localisation, values, mask).score) == 0.25
    assert float(found(relevance_rank_accuracy, values, mask).score) == 0.25
    for function in (iou_threshold, dice_localisation, hausdorff_localisation):
        flat = found(function, values, mask)
        assert flat.score.isnan()
        assert "the same everywhere" in flat.notes[-1]


@pytest.mark.parametrize("shape", SHAPES)
def test_otsus_threshold_is_that_of_scikit_image(shape):
    filters = pytest.importorskip("skimage.filters")
    values, mask = images(*shape).exp(), mask_of(torch.zeros(shape[0], 1, *shape[1:]))
    iou, dice = (found(f, values, mask).score for f in (iou_threshold, dice_localisation))
    for i in range(4):
        own = values[i].numpy()
        grey = ((own - own.min()) / (own.max() - own.min()) * 255).astype(np.uint8)
        region, truth = grey > filters.threshold_otsu(grey), mask[i].numpy()
        both, either = (region & truth).sum(), (region | truth).sum()
        assert float(iou[i]) == pytest.approx(both / either, abs=1e-6)
        assert float(dice[i]) == pytest.approx(2 * both / (region.sum() + truth.sum()), abs=1e-6)


@pytest.mark.parametrize("ties", [False, True])
def test_fixed_and_best_thresholds_against_a_loop(ties):
    values, mask = maps((4, 11, 13), ties), mask_of(torch.zeros(4, 1, 11, 13))
    fixed, best = (found(iou_threshold, values, mask, cut=cut, level=0.3) for cut in ("fixed", "best"))
    dice = found(dice_localisation, values, mask)
    for i in range(4):
        own, truth = values[i].clamp_min(0).numpy(), mask[i].numpy()

        def iou(threshold, own=own, truth=truth):
            region = own >= threshold
            return (region & truth).sum() / (region | truth).sum()

        assert float(fixed.score[i]) == pytest.approx(iou(np.float32(0.3) * own.max()))
        top = max(map(iou, np.unique(own)))
        assert float(best.score[i]) == pytest.approx(top)
        assert f"{top:.3f}" in fixed.notes[1]
        assert f"{2 * top / (1 + top):.3f}" in dice.notes[1]  # Dice and IoU have their optimum at the same place


@pytest.mark.filterwarnings("ignore:monai.metrics.utils:FutureWarning")
@pytest.mark.parametrize("shape", SHAPES)
def test_hausdorff_is_that_of_monai(shape):
    monai = pytest.importorskip("monai.metrics")
    values, mask = images(*shape).exp(), mask_of(torch.zeros(shape[0], 1, *shape[1:]))
    spacing = (0.7, 1.3, 2.0)[: len(shape) - 1]
    region = values >= 0.5 * values.flatten(1).amax(1).view(-1, *[1] * (len(shape) - 1))
    for steps in (None, spacing):
        for percentile in (100.0, 95.0):
            own = found(hausdorff_localisation, values, mask, cut="fixed", percentile=percentile, spacing=steps)
            peer = monai.compute_hausdorff_distance(
                region[:, None].float(),
                mask[:, None].float(),
                include_background=True,
                percentile=percentile,
                spacing=steps,
            )
            assert torch.allclose(own.score, peer[:, 0].float(), atol=1e-5)
            assert ("mm" in own.notes[0]) == (steps is not None)


def test_distances_in_closed_form():
    values, mask = torch.zeros(1, 20, 20), torch.zeros(1, 20, 20, dtype=torch.bool)
    values[0, 4:7, 4:7] = 1
    mask[0, 7:10, 8:11] = True  # the same square, 3 down and 4 to the right
    far = found(hausdorff_localisation, values, mask)
    assert float(far.score) == 5
    assert "distance of the centres: 5 pixels" in far.notes[1]
    wide = found(hausdorff_localisation, values, mask, spacing=(2.0, 2.0))
    assert float(wide.score) == 10
    assert "distance of the centres: 10 mm" in wide.notes[1]
    assert float(found(hausdorff_localisation, mask.float(), mask).score) == 0


class Segmenter(nn.Module):
    """Marks what is brighter than a half."""

    def forward(self, x):
        return torch.cat([0.5 - x, x - 0.5], 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_uncertainty_finds_the_errors(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))[:, None]
    mask = mask_of(x)
    wrong = (x[:, 0] > 0.5) != mask
    values = wrong.float()
    values[1] = 1 - values[1]
    own = run(uncertainty_error_overlap, Segmenter(), x, values, mask=mask)
    assert own.score.tolist() == [1, 0, 1, 1]
    assert f"{float(wrong[2].double().mean()):.1%}" in own.notes[0]
    other = run(uncertainty_error_overlap, Segmenter(), x, values, mask=~mask, label=0)
    assert torch.equal(other.score, own.score)
    perfect = run(uncertainty_error_overlap, Segmenter(), mask[:, None].float(), values, mask=mask)
    assert perfect.score.isnan().all()
    with pytest.raises(TargetError, match="labels 0 to 1"):
        run(uncertainty_error_overlap, Segmenter(), x, values, mask=mask, label=2)


@pytest.mark.parametrize("metric", SAID_OF_THE_MAP)
def test_the_mask_itself_beats_its_complement(metric):
    mask = mask_of(torch.zeros(1, 1, 9, 9))
    best, worst = (found(metrics[metric], m.float(), mask).score for m in (mask, ~mask))
    assert (best < worst) if load_kb().metrics[metric].direction == "lower" else (best > worst)


QUANTUS = {
    "attribution_localisation": ("AttributionLocalisation", {}, {"absolute": True}),
    "relevance_mass_accuracy": ("RelevanceMassAccuracy", {}, {}),
    "relevance_rank_accuracy": ("RelevanceRankAccuracy", {}, {}),
    "topk_intersection": ("TopKIntersection", {"k": 30}, {"share": 30 / 143}),
    "localisation_auc": ("AUC", {}, {}),
    "pointing_game": ("PointingGame", {}, {}),
}


@pytest.mark.parametrize("metric", QUANTUS)
def test_values_are_those_of_quantus_which_refuses_volumes(metric):
    """Positive maps: its mass accuracy lets negative values count against; its weighting is wrong (see the metric)."""
    quantus = pytest.importorskip("quantus")
    name, theirs, ours = QUANTUS[metric]
    values, mask = images(4, 11, 13).exp(), mask_of(torch.zeros(4, 1, 11, 13))
    mask[0] = values[0] > values[0].median()
    net = nn.Sequential(nn.Flatten(), nn.Linear(143, 2))
    peer = getattr(quantus, name)(disable_warnings=True, **theirs)(
        model=net,
        x_batch=np.ones((4, 1, 11, 13), np.float32),
        y_batch=np.zeros(4, int),
        a_batch=values[:, None].numpy().copy(),
        s_batch=mask[:, None].numpy(),
        channel_first=True,
    )
    assert found(metrics[metric], values, mask, **ours).score.tolist() == pytest.approx(
        list(map(float, peer)), abs=1e-5
    )
