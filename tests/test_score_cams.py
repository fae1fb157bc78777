"""Class activation maps that ask the model, against one mask at a time, and torchcam."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torchcam.methods
from torch import Tensor, nn
from toys import images, make, setting, up

from runners import explain, profile
from runners.baselines import blurred
from runners.gradients import Draws
from runners.models import dimmed, thinned
from runners.registry import seeded
from taxonomy import RequirementError, TargetError


@pytest.mark.parametrize("dims", [2, 3])
def test_ablation_cam_one_feature_at_a_time(dims: int) -> None:
    model, x, a, _ = setting(dims)
    maps = torch.zeros(2, *a.shape[2:])
    with torch.no_grad():
        whole = model.head(a.flatten(1))[:, 2]
        for k in range(a.shape[1]):
            less = a.clone()
            less[:, k] = 0
            fall = whole - model.head(less.flatten(1))[:, 2]
            maps += fall.view(-1, *[1] * dims) * a[:, k]
    found = explain(model, x, "ablation_cam", 2, batch_size=3)
    assert torch.allclose(found.values, up(maps.clamp(min=0), x), atol=1e-5)
    few = explain(model, x, "ablation_cam", 2, channels=2)
    assert any("Only the 2 features" in caution for caution in few.cautions)
    assert few.passes["forward"] == 2 * (1 + 2)


@pytest.mark.parametrize("toy", ["vit_fused", "vit_tokens_first", "swin"])
def test_ablation_takes_one_channel_of_the_right_image_from_tokens(toy: str) -> None:
    model, x = make(toy), images(toy)
    place = profile(model, x).place
    assert place is not None
    seen = []
    module = model.get_submodule(place.name)
    with thinned(model, place, torch.tensor([0, 2])):
        handle = module.register_forward_hook(lambda *given: seen.append(place.fold(given[2]).detach()))
        model(x)
        handle.remove()
    assert not seen[0][0, 0].any()
    assert not seen[0][1, 2].any()
    assert seen[0][0, 2].any()
    assert seen[0][1, 0].any()


def test_score_cam_one_mask_at_a_time() -> None:
    model, x, a, _ = setting(2)
    low = x.amin((2, 3), keepdim=True).expand_as(x)
    expected = []
    with torch.no_grad():
        for b in range(len(x)):
            scores = []
            for k in range(a.shape[1]):
                mask = up(a[b : b + 1, k], x)
                mask = (mask - mask.min()) / (mask.max() - mask.min()).clamp(min=1e-12)
                seen = low[b : b + 1] + mask[:, None] * (x[b : b + 1] - low[b : b + 1])
                scores.append(model(seen)[0, 2] - model(low[b : b + 1])[0, 2])
            weights = torch.stack(scores)
            weights = (weights / weights.std(correction=0).clamp(min=1)).softmax(0)
            expected.append((weights[:, None, None] * a[b]).sum(0).clamp(min=0))
    assert torch.allclose(explain(model, x, "score_cam", 2).values, up(torch.stack(expected), x), atol=1e-5)


def through(x: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
    """One image ``(1, C, *spatial)`` seen through one mask ``(*spatial)``."""
    return hidden + mask[None, None] * (x - hidden)


def scaled(maps: Tensor) -> Tensor:
    return (maps - maps.min()) / (maps.max() - maps.min()).clamp(min=1e-12)


def black(x: Tensor) -> Tensor:
    return x.amin(tuple(range(2, x.ndim)), keepdim=True).expand_as(x)


def shares(scores: Tensor) -> Tensor:
    return (scores / scores.std(correction=0).clamp(min=1)).softmax(0)


class Flat(nn.Module):
    """Features at every pixel: masks need not be enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU()), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


