"""Class activation maps against formulas written out on features taken by hand, and captum."""

from __future__ import annotations

import captum.attr
import monai.visualize
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import ViT, images, make

from runners import explain, profile
from runners.models import thinned
from runners.registry import explainers


class Split(nn.Module):
    """Features, and a head that is not the same at every position."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.dims = dims
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.features = nn.Sequential(conv(1, 5, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(5 * 4**dims, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


def setting(dims: int) -> tuple[Split, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    model, x = Split(dims).eval(), torch.rand(2, 1, *[8] * dims)
    a = model.features(x).detach()
    g = model.head.weight[2].detach().view(1, *a.shape[1:]).expand_as(a)
    return model, x, a, g


def up(maps: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(maps[:, None], x.shape[2:], mode="bilinear" if x.ndim == 4 else "trilinear")[:, 0]


def by_hand(method: str, a: Tensor, g: Tensor) -> Tensor:
    space = tuple(range(2, a.ndim))
    if method == "grad_cam":
        return (g.mean(space, keepdim=True) * a).sum(1).clamp(min=0)
    if method == "hirescam":
        return (g * a).sum(1).clamp(min=0)
    if method == "xgrad_cam":
        weights = ((g * a).sum(space, keepdim=True) / a.sum(space, keepdim=True)).nan_to_num()  # a dead feature
        return (weights * a).sum(1).clamp(min=0)
    if method == "layer_cam":
        return (g.clamp(min=0) * a).sum(1).clamp(min=0)
    weights = torch.zeros(a.shape[:2])
    for b in range(a.shape[0]):
        for k in range(a.shape[1]):
            total = a[b, k].sum()
            for position in np.ndindex(*a.shape[2:]):
                slope = g[(b, k, *position)]
                below = 2 * slope**2 + total * slope**3
                alpha = slope**2 / below if below != 0 else torch.zeros(())
                weights[b, k] += alpha * slope.clamp(min=0)
    return (weights.view(*a.shape[:2], *[1] * len(space)) * a).sum(1).clamp(min=0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_pp", "hirescam", "layer_cam", "xgrad_cam"])
def test_cam_by_hand(method: str, dims: int) -> None:
    model, x, a, g = setting(dims)
    expected = up(by_hand(method, a, g), x)
    assert expected.any()
    assert torch.allclose(explain(model, x, method, 2).values, expected, atol=1e-5)


def test_grad_cam_equals_captum() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    theirs = captum.attr.LayerGradCam(model, model.last).attribute(x, target=1, relu_attributions=True)
    assert torch.allclose(
        explain(model, x, "grad_cam", 1, layer="last").values, up(theirs[:, 0].detach(), x), atol=1e-6
    )


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", ["eigen_cam", "eigen_grad_cam"])
def test_eigen_cams_are_the_first_singular_direction(method: str, dims: int) -> None:
    model, x, a, g = setting(dims)
    expected = []
    for image in a if method == "eigen_cam" else a * g:
        _, values, rows = np.linalg.svd(image.flatten(1).numpy(), full_matrices=False)
        line = values[0] * rows[0]
        expected.append(torch.tensor(line * (1 if line.sum() >= 0 else -1)).clamp(min=0).view(image.shape[1:]))
    assert torch.allclose(explain(model, x, method, 2).values, up(torch.stack(expected), x), atol=1e-4)


class Averaged(nn.Module):
    """Features, their averages, a linear head."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.early = nn.Sequential(conv(1, 4, 3, padding=1), nn.Tanh())
        self.features = nn.Sequential(conv(4, 5, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(self.early(x)).flatten(2).mean(2))


@pytest.mark.parametrize("dims", [2, 3])
def test_cam_equals_monai_which_adds_up_to_the_logit(dims: int) -> None:
    torch.manual_seed(1)
    model, x = Averaged(dims).eval(), torch.rand(2, 1, *[8] * dims)
    theirs = monai.visualize.CAM(
        model, "features", "head", upsampler=lambda _size: lambda maps: maps, postprocessing=lambda maps: maps
    )
    coarse = theirs(x, class_idx=torch.tensor([1, 1]))[:, 0].detach()  # with the bias at every position
    ours = explain(model, x, "cam", 1)
    assert ours.signed
    assert not ours.cautions or not any("averages" in one for one in ours.cautions)
    assert torch.allclose(ours.values, up(coarse - model.head.bias[1].detach(), x), atol=1e-5)
    assert torch.allclose(coarse.flatten(1).mean(1), model(x)[:, 1], atol=1e-5)
    inner = explain(model, x, "cam", 1, layer="early")
    assert any("does not read the averages" in caution for caution in inner.cautions)


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
    assert few.passes["forward"] == 2 * (1 + 1 + 2)


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


def test_guided_grad_cam_equals_captum() -> None:
    model, x, theirs = make("cnn2d"), images("cnn2d"), make("cnn2d")
    with pytest.warns(UserWarning, match="hook"):
        expected = captum.attr.GuidedGradCam(theirs, theirs.last).attribute(
            x.clone().requires_grad_(), target=1, interpolate_mode="bilinear"
        )
    ours = explain(model, x, "guided_grad_cam", 1, layer="last").values
    assert ours.any()
    assert torch.allclose(ours, expected.detach().abs().amax(1), atol=1e-6)


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


@pytest.mark.parametrize("method", sorted(m for m in explainers if "cam" in m and m not in ("guided_grad_cam", "cam")))
def test_cams_on_a_transformer_fold_the_tokens_in_order(method: str) -> None:
    """A transformer whose tokens hold their patch's brightness: the map must be bright where the image is."""

    class Bright(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(1, 4, 4, 4)
            nn.init.constant_(self.embed.weight, 1 / 16)
            nn.init.zeros_(self.embed.bias)
            self.token = nn.Parameter(torch.zeros(1, 2, 4))
            self.norm, self.block = nn.LayerNorm(4), nn.Identity()
            self.head = nn.Linear(4, 2)
            nn.init.ones_(self.head.weight)

        def forward(self, x: Tensor) -> Tensor:
            t = self.embed(x).flatten(2).transpose(1, 2)
            t = torch.cat([self.token.expand(len(t), -1, -1), t], 1)
            t = self.block(t + 0 * self.norm(t))
            return self.head(t[:, 2:].mean(1))

    x = torch.zeros(1, 1, 16, 24)
    x[:, :, 4:8, 16:20] = 1.0
    model = Bright().eval()
    place = profile(model, x).place
    assert place is not None
    assert (place.layout, place.grid, place.prefix) == ("tokens", (4, 6), 2)
    values = explain(model, x, method, 1).values[0]
    peak = divmod(int(values.argmax()), 24)
    assert 4 <= peak[0] < 8
    assert 16 <= peak[1] < 20


def test_transformer_place_reaches_the_image_tokens() -> None:
    model = ViT(depth=2).eval()
    found = profile(model, images("vit_fused"))
    assert found.place is not None
    assert found.place.name == "blocks.1.norm1"
    assert "image tokens" in found.place_reason
