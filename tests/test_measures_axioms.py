"""Axioms: exact cases, Quantus, and models that do not fit."""

import numpy as np
import pytest
import torch
from metric_toys import SHAPES, Linear, Net, gradients, images, run
from torch import nn
from torch.nn import functional as F
from toys import images as toy_images
from toys import make as toy

from runners import explain, measure
from runners.measures.axioms import _grid, completeness, input_invariance, non_sensitivity
from taxonomy.errors import RequirementError


class Whole(nn.Module):
    """``w x`` with small whole numbers, whose sums are exact, as a row of two outputs."""

    def __init__(self, *shape, zero=0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        weight = torch.randint(1, 5, shape, generator=generator).float()
        self.weight = nn.Parameter(weight * (torch.rand(shape, generator=generator) >= zero), requires_grad=False)

    def forward(self, x):
        found = (x * self.weight).flatten(1).sum(1, keepdim=True)
        return torch.cat([found, -found], 1)


# ---------------------------------------------------------------- completeness


@pytest.mark.parametrize("shape", SHAPES)
def test_completeness_of_a_linear_model(shape):
    model, x = Linear(*shape[1:]), images(*shape)
    values = gradients(model, x)
    assert run(completeness, model, x, values, baseline="zero").score.tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    half = run(completeness, model, x, values / 2, baseline="zero")
    assert half.score.tolist() == pytest.approx([0.5] * 3, abs=1e-4)
    dark = x.amin(tuple(range(2, x.ndim)), keepdim=True)
    against = ((x - dark) * model.weight).sum(1)
    assert run(completeness, model, x, against, baseline="black").score.tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    expected = 1 - (values - against).flatten(1).sum(1).abs() / against.flatten(1).sum(1).abs()
    assert torch.allclose(run(completeness, model, x, values, baseline="black").score, expected, atol=1e-3)
    nowhere = run(completeness, model, torch.zeros_like(x), values)
    assert nowhere.score.isnan().all()


def test_completeness_takes_the_explanations_own_baseline():
    model, x = toy("cnn2d"), toy_images("cnn2d")
    explanation = explain(model, x, "integrated_gradients", 1, baseline="blur", steps=128)
    found = measure("completeness", model, x, explanation, 1)
    assert found.notes[0] == "baseline blur, the explanation's own."
    assert (found.score > 0.98).all()
    other = measure("completeness", model, x, explanation, 1, baseline="white")
    assert other.notes[0] == "baseline white."
    assert (other.score < 0.98).all()
    plain = measure("completeness", model, x, explain(model, x, "input_x_gradient", 1), 1)
    assert plain.notes[0] == "baseline zero."


@pytest.mark.filterwarnings("ignore")
def test_completeness_is_full_where_quantus_says_so():
    """Quantus asks for equal floats, which only whole numbers give."""
    quantus = pytest.importorskip("quantus")
    x = torch.randint(0, 5, (3, 1, 6, 6), generator=torch.Generator().manual_seed(1)).float()
    model = Whole(1, 6, 6).eval()
    dark = x.amin((1, 2, 3), keepdim=True)
    values = ((x - dark) * model.weight).sum(1)
    values[1, 0, 0] += 1
    theirs = quantus.Completeness(normalise=False, perturb_baseline="black", disable_warnings=True)(
        model=model, x_batch=x.numpy(), y_batch=np.zeros(3, int), a_batch=values[:, None].numpy(), softmax=False
    )
    found = run(completeness, model, x, values, baseline="black").score
    assert [bool(one) for one in theirs] == (found == 1).tolist() == [True, False, True]


# ---------------------------------------------------------------- non-sensitivity


@pytest.mark.parametrize("shape", SHAPES)
def test_non_sensitivity_of_a_linear_model(shape):
    model, x = Whole(*shape[1:], zero=0.5), images(*shape)
    right = model.weight.sum(0).expand(len(x), *shape[2:])
    silent = right == 0
    given = {"cells": 10**6, "samples": 3, "tolerance": 1e-5}  # one draw of noise may happen to be what was there
    found = run(non_sensitivity, model, x, right, **given)
    assert found.score.tolist() == [0, 0, 0]
    wrong = right.clone()
    some = silent.flatten(1)[0].nonzero()[:4, 0], (~silent).flatten(1)[0].nonzero()[:3, 0]
    wrong.view(len(x), -1)[1, some[0]] = 5  # relevance without effect
    wrong.view(len(x), -1)[2, some[1]] = 0  # effect without relevance
    found = run(non_sensitivity, model, x, wrong, **given)
    pixels = right[0].numel()
    assert found.score.tolist() == pytest.approx([0, 4 / pixels, 3 / pixels])
    assert "image 2: 0 without relevance have an effect, 4 with relevance have none." in found.notes
    assert "image 3: 3 without relevance have an effect, 0 with relevance have none." in found.notes
    negative = run(non_sensitivity, model, x, -right, **given)
    assert negative.score.tolist() == [0, 0, 0]
    deaf = run(non_sensitivity, model, x, right, baseline="zero", **given)
    assert deaf.score.tolist() == [0, 0, 0]
    nothing = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape[1:])), 1))
    nn.init.zeros_(nothing[1].weight)
    assert run(non_sensitivity, nothing, x, right).score.isnan().all()


