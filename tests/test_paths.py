"""Methods that follow a path to the image, against captum, slow second writings and identities."""

from __future__ import annotations

import math

import captum.attr
import numpy as np
import pytest
import torch
from scipy import ndimage
from toys import Linear, images, make

from runners import explain
from runners.baselines import blurred
from runners.paths import _ranked
from runners.superpixels import overlapping_regions
from taxonomy import RequirementError, TargetError


@pytest.mark.parametrize(
    ("method", "option"),
    [
        *((method, {"steps": 5}) for method in ("integrated_gradients", "blur_ig", "idgi", "layer_conductance")),
        *((method, {"samples": 5}) for method in ("gradient_shap", "expected_gradients")),
    ],
)
def test_chunks_do_not_change_the_map(method: str, option: dict[str, int]) -> None:
    model, x = make("cnn2d"), images("cnn2d", 3)
    owned = {"reference": x.flip(0) * 0.5} if method == "expected_gradients" else {}
    small, large = (explain(model, x, method, batch_size=n, **option, **owned).values for n in (2, 64))  # type: ignore[arg-type]
    assert torch.allclose(small, large, atol=1e-5 * float(large.abs().max()))


@pytest.mark.parametrize("toy", ["cnn2d", "cnn3d", "vit_fused"])
def test_integrated_gradients_equal_captum(toy: str) -> None:
    model, x = make(toy), images(toy)
    start = x.amin(tuple(range(2, x.ndim)), keepdim=True).expand_as(x)
    theirs = captum.attr.IntegratedGradients(model).attribute(x, start, target=1, n_steps=12, method="gausslegendre")
    ours = explain(model, x, "integrated_gradients", 1, steps=12)
    assert torch.allclose(ours.values, theirs.sum(1).float(), atol=1e-5)
    assert ours.passes == {"forward": len(x) * (12 + 2), "backward": len(x) * 12}


def test_completeness_is_measured_and_told() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    fine = explain(model, x, "integrated_gradients", steps=64)
    assert any("Completeness: the map sums" in note for note in fine.notes)
    low = x.amin((2, 3), keepdim=True).expand_as(x)
    chosen = model(x).argmax(1)
    change = (model(x) - model(low)).detach()[torch.arange(2), chosen]
    assert torch.allclose(fine.values.sum((1, 2)), change, rtol=0.03)
    coarse = explain(model, x, "integrated_gradients", steps=1)
    assert any("Completeness holds only within" in caution for caution in coarse.cautions)


@pytest.mark.parametrize("toy", ["cnn2d", "cnn3d"])
def test_blur_ig_step_by_step(toy: str) -> None:
    model, x = make(toy), images(toy, 1)

    def blurred(share: float) -> torch.Tensor:
        if share == 0:
            return x
        sigmas = [share * n for n in x.shape[2:]]
        radii = [min(math.ceil(3 * s), n - 1) for s, n in zip(sigmas, x.shape[2:], strict=True)]
        return torch.stack(
            [torch.tensor(ndimage.gaussian_filter(c.numpy(), sigmas, radius=radii, mode="mirror")) for c in x[0]]
        )[None]

    steps, expected = 6, torch.zeros(x.shape[2:])
    for step in range(steps):
        here, middle, there = (blurred(0.25 * (1 - (step + part) / steps)) for part in (0, 0.5, 1))
        at = middle.clone().requires_grad_()
        (grad,) = torch.autograd.grad(model(at)[0, 1], at)
        expected += (grad * (there - here))[0].sum(0)
    ours = explain(model, x, "blur_ig", 1, steps=steps)
    assert torch.allclose(ours.values[0], expected, atol=1e-5 * float(expected.abs().max()) + 1e-7)
    with pytest.raises(TargetError, match="blur=0"):
        explain(model, x, "blur_ig", 1, blur=0.0)


def test_blur_ig_is_complete() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    found = explain(model, x, "blur_ig", 1, steps=100)
    change = (model(x) - model(blurred(x, 0.25)))[:, 1].detach()
    assert torch.allclose(found.values.sum((1, 2)), change, atol=0.02 * float(change.abs().max()))


