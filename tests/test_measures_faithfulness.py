"""Faithfulness against closed forms, slow second writings and torchcam."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from metric_toys import SHAPES, Linear, Net, images, run
from torchcam.metrics import DeletionInsertionMetric

from runners.baselines import baseline
from runners.measures.faithfulness import deletion, insertion
from runners.registry import seeded


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