def test_non_sensitivity_of_cells_against_a_slow_second_writing():
    model, x = Net(2), images(2, 2, 11, 14)
    values = gradients(model, x)
    values = values.where(values.abs() > 0.3 * values.abs().amax(), 0.0)
    rows_before = model.rows
    found = run(non_sensitivity, model, x, values, cells=12, baseline="mean", tolerance=0.05)
    grid = _grid((11, 14), 12)
    assert grid == [3, 4]
    assert model.rows - rows_before == 2 * 12 + 2
    edges = [torch.tensor_split(torch.arange(side), count) for side, count in zip((11, 14), grid, strict=True)]
    cell = F.interpolate(torch.arange(12.0).view(1, 1, 3, 4), (11, 14), mode="nearest-exact")[0, 0].long()
    assert len(edges[0]) == 3
    expected = []
    for i in range(2):
        own, mean = model(x[i : i + 1])[0, 0], x[i].mean((1, 2))[:, None]
        effect, largest = [], []
        for k in range(12):
            copy = x[i : i + 1].clone()
            copy[0][:, cell == k] = mean.expand(-1, int((cell == k).sum()))
            effect.append(abs(float(model(copy)[0, 0] - own)))
            largest.append(float(values[i][cell == k].abs().max()))
        silent = [one <= 0.05 * float(values[i].abs().max()) for one in largest]
        idle = [one <= 0.05 * max(effect) for one in effect]
        expected.append(sum(a != b for a, b in zip(silent, idle, strict=True)) / 12)
    assert found.score.tolist() == pytest.approx(expected)
    assert any(expected)


@pytest.mark.parametrize("spatial", [(100, 50), (9, 9), (64, 64, 64), (3, 200), (1, 7)])
@pytest.mark.parametrize("cells", [1, 7, 256])
def test_grids_use_most_of_what_they_may(spatial, cells):
    grid = _grid(spatial, cells)
    assert 1 <= np.prod(grid) <= cells
    assert all(own <= side for own, side in zip(grid, spatial, strict=True))
    assert np.prod(grid) == np.prod(spatial) or np.prod(grid) >= cells / 2 ** len(spatial)


@pytest.mark.filterwarnings("ignore")
def test_non_sensitivity_of_quantus():
    """One pixel at a time, positive maps: it takes negative values for none, and fails with several at a time."""
    quantus = pytest.importorskip("quantus")
    x = 1 + torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(1))
    model = Whole(1, 7, 7, zero=0.4).eval()
    values = model.weight.expand(2, 7, 7).clone()
    values[0, :2], values[1, :, 3] = 0, 2
    theirs = quantus.NonSensitivity(normalise=False, abs=False, perturb_baseline=0.0, disable_warnings=True)(
        model=model, x_batch=x.numpy(), y_batch=np.zeros(2, int), a_batch=values[:, None].numpy(), softmax=False
    )
    found = run(non_sensitivity, model, x, values, baseline="zero").score * 49
    assert [int(one) for one in theirs] == found.round().int().tolist()
    assert all(found > 0)


# ---------------------------------------------------------------- input invariance


class Begins(nn.Module):
    """Begins with a convolution of any kind, after a fixed normalisation."""

    def __init__(self, conv):
        super().__init__()
        self.first = conv
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))
        self.requires_grad_(False)

    def forward(self, x):
        found = torch.tanh(self.first((x - 0.4) / 2)).flatten(2)
        return found.mean(2) + found.square().mean(2)


