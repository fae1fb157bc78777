"""Equal numbers where Quantus 0.6.0 works at equal settings; where it refuses or errs, that is shown."""

import warnings

import numpy as np
import pytest
import torch
from metric_toys import Linear, Net, images, run
from skimage.segmentation import slic
from torch import nn

from runners.measures import curves, faithfulness, subsets
from runners.registry import seeded

quantus = pytest.importorskip("quantus")

SIDE = 8
PLAIN = {"normalise": False, "abs": False, "disable_warnings": True, "return_aggregate": False}
LABEL = 0


def softmax(outputs, _rows):
    return outputs.softmax(1)[:, LABEL]


def theirs(metric, model, x, values, **call):
    """Call a metric of Quantus on a batch."""
    given = {"x_batch": x.numpy(), "y_batch": np.full(len(x), LABEL), "a_batch": values[:, None].numpy()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metric(model=model, **given, softmax=False, device="cpu", **call)


@pytest.fixture
def case():
    return Net(1).eval(), images(3, 1, SIDE, SIDE), torch.randn(3, SIDE, SIDE, generator=seeded(8))


def test_pixel_flipping(case):
    found = theirs(quantus.PixelFlipping(features_in_step=8, **PLAIN), *case)
    ours = run(faithfulness.pixel_flipping, *case, steps=8, baseline="black")
    assert np.allclose(found, ours.curve[:, 1:], atol=1e-4)


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (10, 13)])
def test_patches_of_selectivity_and_region_perturbation(case, shape):
    model, x, values = case[0], images(3, 1, *shape), torch.randn(3, *shape, generator=seeded(8))
    given = {"patches": shape[0] * shape[1] // 16, "baseline": "black"}
    found = theirs(quantus.Selectivity(patch_size=4, **PLAIN), model, x, values)
    ours = run(faithfulness.selectivity, model, x, values, **given)
    assert np.allclose(np.asarray(found), ours.curve[:, 1:], atol=1e-4)
    found = theirs(quantus.RegionPerturbation(patch_size=4, regions_evaluation=3, **PLAIN), model, x, values)
    ours = run(faithfulness.region_perturbation, model, x, values, steps=3, **given)
    assert np.allclose(np.asarray(found), ours.curve[:, 1:], atol=1e-4)


def test_irof_with_equal_superpixels_but_its_call_of_numpy_trapz_needs_an_older_numpy(case, monkeypatch):
    model, x, values = case[0], images(1, 1, 24, 24), torch.randn(1, 24, 24, generator=seeded(8))
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    label = torch.from_numpy(slic(x[0, 0].double().numpy()[..., None], start_label=0))
    monkeypatch.setattr(curves, "superpixels", lambda *_: label[None])
    found = quantus.IROF(perturb_baseline=0.0, **PLAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = {"x_batch": x.numpy(), "y_batch": np.zeros(1, int), "a_batch": values[:, None].numpy()}
        found = found(model=model, softmax=True, device="cpu", **given)
    number = int(label.max()) + 1
    assert number > 10
    ours = run(faithfulness.irof, model, x, values, segments=number, baseline="zero", confidence=softmax)
    assert float(found[0]) == pytest.approx(number - float(torch.trapezoid(ours.curve[:, 1:], dim=1)), rel=1e-3)


def test_road_at_every_percentage_without_noise(case, monkeypatch):
    model, x, values = case
    monkeypatch.setattr("runners.baselines.GRAIN", 0.0)

    def decision(outputs, _rows):
        return (outputs.argmax(1) == label).float()

    label = int(model(x)[0].argmax())
    for i in range(3):
        metric = quantus.ROAD(percentages=[10, 30, 50, 70, 90], noise=0.0, **PLAIN)
        given = {
            "x_batch": x[i : i + 1].numpy(),
            "y_batch": np.array([label]),
            "a_batch": values[i, None, None].numpy(),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = metric(model=model, device="cpu", **given)
        ours = run(faithfulness.road, model, x[i : i + 1], values[i : i + 1], decision=decision)
        assert [found[p] for p in (10, 30, 50, 70, 90)] == ours.curve[0, [1, 3, 5, 7, 9]].tolist()


def test_faithfulness_estimate(case):
    found = theirs(quantus.FaithfulnessEstimate(features_in_step=8, **PLAIN), *case)
    ours = run(subsets.faithfulness_estimate, *case, steps=8, baseline="black")
    assert np.allclose(found, ours.score, atol=1e-4)


def test_faithfulness_correlation_with_equal_draws(case, monkeypatch):
    generator = seeded(0)
    draws = [torch.randperm(SIDE * SIDE, generator=generator)[:16].numpy() for _ in range(20)]
    turn = iter(np.repeat(np.arange(20), 3))  # each set for all three images
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: draws[next(turn)])
    found = theirs(quantus.FaithfulnessCorrelation(nr_runs=20, subset_size=16, **PLAIN), *case)
    monkeypatch.undo()
    ours = run(subsets.faithfulness_correlation, *case, samples=20, share=0.25, baseline="black")
    assert np.allclose(found, ours.score, atol=1e-4)


def test_monotonicity_correlation_with_equal_draws(case, monkeypatch):
    model, x, values = case
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    x = (x - low) / (high - low)  # Quantus draws from 0 to 1
    generator, calls = seeded(0), []
    torch.randperm(SIDE * SIDE, generator=generator)
    levels = torch.rand((5, 1, 1, 1), generator=generator).flatten().double().numpy()

    def uniform(*_, size=None, **__):
        calls.append(size)
        return np.full(size, levels[(len(calls) - 1) % 5])

    monkeypatch.setattr(np.random, "uniform", uniform)
    metric = quantus.MonotonicityCorrelation(nr_samples=5, features_in_step=8, normalise=False, disable_warnings=True)
    found = theirs(metric, model, x, values)
    monkeypatch.undo()
    assert len(calls) == 8 * 5
    ours = run(subsets.monotonicity_correlation, model, x, values, steps=8, samples=5)
    assert np.allclose(found, ours.score, atol=1e-4)


def test_infidelity_of_the_whole_image_the_one_perturbation_that_is_not_cumulative_there(case, monkeypatch):
    """Quantus walks over a grid and never puts a patch back; the paper draws every perturbation anew."""
    monkeypatch.setattr(subsets, "SIDES", (1.0, 1.0))
    metric = quantus.Infidelity(perturb_patch_sizes=[SIDE], n_perturb_samples=1, **PLAIN)
    found = theirs(metric, *case)
    given = {"slopes": True, "scaled": False, "samples": 1, "baseline": "black", "channels": None}
    assert np.allclose(found, run(subsets.infidelity, *case, **given).score, rtol=1e-3)


def test_infidelity_there_asks_the_same_rows_again_for_every_sample(case):
    model, x, values = case
    rows = []
    for samples in (1, 10):
        model.rows = 0
        metric = quantus.Infidelity(perturb_patch_sizes=[4], n_perturb_samples=samples, **PLAIN)
        rows.append((model.rows, theirs(metric, model, x, values), model.rows))
    assert (rows[0][2], rows[1][2]) == (3 * (1 + 4), 3 * (1 + 10 * 4))
    assert np.allclose(rows[0][1], rows[1][1])


def test_monotonicity_there_never_changes_the_image_and_calls_every_map_monotonic(case):
    model, x, values = case
    metric = quantus.Monotonicity(features_in_step=8, **PLAIN)
    assert theirs(metric, model, x, values) == theirs(metric, model, x, -values) == [True] * 3
    ours = run(faithfulness.monotonicity_arya, model, x, values, steps=8, baseline="black")
    assert ((ours.score > 0) & (ours.score < 1)).all()


def test_sensitivity_n_there_correlates_over_images_so_one_image_has_none(case):
    model, x, values = (part[:1] if isinstance(part, torch.Tensor) else part for part in case)
    with pytest.raises(ValueError, match="length at least 2"):
        theirs(quantus.SensitivityN(features_in_step=8, **PLAIN), model, x, values)
    assert run(subsets.sensitivity_n, model, x, values).score.isfinite().all()


def test_volumes_are_refused_there():
    model, x = Net(1, 3).eval(), images(2, 1, 6, 7, 5)
    values = torch.randn(2, 6, 7, 5, generator=seeded(8))
    with pytest.raises(ValueError, match="Only batched 1D and 2D"):
        theirs(quantus.PixelFlipping(features_in_step=10, **PLAIN), model, x, values)
    assert run(faithfulness.pixel_flipping, model, x, values).score.isfinite().all()


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = Linear(1, SIDE, SIDE)

    def forward(self, x):
        return torch.cat([-x, x * self.layer.weight], 1)


def test_segmentations_are_refused_there(case):
    _, x, values = case
    with pytest.raises((ValueError, IndexError, TypeError, AssertionError)):
        theirs(quantus.FaithfulnessCorrelation(nr_runs=5, subset_size=9, **PLAIN), Segmenter().eval(), x, values)

    def region(outputs, _rows):
        return outputs[:, 1, 2:5, 2:5].sum((1, 2))

    found = subsets.faithfulness_correlation(
        Segmenter(), x, region, values, progress=lambda *_: None, generator=seeded(0)
    )
    assert found.score.isfinite().all()
