"""Faithfulness against closed forms, slow second writings and torchcam."""

import itertools
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from metric_toys import SHAPES, Linear, Net, images, run
from torchcam.metrics import DeletionInsertionMetric

from runners.baselines import baseline
from runners.measures.curves import by_patch, by_segment
from runners.measures.faithfulness import (
    _information,
    abpc,
    deletion,
    insertion,
    irof,
    monotonicity_arya,
    pic_aic_sic,
    pixel_flipping,
    region_perturbation,
    road,
    selectivity,
    symmetric_relevance_gain,
)
from runners.registry import seeded
from runners.superpixels import superpixels


@pytest.mark.parametrize("function", [deletion, insertion])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("steps", "kind"), [(7, "black"), (1000, "mean"), (1, "blur")])
def test_curves_against_a_slow_second_writing(function, shape, steps, kind):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values = torch.randn(3, *shape[2:], generator=seeded(8))
    found = run(function, model, x, values, steps=steps, baseline=kind)
    base, pixels = baseline(x, kind, seeded(0)), math.prod(shape[2:])
    steps = min(steps, pixels)
    for i in range(3):
        order = sorted(range(pixels), key=lambda p, i=i: -float(values[i].flatten()[p]))
        start, end = (base, x) if function is insertion else (x, base)
        curve, counts = [], [round(pixels * k / steps) for k in range(steps + 1)]
        for count in counts:
            picture = start[i].flatten(1).clone()
            picture[:, order[:count]] = end[i].flatten(1)[:, order[:count]]
            curve.append(float(model(picture.view(1, *shape[1:]))[0, 0]))
        assert np.allclose(found.curve[i].numpy(), curve, atol=1e-4)
        full, empty = float(model(x[i : i + 1])[0, 0]), float(model(base[i : i + 1])[0, 0])
        area = sum((counts[k + 1] - counts[k]) / pixels * ((curve[k] + curve[k + 1]) / 2 - empty) for k in range(steps))
        assert float(found.score[i]) == pytest.approx(area / abs(full - empty), abs=1e-3)
        assert any(f"image {i + 1}: the baseline scores higher" in note for note in found.notes) == (full < empty)


def test_areas_of_a_linear_model_have_closed_forms():
    """n pixels of weight 1, k of them counted: the best order falls linearly over k/n, the worst over the last k/n."""
    model, x = Linear(1, 8, 8), torch.ones(1, 1, 8, 8)
    weight = torch.zeros(1, 8, 8)
    weight[0, :2] = 1  # 16 of 64
    model.weight.data = weight
    given = {"steps": 64, "baseline": "zero"}
    for values, low in ((weight, 0.125), (-weight, 0.875)):
        assert float(run(deletion, model, x, values, **given).score) == pytest.approx(low)
        assert float(run(insertion, model, x, values, **given).score) == pytest.approx(1 - low)
    # the image scores below its baseline: a map with the right signs still gets the better numbers
    right, wrong = (run(deletion, model, -x, values, **given) for values in (-weight, weight))
    assert (float(right.score), float(wrong.score)) == pytest.approx((-0.875, -0.125))


def test_the_area_matches_torchcams():
    """torchcam integrates the raw score over the same ranks; its steps coincide when they divide the pixels."""
    model, x = Net(2), images(2, 2, 8, 8)
    values = torch.randn(2, 8, 8, generator=seeded(8))

    class Extractor:
        def __init__(self):
            self.model, self._hooks_off, self.fuse_cams = model, nullcontext, lambda maps: maps[0]

        def __call__(self, *_):
            return [values]

    peer = DeletionInsertionMetric(Extractor(), steps=16)
    peer.update(x, 0)
    for function, key in ((deletion, "deletion_auc"), (insertion, "insertion_auc")):
        curve = run(function, model, x, values, steps=16, baseline="zero").curve
        area = torch.trapezoid(curve, dx=1 / 16, dim=1).mean()
        assert float(area) == pytest.approx(peer.summary()[key], abs=1e-4)


@pytest.mark.parametrize("function", [deletion, insertion])
def test_curves_cost_one_row_per_point_and_calls_stay_small(function):
    model, x, told = Net(), images(2, 1, 9, 9), []
    run(function, model, x, x[:, 0], steps=11, batch_size=5, progress=lambda *done: told.append(done))
    assert model.rows == 24
    assert model.largest == 5
    assert told[-1] == (24, 24)
    whole, chunked = (run(function, model, x, x[:, 0], batch_size=size).score for size in (64, 3))
    assert torch.allclose(whole, chunked, atol=1e-5)