def test_idgi_step_by_step_and_exactly_complete() -> None:
    model, x = make("cnn2d"), images("cnn2d", 3)
    low = x.amin((2, 3), keepdim=True).expand_as(x)
    steps, expected = 7, torch.zeros(3, *x.shape[2:])
    for b in range(3):
        points = [(low[b] + i / steps * (x[b] - low[b]))[None].requires_grad_() for i in range(steps + 1)]
        scores = [model(point)[0, 2] for point in points]
        for i in range(steps):
            (grad,) = torch.autograd.grad(scores[i], points[i])
            expected[b] += ((scores[i + 1] - scores[i]) * grad**2 / (grad**2).sum()).detach()[0].sum(0)
    for batch_size in (1, 2, 5, 64):
        ours = explain(model, x, "idgi", 2, steps=steps, batch_size=batch_size).values
        assert torch.allclose(ours, expected, atol=1e-5 * float(expected.abs().max())), batch_size
    change = (model(x) - model(low))[:, 2].detach()
    assert torch.allclose(ours.sum((1, 2)), change, atol=1e-5)


def test_gradient_shap_is_exact_on_a_linear_model_without_noise() -> None:
    torch.manual_seed(0)
    model, x = Linear((2, 4, 4)).eval(), torch.rand(2, 2, 4, 4)
    weight = model.layer.weight[0].view(2, 4, 4).detach()
    expected = (weight * (x - x.amin((2, 3), keepdim=True))).sum(1)
    assert torch.allclose(explain(model, x, "gradient_shap", 0, noise=0.0).values, expected, atol=1e-6)


def test_gradient_shap_tends_to_integrated_gradients() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    path = explain(model, x, "integrated_gradients", 0, steps=64).values
    many = explain(model, x, "gradient_shap", 0, noise=0.0, samples=200).values
    assert torch.allclose(many, path, atol=0.02 * float(path.abs().max()))


@pytest.mark.parametrize("toy", ["cnn2d", "cnn3d", "vit_pooled"])
def test_layer_conductance_step_by_step(toy: str) -> None:
    model, x = make(toy), images(toy, 1)
    named = {"cnn2d": "stem.0", "cnn3d": "stem.0", "vit_pooled": "blocks.1"}[toy]
    start = x.amin(tuple(range(2, x.ndim)), keepdim=True).expand_as(x)
    kept: list[torch.Tensor] = []
    model.get_submodule(named).register_forward_hook(lambda _m, _i, out: kept.append(out))
    steps, expected = 5, 0.0
    seen = []
    for step in range(steps + 1):
        score = model((start + step / steps * (x - start)).requires_grad_())[0, 1]
        seen.append((kept[-1].detach(), torch.autograd.grad(score, kept[-1])[0]))
    for (here, slope), (there, next_slope) in zip(seen[:-1], seen[1:], strict=True):
        expected = expected + (slope + next_slope) / 2 * (there - here)
    coarse = expected.sum(2).view(1, 4, 4) if toy == "vit_pooled" else expected.sum(1)
    size, mode = x.shape[2:], "trilinear" if x.ndim == 5 else "bilinear"
    whole = torch.nn.functional.interpolate(coarse[:, None], size, mode=mode)[:, 0]
    ours = explain(make(toy), x, "layer_conductance", 1, layer=named, steps=steps)
    assert torch.allclose(ours.values, whole, atol=1e-5 * float(whole.abs().max()))


def test_layer_conductance_tends_to_captum_and_adds_up() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    start = x.amin((2, 3), keepdim=True).expand_as(x)
    theirs = captum.attr.LayerConductance(model, model.stem[0]).attribute(x, start, target=1, n_steps=400)
    ours = explain(model, x, "layer_conductance", 1, layer="stem.0", steps=400)  # its grid is the image's
    expected = theirs.detach().sum(1).float()
    assert torch.allclose(ours.values, expected, atol=0.02 * float(expected.abs().max()))
    change = (model(x) - model(start))[:, 1].detach()
    assert torch.allclose(ours.values.sum((1, 2)), change, rtol=0.01)
    assert max(ours.checks["parts_error"]) < 0.01


def test_expected_gradients_are_exact_on_a_linear_model() -> None:
    torch.manual_seed(0)
    model, x, reference = Linear((2, 4, 4)).eval(), torch.rand(2, 2, 4, 4), torch.rand(5, 2, 4, 4)
    weight = model.layer.weight[0].view(2, 4, 4).detach()
    found = explain(model, x, "expected_gradients", 0, samples=10, reference=reference)
    assert torch.allclose(found.values, (weight * (x - reference.mean(0))).sum(1), atol=1e-6)
    assert max(found.checks["completeness_error"]) < 1e-5
    assert found.passes == {"forward": 2 * 10 + 2 + 5, "backward": 2 * 10}


