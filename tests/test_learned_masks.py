"""Learned masks against exact answers, slow second writings and what they must find."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toys import images, make

from runners import explain, learned_masks
from runners.learned_masks import extremal_perturbation, iba, meaningful_perturbation, pixel_rde
from runners.models import find_place, profile, watched
from runners.registry import Found, no_progress, seeded
from taxonomy.errors import RequirementError, TargetError

FAST = {
    meaningful_perturbation: {"steps": 25, "cells": 6},
    extremal_perturbation: {"steps": 40, "cells": 8},
    pixel_rde: {"steps": 20, "samples": 2},
}


class Spot(nn.Module):
    """The brightness of one part of the image, less half that of all."""

    def __init__(self, *where: slice) -> None:
        super().__init__()
        self.where = (slice(None), slice(None), *where)
        self.largest = 0

    def forward(self, x):
        self.largest = max(self.largest, len(x))
        return 8 * x[self.where].flatten(1).mean(1)


def first(outputs, _rows):
    return outputs


def run(function, model, x, score=first, seed=0, progress=no_progress, **given) -> Found:
    return function(model, x, score, progress=progress, generator=seeded(seed), **FAST.get(function, {}) | given)


def bright(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=seeded(4)) * 0.1 + 1


# --- the descent ------------------------------------------------------------------------------------------------------


def test_descent_is_adam_on_each_image_alone():
    """Two images against one loop of torch.optim.Adam each, whatever the chunks."""
    start = torch.rand(2, 3, 4, generator=seeded(0))
    goal = torch.rand(2, 5, 3, 4, generator=seeded(1))

    def data(masks, rows, draws):
        return ((masks - goal[rows, draws % 5]) ** 2).flatten(1).sum(1)

    def penalty(masks, step):
        return (step + 1) * masks.flatten(1).mean(1)

    for size in (1, 3, 100):
        found = learned_masks._descend(start, 6, 5, 0.1, data, penalty, size, no_progress)
        for i in range(2):
            mask = start[i].clone().requires_grad_()
            adam, unit = torch.optim.Adam([mask], lr=0.1, eps=learned_masks.EPSILON), None
            for step in range(6):
                loss = sum(((mask - goal[i, k]) ** 2).sum() for k in range(5)) / 5 + (step + 1) * mask.mean()
                (grad,) = torch.autograd.grad(loss, mask)
                unit = grad.abs().max() if unit is None else unit
                mask.grad = grad / unit
                adam.step()
                with torch.no_grad():
                    mask.clamp_(0, 1)
            assert torch.allclose(found[i], mask.detach(), atol=1e-5)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_the_scale_does_not_know_the_unit_of_the_score(unit):
    whole, empty = torch.tensor([3.0, -2.0]) * unit, torch.tensor([1.0, -5.0]) * unit
    scale = learned_masks._Scale(first, whole, empty)
    rows = torch.arange(2)
    ends = math.exp(4) / (1 + math.exp(4))
    assert torch.allclose(scale.share(whole, rows), torch.tensor(ends))
    assert torch.allclose(scale.share(empty, rows), torch.tensor(1 - ends))
    assert torch.allclose(scale.share((whole + empty) / 2, rows), torch.tensor(0.5))
    assert torch.allclose(scale.lost(empty, rows), torch.tensor(math.log(1 + math.exp(4)) / 4))
    assert scale.cautions == ()
    turned = learned_masks._Scale(first, empty, whole, baseline=True)
    assert turned.cautions[1].startswith("image 2: ")
    assert "another baseline" in turned.cautions[0]


@pytest.mark.parametrize("function", FAST)
def test_maps_do_not_depend_on_batch_chunks_or_the_scale_of_the_score(function):
    model, x = Spot(slice(2, 8), slice(3, 9)), bright(3, 2, 16, 18)
    whole = run(function, model, x, batch_size=64)
    assert whole.values.shape == (3, 16, 18)
    assert whole.values.min() >= 0
    assert whole.values.max() <= 1
    assert not whole.signed
    model.largest = 0
    assert torch.allclose(run(function, model, x, batch_size=2).values, whole.values, atol=1e-4)
    assert model.largest <= 3  # the scale looks at all images at once
    assert torch.allclose(run(function, model, x[2:]).values, whole.values[2:], atol=1e-4)
    larger = run(function, model, x, lambda out, _: 1000 * out - 7)
    assert torch.allclose(larger.values, whole.values, atol=1e-3)


@pytest.mark.parametrize("function", FAST)
def test_progress_ends_at_its_total(function):
    told = []
    run(
        function, Spot(slice(2, 8), slice(3, 9)), bright(2, 1, 12, 12), progress=lambda *d: told.append(d), batch_size=3
    )
    done, totals = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert {done[-1]} == set(totals)


@pytest.mark.parametrize(
    ("function", "given", "words"),
    [
        (meaningful_perturbation, {"area": -1.0}, "area = -1"),
        (meaningful_perturbation, {"cells": 0}, "cells = 0"),
        (meaningful_perturbation, {"baseline": "inpaint"}, "unknown baseline 'inpaint'"),
        (extremal_perturbation, {"areas": "0.1 2"}, "areas = '0.1 2'"),
        (extremal_perturbation, {"areas": "small"}, "areas = 'small'"),
        (extremal_perturbation, {"areas": ""}, "areas = ''"),
        (extremal_perturbation, {"steps": 0}, "steps = 0"),
        (pixel_rde, {"samples": 0}, "samples = 0"),
        (pixel_rde, {"sparsity": -0.1}, "sparsity = -0.1"),
    ],
)
def test_bad_parameters_are_named(function, given, words):
    with pytest.raises(TargetError, match=words):
        run(function, Spot(slice(2, 8), slice(3, 9)), bright(1, 1, 12, 12), **given)


# --- what they find ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_meaningful_perturbation_hides_what_counts_and_nothing_else(dims):
    where = [slice(4, 10)] * dims
    x = bright(1, 1, *[20] * dims)
    found = run(meaningful_perturbation, Spot(*where), x, baseline="zero", steps=60, cells=10)
    inside, far = found.values[(0, *where)], found.values[(0, *[slice(15, None)] * dims)]
    assert inside.mean() > 0.5
    assert far.max() < 0.05


@pytest.mark.parametrize("dims", [2, 3])
def test_extremal_perturbation_keeps_its_area_where_it_counts(dims):
    where = [slice(8, 16)] * dims
    share = (8 / 32) ** dims if dims == 2 else 0.1
    x = bright(1, 1, *[32] * dims)
    found = run(extremal_perturbation, Spot(*where), x, baseline="zero", steps=120, cells=16, areas=f"{share}")
    inside = found.values[(0, *where)].mean()
    assert inside > 0.5
    assert float(found.values.mean()) == pytest.approx(share, abs=0.4 * share)
    assert found.values[(0, *[slice(25, None)] * dims)].max() < 0.1
    assert "keeps" in found.notes[0]


def test_extremal_masks_of_several_areas_are_averaged():
    model, x = Spot(slice(8, 20), slice(8, 20)), bright(2, 1, 24, 24)
    small, large = (run(extremal_perturbation, model, x, baseline="zero", areas=a) for a in ("0.1", "0.3"))
    both = run(extremal_perturbation, model, x, baseline="zero", areas="0.1, 0.3")
    assert torch.allclose(both.values, (small.values + large.values) / 2, atol=1e-5)
    assert both.notes == (small.notes[0], large.notes[0])


def test_an_area_that_is_too_small_is_told():
    found = run(extremal_perturbation, Spot(slice(0, 24), slice(0, 24)), bright(1, 1, 24, 24), areas="0.05")
    found_zero = run(
        extremal_perturbation, Spot(slice(0, 24), slice(0, 24)), bright(1, 1, 24, 24), areas="0.05", baseline="zero"
    )
    assert "a larger area" in found_zero.cautions[-1]
    assert found.values.isfinite().all()


@pytest.mark.parametrize("dims", [2, 3])
def test_smooth_maximum_in_loops(dims):
    grid = (5, 4, 3)[:dims]
    masks = torch.rand(2, *grid, generator=seeded(0))
    bump = learned_masks._bump(1.2, torch.zeros(1, 1, *grid))
    reach = len(bump) // 2
    found = learned_masks._spread(masks, bump)
    assert found.shape == (2, *[side + 2 * reach for side in grid])
    for at in itertools.product(*[range(-reach, side + reach) for side in grid]):
        for n in range(2):
            total = weight = 0.0
            for offset in itertools.product(range(-reach, reach + 1), repeat=dims):
                distance = math.sqrt(sum(o * o for o in offset)) / 1.2
                height = math.exp(-2 * max(distance - 0.5, 0) ** 2)
                other = tuple(a + o for a, o in zip(at, offset, strict=True))
                own = float(masks[(n, *other)]) if all(0 <= o < s for o, s in zip(other, grid, strict=True)) else 0.0
                total += height * own * math.exp(20 * height * own)
                weight += math.exp(20 * height * own)
            assert float(found[(n, *[a + reach for a in at])]) == pytest.approx(total / weight, abs=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_rate_distortion_keeps_the_pixels_that_count(dims):
    where = [slice(2, 5)] * dims
    x = bright(1, 1, *[10] * dims) * 3 - torch.rand(1, 1, *[10] * dims, generator=seeded(1)) * 6
    x[(0, 0, *where)] += 3
    found = run(pixel_rde, Spot(*where), x, steps=60, samples=6, sparsity=0.2)
    inside = torch.zeros(x.shape[2:], dtype=torch.bool)
    inside[tuple(where)] = True
    assert found.values[0][inside].mean() > 3 * found.values[0][~inside].mean()
    assert found.values[0][~inside].mean() < 0.1


def test_a_baseline_that_scores_higher_is_told():
    found = run(meaningful_perturbation, Spot(slice(2, 8), slice(2, 8)), -bright(1, 1, 12, 12), baseline="zero")
    assert "try another baseline" in found.cautions[0]


# --- IBA --------------------------------------------------------------------------------------------------------------


class Places(nn.Module):
    """Features are the image at half the resolution; the score reads one corner of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2, 2, bias=False)
        self.conv.weight.data = torch.tensor([[[[0.25, 0.25], [0.25, 0.25]]], [[[0.5, 0.0], [0.0, -0.5]]]])
        self.head = nn.Linear(1, 2)
        self.head.weight.data = torch.tensor([[3.0], [-3.0]])

    def forward(self, x):
        return self.head(self.conv(x)[:, :1, 1:3, 1:3].mean((2, 3)))