def test_equal_values_favour_no_side_of_the_image():
    model, x = Linear(1, 20, 20), torch.ones(1, 1, 20, 20)
    for half in (slice(0, 10), slice(10, 20)):
        model.weight.data = torch.zeros(1, 20, 20)
        model.weight.data[0, half] = 1
        found = run(deletion, model, x, torch.zeros(1, 20, 20), baseline="zero")
        assert float(found.score) == pytest.approx(0.5, abs=0.06)


def test_a_curve_that_swings_far_beyond_its_ends_is_told():
    model, x = Linear(1, 8, 8), torch.ones(1, 1, 8, 8)
    model.weight.data = torch.ones(1, 8, 8)
    model.weight.data[0, :4] = -0.9
    wild = run(deletion, model, x, model.weight, baseline="zero")
    assert "image and baseline differ by 3.2, the curve swings by 32: the area says little" in wild.notes[1]
    model.weight.data[0, :4] = 0
    assert len(run(deletion, model, x, model.weight, baseline="zero").notes) == 1


def test_no_difference_to_the_baseline_is_not_a_number():
    found = run(deletion, Linear(1, 6, 6), torch.ones(1, 1, 6, 6), torch.rand(1, 6, 6))
    assert found.score.isnan().all()
    assert "not defined: image and baseline have the same score" in found.notes[1]


# --- other courses ----------------------------------------------------------------------------------------------------


def logistic(outputs, _rows):
    return (outputs[:, 0] / 20).sigmoid()


def walk(model, start, end, groups):
    """The scores of one image while groups of flat pixels go from ``start`` to ``end``, one by one."""
    picture, curve = start.flatten(1).clone(), [float(model(start[None])[0, 0])]
    for group in groups:
        picture[:, group] = end.flatten(1)[:, group]
        curve.append(float(model(picture.view(1, *start.shape))[0, 0]))
    return np.array(curve)


def pieces(order, number):
    """Pixels in ``number`` pieces of an order, as the walks take them."""
    bounds = [round(len(order) * k / number) for k in range(number + 1)]
    return [order[a:b] for a, b in itertools.pairwise(bounds)]