def test_expected_gradients_tend_to_captum() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    reference = images("cnn2d", 4)[2:] * torch.tensor([0.5, 0.8]).view(-1, 1, 1, 1)
    torch.manual_seed(0)
    theirs = captum.attr.GradientShap(model).attribute(x, reference, n_samples=1500, stdevs=0.0, target=1)
    ours = explain(model, x, "expected_gradients", 1, samples=1500, batch_size=256, reference=reference)
    assert torch.nn.functional.cosine_similarity(ours.values.flatten(), theirs.sum(1).flatten().float(), dim=0) > 0.99
    change = (model(x) - model(reference).mean(0))[:, 1].detach()
    assert torch.allclose(ours.values.sum((1, 2)), change, atol=0.03 * float(change.abs().max()))
    one = explain(model, x, "expected_gradients", 1, samples=400, reference=reference[:1])
    straight = captum.attr.IntegratedGradients(model).attribute(x, reference[:1].expand_as(x), target=1, n_steps=200)
    assert torch.allclose(one.values, straight.sum(1).float(), atol=0.02 * float(straight.abs().max()))


def test_expected_gradients_measure_completeness_for_the_target_of_each_image() -> None:
    model, x = make("cnn2d"), images("cnn2d", 3)
    reference = x.flip(0) * 0.7
    found = explain(model, x, "expected_gradients", [0, 2, 1], samples=6, reference=reference, batch_size=2)
    scores, others = model(x).detach(), model(reference).detach()
    for i, label in enumerate([0, 2, 1]):
        change = float(scores[i, label] - others[:, label].mean())
        error = abs(float(found.values[i].sum()) - change) / abs(change)
        assert found.checks["completeness_error"][i] == pytest.approx(error, rel=1e-3, abs=1e-4)


def test_expected_gradients_ask_for_reference_images() -> None:
    with pytest.raises(RequirementError, match="reference="):
        explain(make("cnn2d"), images("cnn2d"), "expected_gradients")


def guided_path(model: torch.nn.Module, x: np.ndarray, start: np.ndarray, steps: int, fraction: float, slack: float):  # type: ignore[no-untyped-def]
    """Guided IG in coordinates of the image, value by value, as the paper's Algorithm 1 with bounds tells it."""

    def slopes(at: np.ndarray) -> np.ndarray:
        point = torch.tensor(at, dtype=torch.float64)[None].requires_grad_()
        return torch.autograd.grad(model(point)[0, 1], point)[0][0].numpy()

    at, found, whole = start.copy(), np.zeros_like(x), np.abs(x - start).sum()
    for step in range(steps):
        slope, goal = slopes(at), (step + 1) / steps
        before, behind, ahead = at.copy(), max(goal - slack, 0), min(goal + slack, 1)
        least, most = start + behind * (x - start), start + ahead * (x - start)
        for place in np.ndindex(x.shape):  # who fell behind catches up
            if abs(at[place] - x[place]) > abs(least[place] - x[place]):
                at[place] = least[place]
        while (excess := np.abs(x - at).sum() - whole * (1 - goal)) > 1e-9 * whole:
            sizes = np.where(at == most, np.inf, np.abs(slope))
            limit = np.sort(sizes.flatten())[int(fraction * (x.size - 1))]
            chosen = (sizes <= limit) & (at != most)
            room = np.abs(most - at)[chosen].sum()
            if room <= excess:
                at[chosen] = most[chosen]
            else:
                at[chosen] += (excess / room * (most - at))[chosen]
        found += (at - before) * slope
    return found, at


@pytest.mark.parametrize(("fraction", "slack"), [(0.25, 0.1), (0.1, 1.0), (0.6, 0.02)])
def test_guided_ig_value_by_value(fraction: float, slack: float) -> None:
    model, x = make("cnn2d").double(), images("cnn2d", 2).double()[..., :12, :10].contiguous()
    start = x.amin((2, 3), keepdim=True).expand_as(x)
    ours = explain(model, x, "guided_ig", 1, steps=7, fraction=fraction, max_distance=slack)
    for i in range(2):
        expected, end = guided_path(model, x[i].numpy(), start[i].numpy().copy(), 7, fraction, slack)
        assert np.allclose(end, x[i].numpy())
        assert np.allclose(ours.values[i].numpy(), expected.sum(0), atol=1e-4 * np.abs(expected).max())


