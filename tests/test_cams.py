"""Class activation maps against formulas written out on features taken by hand, and captum."""

from __future__ import annotations

import itertools
import math

import captum.attr
import monai.visualize
import numpy as np
import pytest
import sklearn.decomposition
import torch
import torchcam.methods
from torch import Tensor, nn
from toys import ViT, images, make, setting, up

from runners import Region, explain, profile
from runners.gradients import Draws
from runners.registry import explainers, seeded
from taxonomy import RequirementError, TargetError


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


def test_guided_grad_cam_equals_captum() -> None:
    model, x, theirs = make("cnn2d"), images("cnn2d"), make("cnn2d")
    with pytest.warns(UserWarning, match="hook"):
        expected = captum.attr.GuidedGradCam(theirs, theirs.last).attribute(
            x.clone().requires_grad_(), target=1, interpolate_mode="bilinear"
        )
    ours = explain(model, x, "guided_grad_cam", 1, layer="last").values
    assert ours.any()
    assert torch.allclose(ours, expected.detach().abs().amax(1), atol=1e-6)


TOKEN_CAMS = {
    method
    for method in explainers
    if ("cam" in method and not method.startswith("seg_")) or method in ("fem", "deep_feature_factorization")
} - {"guided_grad_cam", "cam", "refine_cam", "poly_cam", "ag_cam", "gscorecam"}
"""All but those that need a pooled head, ReLUs, attention, texts, a segmentation or several resolutions."""


@pytest.mark.parametrize("method", sorted(TOKEN_CAMS))
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