@pytest.mark.parametrize("shape", SHAPES)
def test_courses_of_pixels_against_a_slow_second_writing(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values, base = torch.randn(3, *shape[2:], generator=seeded(8)), baseline(x, "black", seeded(0))
    given = {"steps": 9, "baseline": "black"}
    flipped = run(pixel_flipping, model, x, values, **given)
    between = run(abpc, model, x, values, confidence=logistic, **given)
    rising = run(monotonicity_arya, model, x, values, **given)
    kept = run(road, model, x, values, decision=lambda o, _: (o[:, 0] > -6).float(), **given)
    pixels = math.prod(shape[2:])
    share = np.array([round(pixels * k / 9) for k in range(10)]) / pixels
    for i in range(3):
        order = sorted(range(pixels), key=lambda p, i=i: -float(values[i].flatten()[p]))
        most = walk(model, x[i], base[i], pieces(order, 9))
        least = walk(model, x[i], base[i], pieces(order[::-1], 9))
        back = walk(model, base[i], x[i], pieces(order[::-1], 9))
        assert float(flipped.score[i]) == pytest.approx(np.trapezoid(most, share), abs=1e-3)
        gap = 1 / (1 + np.exp(-least / 20)) - 1 / (1 + np.exp(-most / 20))
        assert float(between.score[i]) == pytest.approx(np.trapezoid(gap, share), abs=1e-4)
        assert float(rising.score[i]) == pytest.approx((np.diff(back) >= 0).mean())
        assert float(kept.score[i]) == pytest.approx((most[1:-1] > -6).mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_courses_of_patches_and_superpixels_against_a_slow_second_writing(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values, base = torch.randn(3, *shape[2:], generator=seeded(8)), baseline(x, "black", seeded(0))
    given = {"baseline": "black"}
    side = 3 if len(shape) == 4 else 2
    patches = {"patches": math.prod(shape[2:]) // side ** (len(shape) - 2)}
    selected = run(selectivity, model, x, values, **patches, **given)
    perturbed = run(region_perturbation, model, x, values, steps=5, **patches, **given)
    over = run(irof, model, x, values, segments=9, confidence=logistic, **given)
    gained = run(symmetric_relevance_gain, model, x, values, segments=9, **given)
    segments = superpixels(x, 9)
    places = torch.cartesian_prod(*map(torch.arange, shape[2:]))
    shift = torch.tensor([(-length % side) // 2 for length in shape[2:]])
    cells = [tuple(cell) for cell in ((places + shift) // side).tolist()]
    for i in range(3):
        flat = values[i].flatten()
        members = {cell: [p for p, other in enumerate(cells) if other == cell] for cell in set(cells)}
        order = sorted(members.values(), key=lambda group: -float(flat[group].sum()))
        curve = walk(model, x[i], base[i], order)
        assert float(selected.score[i]) == pytest.approx(np.trapezoid(curve) / len(order), abs=1e-3)
        assert float(perturbed.score[i]) == pytest.approx((curve[0] - curve[:6]).mean(), abs=1e-3)
        labels = segments[i].flatten()
        members = [(labels == k).nonzero()[:, 0].tolist() for k in range(int(labels.max()) + 1)]
        order = sorted(members, key=lambda group: -float(flat[group].mean()))
        most, least = (walk(model, x[i], base[i], one) for one in (order, order[::-1]))
        belief = 1 / (1 + np.exp(-most / 20))
        assert float(over.score[i]) == pytest.approx(1 - np.trapezoid(belief / belief[0]) / len(order), abs=1e-3)
        assert float(gained.score[i]) == pytest.approx(np.trapezoid(least - most) / len(order), abs=1e-3)


def test_gains_of_a_linear_model_have_closed_forms():
    """n pixels of weight 1, a quarter of them counted: the best order loses all in the first quarter."""
    model, x = Linear(1, 8, 8), torch.ones(1, 1, 8, 8)
    weight = torch.zeros(1, 8, 8)
    weight[0, :4, :4] = 1
    model.weight.data = weight
    given = {"baseline": "zero"}
    flat = {"confidence": lambda outputs, _: outputs[:, 0] / 16}
    for sign in (1, -1):
        assert float(run(abpc, model, x, sign * weight, steps=64, **flat, **given).score) == pytest.approx(sign * 0.75)
    best = run(selectivity, model, x, weight, patches=4, **given)
    assert best.curve.tolist() == [[16, 0, 0, 0, 0]]
    assert float(best.score) == 2
    assert float(run(region_perturbation, model, x, weight, patches=4, steps=3, **given).score) == 12
    assert float(run(monotonicity_arya, model, x, weight, **given).score) == 1
    assert float(run(pixel_flipping, model, x, weight, steps=64, **given).score) == pytest.approx(16 / 8)


def test_information_curves_rise_at_once_for_the_right_map_and_late_for_its_opposite():
    model, x = Linear(1, 16, 16), images(1, 1, 16, 16)
    weight = torch.zeros(1, 16, 16)
    weight[0, 4:8, 4:8] = x[0, 0, 4:8, 4:8].sign()
    model.weight.data = weight
    given = {"confidence": lambda outputs, _: (outputs[:, 0] / 10).sigmoid(), "baseline": "blur"}
    right, wrong = (run(pic_aic_sic, model, x, one, **given) for one in (weight.abs(), -weight.abs()))
    assert float(right.score) > 0.7
    assert float(wrong.score) < 0.5
    assert right.curve[0, 0] == 0
    assert right.curve[0, -1] == 1
    assert (right.curve.diff(dim=1) >= 0).all()
    accurate = run(pic_aic_sic, model, x, weight.abs(), accuracy=True, decision=lambda o, _: (o[:, 0] > 5).float())
    assert set(accurate.curve.unique().tolist()) == {0.0, 1.0}
    flat = run(pic_aic_sic, model, torch.ones(1, 1, 16, 16), weight, **given)
    assert flat.score.isnan().all()
    assert "holds as much information" in flat.notes[-1]


@pytest.mark.parametrize("shape", SHAPES)
def test_information_curves_against_a_slow_second_writing(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    values, base = torch.randn(3, *shape[2:], generator=seeded(8)), baseline(x, "blur", seeded(0))

    def belief(outputs, _rows):
        return outputs[:, -1].sigmoid()

    found = run(pic_aic_sic, model, x, values, steps=9, confidence=belief)
    pixels = math.prod(shape[2:])
    for i in range(3):
        order = values[i].flatten().argsort(descending=True)
        low, high = (getattr(x[i].flatten(1), kind)(1).view(-1, *[1] * (len(shape) - 2)) for kind in ("amin", "amax"))
        points, best = [], 0.0
        for k in range(10):
            picture = base[i].flatten(1).clone()
            back = order[: round(pixels * (k / 9) ** 2)]
            picture[:, back] = x[i].flatten(1)[:, back]
            picture = picture.view(shape[1:])
            grey = (((picture - low) / (high - low)).clamp(0, 1) * 255).round().numpy()
            _, counts = np.unique(np.diff(grey, axis=-1), return_counts=True)
            bits = -(counts * np.log2(counts / counts.sum())).sum()
            points.append((bits, float(belief(model(picture[None]), None))))
        (low, empty), (high, full) = points[0], points[-1]
        curve = []
        for bits, chance in points:
            best = max(best, min(max((chance - empty) / (full - empty), 0), 1))
            curve.append((min(max((bits - low) / (high - low), 0), 1), best))
        assert np.allclose(found.curve[i], [y for _, y in curve], atol=1e-3)
        curve.sort(key=lambda point: point[0])
        assert float(found.score[i]) == pytest.approx(np.trapezoid(*list(zip(*curve, strict=True))[::-1]), abs=2e-3)


def test_information_is_the_entropy_of_neighbouring_differences():
    x = torch.zeros(2, 1, 1, 9)
    x[1, 0, 0] = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 1, 0])  # up and down equally often: 1 bit for each of 8 steps
    assert _information(x).tolist() == pytest.approx([0, 8])


def test_road_says_when_the_decision_is_not_the_models():
    found = run(road, Net(), images(2, 1, 9, 9), images(2, 1, 9, 9)[:, 0], decision=lambda o, _: 0 * o[:, 0])
    assert found.score.isnan().all()
    assert "image 2: not defined: the model does not decide for what is explained." in found.notes


@pytest.mark.parametrize("function", [irof, abpc, road, pic_aic_sic])
def test_targets_that_are_no_probability_have_no_such_number(function):
    found = run(function, Net(), images(2, 1, 9, 9), images(2, 1, 9, 9)[:, 0], confidence=None, decision=None)
    assert found.score.isnan().all()
    assert "the target is no probability" in found.notes[0]


@pytest.mark.parametrize(
    ("function", "given", "rows"),
    [
        (pixel_flipping, {"steps": 7}, 8),
        (selectivity, {"patches": 9}, 10),
        (region_perturbation, {"patches": 9, "steps": 4}, 5),
        (abpc, {"steps": 7}, 14),
        (road, {"steps": 10}, 10),
        (pic_aic_sic, {"steps": 7}, 8),
        (monotonicity_arya, {"steps": 7}, 8),
    ],
)
def test_every_point_is_asked_once(function, given, rows):
    model, x, told = Net(), images(2, 1, 9, 9), []
    run(function, model, x, x[:, 0], batch_size=3, progress=lambda *done: told.append(done), **given)
    assert model.rows == 2 * rows
    assert model.largest == 3
    assert told[-1] == (2 * rows, 2 * rows)


def test_superpixels_are_asked_as_many_times_as_there_are():
    model, x = Net(), images(2, 1, 12, 12)
    counts = (superpixels(x, 9).flatten(1).amax(1) + 1).sum()
    run(irof, model, x, x[:, 0], segments=9)
    assert model.rows <= int(counts) + 2
    model.rows = 0
    run(symmetric_relevance_gain, model, x, x[:, 0], segments=9)
    assert model.rows <= 2 * int(counts)


def test_equal_groups_go_in_an_order_that_other_images_do_not_change():
    x, values = images(3, 1, 12, 12), torch.ones(3, 12, 12)
    for order in (by_segment, lambda values, _, number, generator: by_patch(values, number, generator)):
        whole = order(values, x, 9, seeded(0))
        for i in range(3):
            alone = order(values[i : i + 1], x[i : i + 1], 9, seeded(0))
            assert torch.equal(alone.rank, whole.rank[i : i + 1])
            assert alone.counts == whole.counts[i]
