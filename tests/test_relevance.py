"""LRP and DeepLIFT against captum, a slow second writing, and their conservation laws."""

from __future__ import annotations

import captum.attr
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from toys import CNN, images, make

from runners import explain


class Plain(nn.Module):
    """Each activation its own module, as captum needs it."""

    def __init__(self, dims: int = 2, pool: bool = True, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.c1, self.a1 = conv(2, 4, 3, padding=1), act()
        pools = (nn.MaxPool2d(2) if dims == 2 else nn.MaxPool3d(2)) if pool else nn.Identity()
        self.pool = pools
        self.c2, self.a2 = conv(4, 6, 3, padding=1), act()
        self.flat, self.l1, self.a3, self.l2 = nn.Flatten(), nn.LazyLinear(8), act(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.l2(self.a3(self.l1(self.flat(self.a2(self.c2(self.pool(self.a1(self.c1(x)))))))))


def plain(shape: tuple[int, ...], **options: object) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    model = Plain(len(shape) - 1, **options).eval()  # type: ignore[arg-type]
    x = torch.randn(2, *shape)
    model(x)
    return model, x


@pytest.mark.parametrize("act", [nn.ReLU, nn.Softplus, nn.Tanh])
def test_deeplift_equals_captum(act: type[nn.Module]) -> None:
    model, x = plain((2, 8, 8), pool=False, act=act)
    start = x.amin((2, 3), keepdim=True).expand_as(x)
    ours = explain(model, x, "deeplift", 1).values
    with pytest.warns(UserWarning, match="hook"):
        theirs = captum.attr.DeepLift(model).attribute(
            x.clone().requires_grad_(), start.clone().requires_grad_(), target=1
        )
    theirs = theirs.detach().sum(1)
    assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 8)])
def test_deeplift_is_complete_through_max_pooling(shape: tuple[int, ...]) -> None:
    """captum 0.9.0 is not: its sum misses the change of the score by 40 % on the 2D model here."""
    model, x = plain(shape)
    low = x.amin(tuple(range(2, x.ndim)), keepdim=True).expand_as(x)
    change = (model(x) - model(low)).detach()[:, 1]
    assert torch.allclose(explain(model, x, "deeplift", 1).values.flatten(1).sum(1), change, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("toy", ["cnn2d", "cnn2d_gated", "cnn3d", "unet2d", "unet3d", "cnn2d_functional"])
def test_deeplift_is_complete(toy: str) -> None:
    model, x = make(toy), images(toy)
    found = explain(model, x, "deeplift")
    assert not any("Completeness" in caution for caution in found.cautions)
    assert any("Completeness" in note for note in found.notes)


def test_deeplift_is_complete_through_gelu_and_layer_norm() -> None:
    class Next(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(1, 8, 4, 4), nn.LayerNorm(8)
            self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            t = self.stem(x).movedim(1, -1)
            return self.head((t + self.mlp(self.norm(t))).mean((1, 2)))

    torch.manual_seed(0)
    model, x = Next().eval(), images("cnn2d")
    found = explain(model, x, "deeplift", 0)
    low = x.amin((2, 3), keepdim=True).expand_as(x)
    change = (model(x) - model(low)).detach()[:, 0]
    assert torch.allclose(found.values.sum((1, 2)), change, rtol=1e-3, atol=1e-5)


def dense(layer: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A convolution as an explicit matrix and bias, column by column."""
    count = int(torch.tensor(shape).prod())
    with torch.no_grad():
        bias = layer(torch.zeros(1, *shape)).flatten()
        columns = layer(torch.eye(count).view(count, *shape)).flatten(1) - bias
    return columns.T, bias


def slow_lrp(model: Plain, x: Tensor, target: int, eps: float = 1e-6) -> Tensor:
    """Epsilon-plus, written with full matrices, close to the formulas of Bach et al."""

    def z_plus(a: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
        parts = a.clamp(min=0)[None] * w.clamp(min=0) + a.clamp(max=0)[None] * w.clamp(max=0)
        z = parts.sum(1) + b.clamp(min=0)
        return (parts * (r / (z + eps * torch.where(z >= 0, 1.0, -1.0)))[:, None]).sum(0)

    def epsilon(a: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
        parts = a[None] * w
        z = parts.sum(1) + b
        return (parts * (r / (z + eps * torch.where(z >= 0, 1.0, -1.0)))[:, None]).sum(0)

    shape1 = tuple(x.shape)
    w1, b1 = dense(model.c1, shape1)
    a1 = model.a1(model.c1(x[None]))
    shape2 = tuple(a1.shape[1:])
    w2, b2 = dense(model.c2, shape2)
    a2 = model.a2(model.c2(a1)).flatten()
    a3 = model.a3(model.l1(a2))
    out = model.l2(a3)
    start = torch.zeros(3)
    start[target] = out[target]
    r = epsilon(a3, model.l2.weight, model.l2.bias, start)
    r = epsilon(a2, model.l1.weight, model.l1.bias, r)
    r = z_plus(a1.flatten(), w2, b2, r)
    return z_plus(x.flatten(), w1, b1, r).view(shape1).sum(0)


def test_lrp_equals_a_slow_second_writing() -> None:
    model, x = plain((2, 6, 6), pool=False)
    ours = explain(model, x, "lrp", 1).values
    with torch.no_grad():
        slow = torch.stack([slow_lrp(model, image, 1) for image in x])  # type: ignore[arg-type]
    assert torch.allclose(ours, slow, atol=1e-4 * float(slow.abs().max()))


@pytest.mark.parametrize("toy", ["cnn2d", "cnn3d", "unet2d", "cnn2d_gated"])
def test_lrp_conserves_relevance_without_biases(toy: str) -> None:
    model, x = make(toy), images(toy)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.zero_()
    found = explain(model, x, "lrp")
    total = found.values.flatten(1).sum(1)
    assert torch.allclose(total, found.target_scores, rtol=0.02), (total, found.target_scores)


def test_lrp_merges_batch_normalisation() -> None:
    model = CNN(2).eval()
    with torch.no_grad():
        for bn in (model.stem[1], model.block[1]):
            bn.running_mean.normal_()
            bn.running_var.uniform_(0.5, 2)
            bn.weight.normal_()
            bn.bias.normal_()
    x = images("cnn2d")
    separate = explain(model, x, "lrp", 0).values
    model.stem[0], model.stem[1] = fuse_conv_bn_eval(model.stem[0], model.stem[1]), nn.Identity()
    model.block[0], model.block[1] = fuse_conv_bn_eval(model.block[0], model.block[1]), nn.Identity()
    assert torch.allclose(separate, explain(model, x, "lrp", 0).values, atol=1e-4 * float(separate.abs().max()))


def test_in_place_makes_no_difference() -> None:
    torch.manual_seed(0)
    slow, fast = CNN(2, inplace=False).eval(), CNN(2, inplace=True).eval()
    fast.load_state_dict(slow.state_dict())
    x = images("cnn2d")
    for method in ("lrp", "deeplift", "guided_backprop", "grad_cam", "input_x_gradient"):
        assert torch.allclose(explain(slow, x, method, 0).values, explain(fast, x, method, 0).values, atol=1e-6), method
