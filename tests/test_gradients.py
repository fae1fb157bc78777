"""Gradient methods against captum, closed forms and identities."""

from __future__ import annotations

import captum.attr
import pytest
import torch
from toys import Linear, images, make

from runners import explain
from runners.modes import Guided
from taxonomy import ModelError, TargetError


@pytest.mark.parametrize("method", ["smoothgrad", "squaregrad", "vargrad", "noisegrad", "mc_guided_backprop"])
def test_chunks_do_not_change_the_map(method: str) -> None:
    toy = "unet2d_dropout" if method == "mc_guided_backprop" else "cnn2d"
    model, x = make(toy), images(toy, 3)
    small, large = (explain(model, x, method, samples=5, batch_size=n).values for n in (2, 64))
    assert torch.allclose(small, large, atol=1e-5 * float(large.abs().max()))


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


@pytest.mark.parametrize("toy", ["cnn2d", "cnn3d"])
def test_deconvnet_equals_captum(toy: str) -> None:
    model, x = make(toy), images(toy)
    with pytest.warns(UserWarning, match="hook"):
        theirs = captum.attr.Deconvolution(make(toy)).attribute(x.clone().requires_grad_(), target=1)
    ours = explain(model, x, "deconvnet", 1).values
    assert torch.allclose(ours, theirs.detach().abs().amax(1), atol=1e-5 * float(theirs.abs().max()))
    assert not torch.allclose(ours, explain(model, x, "guided_backprop", 1).values, atol=1e-3 * float(ours.max()))


def test_noisegrad_is_the_mean_over_models_with_their_own_factors() -> None:
    torch.manual_seed(0)
    model, x = Linear((2, 4, 4)).eval(), torch.rand(2, 2, 4, 4)
    weight = model.layer.weight.detach().clone()
    many = explain(model, x, "noisegrad", 0, samples=3000, weight_noise=0.5).values
    assert torch.equal(model.layer.weight, weight)
    assert torch.allclose(many[0], weight[0].view(2, 4, 4).abs().amax(0), atol=0.05 * float(weight.abs().max()))
    assert torch.equal(many[0], many[1])  # the gradient of a linear model is the same everywhere
    # one sample: every weight got a factor of its own, whose spread is the one asked for
    grey = Linear((1, 4, 4)).eval()
    once = (
        explain(grey, x[:1, :1], "noisegrad", 0, samples=1).values[0] / grey.layer.weight[0].detach().view(4, 4).abs()
    )
    assert len(once.unique()) == 16
    factors = torch.cat(
        [
            explain(model, x[:1], "noisegrad", 0, samples=1, weight_noise=0.1, seed=seed).values.flatten()
            / weight[0].view(2, 4, 4).abs().amax(0).flatten()
            for seed in range(200)
        ]
    )
    assert float(factors.std()) == pytest.approx(0.1, abs=0.02)


def test_noisegrad_without_noise_is_the_gradient_and_with_noise_on_the_input_smoothgrad() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    plain = explain(model, x, "vanilla_gradient", 1).values
    quiet = explain(model, x, "noisegrad", 1, samples=2, weight_noise=0.0).values
    assert torch.allclose(quiet, plain, atol=1e-6 * float(plain.max()))
    smooth = explain(model, x, "smoothgrad", 1, samples=400).values
    fusion = explain(model, x, "noisegrad", 1, samples=20, input_samples=20, weight_noise=0.0, noise=0.15).values
    assert torch.nn.functional.cosine_similarity(fusion.flatten(), smooth.flatten(), dim=0) > 0.99
    with pytest.raises(TargetError, match="weight_noise=-1"):
        explain(model, x, "noisegrad", weight_noise=-1.0)


def test_noisegrad_leaves_the_weights_alone_after_an_error() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    before = [p.detach().clone() for p in model.parameters()]
    own = [id(p) for p in model.parameters()]

    def failing(outputs: torch.Tensor) -> torch.Tensor:
        if not torch.allclose(outputs[0], expected[0], atol=1e-5):  # noisy weights
            raise ValueError("changed")
        return outputs[:, 0]

    expected = model(x).detach()
    with pytest.raises(ModelError, match="changed"):
        explain(model, x, "noisegrad", failing)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert [id(p) for p in model.parameters()] == own


def test_noisegrad_says_that_torchscript_keeps_its_weights() -> None:
    with pytest.warns(DeprecationWarning, match="jit"):
        scripted = torch.jit.trace(make("cnn2d"), images("cnn2d"))
    with pytest.raises(ModelError, match="TorchScript"):
        explain(scripted, images("cnn2d"), "noisegrad")


