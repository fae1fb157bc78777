"""Gradient methods against captum, closed forms and identities."""

from __future__ import annotations

import math

import captum.attr
import pytest
import torch
from scipy import ndimage
from toys import Linear, images, make

from runners import explain
from runners.baselines import blurred
from taxonomy import TargetError


@pytest.mark.parametrize("toy", ["cnn2d", "cnn3d", "vit_fused"])
def test_integrated_gradients_equal_captum(toy: str) -> None:
    model, x = make(toy), images(toy)
    start = x.amin(tuple(range(2, x.ndim)), keepdim=True).expand_as(x)
    theirs = captum.attr.IntegratedGradients(model).attribute(x, start, target=1, n_steps=12, method="gausslegendre")
    ours = explain(model, x, "integrated_gradients", 1, steps=12)
    assert torch.allclose(ours.values, theirs.sum(1).float(), atol=1e-5)
    assert ours.passes == {"forward": len(x) * (1 + 12 + 2), "backward": len(x) * 12}


@pytest.mark.parametrize(
    "method", ["integrated_gradients", "smoothgrad", "gradient_shap", "squaregrad", "vargrad", "blur_ig", "idgi"]
)
def test_chunks_do_not_change_the_map(method: str) -> None:
    model, x = make("cnn2d"), images("cnn2d", 3)
    option = {"steps": 5} if method in ("integrated_gradients", "blur_ig", "idgi") else {"samples": 5}
    small = explain(model, x, method, batch_size=2, **option).values  # type: ignore[arg-type]
    large = explain(model, x, method, batch_size=64, **option).values  # type: ignore[arg-type]
    assert torch.allclose(small, large, atol=1e-5 * float(large.abs().max()))


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


def test_smoothgrad_of_one_sample_without_noise_is_the_gradient() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    plain = explain(model, x, "vanilla_gradient").values
    assert torch.allclose(explain(model, x, "smoothgrad", samples=1, noise=0.0).values, plain)


def test_square_and_variance_of_a_linear_model_are_known() -> None:
    torch.manual_seed(0)
    model, x = Linear((2, 4, 4)).eval(), torch.rand(2, 2, 4, 4)
    weight = model.layer.weight[0].view(2, 4, 4).detach()
    square = explain(model, x, "squaregrad", 0).values
    assert torch.allclose(square, (weight**2).amax(0).expand(2, -1, -1), atol=1e-6)
    assert explain(model, x, "vargrad", 0).values.max() < 1e-14


def test_variance_is_the_mean_square_less_the_squared_mean() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    assert x.shape[1] == 1  # of several channels each map takes the largest for itself
    smooth, square, variance = (
        explain(model, x, m, 1, samples=9).values.double() for m in ("smoothgrad", "squaregrad", "vargrad")
    )
    assert variance.any()
    assert torch.allclose(square - smooth**2, variance, atol=1e-4 * float(square.max()))


@pytest.mark.parametrize(("method", "theirs"), [("squaregrad", "smoothgrad_sq"), ("vargrad", "vargrad")])
def test_square_and_variance_tend_to_captum(method: str, theirs: str) -> None:
    model, x = make("cnn2d"), images("cnn2d", 1)
    torch.manual_seed(0)
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    spread = 0.15 * float(x.max() - x.min())
    expected = tunnel.attribute(
        x, nt_type=theirs, nt_samples=600, nt_samples_batch_size=100, stdevs=spread, target=1, abs=False
    )
    ours = explain(model, x, method, 1, samples=600, noise=0.15).values
    cosine = torch.nn.functional.cosine_similarity(ours.flatten(), expected.amax(1).flatten().float(), dim=0)
    assert cosine > 0.97
    assert ours.sum() == pytest.approx(float(expected.amax(1).sum()), rel=0.1)


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


@pytest.mark.parametrize("toy", ["cnn2d", "cnn3d"])
def test_guided_backprop_equals_captum(toy: str) -> None:
    model, x = make(toy), images(toy)
    with pytest.warns(UserWarning, match="hook"):
        theirs = captum.attr.GuidedBackprop(make(toy)).attribute(x.clone().requires_grad_(), target=1)
    assert torch.allclose(explain(model, x, "guided_backprop", 1).values, theirs.detach().abs().amax(1), atol=1e-6)


def test_guided_backprop_sees_functional_and_in_place_relus() -> None:
    model, x = make("cnn2d_functional"), images("cnn2d_functional")

    modules = torch.nn.Sequential(
        model.first,
        torch.nn.ReLU(),
        model.second,
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        model.head,
    )
    with pytest.warns(UserWarning, match="hook"):
        theirs = captum.attr.GuidedBackprop(modules).attribute(x.clone().requires_grad_(), target=0)
    ours = explain(model, x, "guided_backprop", 0).values
    assert torch.allclose(ours, theirs.detach().abs().amax(1), atol=1e-6)
    assert not torch.allclose(ours, explain(model, x, "vanilla_gradient", 0).values, atol=1e-4)