@pytest.mark.parametrize(("method", "theirs"), [("score_cam", "ScoreCAM"), ("is_cam", "ISCAM")])
def test_equals_torchcam_over_a_black_that_is_zero(method: str, theirs: str) -> None:
    torch.manual_seed(2)
    model, x = Flat().eval(), images("cnn2d")
    with getattr(torchcam.methods, theirs)(model, "features") as extractor:
        with torch.no_grad():
            model(x)
        expected = extractor(1, normalized=False)[0]
    ours = explain(model, x, method, 1, baseline="zero").values
    assert expected.any()
    assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", ["ss_cam", "is_cam"])
def test_smoothed_and_integrated_one_mask_at_a_time(method: str, dims: int) -> None:
    model, x, a, _ = setting(dims)
    hidden, noise, expected = black(x), Draws(x[:, :1], seeded(0)), []
    with torch.no_grad():
        for b in range(2):
            scores = torch.zeros(a.shape[1])
            for k in range(a.shape[1]):
                mask = scaled(up(a[b : b + 1, k], x)[0])
                for step in range(3):
                    if method == "ss_cam":
                        changed = mask + 0.5 * noise(torch.tensor([step]))[0, 0]
                    else:
                        changed = mask * sum(range(1, step + 2)) / 3
                    own = through(x[b : b + 1], changed, hidden[b : b + 1])
                    scores[k] += (model(own) - model(hidden[b : b + 1]))[0, 2] / 3
            expected.append((shares(scores).view(-1, *[1] * dims) * a[b]).sum(0).clamp(min=0))
    given = {"samples": 3, "noise": 0.5} if method == "ss_cam" else {"steps": 3}
    found = explain(model, x, method, 2, **given)
    assert torch.allclose(found.values, up(torch.stack(expected), x), atol=1e-5)
    assert torch.allclose(explain(model, x, method, 2, batch_size=4, **given).values, found.values, atol=1e-6)
    assert not found.signed