def given(seed: int = 0) -> dict[str, torch.Tensor]:
    return {"reference": torch.randn(40, 1, 16, 16, generator=seeded(seed))}


def test_iba_finds_the_features_that_are_read():
    model = Places().eval()
    x = torch.randn(2, 1, 16, 16, generator=seeded(1)) + 2
    found = explain(model, x, "iba", 0, steps=40, rate=0.5, **given())
    assert found.values[:, 3:5, 3:5].mean() > 20 * found.values[:, 10:, 10:].mean()
    assert not found.signed


def test_iba_by_its_formula():
    """The first step of one image, written out: bits of the start, and the loss that its masks are moved by."""
    model, score = Places().eval(), (lambda out, _rows: out[:, 0])
    x, reference = torch.randn(1, 1, 16, 16, generator=seeded(1)) + 1, given()["reference"]
    wired = profile(model, x)
    seen = model.conv(reference).detach()
    mean, std = seen.mean((0, 2, 3), keepdim=True), seen.std((0, 2, 3), keepdim=True)
    features = model.conv(x).detach()
    normal = (features - mean) / std
    draws = learned_masks.Draws(features, seeded(5))
    empty = model.head(mean.expand_as(features)[:, :1, 1:3, 1:3].mean((2, 3)))[0, 0]
    whole = model(x)[0, 0]
    alpha = torch.full_like(features, 5.0, requires_grad=True)
    adam, unit = torch.optim.Adam([alpha], lr=0.7, eps=learned_masks.EPSILON), None

    def blur(t):
        offsets = torch.arange(-3, 4).float()
        kernel = torch.exp(-(offsets**2) / 2)
        kernel = (kernel[:, None] * kernel / kernel.sum() ** 2).expand(2, 1, 7, 7)
        return F.conv2d(F.pad(t, (3, 3, 3, 3), mode="reflect"), kernel, groups=2)

    def cost(alpha):
        share = blur(alpha.sigmoid())
        variance = (1 - share) ** 2
        return -0.5 * (1 + variance.log() - (share * normal) ** 2 - variance)

    for step in range(3):
        loss = 2.5 * cost(alpha).mean()
        for k in range(4):
            share = blur(alpha.sigmoid())
            noise = draws(torch.tensor([step * 4 + k]))
            z = (share * normal + (1 - share) * noise) * std + mean
            out = model.head(z[:, :1, 1:3, 1:3].mean((2, 3)))[0, 0]
            logit = (out - (whole + empty) / 2) / (whole - empty).abs() * 8
            loss = loss + F.softplus(-logit) / 4
        (grad,) = torch.autograd.grad(loss, alpha)
        unit = grad.abs().max() if unit is None else unit
        alpha.grad = grad / unit
        adam.step()
    bits = cost(alpha.detach()).sum(1) / math.log(2)
    expected = F.interpolate(bits[:, None], size=(16, 16), mode="bilinear")[:, 0] / 4
    found = run(
        iba, model, x, score, seed=5, beta=2.5, steps=3, samples=4, rate=0.7, profile=wired, reference=reference
    )
    assert torch.allclose(found.values, expected, atol=1e-4)
    assert f"{float(bits.sum()):.0f} bits" in found.notes[-1]


