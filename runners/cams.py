"""Class activation maps: features of one place, weighted and folded back onto the image.

The place is found by running the model (``runners.models``): feature maps, channel-last features or token grids, 2D
and 3D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.baselines import baseline as make_baseline
from runners.models import Place, Wired, captured, find_place, leaf, run
from runners.registry import Found, Progress, Score, explainer


def upsample(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bring maps ``(B, *grid)`` to ``(B, *size)``, bilinear or trilinear."""
    mode = "trilinear" if len(size) == 3 else "bilinear"
    return F.interpolate(maps[:, None], size=size, mode=mode, align_corners=False)[:, 0]


def features_and_gradients(model: nn.Module, x: Tensor, score: Score, place: Place) -> tuple[Tensor, Tensor]:
    """Return the features ``(B, C, *grid)`` of a place and the gradient of the score with respect to them."""
    _, entry = leaf(x)
    with torch.enable_grad(), captured(model, place) as kept:
        scores = score(run(model, entry), torch.arange(len(x)))
        (grad,) = torch.autograd.grad(scores.sum(), kept[-1])
    return place.fold(kept[-1].detach()), place.fold(grad)


def _features(model: nn.Module, x: Tensor, place: Place) -> Tensor:
    with torch.no_grad(), captured(model, place) as kept:
        run(model, x.clone())
    return place.fold(kept[-1])


def _coarse(place: Place, x: Tensor) -> tuple[str, ...]:
    stride = max(s / g for s, g in zip(x.shape[2:], place.grid, strict=True))
    unit = "voxels" if x.ndim == 5 else "pixels"
    if min(place.grid) <= 4:
        shape = "×".join(map(str, place.grid))
        return (f"The features have only {shape} positions: the map is coarse, one per {stride:.0f} {unit}.",)
    return ()


def _cam(model: nn.Module, x: Tensor, score: Score, profile: Wired, layer: str | None, weigh: str) -> Found:
    place, notes = find_place(profile, layer)
    a, g = features_and_gradients(model, x, score, place)
    space = tuple(range(2, a.ndim))
    if weigh == "grad_cam":
        maps = (g.mean(space, keepdim=True) * a).sum(1)
    elif weigh == "grad_cam_pp":
        squared, cubed = g**2, g**3
        total = a.sum(space, keepdim=True)
        denominator = 2 * squared + total * cubed
        alpha = torch.where(denominator != 0, squared / torch.where(denominator != 0, denominator, 1.0), 0.0)
        maps = ((alpha * g.clamp(min=0)).sum(space, keepdim=True) * a).sum(1)
    elif weigh == "hirescam":
        maps = (g * a).sum(1)
    else:
        maps = (g.clamp(min=0) * a).sum(1)
    return Found(upsample(maps.clamp(min=0), tuple(x.shape[2:])), notes, _coarse(place, x), signed=False)


@explainer("grad_cam")
def grad_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Features weighted by their mean gradient, positive part (arXiv 1610.02391).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        layer: module to take the features from; None lets the profile choose.
        profile: the wired profile.
    """
    return _cam(model, x, score, profile, layer, "grad_cam")


@explainer("grad_cam_pp")
def grad_cam_pp(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Grad-CAM++: positive gradients weighted by position, for an exponential of the score (arXiv 1710.11063)."""
    return _cam(model, x, score, profile, layer, "grad_cam_pp")


@explainer("hirescam")
def hirescam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """HiResCAM: gradient times features at each position, positive part of the sum (arXiv 2011.08891)."""
    return _cam(model, x, score, profile, layer, "hirescam")


@explainer("layer_cam")
def layer_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """LayerCAM: positive gradient times features at each position, positive part (10.1109/TIP.2021.3089943)."""
    return _cam(model, x, score, profile, layer, "layer_cam")


@explainer("eigen_cam")
def eigen_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:  # noqa: ARG001
    """EigenCAM: projection of the features on their first principal direction (arXiv 2008.00299).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: not used; the map does not depend on the target.
        layer: module to take the features from; None lets the profile choose.
        profile: the wired profile.
    """
    place, notes = find_place(profile, layer)
    a = _features(model, x, place).flatten(2).double()  # (B, C, P)
    # the leading right singular vector scaled by its value, from the smaller Gram matrix
    if a.shape[1] <= a.shape[2]:
        _, vectors = torch.linalg.eigh(a @ a.transpose(1, 2))
        maps = (vectors[:, :, -1:] * a).sum(1)
    else:
        values, vectors = torch.linalg.eigh(a.transpose(1, 2) @ a)
        maps = vectors[:, :, -1] * values[:, -1:].clamp(min=0).sqrt()
    # a singular vector has no sign of its own: take the one under which the map is mostly positive
    maps = maps * torch.where(maps.sum(1, keepdim=True) < 0, -1.0, 1.0)
    maps = maps.view(len(x), *place.grid).clamp(min=0).to(x.dtype)
    caution = "It does not depend on the target: it shows the strongest pattern among the features, whatever the label."
    return Found(upsample(maps, tuple(x.shape[2:])), notes, (caution, *_coarse(place, x)), signed=False)


@explainer("score_cam")
def score_cam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    channels: int = 128,
    baseline: str = "black",
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Score-CAM: features weighted by how much of the score each one keeps when used as a mask (arXiv 1910.01279).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        layer: module to take the features from; None lets the profile choose.
        channels: at most so many features per image are tried, those that vary most over the image.
        baseline: what a mask hides the image with: black, white, mean, blur, noise or zero.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    place, notes = find_place(profile, layer)
    hidden = make_baseline(x, baseline, generator)
    size = tuple(x.shape[2:])
    with torch.no_grad():
        a = _features(model, x, place)
        kept = min(channels, a.shape[1])
        order = a.flatten(2).std(2).argsort(dim=1, descending=True, stable=True)[:, :kept]
        a = torch.gather(a, 1, order.view(*order.shape, *[1] * (a.ndim - 2)).expand(-1, -1, *a.shape[2:]))
        rows_all = torch.arange(len(x))
        base = score(run(model, hidden.clone()), rows_all)
        weights = torch.zeros(len(x), kept, device=x.device, dtype=x.dtype)
        for first in range(0, len(x) * kept, batch_size):
            index = torch.arange(first, min(first + batch_size, len(x) * kept))
            rows, channel = index // kept, index % kept
            mask = upsample(a[rows, channel], size)
            low, high = mask.flatten(1).amin(1), mask.flatten(1).amax(1)
            shape = (-1, *[1] * len(size))
            mask = (mask - low.view(shape)) / (high - low).clamp(min=1e-12).view(shape)
            seen = hidden[rows] + mask[:, None] * (x[rows] - hidden[rows])
            weights[rows, channel] = score(run(model, seen), rows) - base[rows]
            progress(int(index[-1]) + 1, len(x) * kept)
        # softmax as in the paper's algorithm; sums of many logits (regions) are brought to ordinary size first, or one
        # channel would take all
        weights = (weights / weights.std(1, correction=0, keepdim=True).clamp(min=1)).softmax(1)
        maps = (weights.view(len(x), kept, *[1] * len(size)) * a).sum(1).clamp(min=0)
    cautions = list(_coarse(place, x))
    if kept < place.channels:
        cautions.append(f"Only the {kept} features that vary most, of {place.channels}, were tried.")
    return Found(upsample(maps, size), notes, tuple(cautions), signed=False)
