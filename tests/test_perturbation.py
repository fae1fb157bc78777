"""Perturbation explainers against exact answers, brute force, slow second writings and captum."""

import inspect
import itertools
import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from captum.attr import FeatureAblation, KernelShap, Occlusion, ShapleyValues
from skimage.measure import label
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional as F

from runners import coalitions, perturbation
from runners.asking import looks, settle
from runners.baselines import BASELINES, FILLINGS, baseline, filling, imputed, inpainted
from runners.coalitions import (
    feature_ablation,
    kernel_shap,
    kernel_shap_organ_units,
    kernel_shap_supervoxels,
    lime,
    shap_partition,
    shapley_sampling,
)
from runners.models import profile
from runners.perturbation import hsic_attribution, mc_rise, occlusion, relax, rise, sobol_attribution
from runners.registry import Found, injected, no_progress, parameters, seeded
from runners.superpixels import superpixels
from taxonomy.errors import TargetError

FAST = {
    occlusion: {"window": 4, "stride": 3},
    rise: {"masks": 40, "cells": 3},
    lime: {"samples": 40, "segments": 8},
    kernel_shap: {"samples": 40, "segments": 8},
    feature_ablation: {"segments": 8},
    shapley_sampling: {"orders": 4, "segments": 8},
    sobol_attribution: {"designs": 8, "cells": 4},
    hsic_attribution: {"masks": 150, "cells": 4},
    shap_partition: {"samples": 40, "cells": 6},
}


class Linear(nn.Module):
    """A weight for every pixel of every channel."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, generator=seeded(1)), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight).flatten(1).sum(1)


class Net(nn.Module):
    """A small nonlinear net for 2D or 3D that counts the rows it is asked and the largest call."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.conv = conv(channels, 6, 3, padding=1)
            self.head = nn.Linear(6, 4)
        self.requires_grad_(False)
        self.rows = self.largest = 0

    def forward(self, x):
        self.rows += len(x)
        self.largest = max(self.largest, len(x))
        return self.head(torch.tanh(self.conv(x)).relu().flatten(2).amax(2)) * 5


def first(outputs, _rows):
    return outputs


def logit(outputs, _rows):
    return outputs[:, 1]


def images(*shape: int) -> torch.Tensor:
    x = torch.randn(shape, generator=seeded(5))
    return F.avg_pool2d(x, 3, 1, 1) if x.ndim == 4 else F.avg_pool3d(x, 3, 1, 1)


def run(function, model, x, score=logit, seed=0, progress=no_progress, **given) -> Found:
    return function(model, x, score, progress=progress, generator=seeded(seed), **given)


