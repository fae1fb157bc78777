"""Class activation maps: features of one place, weighted and folded back onto the image.

The place is found by running the model (``runners.models``): feature maps, channel-last features or token grids, 2D
and 3D.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from runners.gradients import Draws, guided_backprop, value_range
from runners.models import Place, Wired, captured, find_place, leaf, run, upsample
from runners.modes import Relevance
from runners.registry import Found, Progress, Score, explainer
from runners.relevance import slope_of
from runners.rules import WITHOUT_BIAS
from runners.targets import primary
from taxonomy.errors import RequirementError, TargetError
from taxonomy.requirements import Gap

MOST_POSITIONS = 2048
"""Above so many positions the kernel matrix of a kernel PCA is computed on a coarser grid."""


def at_places(
    model: nn.Module, x: Tensor, score: Score, places: Sequence[Place], rows: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Return the features ``(B, C, *grid)`` of each place and the gradient of the score with respect to them."""
    alone = len(places) == 1  # else the gradient goes through one place to another
    with torch.enable_grad(), contextlib.ExitStack() as stack:
        kept = [stack.enter_context(captured(model, place, cut=alone)) for place in places]
        scores = score(run(model, x.clone() if alone else leaf(x)[1]), torch.arange(len(x)) if rows is None else rows)
        grads = torch.autograd.grad(scores.sum(), [outputs[-1] for outputs in kept])
    return [
        (place.fold(outputs[-1].detach()), place.fold(grad))
        for place, outputs, grad in zip(places, kept, grads, strict=True)
    ]


def stages(method: str, profile: Wired, count: int) -> tuple[Place, ...]:
    """Return the last place of each resolution, at most the ``count`` deepest, down to the default place.

    Raises:
        RequirementError: all features have one resolution.
    """
    assert profile.place is not None
    upto = profile.places[: profile.places.index(profile.place) + 1]
    last = {place.grid: place for place in upto}
    if len(last) < 2:
        grid = "×".join(map(str, profile.place.grid))
        sentence = f"it joins features of several resolutions, and all features of this model have {grid} positions."
        raise RequirementError(method, [Gap("spatial_features", sentence)])
    return tuple(sorted(last.values(), key=upto.index)[-count:])


def stage_note(places: Sequence[Place]) -> str:
    """Say which features were joined, for a note."""
    return f"Features of {len(places)} resolutions: {'; '.join(place.text() for place in places)}."


def features_and_gradients(
    model: nn.Module, x: Tensor, score: Score, place: Place, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the features ``(B, C, *grid)`` of a place and the gradient of the score with respect to them."""
    return at_places(model, x, score, (place,), rows)[0]


def features_of(model: nn.Module, x: Tensor, place: Place, score: Score | None = None) -> Tensor:
    """Return the features ``(B, C, *grid)`` of a place; the score, if given, sees the outputs."""
    with torch.no_grad(), captured(model, place) as kept:
        outputs = run(model, x.clone())
        if score is not None:
            score(outputs, torch.arange(len(x)))
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
    return _by_moments(a, g, g**2, g**3)


def _by_moments(a: Tensor, g: Tensor, squared: Tensor, cubed: Tensor) -> Tensor:
    denominator = 2 * squared + a.sum(_space(a), keepdim=True) * cubed
    alpha = torch.where(denominator != 0, squared / torch.where(denominator != 0, denominator, 1.0), 0.0)
    return ((alpha * g.clamp(min=0)).sum(_space(a), keepdim=True) * a).sum(1)


def _by_share(a: Tensor, g: Tensor) -> Tensor:
    total = a.sum(_space(a), keepdim=True)
    weight = (g * a).sum(_space(a), keepdim=True) / torch.where(total != 0, total, 1.0)
    return (torch.where(total != 0, weight, 0.0) * a).sum(1)


def labels_of(score: Score, outputs: Any, rows: Tensor) -> Tensor | None:
    """Return the label ``(N,)`` whose output is the score; None if the score is anything else."""
    output = primary(outputs)
    if output.ndim != 2 or output.shape[1] < 2:
        return None
    grad = slope_of(score, output, rows)
    label = grad.argmax(1)
    return label if torch.equal(grad, F.one_hot(label, output.shape[1]).to(grad)) else None


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


@explainer("grad_cam", looks_first=True)
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


@explainer("cam", looks_first=True)
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


@explainer("grad_cam_pp", looks_first=True)
def grad_cam_pp(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Grad-CAM++: positive gradients weighted by position, for an exponential of the score (arXiv 1710.11063).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, _by_position)


@explainer("hirescam", looks_first=True)
def hirescam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """HiResCAM: gradient times features at each position, positive part of the sum (arXiv 2011.08891).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, lambda a, g: (g * a).sum(1))


