"""Class activation maps: features of one place, weighted and folded back onto the image.

The place is found by running the model (``runners.models``): feature maps, channel-last features or token grids, 2D
and 3D.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from runners.gradients import guided_backprop
from runners.models import Place, Wired, captured, find_place, leaf, run, upsample
from runners.registry import Found, Score, explainer


def features_and_gradients(
    model: nn.Module, x: Tensor, score: Score, place: Place, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the features ``(B, C, *grid)`` of a place and the gradient of the score with respect to them."""
    rows = torch.arange(len(x)) if rows is None else rows
    _, entry = leaf(x)
    with torch.enable_grad(), captured(model, place) as kept:
        scores = score(run(model, entry), rows)
        (grad,) = torch.autograd.grad(scores.sum(), kept[-1])
    return place.fold(kept[-1].detach()), place.fold(grad)


def features_of(model: nn.Module, x: Tensor, place: Place) -> Tensor:
    """Return the features ``(B, C, *grid)`` of a place."""
    with torch.no_grad(), captured(model, place) as kept:
        run(model, x.clone())
    return place.fold(kept[-1])


def coarse(place: Place, x: Tensor) -> tuple[str, ...]:
    """Return the caution that a map from few positions deserves."""
    stride = max(s / g for s, g in zip(x.shape[2:], place.grid, strict=True))
    unit = "voxels" if x.ndim == 5 else "pixels"
    if min(place.grid) <= 4:
        shape = "×".join(map(str, place.grid))
        return (f"The features have only {shape} positions: the map is coarse, one per {stride:.0f} {unit}.",)
    return ()


Join = Callable[[Tensor, Tensor], Tensor]
"""Features ``(B, C, *grid)`` and their gradients to a map ``(B, *grid)``."""


def _cam(model: nn.Module, x: Tensor, score: Score, profile: Wired, layer: str | None, join: Join) -> Found:
    place, notes = find_place(profile, layer)
    a, g = features_and_gradients(model, x, score, place)
    return Found(upsample(join(a, g).clamp(min=0), tuple(x.shape[2:])), notes, coarse(place, x), signed=False)


def _space(a: Tensor) -> tuple[int, ...]:
    return tuple(range(2, a.ndim))


def _by_mean(a: Tensor, g: Tensor) -> Tensor:
    return (g.mean(_space(a), keepdim=True) * a).sum(1)


def _by_position(a: Tensor, g: Tensor) -> Tensor:
    squared, cubed = g**2, g**3
    denominator = 2 * squared + a.sum(_space(a), keepdim=True) * cubed
    alpha = torch.where(denominator != 0, squared / torch.where(denominator != 0, denominator, 1.0), 0.0)
    return ((alpha * g.clamp(min=0)).sum(_space(a), keepdim=True) * a).sum(1)


def _by_share(a: Tensor, g: Tensor) -> Tensor:
    total = a.sum(_space(a), keepdim=True)
    weight = (g * a).sum(_space(a), keepdim=True) / torch.where(total != 0, total, 1.0)
    return (torch.where(total != 0, weight, 0.0) * a).sum(1)


def _strongest(features: Tensor) -> Tensor:
    """Project features ``(B, C, *grid)`` on their first singular direction, signed so that most of it is positive."""
    a = features.flatten(2).double()  # (B, C, P)
    # the leading right singular vector scaled by its value, from the smaller Gram matrix
    if a.shape[1] <= a.shape[2]:
        _, vectors = torch.linalg.eigh(a @ a.transpose(1, 2))
        maps = (vectors[:, :, -1:] * a).sum(1)
    else:
        values, vectors = torch.linalg.eigh(a.transpose(1, 2) @ a)
        maps = vectors[:, :, -1] * values[:, -1:].clamp(min=0).sqrt()
    # a singular vector has no sign of its own: take the one under which the map is mostly positive
    maps = maps * torch.where(maps.sum(1, keepdim=True) < 0, -1.0, 1.0).to(maps)
    found: Tensor = maps.view(len(a), *features.shape[2:]).to(features.dtype)
    return found


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
    return _cam(model, x, score, profile, layer, _by_mean)


@explainer("cam")
def cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Features weighted as the linear head weights their averages; negative where it counts against (arXiv 1512.04150).

    The weights are the gradient of the score with respect to the averages: those of the head for a logit, and right for
    any other score of the logits. The mean of the coarse map and the head's bias add up to the logit.

    Parameters as in :func:`grad_cam`.
    """
    place, notes = find_place(profile, layer)
    a, g = features_and_gradients(model, x, score, place)
    mean = g.mean(_space(a), keepdim=True)
    cautions = coarse(place, x)
    if not torch.allclose(g, mean.expand_as(g), atol=1e-4 * float(g.abs().max())):
        cautions += (f"The head does not read the averages of {place.name}: the weights are those of a mean gradient.",)
    maps = (mean * math.prod(place.grid) * a).sum(1)
    return Found(upsample(maps, tuple(x.shape[2:])), notes, cautions)


@explainer("grad_cam_pp")
def grad_cam_pp(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Grad-CAM++: positive gradients weighted by position, for an exponential of the score (arXiv 1710.11063).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, _by_position)


@explainer("hirescam")
def hirescam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """HiResCAM: gradient times features at each position, positive part of the sum (arXiv 2011.08891).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, lambda a, g: (g * a).sum(1))


@explainer("layer_cam")
def layer_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """LayerCAM: positive gradient times features at each position, positive part (10.1109/TIP.2021.3089943).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, lambda a, g: (g.clamp(min=0) * a).sum(1))


@explainer("xgrad_cam")
def xgrad_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """XGrad-CAM: features weighted by their gradients averaged with the features as weights (arXiv 2008.02312).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, _by_share)


@explainer("eigen_grad_cam")
def eigen_grad_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """EigenGradCAM: gradient times features, projected on its first principal direction (arXiv 2008.00299).

    Parameters as in :func:`grad_cam`.
    """
    found = _cam(model, x, score, profile, layer, lambda a, g: _strongest(g * a))
    caution = "A principal direction has no sign: the map shows where the evidence is strongest, not for which side."
    return replace(found, cautions=(caution, *found.cautions))


@explainer("guided_grad_cam")
def guided_grad_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Guided backpropagation inside what Grad-CAM marks, the product of the two (arXiv 1610.02391).

    Parameters as in :func:`grad_cam`.
    """
    where, fine = grad_cam(model, x, score, layer=layer, profile=profile), guided_backprop(model, x, score)
    return Found(where.values * fine.values, where.notes, fine.cautions + where.cautions, signed=False)


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
    maps = _strongest(features_of(model, x, place)).clamp(min=0)
    caution = "It does not depend on the target: it shows the strongest pattern among the features, whatever the label."
    return Found(upsample(maps, tuple(x.shape[2:])), notes, (caution, *coarse(place, x)), signed=False)