# --- superpixels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 40, 56), (3, 33, 20), (2, 12, 20, 16), (1, 5, 4), (1, 1, 1)])
@pytest.mark.parametrize("content", ["constant", "noise", "spike", "halves"])
def test_regions_are_connected_and_numbered_without_holes(shape, content):
    x = torch.zeros(1, *shape)
    if content == "noise":
        x = torch.randn(1, *shape, generator=seeded(0))
    elif content == "spike":
        x[(0, 0, *[side // 2 for side in shape[1:]])] = 1e6
    elif content == "halves":
        x[..., : shape[-1] // 2] = 1
    labels = superpixels(x, 20)
    assert labels.shape == (1, *shape[1:])
    assert labels.dtype == torch.int64
    count = int(labels.max()) + 1
    assert labels.unique().tolist() == list(range(count))
    assert min(10, math.prod(shape[1:])) <= count <= 60
    assert all(label(labels[0].numpy() == k, connectivity=1, return_num=True)[1] == 1 for k in range(count))


def test_regions_follow_the_content():
    x = torch.zeros(1, 1, 48, 48)
    x[..., 11:31, 17:38] = 1
    labels, inside = superpixels(x, 40)[0], x[0, 0] > 0
    share = [float(inside[labels == k].float().mean()) for k in range(int(labels.max()) + 1)]
    assert all(s < 0.15 or s > 0.85 for s in share)


def test_regions_of_an_image_do_not_depend_on_the_batch_and_see_every_channel():
    x = images(3, 2, 40, 40)
    together = superpixels(x, 12)
    assert all(torch.equal(together[i], superpixels(x[i : i + 1], 12)[0]) for i in range(3))
    assert torch.equal(superpixels(x * 50 - 7, 12), together)
    assert not torch.equal(superpixels(x[:, :1], 12), together)
    with pytest.raises(TargetError, match="segments = 0"):
        superpixels(x, 0)


# --- baselines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BASELINES)
@pytest.mark.parametrize("shape", [(2, 3, 20, 33), (2, 1, 9, 12, 5), (1, 2, 1, 7)])
def test_baselines_are_per_image_inside_the_range_and_seeded(kind, shape):
    x = torch.randn(shape, generator=seeded(0)) * 3 + 1
    found = baseline(x, kind, seeded(4))
    assert found.shape == x.shape
    assert torch.equal(found, baseline(x, kind, seeded(4)))
    assert torch.allclose(found[:1], baseline(x[:1], kind, seeded(4)), atol=1e-6)
    if kind != "zero":
        low, high = x.flatten(2).amin(2), x.flatten(2).amax(2)
        assert (found.flatten(2).amin(2) >= low - 1e-5).all()
        assert (found.flatten(2).amax(2) <= high + 1e-5).all()


def test_baselines_are_what_they_are_called():
    x = torch.tensor([[[[-1.0, 0.0], [2.0, 3.0]], [[4.0, 4.0], [4.0, 8.0]]]])
    for kind, expected in {"black": (-1, 4), "white": (3, 8), "mean": (1, 5), "zero": (0, 0)}.items():
        assert baseline(x, kind, seeded(0)).flatten(2).unique(dim=2).flatten().tolist() == list(expected)
    with pytest.raises(TargetError, match="'grey'.*black, white, mean"):
        baseline(x, "grey", seeded(0))


def test_blur_is_scipys_gaussian():
    from scipy.ndimage import gaussian_filter

    x = torch.randn(1, 1, 32, 48, 16, generator=seeded(0))
    expected = gaussian_filter(x[0, 0].numpy(), (2, 3, 1), mode="mirror", radius=(6, 9, 3))
    assert np.allclose(baseline(x, "blur", seeded(0))[0, 0].numpy(), expected, atol=1e-6)


def harmonic(x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Solve for the pixels that are not kept: each the mean of its neighbours inside the image."""
    spots = list(np.ndindex(*x.shape))
    number = {spot: i for i, spot in enumerate(spots)}
    matrix, right = np.zeros((len(spots), len(spots))), np.zeros(len(spots))
    for spot, i in number.items():
        matrix[i, i] = 1
        if kept[spot]:
            right[i] = x[spot]
            continue
        near = []
        for axis, step in itertools.product(range(x.ndim), (-1, 1)):
            other = (*spot[:axis], spot[axis] + step, *spot[axis + 1 :])
            near += [number[other]] if other in number else []
        matrix[i, near] = -1 / len(near)
    return torch.from_numpy(np.linalg.solve(matrix, right)).view(x.shape)


@pytest.mark.parametrize("shape", [(24, 20), (8, 10, 9), (1, 7)])
def test_inpainting_is_the_harmonic_infill(shape):
    axes = torch.meshgrid(*[torch.arange(side, dtype=torch.float64) for side in shape], indexing="ij")
    x = sum(torch.sin(axis / 5 + k) for k, axis in enumerate(axes))
    kept = torch.ones(shape, dtype=torch.bool)
    kept[tuple(slice(side // 4, side // 4 + side // 2 + 1) for side in shape)] = False
    found = filling(x[None, None], "inpaint", seeded(0))(torch.zeros(1, dtype=torch.long), kept[None])[0, 0]
    assert torch.equal(found[kept], x[kept])
    assert float((found - harmonic(x, kept)).abs().max()) < 0.03 * float(x.max() - x.min())


def test_inpainting_of_nothing_is_the_mean_and_of_a_soft_mask_lies_between():
    x = images(2, 2, 12, 16)
    rows = torch.arange(2)
    fill = filling(x, "inpaint", seeded(0))
    gone = fill(rows, torch.zeros(2, 12, 16))
    assert torch.allclose(gone, x.mean((2, 3), keepdim=True).expand_as(x), atol=1e-6)
    assert torch.allclose(fill(rows, torch.ones(2, 12, 16)), x, atol=1e-6)
    alone = filling(x[1:], "inpaint", seeded(0))
    half = torch.rand(2, 12, 16, generator=seeded(1))
    assert torch.allclose(fill(rows, half)[1:], alone(rows[:1], half[1:]), atol=1e-6)
    kept = torch.ones(2, 12, 16)
    kept[:, 4:8, 4:9] = 0.5
    assert torch.allclose(fill(rows, kept)[..., 4:8, 4:9], ((x + inpainted(x, kept)) / 2)[..., 4:8, 4:9], atol=1e-6)


def test_fillings_are_the_baselines_and_one_more():
    x, kept = images(2, 1, 9, 9), torch.rand(3, 9, 9, generator=seeded(3)) < 0.5
    rows = torch.tensor([0, 1, 1])
    for kind in BASELINES:
        expected = torch.where(kept[:, None], x[rows], baseline(x, kind, seeded(1))[rows])
        assert torch.equal(filling(x, kind, seeded(1))(rows, kept), expected)
    assert set(FILLINGS) - set(BASELINES) == {"inpaint", "impute"}
    with pytest.raises(TargetError, match="'grey'.*impute"):
        filling(x, "grey", seeded(0))


def linear(x, kept):
    """ROAD's system, pixel by pixel: neighbours weigh a half per axis they lie off; the neighbours inside sum to 1."""
    unknown = [tuple(at) for at in np.argwhere(~kept.numpy())]
    number = {at: i for i, at in enumerate(unknown)}
    matrix, right = scipy.sparse.eye(len(unknown), format="lil"), np.zeros(len(unknown))
    for at, i in number.items():
        near = {}
        for off in itertools.product((-1, 0, 1), repeat=x.ndim):
            other = tuple(a + o for a, o in zip(at, off, strict=True))
            if any(off) and all(0 <= a < side for a, side in zip(other, x.shape, strict=True)):
                near[other] = 0.5 ** sum(map(abs, off))
        for other, weight in near.items():
            share = weight / sum(near.values())
            if other in number:
                matrix[i, number[other]] -= share
            else:
                right[i] += share * float(x[other])
    found = x.clone()
    found[~kept] = torch.from_numpy(scipy.sparse.linalg.spsolve(matrix.tocsc(), right))
    return found


@pytest.mark.parametrize(("holes", "error"), [("scattered", 0.002), ("one", 0.08)])
@pytest.mark.parametrize("shape", [(32, 27), (9, 12, 10), (1, 7)])
def test_imputation_solves_the_system_of_road(shape, holes, error):
    axes = torch.meshgrid(*[torch.arange(side, dtype=torch.float64) for side in shape], indexing="ij")
    x = sum(torch.sin(axis / 3 + k) for k, axis in enumerate(axes)) + torch.randn(shape, generator=seeded(2)) / 4
    kept = torch.rand(shape, generator=seeded(3)) < 0.4
    if holes == "one":
        kept = torch.ones(shape, dtype=torch.bool)
        kept[tuple(slice(side // 6, side // 6 + 2 * side // 3) for side in shape)] = False
    found = imputed(x[None, None], kept[None])[0, 0]
    assert torch.equal(found[kept], x[kept])
    assert float((found - linear(x, kept)).abs().max()) < error * float(x.std())


def test_impute_adds_grain_where_something_is_gone():
    x, kept = images(2, 2, 12, 16), torch.rand(2, 12, 16, generator=seeded(4)) < 0.5
    found = filling(x, "impute", seeded(0))(torch.arange(2), kept)
    grain = (found - torch.where(kept[:, None], x, imputed(x, kept))) / x.std((2, 3), correction=0, keepdim=True)
    assert not grain[kept[:, None].expand_as(x)].any()
    assert float(grain[~kept[:, None].expand_as(x)].std()) == pytest.approx(0.01, rel=0.1)
    alone = filling(x[1:], "impute", seeded(0))(torch.zeros(1, dtype=torch.long), kept[1:])
    assert torch.allclose(alone, found[1:], atol=1e-6)


def test_the_organ_is_the_body_without_its_background():
    x = torch.full((2, 2, 20, 24), -1.0)
    x[:, 0, 5:15, 6:18] = torch.randn(10, 12, generator=seeded(6)) + 4
    x[:, 1, 5:15, 6:18] = 3
    x[1] = images(1, 2, 20, 24)[0]  # filled by the body
    found = baseline(x, "organ", seeded(0))
    assert torch.allclose(found[0, 0], x[0, 0, 5:15, 6:18].mean(), atol=1e-6)
    assert torch.allclose(found[0, 1], torch.tensor(3.0))
    assert torch.allclose(found[1], x[1].mean((1, 2), keepdim=True), atol=0.05)
    nothing = torch.ones(1, 1, 8, 8)
    assert torch.equal(baseline(nothing, "organ", seeded(0)), nothing)


@pytest.mark.parametrize("function", FAST)
@pytest.mark.parametrize("kind", ["inpaint", "impute"])
def test_inpainting_works_for_all_and_image_by_image(function, kind):
    model, x = Net(1, 2), images(2, 1, 14, 14)
    both = run(function, model, x, baseline=kind, **FAST[function])
    alone = run(function, model, x[1:], baseline=kind, **FAST[function])
    assert both.values.isfinite().all()
    assert torch.allclose(both.values[1:], alone.values, atol=1e-5)


# --- stopping early ---------------------------------------------------------------------------------------------------

BUDGETS = {
    rise: {"masks": 1500, "cells": 3},
    lime: {"samples": 1500, "segments": 12},
    kernel_shap: {"samples": 1500, "segments": 25},
    shapley_sampling: {"orders": 120, "segments": 12},
}


def test_looks_grow_by_thirds_and_end_at_the_budget():
    assert looks(100, 0.0, 10) == [100]
    assert looks(100, 0.1, 10) == [10, 13, 17, 23, 31, 41, 55, 73, 97, 100]
    assert looks(40, 0.1, 12, 4) == [12, 16, 20, 28, 36, 40]
    assert looks(8, 0.1, 10) == [8]


def test_every_image_stops_by_itself():
    asked = []
    error = {0: [0.5, 0.05, 0.02], 1: [0.01, 0.03], 2: [0.05, 0.4, 0.08, 0.2]}
    used, errors = settle([[2, 4, 9, 12]] * 3, asked.append, lambda i, n: error[i][[2, 4, 9, 12].index(n)], 0.1)
    assert used == [9, 4, 12]
    assert errors == [0.02, 0.03, 0.2]
    assert asked[:2] == [[(0, 0, 2), (1, 0, 2), (2, 0, 2)], [(0, 2, 4), (1, 2, 4), (2, 2, 4)]]
    assert asked[2:] == [[(0, 4, 9), (2, 4, 9)], [(2, 9, 12)]]


@pytest.mark.parametrize("function", BUDGETS)
def test_stopping_early_saves_rows_keeps_the_error_and_the_batch_apart(function):
    x = images(3, 1, 20, 20)
    x[1] *= 4
    whole, model = run(function, Net(1, 2), x, **BUDGETS[function]), Net(1, 2)
    found = run(function, model, x, **BUDGETS[function], tolerance=0.1)
    rows = model.rows
    full = Net(1, 2)
    run(function, full, x, **BUDGETS[function])
    assert rows < 0.7 * full.rows
    assert "Estimated error of the map" in found.notes[-1]
    assert "Estimated error of the map" not in " ".join(whole.notes)
    off = (found.values - whole.values).flatten(1).square().mean(1).sqrt() / found.values.flatten(1).abs().amax(1)
    assert (off < 0.2).all()
    single = 0
    for i in range(3):
        model = Net(1, 2)
        alone = run(function, model, x[i : i + 1], **BUDGETS[function], tolerance=0.1)
        single += model.rows
        assert torch.allclose(alone.values, found.values[i : i + 1], atol=1e-5)
    assert single == rows
    with pytest.raises(TargetError, match="tolerance = -1"):
        run(function, model, x, tolerance=-1.0)


def test_the_estimated_error_is_the_real_one():
    """The error that RISE states for 400 masks, against the scatter over seeds."""
    model, x, given = Net(1, 2), images(1, 1, 16, 16), {"masks": 400, "cells": 4}
    maps = torch.stack([run(rise, model, x, seed=s, **given).values[0] for s in range(12)])
    real = float(maps.std(0).square().mean().sqrt() / maps.mean(0).abs().max())
    told = [run(rise, model, x, seed=s, tolerance=1e-9, **given).notes[-1] for s in range(12)]
    stated = np.mean([float(note.split(": ")[1].split("%")[0]) / 100 for note in told])
    assert 0.7 < stated / real < 1.4


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FAST)
@pytest.mark.parametrize("shape", [(3, 2, 13, 17), (3, 1, 7, 10, 9)])
def test_batch_is_single_and_chunks_do_not_matter(function, shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    whole = run(function, model, x, **FAST[function], batch_size=64)
    assert whole.values.shape == (shape[0], *shape[2:])
    assert whole.values.dtype == torch.float32
    assert whole.values.isfinite().all()
    assert (whole.values.flatten(1).std(1) > 0).all()
    for size in (1, 5):
        assert torch.allclose(
            run(function, model, x, **FAST[function], batch_size=size).values, whole.values, atol=1e-5
        )
    alone = torch.cat([run(function, model, x[i : i + 1], **FAST[function]).values for i in range(3)])
    assert torch.allclose(alone, whole.values, atol=1e-5)


@pytest.mark.parametrize("function", FAST)
def test_same_seed_same_map_other_seed_other_map_and_nothing_global(function):
    model, x = Net(1, 2), images(1, 1, 16, 16)
    state = torch.get_rng_state()
    given = {**FAST[function], "baseline": "noise"}
    one, two, other = (run(function, model, x, seed=seed, **given).values for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("function", FAST)
def test_progress_counts_every_model_row_and_calls_stay_small(function):
    model, x, told = Net(1, 2), images(2, 1, 16, 16), []
    run(function, model, x, **FAST[function], batch_size=7, progress=lambda *done: told.append(done))
    done, totals = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert set(totals) == {done[-1]} == {model.rows}
    assert model.largest == 7


@pytest.mark.parametrize("function", FAST)
def test_a_region_score_of_a_segmenter_is_explained(function):
    """The score is the summed output over a region; what lies far from it has no part in it."""

    class Segmenter(nn.Module):
        def forward(self, x):
            return torch.stack([-x, x], 2).mean(1)  # (B, 2, H, W)

    region = torch.zeros(24, 24, dtype=torch.bool)
    region[:6, :6] = True
    x = images(1, 1, 24, 24) + 3
    found = run(
        function, Segmenter(), x, lambda out, _rows: out[:, 1][:, region].sum(1), baseline="zero", **FAST[function]
    )
    inside, far = found.values[0][region].mean(), found.values[0][15:, 15:]
    assert inside > 0
    assert far.abs().mean() < (0.5 if function in (rise, hsic_attribution) else 0.05) * inside


@pytest.mark.parametrize("function", FAST)
def test_a_score_that_never_moves_gives_an_empty_map_and_says_so(function):
    found = run(function, Net(1, 2), images(2, 1, 12, 12), lambda out, _rows: out[:, 0] * 0 + 2, **FAST[function])
    assert torch.equal(found.values, torch.zeros(2, 12, 12))
    assert [c for c in found.cautions if "did not change" in c][1].startswith("image 2: ")


@pytest.mark.parametrize("function", FAST)
def test_signature_is_what_the_gate_reads(function):
    assert set(injected(function)) == {"progress", "generator"}
    assert {"baseline", "batch_size"} <= set(parameters(function))
    assert all(isinstance(v, int | float | str | bool | None) for v in parameters(function).values())
    assert all(f"{name}:" in inspect.getdoc(function) for name in parameters(function))


@pytest.mark.parametrize(
    ("function", "given", "words"),
    [
        (occlusion, {"window": 0}, "window = 0"),
        (occlusion, {"stride": -1}, "stride = -1"),
        (rise, {"masks": 1}, "masks = 1"),
        (rise, {"probability": 1.0}, "probability = 1.0"),
        (rise, {"cells": 0}, "cells = 0"),
        (lime, {"samples": 1}, "samples = 1"),
        (lime, {"kernel_width": 0.0}, "kernel_width = 0.0"),
        (lime, {"segments": 0}, "segments = 0"),
        (kernel_shap, {"samples": 3}, "samples = 3"),
        (feature_ablation, {"segments": 0}, "segments = 0"),
        (shapley_sampling, {"orders": 0}, "orders = 0"),
        (sobol_attribution, {"designs": 1}, "designs = 1"),
        (sobol_attribution, {"cells": 0}, "cells = 0"),
        (hsic_attribution, {"masks": 3}, "masks = 3"),
        (kernel_shap, {"batch_size": 0}, "batch_size = 0"),
        (kernel_shap, {"baseline": "grey"}, "'grey'"),
    ],
)
def test_bad_parameters_are_named(function, given, words):
    with pytest.raises(TargetError, match=words):
        run(function, Net(1, 2), images(1, 1, 8, 8), **given)


# --- occlusion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (2, 1, 4, 3, 5)])
@pytest.mark.parametrize("kind", ["black", "mean", "zero"])
def test_occlusion_of_single_pixels_is_exact_on_linear_models(shape, kind):
    model, x = Linear(*shape[1:]), images(*shape)
    found = run(occlusion, model, x, first, window=1, baseline=kind)
    expected = (model.weight * (x - baseline(x, kind, seeded(0)))).sum(1)
    assert torch.allclose(found.values, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "window", "stride"), [((1, 2, 12, 16), 4, 2), ((2, 1, 6, 8, 10), 2, 2), ((1, 1, 9, 9), 3, 3)]
)
def test_occlusion_is_captums_where_its_windows_end_at_the_border(shape, window, stride):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    spatial = len(shape) - 2
    expected = Occlusion(model).attribute(
        x, (shape[1], *[window] * spatial), (shape[1], *[stride] * spatial), baselines=0, target=1
    )
    found = run(occlusion, model, x, window=window, stride=stride, baseline="zero")
    assert torch.allclose(found.values, expected[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "window", "stride"), [((1, 1, 11, 8), 4, 3), ((1, 2, 5, 7, 6), 3, 2), ((1, 1, 7, 40), 12, 5)]
)
def test_occlusion_against_a_slow_second_writing(shape, window, stride):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    ranges = []
    for length in shape[2:]:
        side = min(window, length)
        starts = [s for s in range(0, length, stride) if s + side <= length]
        ranges.append([slice(s, s + side) for s in dict.fromkeys([*starts, length - side])])
    total, count = torch.zeros(shape[2:]), torch.zeros(shape[2:])
    for place in itertools.product(*ranges):
        hidden = x.clone()
        hidden[(0, slice(None), *place)] = x.amin(tuple(range(2, x.ndim)))[0].view(-1, *[1] * (x.ndim - 2))
        total[place] += model(x)[0, 1] - model(hidden)[0, 1]
        count[place] += 1
    assert (count > 0).all()
    found = run(occlusion, model, x, window=window, stride=stride, baseline="black")
    assert torch.allclose(found.values[0], total / count, atol=1e-5)


def test_occlusion_defaults_cost_few_rows():
    for shape, rows in {(1, 1, 64, 96): 15 * 15 + 1, (1, 1, 32, 32, 32): 8**3 + 1}.items():
        model = Net(1, len(shape) - 2)
        run(occlusion, model, images(*shape))
        assert model.rows == rows


# --- RISE -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 2, 11, 14), (1, 1, 6, 9, 7)])
@pytest.mark.parametrize("centred", [True, False])
def test_rise_against_a_slow_second_writing(shape, centred):
    model, x, spatial = Net(shape[1], len(shape) - 2), images(*shape), shape[2:]
    found = run(rise, model, x, masks=15, cells=4, probability=0.3, centred=centred, baseline="black", seed=9)
    draw = seeded(9)
    bits = (torch.rand((15, 1, *[5] * len(spatial)), generator=draw) < 0.3).numpy()
    sides = [-(-length // 4) for length in spatial]
    shifts = [torch.randint(side, (15,), generator=draw) for side in sides]
    low = x.amin(tuple(range(2, x.ndim)), keepdim=True)
    scores, masks = [], []
    for n in range(15):
        mask = np.zeros(spatial)
        for pixel in np.ndindex(*spatial):
            # linear interpolation between cell centres, by hand
            for corner in itertools.product((0, 1), repeat=len(spatial)):
                weight, cell = 1.0, []
                for axis, side in enumerate(sides):
                    place = min(max((pixel[axis] + int(shifts[axis][n]) + 0.5) / side - 0.5, 0), 4)
                    below = min(int(place), 3)
                    weight *= place - below if corner[axis] else 1 - (place - below)
                    cell.append(below + corner[axis])
                mask[pixel] += weight * bits[(n, 0, *cell)]
        mask = torch.from_numpy(mask).float()
        scores.append(float(model(low + mask * (x - low))[0, 1]))
        masks.append(mask.double())
    weighted = sum(f * m for f, m in zip(scores, masks, strict=True)) / sum(masks)
    expected = weighted - np.mean(scores) if centred else weighted
    assert torch.allclose(found.values[0].double(), expected, atol=1e-5)
    assert found.signed is centred


def test_rise_finds_the_weights_of_a_linear_model_and_knows_its_noise():
    weight = torch.zeros(1, 32, 32)
    weight[0, 4:12, 18:26] = 1
    model, x = Linear(1, 32, 32), images(1, 1, 32, 32) + 2
    model.weight.data = weight
    good = run(rise, model, x, first, masks=1500, baseline="black")
    assert weight[0].flatten()[good.values[0].flatten().argmax()] == 1
    assert good.cautions == ()
    few = run(rise, Linear(1, 32, 32), x, first, masks=12, cells=16)
    assert "use more than 12 masks" in few.cautions[0]


def test_centring_removes_noise_from_rise():
    model, x = Linear(1, 24, 24), images(1, 1, 24, 24) + 4
    model.weight.data = torch.rand(1, 24, 24, generator=seeded(2))
    spread = {
        centred: torch.stack([run(rise, model, x, first, masks=60, centred=centred, seed=s).values for s in range(12)])
        .std(0)
        .mean()
        for centred in (True, False)
    }
    assert spread[True] < spread[False]


# --- LIME -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 24, 24), (1, 1, 8, 12, 10)])
def test_lime_is_a_weighted_ridge_regression(shape):
    """The same regression by scikit-learn on samples drawn and pictures made one at a time."""
    model, x = Net(1, len(shape) - 2), images(*shape)
    found = run(lime, model, x, samples=80, segments=9, baseline="mean", kernel_width=0.4, ridge=0.7, seed=2)
    labels = superpixels(x, 9)[0]
    count = int(labels.max()) + 1
    base_seed = int(torch.randint(2**62, (1,), generator=seeded(2)))
    z = torch.rand((80, count), generator=seeded(base_seed)) < 0.5
    z[0] = True
    scores, weights = [], []
    for on in z:
        picture = torch.where(on[labels], x, x.mean())
        scores.append(float(model(picture)[0, 1]))
        cosine = float(on.sum() / (on.sum().sqrt() * math.sqrt(count))) if on.any() else 0.0
        weights.append(math.sqrt(math.exp(-((1 - cosine) ** 2) / 0.4**2)))
    surrogate = Ridge(alpha=0.7).fit(z.numpy(), scores, sample_weight=weights)
    assert np.allclose(found.values[0].numpy(), surrogate.coef_[labels.numpy()], atol=1e-5)
    fit = surrogate.score(z.numpy(), scores, sample_weight=weights)
    assert f"{fit:.2f}" in found.notes[0]


def test_lime_gives_the_sums_of_a_linear_model():
    model, x = Linear(2, 20, 20), images(2, 2, 20, 20)
    found = run(lime, model, x, first, samples=300, segments=12, baseline="zero", ridge=1e-9)
    parts = (model.weight * x).sum(1)
    for i, labels in enumerate(superpixels(x, 12)):
        sums = torch.zeros(int(labels.max()) + 1).index_add_(0, labels.flatten(), parts[i].flatten())
        assert torch.allclose(found.values[i], sums[labels], atol=1e-4)
    assert found.cautions == ()


def test_lime_says_when_the_line_does_not_fit_and_when_samples_are_few():
    def parity(outputs, _rows):
        return (outputs * 37).sin()

    x = images(1, 1, 20, 20) + 2
    found = run(lime, Linear(1, 20, 20), x, parity, samples=200, segments=12)
    assert "weighted R² = 0." in found.cautions[0]
    few = run(lime, Linear(1, 20, 20), x, first, samples=10, segments=12)
    assert "10 samples for" in few.cautions[0]


# --- KernelSHAP -------------------------------------------------------------------------------------------------------


def shapley(model, x, labels, base, score):
    """Shapley values by their definition: the average gain over all orders, from a table of all coalitions."""
    count = int(labels.max()) + 1
    table = {}
    for on in itertools.product((False, True), repeat=count):
        picture = torch.where(torch.tensor(on)[labels], x, base)
        table[on] = float(score(model(picture), torch.zeros(1, dtype=torch.long))[0])
    values = torch.zeros(count)
    for k in range(count):
        for on, without in table.items():
            if not on[k]:
                size = sum(on)
                weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
                values[k] += weight * (table[(*on[:k], True, *on[k + 1 :])] - without)
    return values


@pytest.mark.parametrize(
    ("shape", "segments", "count"),
    [
        ((1, 2, 12, 12), 1, 1),
        ((1, 2, 12, 12), 4, 4),
        ((1, 2, 12, 12), 8, 9),
        ((1, 1, 6, 8, 6), 3, 2),
        ((1, 1, 6, 8, 6), 6, 7),
    ],
)
def test_kernel_shap_with_few_regions_is_exact(shape, segments, count):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    labels = superpixels(x, segments)[0]
    assert int(labels.max()) + 1 == count
    found = run(kernel_shap, model, x, samples=max(4, 2**count), segments=segments, baseline="black")
    assert model.rows == 2**count
    base = baseline(x, "black", seeded(0))
    expected = shapley(model, x, labels, base, logit)
    assert torch.allclose(found.values[0], expected[labels], atol=1e-5)
    if count <= 5:  # captum walks through all count! orders
        peer = ShapleyValues(model).attribute(x, baselines=base.clone(), target=1, feature_mask=labels[None, None])
        assert torch.allclose(found.values[0], peer[0, 0], atol=1e-5)
    assert "all coalitions" in found.notes[0]


@pytest.mark.parametrize("samples", [60, 150, 700])
def test_kernel_shap_sums_to_the_gain_and_costs_at_most_its_samples(samples):
    model, x = Net(1, 2), images(2, 1, 28, 28)
    found = run(kernel_shap, model, x, samples=samples, segments=25)
    assert model.rows <= 2 * samples
    total = (model(x) - model(baseline(x, "mean", seeded(0)).clone()))[:, 1]
    for i, labels in enumerate(superpixels(x, 25)):
        one = torch.stack([found.values[i][labels == k][0] for k in range(int(labels.max()) + 1)])
        assert torch.allclose(one.sum(), total[i], atol=1e-4)


def test_kernel_shap_is_exact_on_linear_models_from_few_samples():
    model, x = Linear(1, 24, 24), images(1, 1, 24, 24)
    found = run(kernel_shap, model, x, first, samples=80, segments=16, baseline="zero")
    parts, labels = (model.weight * x).sum(1)[0], superpixels(x, 16)[0]
    sums = torch.zeros(int(labels.max()) + 1).index_add_(0, labels.flatten(), parts.flatten())
    assert torch.allclose(found.values[0], sums[labels], atol=1e-4)
    assert "R² of the additive model: 1.00" in found.notes[0]


def test_kernel_shap_nears_the_truth_faster_than_captum():
    model, x = Net(1, 2), images(1, 1, 16, 16)
    labels = superpixels(x, 9)[0]
    base = baseline(x, "black", seeded(0)).clone()
    truth = shapley(model, x, labels, base, logit)[labels]
    samples = 80

    def off(values):
        return float((values - truth).abs().mean() / truth.abs().mean())

    ours, theirs = [], []
    for seed in range(8):
        ours.append(off(run(kernel_shap, model, x, samples=samples, segments=9, baseline="black", seed=seed).values[0]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            peer = KernelShap(model).attribute(x, base, target=1, feature_mask=labels[None, None], n_samples=samples)
        theirs.append(off(peer[0, 0]))
    assert np.mean(ours) < 0.15
    assert np.mean(ours) < np.mean(theirs) / 4


@pytest.mark.parametrize(
    ("count", "budget"), [(2, 2), (5, 12), (6, 61), (6, 62), (7, 40), (50, 500), (40, 30), (1, 10)]
)
def test_coalitions_are_distinct_inside_the_budget_and_weighted_by_the_kernel(count, budget):
    on, weights, sure = coalitions._shapley_coalitions(count, budget, seeded(0))
    assert len(on) <= budget
    if count == 1:
        assert len(on) == 0
        return
    assert len(torch.unique(on, dim=0)) == len(on)
    assert int(on.sum(1).min()) > 0
    assert int(on.sum(1).max()) < count
    assert float(weights.sum()) == pytest.approx(1)
    kernel = {s: (count - 1) / (s * (count - s)) for s in range(1, count)}
    size = on.sum(1)
    for s in range(1, count):
        given = float(weights[size == s].sum())
        tolerance = 0.02 if len(on) > 100 else 0.12
        assert given == pytest.approx(
            kernel[s] / sum(kernel.values()), abs=tolerance if len(on) < 2**count - 2 else 1e-9
        )
    assert {tuple(row) for row in on.tolist()} == {tuple(row) for row in (~on).tolist()}


def test_more_regions_than_coalitions_still_give_a_map_and_a_caution():
    found = run(kernel_shap, Net(1, 2), images(1, 1, 32, 32), samples=20, segments=60)
    assert found.values.isfinite().all()
    assert "too few to tell the regions apart" in found.cautions[0]


# --- feature ablation, Shapley sampling, Sobol, HSIC ------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 2, 12, 12), (1, 1, 6, 8, 6)])
def test_feature_ablation_equals_captum(shape):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    labels, base = superpixels(x, 6), baseline(x, "black", seeded(0)).clone()
    found = run(feature_ablation, model, x, segments=6, baseline="black")
    assert model.rows == sum(int(one.max()) + 2 for one in labels)
    for i in range(len(x)):
        peer = FeatureAblation(model).attribute(
            x[i : i + 1], baselines=base[i : i + 1], target=1, feature_mask=labels[i][None, None]
        )
        assert torch.allclose(found.values[i], peer[0, 0], atol=1e-5)


def test_shapley_sampling_order_by_order_and_its_sum():
    model, x = Net(1, 2), images(1, 1, 14, 14)
    labels, base = superpixels(x, 5)[0], baseline(x, "mean", seeded(0))
    count = int(labels.max()) + 1
    found = run(shapley_sampling, model, x, orders=3, segments=5)
    assert model.rows == 2 + 3 * (count - 1)
    seed = int(torch.randint(2**62, (1,), generator=seeded(0)))
    half = torch.rand((2, count), generator=seeded(seed)).argsort(1)
    expected = torch.zeros(count)
    for order in (half[0], half[0].flip(0), half[1]):
        seen, before = base.clone(), float(model(base)[0, 1])
        for region in order.tolist():
            seen = torch.where(labels == region, x, seen)
            after = float(model(seen)[0, 1])
            expected[region] += (after - before) / 3
            before = after
    assert torch.allclose(found.values[0], expected[labels], atol=1e-5)
    one = torch.stack([found.values[0][labels == k][0] for k in range(count)])
    assert torch.allclose(one.sum(), (model(x) - model(base))[0, 1], atol=1e-4)


def test_shapley_sampling_nears_the_definition():
    model, x = Net(1, 2), images(1, 1, 14, 14)
    labels, base = superpixels(x, 5)[0], baseline(x, "mean", seeded(0))
    exact = shapley(model, x, labels, base, logit)
    errors = [
        float((run(shapley_sampling, model, x, orders=n, segments=5).values[0] - exact[labels]).abs().mean())
        for n in (2, 200)
    ]
    assert errors[1] < 0.05 * float(exact.abs().mean())
    assert errors[1] < errors[0] / 3


def test_sobol_of_a_sum_and_of_a_product_are_those_of_the_textbook():
    """Cells are uniform on [0, 1]: total indices of a sum are shares of w²; those of z1 z2 are both 4/7."""

    class Cells(nn.Module):
        def __init__(self, product):
            super().__init__()
            self.product = product

        def forward(self, x):
            a, b, c = x[:, 0, 0, 0], x[:, 0, 0, 2], x[:, 0, 2, 0]
            return a * b if self.product else 1 * a + 2 * b + 3 * c

    x = torch.ones(1, 1, 4, 4)
    given = {"designs": 2048, "cells": 2, "baseline": "zero"}
    shares = run(sobol_attribution, Cells(product=False), x, first, **given).values[0, ::2, ::2]
    assert torch.allclose(shares, torch.tensor([[1.0, 4.0], [9.0, 0.0]]) / 14, atol=0.01)
    joint = run(sobol_attribution, Cells(product=True), x, first, **given).values[0, ::2, ::2]
    assert torch.allclose(joint, torch.tensor([[4.0, 4.0], [0.0, 0.0]]) / 7, atol=0.02)


def test_sobol_costs_its_masks():
    model = Net(1, 2)
    run(sobol_attribution, model, images(1, 1, 16, 16), designs=5, cells=3)
    assert model.rows == 5 * (9 + 2)


def test_hsic_from_its_matrices():
    signs = torch.where(torch.rand((30, 5), generator=seeded(1)) < 0.5, -1.0, 1.0).double()
    answers = signs[:, 0] * 2 + signs[:, 1] * signs[:, 2] + torch.rand(30, generator=seeded(2))
    apart = (answers[:, None] - answers).abs()
    near = torch.exp(-(apart**2) / (2 * answers.var()))
    n, expected = 30, []
    for k in range(5):
        same = (signs[:, None, k] == signs[:, k]).double()
        one, two = (m - torch.diag(m.diagonal()) for m in (same, near))
        ones = torch.ones(n).double()
        whole = (ones @ one @ ones) * (ones @ two @ ones) / ((n - 1) * (n - 2))
        mixed = 2 / (n - 2) * (ones @ one @ two @ ones)
        expected.append((torch.trace(one @ two) + whole - mixed) / (n * (n - 3)))
    found = perturbation._dependence(signs, answers)
    assert torch.allclose(found, torch.stack(expected).clamp(min=0), atol=1e-10)
    assert found.argmax() == 0


def test_hsic_finds_the_cell_that_counts():
    class One(nn.Module):
        def forward(self, x):
            return x[:, 0, :4, 4:].mean((1, 2)) ** 2

    found = run(hsic_attribution, One(), torch.ones(1, 1, 8, 8), first, masks=200, cells=2, baseline="zero")
    grid = found.values[0, ::4, ::4]
    assert grid.argmax() == 1
    assert grid[0, 1] > 20 * grid.flatten()[[0, 2, 3]].max()


# --- Owen values ------------------------------------------------------------------------------------------------------


def owen(worth, box):
    """Owen values of the cells of a grid, as defined: the mean over all orders that keep the halves together."""

    def orders(box):
        lengths = [last - first for first, last in box]
        if max(lengths) == 1:
            return [[tuple(first for first, _ in box)]]
        axis = lengths.index(max(lengths))
        first, last = box[axis]
        middle = (first + last) // 2
        parts = [[*box[:axis], ends, *box[axis + 1 :]] for ends in ((first, middle), (middle, last))]
        one, two = (orders(part) for part in parts)
        return [a + b for x, y in ((one, two), (two, one)) for a in x for b in y]

    everything = orders(box)
    values = dict.fromkeys(everything[0], 0.0)
    for order in everything:
        for k, cell in enumerate(order):
            values[cell] += (worth(order[: k + 1]) - worth(order[:k])) / len(everything)
    return values


@pytest.mark.parametrize(("shape", "cells"), [((1, 2, 9, 9), 3), ((1, 1, 12, 8), 2), ((1, 1, 6, 4, 4), 2)])
def test_partition_values_are_owens_when_the_tree_is_spent(shape, cells):
    model, x = Net(shape[1], len(shape) - 2), images(*shape)
    base = baseline(x, "black", seeded(0))
    dims = len(shape) - 2
    sides = [length // cells for length in shape[2:]]
    known = {}

    def worth(shown):
        key = frozenset(shown)
        if key not in known:
            picture = base.clone()
            for cell in shown:
                place = tuple(slice(c * side, (c + 1) * side) for c, side in zip(cell, sides, strict=True))
                picture[(..., *place)] = x[(..., *place)]
            known[key] = float(model(picture)[0, 1])
        return known[key]

    expected = owen(worth, [(0, cells)] * dims)
    found = run(shap_partition, model, x, samples=5000, cells=cells, baseline="black")
    for cell, value in expected.items():
        place = tuple(slice(c * side, (c + 1) * side) for c, side in zip(cell, sides, strict=True))
        assert float(found.values[0][place].sum()) == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("samples", [4, 5, 30, 301])
def test_partition_sums_to_the_gain_at_any_budget(samples):
    model, x = Net(1, 2), images(2, 1, 23, 17)
    found = run(shap_partition, model, x, samples=samples)
    assert model.rows == 2 * (samples // 2 * 2)
    gain = (model(x) - model(baseline(x, "mean", seeded(0)).clone()))[:, 1]
    assert torch.allclose(found.values.flatten(1).sum(1), gain, atol=1e-5)
    assert (found.checks["completeness_error"] < 1e-6).all()


def test_partition_opens_what_matters():
    """One bright spot counts: only what holds it is opened, once for each context."""
    model, x = Linear(1, 64, 64), torch.ones(1, 1, 64, 64)
    model.weight.data = torch.zeros(1, 64, 64)
    model.weight.data[0, 38:40, 20:22] = 1
    found = run(shap_partition, model, x, first, samples=60, baseline="zero").values[0]
    assert (found[38:40, 20:22] > 0).all()
    assert (found > 1e-6).sum() <= 64 * 64 / 8
    spent = run(shap_partition, model, x, first, samples=60, cells=4, baseline="zero").values[0]
    assert torch.allclose(spent[32:48, 16:32], torch.tensor(4 / 256))


# --- KernelSHAP with other players ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spatial", "segments"), [((20, 24, 16), 30), ((12, 12, 12), 8), ((30, 20, 25), 100)])
def test_lattice_cells_belong_to_their_nearest_point(spatial, segments):
    labels = coalitions._lattice(spatial, segments)
    count = int(labels.max()) + 1
    assert labels.unique().tolist() == list(range(count))
    assert 0.6 * segments <= count <= 1.4 * segments


def test_nearest_lattice_point_by_search():
    axes = [torch.rand(6, generator=seeded(k), dtype=torch.float64) * 4 for k in range(3)]
    found = coalitions._nearest(axes)
    points = [p for p in itertools.product(range(-2, 7), repeat=3) if sum(p) % 2 == 0]
    table = torch.tensor(points, dtype=torch.float64)
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
    nearest = torch.cdist(at, table).argmin(1)
    same, expected = (one.flatten()[:, None] == one.flatten() for one in (found, nearest))
    assert torch.equal(same, expected)


def test_supervoxels_share_the_gain_by_kernel_shap():
    model, x = Linear(1, 8, 9, 10), images(2, 1, 8, 9, 10)
    found = run(kernel_shap_supervoxels, model, x, first, samples=200, segments=12, baseline="zero")
    labels = coalitions._lattice((8, 9, 10), 12)
    for i in range(2):
        parts = (model.weight * x[i])[0].flatten()
        sums = torch.zeros(int(labels.max()) + 1).index_add_(0, labels.flatten(), parts)
        assert torch.allclose(found.values[i], sums[labels], atol=1e-4)


def test_organ_units_are_the_labels_of_the_model():
    class Segmenter(nn.Module):
        """Marks 1 where the image is above 1 and 2 where it is below -1; each pixel also sees the whole image."""

        def forward(self, x):
            return torch.cat([1 - x.abs(), x - 0.5, -x - 0.5], 1) + x.mean((1, 2, 3), keepdim=True)

    x = torch.zeros(1, 1, 8, 10)
    x[..., :3, :4], x[..., 5:, 6:] = 2.0, -2.0
    region = x[0, 0] > 1
    found = run(
        kernel_shap_organ_units, Segmenter(), x, lambda out, _: out[:, 1][:, region].sum(1), baseline="zero"
    ).values[0]
    assert found.unique().numel() == 3
    size = int(region.sum())
    share = size / 80 * size
    assert float(found[0, 0]) == pytest.approx(2 * size + 2 * share, abs=1e-4)
    assert float(found[7, 9]) == pytest.approx(-2 * int((x < 0).sum()) / 80 * size, abs=1e-4)
    assert float(found[0, 9]) == pytest.approx(0, abs=1e-4)


def test_organ_units_of_a_model_that_marks_nothing():
    class Nothing(nn.Module):
        def forward(self, x):
            return torch.cat([x * 0 + 9, x], 1)

    found = run(kernel_shap_organ_units, Nothing(), images(1, 1, 8, 8), lambda out, _: out[:, 1].flatten(1).sum(1))
    assert "marks nothing" in found.cautions[-1]
    assert found.values.unique().numel() == 1


# --- RISE in colours, RELAX -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["all", "bright", "channel 2"])
def test_mc_rise_against_a_slow_second_writing(colour):
    """Masks at full resolution are drawn once and applied one by one."""
    model, x = Net(2, 2), images(1, 2, 8, 8)
    found = run(mc_rise, model, x, masks=60, cells=8, colour=colour, probability=0.4, seed=3)
    draw = seeded(3)
    painted = torch.rand((60, 9, 9), generator=draw) < 0.4
    paint = torch.randint(4, (60, 9, 9), generator=draw)
    low, high = x[0].flatten(1).amin(1), x[0].flatten(1).amax(1)
    colours = [low, high, torch.stack([high[0], low[1]]), torch.stack([low[0], high[1]])]
    scores, kinds = [], []
    for n in range(60):  # a cell is a pixel, and there is no room to shift
        kind = torch.where(painted[n], paint[n] + 1, 0)[:8, :8]
        picture = x.clone()
        for r, c in itertools.product(range(8), range(8)):
            if kind[r, c]:
                picture[0, :, r, c] = colours[int(kind[r, c]) - 1]
        scores.append(float(model(picture)[0, 1]))
        kinds.append(kind)
    scores, kinds = torch.tensor(scores), torch.stack(kinds)
    expected = torch.zeros(4, 8, 8)
    for r, c in itertools.product(range(8), range(8)):
        own = [scores[kinds[:, r, c] == k] for k in range(5)]
        means = [float(s.mean()) if len(s) else float(scores.mean()) for s in own]
        expected[:, r, c] = torch.tensor([means[0] - means[k] for k in range(1, 5)])
    wanted = expected.mean(0) if colour == "all" else expected[{"bright": 1, "channel 2": 3}[colour]]
    assert torch.allclose(found.values[0], wanted, atol=1e-4)


def test_mc_rise_tells_the_colours_apart_and_batch_is_single():
    """The score counts brightness in one corner: painting it dark lowers the score, painting it bright raises it."""
    model = Linear(1, 16, 16)
    model.weight.data = torch.zeros(1, 16, 16)
    model.weight.data[0, :4, :4] = 1
    x = images(2, 1, 16, 16)
    dark, bright = (run(mc_rise, model, x, first, masks=400, colour=c).values for c in ("dark", "bright"))
    assert (dark[:, :4, :4] > 0).all()
    assert (bright[:, :4, :4] < 0).all()
    assert dark[:, 9:, 9:].abs().mean() < 0.2 * dark[:, :4, :4].mean()
    alone = run(mc_rise, model, x[1:], first, masks=400, colour="dark", batch_size=7).values
    assert torch.allclose(alone, dark[1:], atol=1e-5)
    with pytest.raises(TargetError, match="dark or bright"):
        run(mc_rise, model, x, first, colour="red")
    with pytest.raises(TargetError, match="probability = 0"):
        run(mc_rise, model, x, first, probability=0.0)


def test_relax_is_rise_on_the_likeness_of_codes():
    class Coder(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 5, 3, padding=1)
            self.head = nn.Linear(5, 3)

        def code(self, x):
            return self.conv(x).relu().mean((2, 3))

        def forward(self, x):
            return self.head(self.code(x))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Coder().eval()
    x, given = images(2, 1, 16, 16) + 1, {"masks": 30, "cells": 4}
    found = run(relax, model, x, profile=profile(model, x), **given)
    whole = model.code(x).detach()

    def likeness(outputs, rows):
        return F.cosine_similarity(outputs, whole[rows], dim=1)

    class Inside(nn.Module):
        def forward(self, x):
            return model.code(x)

    expected = run(rise, Inside(), x, likeness, **given)
    assert torch.allclose(found.values, expected.values, atol=1e-5)
    assert "same for every target" in found.cautions[0]
    other = run(relax, model, x, lambda out, _: out[:, 2], profile=profile(model, x), **given)
    assert torch.equal(found.values, other.values)