@explainer("layer_cam", looks_first=True)
def layer_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """LayerCAM: positive gradient times features at each position, positive part (10.1109/TIP.2021.3089943).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, lambda a, g: (g.clamp(min=0) * a).sum(1))


@explainer("xgrad_cam", looks_first=True)
def xgrad_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """XGrad-CAM: features weighted by their gradients averaged with the features as weights (arXiv 2008.02312).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, _by_share)


@explainer("eigen_grad_cam", looks_first=True)
def eigen_grad_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """EigenGradCAM: gradient times features, projected on its first principal direction (arXiv 2008.00299).

    Parameters as in :func:`grad_cam`.
    """
    found = _cam(model, x, score, profile, layer, lambda a, g: _strongest(g * a))
    caution = "A principal direction has no sign: the map shows where the evidence is strongest, not for which side."
    return replace(found, cautions=(caution, *found.cautions))


@explainer("guided_grad_cam", looks_first=True)
def guided_grad_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Guided backpropagation inside what Grad-CAM marks, the product of the two (arXiv 1610.02391).

    Parameters as in :func:`grad_cam`.
    """
    where, fine = grad_cam(model, x, score, layer=layer, profile=profile), guided_backprop(model, x, score)
    return Found(where.values * fine.values, where.notes, fine.cautions + where.cautions, signed=False)


@explainer("eigen_cam", looks_first=True)
def eigen_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """EigenCAM: projection of the features on their first principal direction (arXiv 2008.00299).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the map does not depend on it.
        layer: module to take the features from; None lets the profile choose.
        profile: the wired profile.
    """
    place, notes = find_place(profile, layer)
    maps = _strongest(features_of(model, x, place, score)).clamp(min=0)
    caution = "It does not depend on the target: it shows the strongest pattern among the features, whatever the label."
    return Found(upsample(maps, tuple(x.shape[2:])), notes, (caution, *coarse(place, x)), signed=False)


@explainer("finer_cam", looks_first=True)
def finer_cam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    references: int = 3,
    strength: float = 0.6,
    profile: Wired,
) -> Found:
    """Finer-CAM: Grad-CAM of a label's score less the mean score of the labels most like it (arXiv 2501.11309).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score of one label.
        layer: module to take the features from; None lets the profile choose.
        references: labels to compare with, those whose scores are closest on the image.
        strength: how much of their mean score is taken away.
        profile: the wired profile.
    """
    if not strength >= 0:
        raise TargetError(f"finer_cam: strength={strength} was given; it must be 0 or more")
    compared: list[list[int]] = []

    def difference(outputs: Any, rows: Tensor) -> Tensor:
        output = primary(outputs)
        if output.ndim != 2 or output.shape[1] < 2:
            sentence = "it compares a label with the labels most like it, and this model has only one output."
            raise RequirementError("finer_cam", [Gap("task", sentence)])
        label = labels_of(score, output, rows)
        if label is None:
            raise TargetError("finer_cam compares one label with others; give a label as target, not a function")
        distance = (output.detach() - output.detach().gather(1, label[:, None])).abs()
        distance = distance.scatter(1, label[:, None], torch.inf)
        near = distance.argsort(dim=1, stable=True)[:, : min(references, output.shape[1] - 1)]
        compared.extend(near.tolist())
        return score(outputs, rows) - strength * output.gather(1, near).mean(1)

    found = _cam(model, x, difference, profile, layer, _by_mean)
    which = "; ".join(", ".join(map(str, near)) for near in compared)
    return replace(found, notes=(*found.notes, f"Compared with the labels of the closest scores: {which}."))


@explainer("smooth_grad_cam_pp")
def smooth_grad_cam_pp(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    samples: int = 4,
    noise: float = 0.07,
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Smooth Grad-CAM++: its gradients are averaged over noisy copies of the image (arXiv 1908.01224).

    The numerator of the weights is the mean squared gradient, as in Grad-CAM++; the paper prints the plain gradient.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        layer: module to take the features from; None lets the profile choose.
        samples: noisy copies per image.
        noise: standard deviation as a share of the image's range.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: draws the noise, the same for every image of the batch.
        progress: told after every chunk.
    """
    place, notes = find_place(profile, layer)
    a = features_of(model, x, place)
    sigma, draws = noise * value_range(x), Draws(x, generator)
    moments = [torch.zeros_like(a, dtype=torch.float64) for _ in range(3)]
    for index in torch.split(torch.arange(samples * len(x)), batch_size):
        steps, rows = index // len(x), index % len(x)
        _, g = at_places(model, x[rows] + sigma[rows] * draws(steps), score, (place,), rows)[0]
        for power, moment in enumerate(moments, start=1):
            moment.index_add_(0, rows.to(x.device), g.double() ** power / samples)
        progress(int(index[-1]) + 1, samples * len(x))
    maps = _by_moments(a.double(), *moments).clamp(min=0).to(x.dtype)
    return Found(upsample(maps, tuple(x.shape[2:])), notes, coarse(place, x), signed=False)