def plain(model):
    """The gradient alone, which a shift that is taken back leaves as it is."""

    def explain_again(x, model=model, **_):
        return gradients(model, x) / x.sum(1) if x.shape[1] == 1 else gradients(model, x)

    return explain_again


CONVOLUTIONS = {
    "padded": (nn.Conv2d(1, 3, 3, padding=1), (2, 1, 9, 8)),
    "strided": (nn.Conv2d(1, 3, 4, stride=2, padding=2, dilation=2, bias=False), (2, 1, 14, 13)),
    "same": (nn.Conv2d(1, 3, (3, 5), padding="same"), (2, 1, 9, 8)),
    "reflecting": (nn.Conv2d(1, 3, 3, padding=1, padding_mode="reflect"), (2, 1, 9, 8)),
    "volume": (nn.Conv3d(1, 3, 3, padding=1), (2, 1, 5, 6, 7)),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_gradients_are_invariant_and_input_times_gradient_is_not(kind):
    conv, shape = CONVOLUTIONS[kind]
    model, x = Begins(conv), images(*shape)
    gradient = gradients(model, x) / x[:, 0]
    found = run(input_invariance, model, x, gradient, explain_again=plain(model), shift=2.5)
    assert found.score.tolist() == pytest.approx([1, 1], abs=1e-3)
    values = gradients(model, x)
    found = run(input_invariance, model, x, values, shift=2.5)
    expected = 1 - (2.5 * gradient).flatten(1).norm(dim=1) / values.flatten(1).norm(dim=1)
    assert torch.allclose(found.score, expected, atol=1e-3)
    assert type(conv).__name__ in found.notes[0]


def test_grouped_convolutions_and_linear_layers_take_a_shift_back():
    grouped, x = Begins(nn.Conv2d(4, 4, 3, padding=1, groups=2)), images(2, 4, 8, 8)
    seen = {}

    def explain_again(shifted, model):
        seen["outputs"] = model(shifted)
        return gradients(model, shifted)

    run(input_invariance, grouped, x, gradients(grouped, x), explain_again=explain_again)
    assert torch.allclose(seen["outputs"], grouped(x), atol=1e-5)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4 * 64, 5), nn.Tanh(), nn.Linear(5, 2)).requires_grad_(False)
    run(input_invariance, linear, x, gradients(linear, x), explain_again=explain_again)
    assert torch.allclose(seen["outputs"], linear(x), atol=1e-4)


class Skips(Begins):
    def forward(self, x):
        return super().forward(x) + x.square().mean((1, 2, 3))[:, None]


def test_input_invariance_says_which_models_do_not_fit():
    x = images(1, 1, 9, 8)
    with pytest.raises(RequirementError, match="none of its layers"):
        run(input_invariance, Linear(1, 9, 8), x, x[:, 0])
    skips = Skips(nn.Conv2d(1, 3, 3))
    with pytest.raises(RequirementError, match="something beside its first layer reads the input"):
        run(input_invariance, skips, x, x[:, 0])


@pytest.mark.parametrize("name", ["cnn2d", "cnn3d", "vit_fused", "unet2d", "unet3d", "swin", "cnn2d_inplace"])
def test_input_invariance_of_real_architectures(name):
    model, x = toy(name), toy_images(name)
    gradient = measure("input_invariance", model, x, explain(model, x, "vanilla_gradient"))
    product = measure("input_invariance", model, x, explain(model, x, "input_x_gradient"))
    assert (gradient.score > 0.99).all()
    assert (product.score < 0.9).all()


@pytest.mark.parametrize("metric", ["completeness", "non_sensitivity", "input_invariance"])
@pytest.mark.parametrize("name", ["unet2d", "unet3d"])
def test_segmentation_batch_is_single(metric, name):
    model, x = toy(name), toy_images(name)
    few = {"cells": 27} if metric == "non_sensitivity" else {}
    whole = measure(metric, model, x, explain(model, x, "input_x_gradient"), **few)
    alone = measure(metric, model, x[1:], explain(model, x[1:], "input_x_gradient"), **few)
    assert torch.allclose(whole.score[1:], alone.score, rtol=1e-3, atol=1e-3)
