"""Gradient methods against captum, closed forms and identities."""

from __future__ import annotations

import captum.attr
import pytest
import torch
from toys import Linear, images, make

from runners import explain


@pytest.mark.parametrize("toy", ["cnn2d", "cnn3d", "vit_fused"])
def test_integrated_gradients_equal_captum(toy: str) -> None:
    model, x = make(toy), images(toy)
    start = x.amin(tuple(range(2, x.ndim)), keepdim=True).expand_as(x)
    theirs = captum.attr.IntegratedGradients(model).attribute(x, start, target=1, n_steps=12, method="gausslegendre")
    ours = explain(model, x, "integrated_gradients", 1, steps=12)
    assert torch.allclose(ours.values, theirs.sum(1).float(), atol=1e-5)
    assert ours.passes == {"forward": len(x) * (1 + 12 + 2), "backward": len(x) * 12}


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad", "gradient_shap"])
def test_chunks_do_not_change_the_map(method: str) -> None:
    model, x = make("cnn2d"), images("cnn2d", 3)
    option = {"steps": 5} if method == "integrated_gradients" else {"samples": 5}
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