@explainer("shapley_cam", looks_first=True)
def shapley_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """ShapleyCAM: features weighted by the mean of gradient less half the curvature along them (arXiv 2501.06261).

    For a label among several the score is the paper's residual softmax: the logit plus the logarithm of its softmax.

    Parameters as in :func:`grad_cam`.
    """
    place, notes = find_place(profile, layer)
    rows = torch.arange(len(x))
    _, entry = leaf(x)
    # fused attention has no second derivative
    with torch.enable_grad(), captured(model, place) as kept, sdpa_kernel(SDPBackend.MATH):
        outputs = run(model, entry)
        scores = score(outputs, rows)
        label = labels_of(score, outputs, rows)
        if label is not None:
            scores = scores + primary(outputs).log_softmax(1).gather(1, label[:, None])[:, 0]
        features = kept[-1]
        (grad,) = torch.autograd.grad(scores.sum(), features, create_graph=True)
        bend = torch.zeros_like(grad)
        if grad.requires_grad:
            (bend,) = torch.autograd.grad(grad, features, features.detach(), allow_unused=True, materialize_grads=True)
    a, g, h = (place.fold(t.detach()) for t in (features, grad, bend))
    cautions = coarse(place, x)
    if not h.any():
        cautions += ("The score does not bend along these features: the map is that of Grad-CAM.",)
    maps = _by_mean(a, g - h / 2).clamp(min=0)
    return Found(upsample(maps, tuple(x.shape[2:])), notes, cautions, signed=False)