class Painter(nn.Module):
    """Features, and a segmentation of three labels read from them."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv, back = (nn.Conv2d, nn.ConvTranspose2d) if dims == 2 else (nn.Conv3d, nn.ConvTranspose3d)
        self.features = nn.Sequential(conv(1, 5, 3, 2, 1), nn.Tanh())
        self.out = nn.Sequential(back(5, 6, 2, 2), nn.Tanh(), conv(6, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x))


def painted(dims: int) -> tuple[Painter, Tensor, Region, Tensor, Tensor]:
    torch.manual_seed(5)
    model, x = Painter(dims).eval(), torch.rand(2, 1, 10, *[6] * (dims - 1))
    mask = torch.zeros(x.shape[2:], dtype=torch.bool)
    mask[2:7, 1:4] = True
    a = model.features(x).detach().requires_grad_()
    (g,) = torch.autograd.grad(model.out(a)[:, 2][:, mask].sum(), a)
    return model, x, Region(2, mask), a.detach(), g


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("segmenting", "plain"),
    [("seg_grad_cam", "grad_cam"), ("seg_grad_cam_pp", "grad_cam_pp"), ("seg_hires_grad_cam", "hirescam")],
)
def test_segmentation_cams_explain_the_summed_logits_of_a_region(segmenting: str, plain: str, dims: int) -> None:
    model, x, region, a, g = painted(dims)
    found = explain(model, x, segmenting, region, layer="features")
    assert found.values.any()
    assert torch.allclose(found.values, up(by_hand(plain, a, g), x), atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("pool", [1, 2, 99])
def test_seg_xres_cam_window_by_window(pool: int, dims: int) -> None:
    model, x, region, a, g = painted(dims)
    shared = g.clone()
    for b, k in np.ndindex(*a.shape[:2]):
        for corner in itertools.product(*[range(0, n, pool) for n in a.shape[2:]]):
            window = (b, k, *[slice(c, c + pool) for c in corner])
            shared[window] = g[window].max()
    found = explain(model, x, "seg_xres_cam", region, layer="features", pool=pool)
    assert found.values.any()
    assert torch.allclose(found.values, up((shared * a).sum(1).clamp(min=0), x), atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_seg_eigen_cam_is_the_first_principal_component(dims: int) -> None:
    model, x, region, a, g = painted(dims)
    maps = []
    for image in (g.abs() * a).flatten(2).numpy():
        line = sklearn.decomposition.PCA(1).fit_transform(image.T)[:, 0]
        maps.append(torch.tensor(line if line.max() > -line.min() else -line).clamp(min=0).view(a.shape[2:]))
    found = explain(model, x, "seg_eigen_cam", region, layer="features")
    assert torch.allclose(found.values, up(torch.stack(maps), x), atol=1e-5)


def test_finer_cam_equals_torchcam_and_tells_the_labels() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    with torchcam.methods.FinerCAM(model, "last", gamma=0.4, num_references=1) as theirs:
        scores = model(x.clone())
        coarse = theirs(1, scores, normalized=False)[0].detach()
    ours = explain(model, x, "finer_cam", 1, layer="last", strength=0.4, references=1)
    assert coarse.any()
    assert torch.allclose(ours.values, up(coarse, x), atol=1e-6)
    gap = (scores - scores[:, 1:2]).abs().detach()
    gap[:, 1] = torch.inf
    near = gap.argmin(1).tolist()
    assert any(f"closest scores: {near[0]}; {near[1]}." in note for note in ours.notes)
    plain = explain(model, x, "grad_cam", 1, layer="last").values
    assert torch.allclose(explain(model, x, "finer_cam", 1, layer="last", strength=0.0).values, plain, atol=1e-6)


def test_finer_cam_needs_a_label_and_others() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    with pytest.raises(TargetError, match="give a label"):
        explain(model, x, "finer_cam", lambda outputs: outputs[:, 0] - outputs[:, 1])
    with pytest.raises(TargetError, match="0 or more"):
        explain(model, x, "finer_cam", 1, strength=-1.0)
    with pytest.raises(RequirementError, match="only one output"):
        explain(make("cnn2d_regression"), x, "finer_cam", 1, task="classification")


@pytest.mark.parametrize("dims", [2, 3])
def test_smooth_grad_cam_pp_copy_by_copy(dims: int) -> None:
    torch.manual_seed(1)
    model, x = Averaged(dims).eval(), torch.rand(2, 1, *[8] * dims)
    model.head = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    draws, expected = Draws(x, seeded(0)), []
    for b in range(2):
        powers = [0.0, 0.0, 0.0]
        for copy in range(3):
            noisy = x[b : b + 1] + 0.2 * (x[b].max() - x[b].min()) * draws(torch.tensor([copy]))
            features = model.features(model.early(noisy)).detach().requires_grad_()
            (g,) = torch.autograd.grad(model.head(features.flatten(2).mean(2))[0, 2], features)
            powers = [total + g[0].double() ** (n + 1) / 3 for n, total in enumerate(powers)]
        a = model.features(model.early(x[b : b + 1]))[0].detach().double()
        maps = torch.zeros(a.shape[1:], dtype=torch.float64)
        for k in range(len(a)):
            below = 2 * powers[1][k] + a[k].sum() * powers[2][k]
            maps += (powers[1][k] / below * powers[0][k].clamp(min=0)).sum() * a[k]
        expected.append(maps.clamp(min=0).float())
    whole = explain(model, x, "smooth_grad_cam_pp", 2, samples=3, noise=0.2, layer="features")
    assert whole.values.any()
    assert torch.allclose(whole.values, up(torch.stack(expected), x), rtol=1e-3, atol=1e-6)
    single = explain(model, x, "smooth_grad_cam_pp", 2, samples=3, noise=0.2, layer="features", batch_size=1)
    assert torch.allclose(single.values, whole.values, rtol=1e-4, atol=1e-7)
    calm = explain(model, x, "smooth_grad_cam_pp", 2, samples=2, noise=0.0, layer="features").values
    assert torch.allclose(calm, explain(model, x, "grad_cam_pp", 2, layer="features").values, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_shapley_cam_with_the_whole_hessian(dims: int) -> None:
    model, x, a, _ = setting(dims)
    size = tuple(a.shape[1:])
    model.head = nn.Sequential(nn.Linear(math.prod(size), 6), nn.Tanh(), nn.Linear(6, 3))

    def utility(features: Tensor) -> Tensor:
        logits = model.head(features)
        return logits[2] + logits.log_softmax(0)[2]

    expected = []
    for image in a.flatten(1):
        gradient = torch.autograd.functional.jacobian(utility, image)
        hessian = torch.autograd.functional.hessian(utility, image)
        weights = (gradient - hessian @ image / 2).view(size).flatten(1).mean(1)
        expected.append((weights.view(-1, *[1] * dims) * image.view(size)).sum(0).clamp(min=0).detach())
    found = explain(model, x, "shapley_cam", 2)
    assert found.values.any()
    assert torch.allclose(found.values, up(torch.stack(expected), x), atol=1e-6)


def test_shapley_cam_is_grad_cam_where_nothing_bends() -> None:
    model, x = make("cnn2d_regression"), images("cnn2d_regression")
    found = explain(model, x, "shapley_cam")
    assert any("that of Grad-CAM" in caution for caution in found.cautions)
    assert torch.allclose(found.values, explain(model, x, "grad_cam").values, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_relevance_cam_with_z_plus_written_out(dims: int) -> None:
    model, x, a, _ = setting(dims)
    weight = model.head.weight.detach().clamp(min=0)
    maps = []
    for image in a:
        flat, relevance = image.flatten(), torch.zeros(image.numel())
        for label, start in enumerate((-1 / 3, -1 / 3, 1.0)):
            relevance += start * flat * weight[label] / (flat * weight[label]).sum()
        channels = relevance.view(len(image), -1).sum(1)
        maps.append((channels.view(-1, *[1] * dims) * image).sum(0))
    found = explain(model, x, "relevance_cam", 2)
    assert found.signed
    assert torch.allclose(found.values, up(torch.stack(maps), x), atol=1e-5)


class Steps(nn.Module):
    """Three resolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 5, 3, 2, 1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(5, 6, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.three(self.two(self.one(x))).mean((2, 3)))