class Layers(torch.nn.Module):
    """Every kind of bias that FullGrad has to find, with the parts kept by name."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv = torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d
        norm = torch.nn.BatchNorm2d if dims == 2 else torch.nn.BatchNorm3d
        self.c1, self.n1, self.c2 = conv(1, 4, 3, padding=1), norm(4), conv(4, 5, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(5, 2)
        for buffer in (self.n1.running_mean, self.n1.bias):
            torch.nn.init.normal_(buffer)

    def forward(self, x: torch.Tensor, kept: list[torch.Tensor] | None = None) -> torch.Tensor:
        kept = [] if kept is None else kept
        a = self.c1(x - 0.3)
        b = self.n1(a)
        c = self.c2(torch.relu(b))
        kept += [a, b, c]
        return self.head(torch.relu(c).flatten(2).mean(2))


@pytest.mark.parametrize("dims", [2, 3])
def test_fullgrad_bias_by_bias(dims: int) -> None:
    torch.manual_seed(1)
    model, x = Layers(dims).eval(), torch.rand(1, 1, *[8] * dims)
    at, kept = x.clone().requires_grad_(), []
    score = model(at, kept)[0, 1]
    grad, *inner = torch.autograd.grad(score, [at, *kept])
    one = (-1, *[1] * dims)
    shift = model.n1.bias - model.n1.running_mean * model.n1.weight / (model.n1.running_var + 1e-5).sqrt()
    biases = (model.c1.bias, shift, model.c2.bias)
    parts = [x * grad, -0.3 * grad, *(b.detach().view(one) * g for b, g in zip(biases, inner, strict=True))]
    total = sum(float(part.detach().sum()) for part in parts) + float(model.head.bias.detach()[1])
    assert total == pytest.approx(score.item(), rel=1e-5)  # the decomposition is complete
    expected = torch.zeros(x.shape[2:])
    for part in parts:
        size = part.detach()[0].abs()
        size = (size - size.min()) / (size.max() - size.min())
        mode = "bilinear" if dims == 2 else "trilinear"
        expected += torch.nn.functional.interpolate(size[None], x.shape[2:], mode=mode)[0].sum(0)
    found = explain(model, x, "fullgrad", 1)
    assert torch.allclose(found.values[0], expected, atol=1e-4)
    assert found.checks["parts_error"][0] < 1e-5


@pytest.mark.parametrize(
    "toy", ["cnn2d_inplace", "cnn3d", "cnn2d_gated", "unet2d_one_logit", "unet3d", "cnn2d_regression"]
)
def test_fullgrad_parts_add_up_to_the_score(toy: str) -> None:
    """Also through instance normalisation, SiLU and squeeze-and-excitation, whose biases are implied."""
    found = explain(make(toy), images(toy), "fullgrad")
    assert max(found.checks["parts_error"]) < 1e-4
    assert any("adds up to the score" in note for note in found.notes)


def test_guided_backprop_under_dropout_pass_by_pass() -> None:
    model, x = make("unet2d_dropout"), images("unet2d_dropout")
    masks: list[torch.Tensor] = []

    class Watched(torch.nn.Module):
        def forward(self, t: torch.Tensor) -> torch.Tensor:
            out = torch.nn.functional.dropout(t, 0.3, training=False)
            masks.append((out != 0).float() / 0.7 * (t != 0))
            return out

    model.drop = Watched()
    options = {"samples": 6, "batch_size": 1}
    mean = explain(model, x, "mc_guided_backprop", 1, show="mean", **options).values  # type: ignore[arg-type]
    drawn = masks[-12:]  # the passes, step by step, image by image
    assert not any(torch.equal(drawn[0], other) for other in drawn[2::2])
    spread = explain(model, x, "mc_guided_backprop", 1, **options).values  # type: ignore[arg-type]

    class Fixed(torch.nn.Module):
        def __init__(self, mask: torch.Tensor) -> None:
            super().__init__()
            self.mask = mask

        def forward(self, t: torch.Tensor) -> torch.Tensor:
            return t * self.mask

    model.drop = torch.nn.Identity()
    plain = model(x)
    marked = (plain.argmax(1) == 1).float()
    for i in range(2):
        grads = []
        for step in range(6):
            model.drop = Fixed(drawn[2 * step + i])
            at = x[i : i + 1].clone().requires_grad_()
            with Guided():
                out = model(at)
            grads.append(torch.autograd.grad((out[:, 1] * marked[i]).sum(), at)[0][0, 0])
        every = torch.stack(grads)
        assert torch.allclose(mean[i], every.mean(0).abs(), atol=1e-4 * float(every.abs().max()))
        assert torch.allclose(spread[i], every.std(0, correction=0), atol=1e-4 * float(every.abs().max()))
    with pytest.raises(TargetError, match="show='median'"):
        explain(make("unet2d_dropout"), x, "mc_guided_backprop", show="median")