@explainer("relevance_cam", looks_first=True)
def relevance_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Relevance-CAM: features weighted by the relevance that reaches them, summed over positions (CVPR 2021).

    Relevance starts as 1 at the label and, so that it tells labels apart, as -1/K at each other one of K outputs, and
    follows the z-plus rule through all layers. Negative values count for the other labels.

    Parameters as in :func:`grad_cam`.
    """
    place, notes = find_place(profile, layer)
    rows = torch.arange(len(x))
    _, entry = leaf(x)
    with torch.enable_grad(), captured(model, place) as kept:
        with Relevance(WITHOUT_BIAS):
            output = primary(run(model, entry))
        start = slope_of(score, output, rows)
        if output.ndim > 1:
            others = (start == 0) * start.abs().sum(1, keepdim=True)
            start = start - others / output.shape[1]
        (relevance,) = torch.autograd.grad(output, kept[-1], start)
    a, r = place.fold(kept[-1].detach()), place.fold(relevance)
    maps = (r.sum(_space(a), keepdim=True) * a).sum(1)
    return Found(upsample(maps, tuple(x.shape[2:])), notes, coarse(place, x))


@explainer("refine_cam", looks_first=True)
def refine_cam(model: nn.Module, x: Tensor, score: Score, *, layers: int = 3, profile: Wired) -> Found:
    """RefineCAM: the product of Grad-CAM++ maps of several resolutions, each with maximum 1 (arXiv 2605.14641).

    Args:
        model: a network whose features have several resolutions.
        x: ``(B, C, *spatial)``.
        score: the score.
        layers: resolutions to join, the deepest ones.
        profile: the wired profile.
    """
    places = stages("refine_cam", profile, layers)
    product = torch.ones((len(x), *x.shape[2:]), dtype=x.dtype, device=x.device)
    for a, g in at_places(model, x, score, places):
        maps = upsample(_by_position(a, g).clamp(min=0), tuple(x.shape[2:]))
        top = maps.flatten(1).amax(1).clamp(min=torch.finfo(x.dtype).tiny)
        product = product * maps / top.view(-1, *[1] * (x.ndim - 2))
    return Found(product, (stage_note(places),), signed=False)


_UNAIMED = "It does not depend on the target: it shows where the features are strong, whatever the label."


@explainer("fem", looks_first=True)
@torch.no_grad()
def fem(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    sigmas: float = 2.0,
    profile: Wired,
) -> Found:
    """Feature Explanation Method: where each feature is unusually strong, weighted by its mean (IPTA 2020).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the map does not depend on it.
        layer: module to take the features from; None lets the profile choose.
        sigmas: a feature is strong above its mean plus so many of its standard deviations.
        profile: the wired profile.
    """
    place, notes = find_place(profile, layer)
    a = features_of(model, x, place, score)
    mean, spread = a.mean(_space(a), keepdim=True), a.std(_space(a), correction=0, keepdim=True)
    maps = (mean * (a >= mean + sigmas * spread) * (spread > 0)).sum(1).clamp(min=0)
    return Found(upsample(maps, tuple(x.shape[2:])), notes, (_UNAIMED, *coarse(place, x)), signed=False)


@explainer("kpca_cam", looks_first=True)
@torch.no_grad()
def kpca_cam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    kernel: str = "sigmoid",
    profile: Wired,
) -> Found:
    """KPCA-CAM: projection of the centred features on their first kernel principal component (arXiv 2410.00267).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the map does not depend on it.
        layer: module to take the features from; None lets the profile choose.
        kernel: sigmoid or rbf, each with a width of one over the number of features.
        profile: the wired profile.
    """
    if kernel not in ("sigmoid", "rbf"):
        raise TargetError(f"kpca_cam: kernel={kernel!r} was given; sigmoid or rbf is allowed")
    place, notes = find_place(profile, layer)
    a, block = in_blocks(features_of(model, x, place, score).double(), MOST_POSITIONS)
    flat = a.flatten(2)
    centred = (flat - flat.mean(2, keepdim=True)).transpose(1, 2)  # (B, P, C)
    if kernel == "sigmoid":
        gram = (centred @ centred.transpose(1, 2) / a.shape[1] + 1).tanh()
    else:
        gram = (-(torch.cdist(centred, centred) ** 2) / a.shape[1]).exp()
    gram = gram - gram.mean(1, keepdim=True) - gram.mean(2, keepdim=True) + gram.mean((1, 2), keepdim=True)
    values, vectors = torch.linalg.eigh(gram)
    line = vectors[:, :, -1] * values[:, -1:].clamp(min=0).sqrt()
    # a component has no sign of its own: take the one that is high where the features are strong
    strength = flat.abs().sum(1)
    agree = (line * (strength - strength.mean(1, keepdim=True))).sum(1, keepdim=True)
    maps = (line * torch.where(agree < 0, -1.0, 1.0).to(line)).clamp(min=0).view(len(x), *a.shape[2:]).to(x.dtype)
    if block > 1:
        notes += (f"Features were averaged over blocks of {block} positions per axis.",)
    return Found(upsample(maps, tuple(x.shape[2:])), notes, (_UNAIMED, *coarse(place, x)), signed=False)


def block_side(grid: Sequence[int], most: int) -> int:
    """Return the side of the smallest blocks of positions of which at most ``most`` cover the grid."""
    return next(side for side in range(1, max(grid) + 1) if math.prod(-(-length // side) for length in grid) <= most)


def in_blocks(features: Tensor, most: int) -> tuple[Tensor, int]:
    """Average features ``(B, C, *grid)`` over the smallest blocks that leave at most ``most`` positions."""
    side = block_side(features.shape[2:], most)
    if side == 1:
        return features, 1
    pool = F.avg_pool3d if features.ndim == 5 else F.avg_pool2d
    return pool(features, tuple(min(side, n) for n in features.shape[2:]), ceil_mode=True), side


@explainer("deep_feature_factorization", looks_first=True)
def deep_feature_factorization(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    parts: int = 5,
    profile: Wired,
    generator: torch.Generator,
) -> Found:
    """Deep Feature Factorization: the part of the features that contributes most to the score (arXiv 1806.10206).

    The features of each image are factorised into parts, each with a map and a mixture of features, without negative
    numbers. The paper shows all parts of several images; here the one map is that of the part with the largest sum of
    gradient times features, and the notes tell the others' shares.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score; it only chooses the part.
        layer: module to take the features from; None lets the profile choose.
        parts: how many parts the features are split into.
        profile: the wired profile.
        generator: draws where the factorisation starts, the same for every image of the batch.
    """
    place, notes = find_place(profile, layer)
    a, g = features_and_gradients(model, x, score, place)
    flat = a.double().flatten(2)
    flat = flat - flat.amin(2, keepdim=True).clamp(max=0)  # features without an activation may be negative
    mixtures, maps = _factorised(flat, parts, generator)
    gain = torch.einsum("bck,bcp,bkp->bk", mixtures, g.double().flatten(2), maps)
    chosen = gain.argmax(1)
    shown = torch.einsum("bck,bkp->bkp", mixtures, maps)[torch.arange(len(x), device=x.device), chosen]
    told = "; ".join(", ".join(f"{value:.3g}" for value in row) for row in gain.sort(1, descending=True)[0].tolist())
    note = f"The part shown contributes most to the score; gradient times features of the {parts} parts: {told}."
    caution = "The score only chooses which part is shown; a part is a pattern among the features, whatever the label."
    return Found(
        upsample(shown.view(len(x), *a.shape[2:]).to(x.dtype), tuple(x.shape[2:])),
        (*notes, note),
        (caution, *coarse(place, x)),
        signed=False,
    )


def _factorised(a: Tensor, parts: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Factorise ``a`` ``(B, C, P)``, none negative, into mixtures ``(B, C, K)`` and maps ``(B, K, P)``, none negative.

    Multiplicative updates of the squared error.
    """
    batch, channels, positions = a.shape
    size = (a.mean((1, 2), keepdim=True) / parts).sqrt()
    mixtures = size * torch.rand(channels, parts, generator=generator, dtype=a.dtype).to(a)
    maps = size * torch.rand(parts, positions, generator=generator, dtype=a.dtype).to(a)
    tiny = torch.finfo(a.dtype).tiny
    for _ in range(200):
        maps = maps * (mixtures.mT @ a) / (mixtures.mT @ mixtures @ maps).clamp(min=tiny)
        mixtures = mixtures * (a @ maps.mT) / (mixtures @ (maps @ maps.mT)).clamp(min=tiny)
    return mixtures.expand(batch, -1, -1), maps.expand(batch, -1, -1)