def test_guided_ig_without_slack_is_the_straight_path_and_with_little_nearly_complete() -> None:
    model, x = make("cnn2d").double(), images("cnn2d").double()
    start = x.amin((2, 3), keepdim=True).expand_as(x)
    straight = captum.attr.IntegratedGradients(model).attribute(x, start, target=1, n_steps=20, method="riemann_left")
    bound = explain(model, x, "guided_ig", 1, steps=20, max_distance=0.0).values
    assert torch.allclose(bound, straight.sum(1).float(), atol=1e-5 * float(straight.abs().max()))
    coarse = explain(model, x, "guided_ig", 1, steps=50, max_distance=0.1)
    fine = explain(model, x, "guided_ig", 1, steps=400, max_distance=0.0025)
    errors = [max(found.checks["completeness_error"]) for found in (coarse, fine)]
    assert errors[1] < 0.15 < 0.3 < errors[0]
    assert not torch.allclose(fine.values, bound, atol=0.01 * float(bound.abs().max()))


@pytest.mark.parametrize(
    ("options", "message"), [({"fraction": 0.0}, "fraction=0"), ({"max_distance": 1.5}, "max_distance=1.5")]
)
def test_guided_ig_ranges(options: dict[str, float], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        explain(make("cnn2d"), images("cnn2d"), "guided_ig", steps=2, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_xrai_ranks_by_the_mean_of_what_a_region_adds(seed: int) -> None:
    """As told in the paper: every gain is worked out anew in every round."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=60)
    starts, sizes = generator.integers(0, 50, 20), generator.integers(2, 16, 20)
    regions = [np.arange(start, min(start + size, 58)) for start, size in zip(starts, sizes, strict=True)]
    least, expected, taken = 2, np.full(60, np.nan), np.zeros(60, bool)
    while True:
        gains = {}
        for i, region in enumerate(regions):
            new = [p for p in region if not taken[p]]
            if len(new) >= least:
                gains[i] = (np.mean(values[new]), new)
        if not gains:
            break
        best = max(gains, key=lambda i: gains[i][0])
        expected[gains[best][1]] = gains[best][0]
        taken[gains[best][1]] = True
    expected[~taken] = values[~taken].mean()
    assert (~taken).any()
    assert np.allclose(_ranked(regions, values, least), expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_xrai_regions_overlap_and_hold_their_edge(dims: int) -> None:
    image = torch.zeros(1, *[64] * dims)
    image[(0, *[slice(16, 40)] * dims)] = 1.0
    regions, grid = overlapping_regions(image)
    covered = np.zeros(int(np.prod(grid)), int)
    for region in regions:
        covered[region] += 1
    assert covered.min() >= 1  # all scales together miss nothing
    assert covered.max() > covered.min()
    if dims == 2:  # one region is the square, and it reaches over its edge by the radius of growth
        square = np.zeros(grid, bool)
        square[slice(56, 140), slice(56, 140)] = True
        holding = [region for region in regions if square.flatten()[region].sum() > 0.98 * square.sum()]
        assert min(len(region) for region in holding) <= (140 - 56 + 2 * 5) ** 2


def test_xrai_finds_the_square_that_a_linear_model_reads() -> None:
    torch.manual_seed(0)
    model = Linear((1, 32, 32)).eval()
    x = torch.full((1, 1, 32, 32), 0.2)
    x[..., 4:14, 6:16] = 0.8
    x[..., 18:28, 20:30] = 0.8
    weight = torch.zeros(1, 32, 32)
    weight[:, 4:14, 6:16] = 1.0
    with torch.no_grad():
        model.layer.weight[0] = weight.flatten()
    found = explain(model, x, "xrai", 0, steps=2)
    assert max(found.checks["parts_error"]) < 1e-4
    inside = found.values[0, 4:14, 6:16]
    assert inside.min() > 0.5 * inside.max()
    # black and white baselines average to (x - 0.5) in the square: 0.3
    assert float(inside.max()) == pytest.approx(0.3, abs=0.1)
    assert found.values[0, 18:28, 20:30].abs().max() < 0.1 * inside.max()