def test_iba_needs_a_spread_and_says_how_many_references_it_had():
    model, x = Places().eval(), torch.randn(1, 1, 16, 16, generator=seeded(1))
    with pytest.raises(RequirementError, match="at least 2 reference images"):
        explain(model, x, "iba", 0, reference=x)
    with pytest.raises(RequirementError, match="reference"):
        explain(model, x, "iba", 0)
    found = explain(model, x, "iba", 0, **given())
    assert any("40 reference images" in caution for caution in found.cautions)
    many = torch.randn(120, 1, 16, 16, generator=seeded(2))
    assert not any("reference images" in c for c in explain(model, x, "iba", 0, reference=many).cautions)


def test_more_beta_lets_fewer_bits_pass():
    model, x = Places().eval(), torch.randn(1, 1, 16, 16, generator=seeded(1)) + 2
    bits = [float(explain(model, x, "iba", 0, beta=b, steps=30, **given()).values.sum()) for b in (1.0, 10.0, 100.0)]
    assert bits[0] > bits[1] > bits[2]


@pytest.mark.parametrize("toy", ["vit_fused", "vit_tokens_first", "swin", "cnn2d_inplace", "unet3d"])
def test_put_is_the_inverse_of_fold(toy):
    model, x = make(toy), images(toy)
    for place in profile(model, x).places:
        output, features = learned_masks._features(model, x, place)
        assert torch.equal(place.fold(place.put(features, output)), features)
        assert torch.equal(place.put(features, output), output)


@pytest.mark.parametrize("toy", ["vit_fused", "vit_tokens_first", "cnn2d_inplace", "swin"])
def test_features_put_back_unchanged_give_the_same_score(toy):
    model, x = make(toy), images(toy)
    place, _ = find_place(profile(model, x), None)
    with torch.no_grad():
        output, features = learned_masks._features(model, x, place)
        with watched(model, place, lambda _: place.put(features, output)):
            found = model(x.clone())
        assert torch.allclose(found, model(x.clone()), atol=1e-5)