@explainer("seg_grad_cam", looks_first=True)
def seg_grad_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Seg-Grad-CAM: Grad-CAM of the summed logits of a region (arXiv 2002.11434).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, _by_mean)


@explainer("seg_grad_cam_pp", looks_first=True)
def seg_grad_cam_pp(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Seg-Grad-CAM++: Grad-CAM++ of the summed logits of a region (10.3390/s21227741).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, _by_position)


@explainer("seg_hires_grad_cam", looks_first=True)
def seg_hires_grad_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Seg-HiRes-Grad CAM: HiResCAM of the summed logits of a region (arXiv 2409.20287).

    Parameters as in :func:`grad_cam`.
    """
    return _cam(model, x, score, profile, layer, lambda a, g: (g * a).sum(1))


@explainer("seg_xres_cam", looks_first=True)
def seg_xres_cam(
    model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, pool: int = 2, profile: Wired
) -> Found:
    """Seg-XRes-CAM: gradients of a region's logits, the largest of each window, times features (CVPR XAI4CV 2023).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        layer: module to take the features from; None lets the profile choose.
        pool: side of the windows in positions; 1 gives Seg-HiRes-Grad CAM, the whole grid a kind of Seg-Grad-CAM.
        profile: the wired profile.
    """

    def join(a: Tensor, g: Tensor) -> Tensor:
        window = tuple(min(pool, n) for n in g.shape[2:])
        pooled = (F.max_pool3d if g.ndim == 5 else F.max_pool2d)(g, window, ceil_mode=True)
        for axis, side in enumerate(window, start=2):
            pooled = pooled.repeat_interleave(side, axis).narrow(axis, 0, g.shape[axis])
        return (pooled * a).sum(1)

    return _cam(model, x, score, profile, layer, join)


@explainer("seg_eigen_cam", looks_first=True)
def seg_eigen_cam(model: nn.Module, x: Tensor, score: Score, *, layer: str | None = None, profile: Wired) -> Found:
    """Seg-Eigen-CAM: magnitude of the gradient times features, centred, on its first direction (10.3390/app15137562).

    The sign is that under which the largest magnitude is positive.

    Parameters as in :func:`grad_cam`.
    """

    def join(a: Tensor, g: Tensor) -> Tensor:
        product = g.abs() * a
        line = _strongest(product - product.mean(_space(a), keepdim=True))
        flip = line.flatten(1).amin(1).abs() > line.flatten(1).amax(1).abs()
        return line * torch.where(flip, -1.0, 1.0).to(line).view(-1, *[1] * (line.ndim - 1))

    found = _cam(model, x, score, profile, layer, join)
    caution = "It takes the gradient's magnitude: the map shows where evidence is strong, not for which side."
    return replace(found, cautions=(caution, *found.cautions))