def test_without_noise_or_growth_all_are_score_cam() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    plain = explain(model, x, "score_cam", 1).values
    assert torch.allclose(explain(model, x, "ss_cam", 1, noise=0.0, samples=2).values, plain, atol=1e-6)
    assert torch.allclose(explain(model, x, "is_cam", 1, steps=1).values, plain, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_group_cam_one_group_at_a_time(dims: int) -> None:
    model, x, a, g = setting(dims)
    blur, expected = blurred(x), torch.zeros(2, *x.shape[2:])
    with torch.no_grad():
        for b in range(2):
            for group in ((0, 1), (2, 3), (4,)):
                joined = sum(g[b, k].mean() * a[b, k] for k in group).clamp(min=0)
                count = max(1, round(0.5 * joined.numel()))
                floor = joined.flatten().sort().values[count - 1]
                joined = torch.where(joined > floor, joined, 0.0)
                mask = scaled(up(joined[None], x)[0])
                own = through(x[b : b + 1], mask, blur[b : b + 1])
                expected[b] += (model(own) - model(blur[b : b + 1]))[0, 2] * mask
    found = explain(model, x, "group_cam", 2, groups=3, hidden=0.5)
    assert expected.clamp(min=0).any()
    assert torch.allclose(found.values, expected.clamp(min=0), atol=1e-5)
    assert any("3 groups" in note for note in found.notes)
    with pytest.raises(TargetError, match="from 0 to below 1"):
        explain(model, x, "group_cam", 2, hidden=1.0)


class Steps(nn.Module):
    """Two resolutions."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.one = nn.Sequential(conv(1, 4, 3, padding=1), nn.ReLU())
        self.two = nn.Sequential(conv(4, 5, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x)).flatten(2).mean(2))


@pytest.mark.parametrize("dims", [2, 3])
def test_poly_cam_layer_by_layer(dims: int) -> None:
    torch.manual_seed(4)
    model, x = Steps(dims).eval(), torch.rand(2, 1, *[8] * dims)
    hidden, maps = black(x), []
    with torch.no_grad():
        for features in (model.two(model.one(x)), model.one(x)):
            own = torch.zeros(2, *features.shape[2:])
            for b, k in np.ndindex(*features.shape[:2]):
                mask = scaled(up(features[b : b + 1, k], x)[0])
                seen = through(x[b : b + 1], mask, hidden[b : b + 1])
                own[b] += (model(seen) - model(hidden[b : b + 1]))[0, 1] * features[b, k]
            maps.append(own.clamp(min=0))
    coarse, fine = maps
    wide = up(up(fine, coarse[:, None]), fine[:, None]).clamp(min=1e-12)
    expected = fine / wide * up(coarse, fine[:, None])
    found = explain(model, x, "poly_cam", 1)
    assert expected.any()
    assert torch.allclose(found.values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["poly_cam", "refine_cam"])
def test_one_resolution_is_refused(method: str) -> None:
    with pytest.raises(RequirementError, match="several resolutions, and all features of this model have 4×4"):
        explain(make("vit_fused"), images("vit_fused"), method)


@pytest.mark.parametrize("dims", [2, 3])
def test_sidu_mask_by_mask(dims: int) -> None:
    model, x, a, _ = setting(dims)
    hidden, expected = black(x), []
    with torch.no_grad():
        for b in range(2):
            masks = torch.stack([(scaled(one) > 0.3).float() for one in a[b]])
            rows = []
            for mask in masks:
                wide = scaled(up(mask[None], x)[0])
                rows.append(model(through(x[b : b + 1], wide, hidden[b : b + 1]))[0].softmax(0))
            whole, total = model(x[b : b + 1])[0].softmax(0), torch.zeros(a.shape[2:])
            for one, mask in zip(rows, masks, strict=True):
                alike = torch.exp(-((one - whole) ** 2).sum() / (2 * 0.1**2))
                unique = sum((one - other).norm() for other in rows)
                total += alike * unique * mask / len(masks)
            expected.append(total)
    found = explain(model, x, "sidu", threshold=0.3, width=0.1)
    assert torch.stack(expected).any()
    assert torch.allclose(found.values, up(torch.stack(expected), x), atol=1e-5)
    assert torch.equal(found.values, explain(model, x, "sidu", 1, threshold=0.3, width=0.1).values)


def test_sidu_takes_probabilities_as_they_are() -> None:
    model, x, *_ = setting(2)
    ready = nn.Sequential(model, nn.Softmax(1)).eval()
    assert torch.allclose(explain(model, x, "sidu").values, explain(ready, x, "sidu").values, atol=1e-6)
    single, certain = make("cnn2d_regression"), nn.Sequential(make("cnn2d_regression"), nn.Sigmoid()).eval()
    y = images("cnn2d_regression")
    ours = [explain(one, y, "sidu", task="classification").values for one in (single, certain)]
    assert ours[0].any()
    assert torch.allclose(*ours, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_recipro_cam_one_position_at_a_time(dims: int) -> None:
    model, x, a, _ = setting(dims)
    maps = torch.zeros(2, *a.shape[2:])
    with torch.no_grad():
        for place in np.ndindex(*a.shape[2:]):
            alone = torch.zeros_like(a)
            alone[(slice(None), slice(None), *place)] = a[(slice(None), slice(None), *place)]
            maps[(slice(None), *place)] = (model.head(alone.flatten(1)) - model.head(torch.zeros_like(a).flatten(1)))[
                :, 2
            ]
    found = explain(model, x, "recipro_cam", 2)
    assert found.signed
    assert torch.allclose(found.values, up(maps, x), atol=1e-5)
    # the head is linear: blocks are the sums of their positions
    blocks = explain(model, x, "recipro_cam", 2, positions=2**dims)
    pooled = (nn.functional.avg_pool2d if dims == 2 else nn.functional.avg_pool3d)(maps[:, None], 2)[:, 0] * 2**dims
    assert torch.allclose(blocks.values, up(pooled, x), atol=1e-5)
    assert any("Blocks of 2 positions" in note for note in blocks.notes)
    assert blocks.passes["forward"] == 2 * (2**dims + 1)


@pytest.mark.parametrize("toy", ["vit_registers", "vit_tokens_first", "swin", "cnn3d"])
def test_dimming_keeps_the_chosen_positions_and_other_tokens(toy: str) -> None:
    model, x = make(toy), images(toy)
    place = profile(model, x).place
    assert place is not None
    mask = torch.zeros(2, *place.grid)
    mask[(0, *[0] * len(place.grid))] = 1
    mask[(1, *[-1] * len(place.grid))] = 1
    seen: list[Tensor] = []
    module = model.get_submodule(place.name)
    handles = []

    def watch() -> None:
        handles.append(module.register_forward_hook(lambda *given: seen.append(given[2].detach().clone())))

    watch()
    model(x)
    handles.pop().remove()
    whole = seen[place.call]
    seen.clear()
    with dimmed(model, place, mask):
        watch()
        model(x)
        handles.pop().remove()
    assert torch.equal(place.fold(seen[place.call]), place.fold(whole) * mask[:, None])
    if place.layout == "tokens":
        assert torch.equal(seen[0][:, : place.prefix], whole[:, : place.prefix])
    if place.layout == "tokens_first":
        assert torch.equal(seen[0][: place.prefix], whole[: place.prefix])


@pytest.mark.parametrize("dims", [2, 3])
def test_opti_cam_step_by_step(dims: int) -> None:
    model, x, a, _ = setting(dims)
    hidden, expected, before = black(x), [], []
    for b in range(2):
        raw, first, second = torch.full((a.shape[1],), 0.5), torch.zeros(a.shape[1]), torch.zeros(a.shape[1])

        def masked(weights: Tensor, b: int = b) -> Tensor:
            mixture = (weights.softmax(0).view(-1, *[1] * dims) * a[b]).sum(0)
            return scaled(up(mixture[None], x)[0])

        def value(weights: Tensor, b: int = b) -> Tensor:
            return model(through(x[b : b + 1], masked(weights), hidden[b : b + 1]))[0, 2]

        before.append(float(value(raw).detach()))
        for step in range(1, 7):
            gradient = -torch.autograd.functional.jacobian(value, raw)
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            raw = raw - 0.2 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        expected.append(masked(raw).detach())
        assert float(value(raw).detach()) > before[-1]
    found = explain(model, x, "opti_cam", 2, steps=6, rate=0.2)
    assert torch.allclose(found.values, torch.stack(expected), atol=1e-4)


@pytest.mark.parametrize("method", ["score_cam", "group_cam", "sidu", "recipro_cam", "poly_cam"])
def test_chunks_make_no_difference(method: str) -> None:
    model, x = make("cnn2d"), images("cnn2d")
    given = {"positions": 16} if method == "recipro_cam" else {}
    found = [explain(model, x, method, 1, batch_size=size, **given).values for size in (5, 16)]
    assert torch.allclose(*found, rtol=1e-4, atol=1e-6)


def test_what_a_method_cannot_take_is_said() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    for (name, value), method in itertools.product([("channels", 0), ("batch_size", 0)], ["ss_cam", "sidu"]):
        with pytest.raises(TargetError, match="at least 1"):
            explain(model, x, method, **{name: value})
    with pytest.raises(TargetError, match="above 0"):
        explain(model, x, "sidu", width=0.0)


@pytest.mark.parametrize("method", ["score_cam", "is_cam"])
def test_a_baseline_that_scores_higher_is_told(method: str) -> None:
    torch.manual_seed(2)
    model, x = Flat().eval(), images("cnn2d")
    for parameter in model.parameters():
        parameter.data = parameter.data.abs()  # the brighter the image, the higher the score

    def bright(outputs: Tensor) -> Tensor:
        return outputs[:, 0]

    def dark(outputs: Tensor) -> Tensor:
        return -outputs[:, 0]

    for target, warned in ((bright, False), (dark, True)):
        found = explain(model, x, method, target, baseline="black")
        assert any("try another baseline" in caution for caution in found.cautions) == warned