def test_refine_cam_is_the_product_of_layers_and_equals_torchcam() -> None:
    torch.manual_seed(59)
    model, x = Steps().eval(), images("cnn2d")
    product = torch.ones(2, 32, 32)
    for layer in ("two", "three"):
        one = explain(model, x, "grad_cam_pp", 1, layer=layer).values
        product = product * one / one.flatten(1).amax(1)[:, None, None]
    found = explain(model, x, "refine_cam", 1, layers=2)
    assert product.any()
    assert torch.allclose(found.values, product, atol=1e-6)
    assert any("Features of 2 resolutions: two" in note for note in found.notes)
    coarse, features = [], x
    for stage, rest in ((model.one, (model.two, model.three)), (model.two, (model.three,)), (model.three, ())):
        features = stage(features).detach().requires_grad_()
        deeper = features
        for module in rest:
            deeper = module(deeper)
        (g,) = torch.autograd.grad(model.head(deeper.mean((2, 3)))[:, 1].sum(), features)
        coarse.append(by_hand("grad_cam_pp", features.detach(), g))
    assert all((maps.flatten(1).amin(1) == 0).all() for maps in coarse)  # else they would shift the maps
    theirs = torchcam.methods.RefineCAM.fuse_cams(coarse)
    ours = explain(model, x, "refine_cam", 1).values
    # they scale each map before it is enlarged
    assert torch.allclose(ours / ours.flatten(1).amax(1)[:, None, None], theirs, atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_fem_feature_by_feature(dims: int) -> None:
    model, x, a, _ = setting(dims)
    maps = torch.zeros(2, *a.shape[2:])
    for b, k in np.ndindex(*a.shape[:2]):
        values = a[b, k].numpy()
        if values.std() > 0:
            maps[b] += float(values.mean()) * torch.tensor(values >= values.mean() + 1.5 * values.std()).float()
    found = explain(model, x, "fem", sigmas=1.5)
    assert maps.any()
    assert torch.allclose(found.values, up(maps, x), atol=1e-6)
    assert any("not depend on the target" in caution for caution in found.cautions)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kernel", ["sigmoid", "rbf"])
def test_kpca_cam_equals_scikit_learn(kernel: str, dims: int) -> None:
    model, x, a, _ = setting(dims)
    maps = []
    for image in a.flatten(2).double().numpy():
        centred = (image - image.mean(1, keepdims=True)).T
        line = sklearn.decomposition.KernelPCA(1, kernel=kernel).fit_transform(centred)[:, 0]
        line = line * np.sign(np.corrcoef(line, np.abs(image).sum(0))[0, 1])
        maps.append(torch.tensor(line).float().clamp(min=0).view(a.shape[2:]))
    found = explain(model, x, "kpca_cam", kernel=kernel)
    assert torch.allclose(found.values, up(torch.stack(maps), x), atol=1e-5)


def test_kernel_pca_of_many_positions_is_coarser_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = make("cnn2d"), images("cnn2d")
    monkeypatch.setattr("runners.cams.MOST_POSITIONS", 64)
    found = explain(model, x, "kpca_cam")
    assert any("blocks of 2 positions" in note for note in found.notes)
    with pytest.raises(TargetError, match="sigmoid or rbf"):
        explain(model, x, "kpca_cam", kernel="cosine")


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("dims", [2, 3])
def test_feature_factorization_finds_the_part_that_the_label_reads(dims: int, label: int) -> None:
    """Two patterns, each in its own features, each read by its own label."""
    conv, sides = (nn.Conv2d if dims == 2 else nn.Conv3d), [8] * dims
    model = nn.Sequential(conv(2, 4, 1, bias=False), nn.ReLU(), nn.Flatten(2)).eval()
    weights = torch.tensor([[1.0, 0], [2, 0], [0, 1], [0, 3]])
    model[0].weight.data = weights.view(4, 2, *[1] * dims)

    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.head = model[:2], nn.Linear(4, 2, bias=False)
            self.head.weight.data = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x).flatten(2).mean(2))

    x = torch.rand(2, 2, *sides)
    x[:, 0, :4], x[:, 1, 4:] = 0, 0  # else more than one factorisation is right
    found = explain(Read().eval(), x, "deep_feature_factorization", label, parts=2)
    pattern = x[:, label] * weights[:, label].sum()
    assert torch.allclose(found.values, pattern, atol=0.02 * float(pattern.max()))
    assert not found.signed
    assert any("contributes most" in note for note in found.notes)
