"""Class activation maps whose features are weighed by asking the model, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from runners.asking import ask
from runners.baselines import baseline as make_baseline
from runners.baselines import replacing
from runners.cams import block_side, coarse, features_and_gradients, features_of, stage_note, stages
from runners.gradients import Draws
from runners.models import Place, Wired, captured, dimmed, find_place, run, thinned, upsample
from runners.registry import Found, Progress, Score, explainer
from runners.targets import primary
from taxonomy.errors import TargetError


@explainer("score_cam")
@torch.no_grad()
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
        baseline: what a mask hides the image with: black, white, mean, organ, blur, noise or zero.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    return _score_weighted(model, x, score, layer, channels, baseline, batch_size, profile, generator, progress)


Alter = Callable[[Tensor, Tensor], Tensor]
"""Masks ``(N, *spatial)`` and the steps ``(N,)`` they are asked at, to the masks that the model sees."""


def _score_weighted(
    model: nn.Module,
    x: Tensor,
    score: Score,
    layer: str | None,
    channels: int,
    baseline: str,
    batch_size: int,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
    steps: int = 1,
    alter: Alter = lambda masks, _: masks,
) -> Found:
    """Weigh the features that vary most by how much of the score each keeps, as a mean over steps of altered masks."""
    place, notes = find_place(profile, layer)
    hidden = make_baseline(x, baseline, generator)
    order, a = _most_varied(features_of(model, x, place), channels)
    base = score(run(model, hidden.clone()), torch.arange(len(x)))
    weights = _kept(model, x, hidden, score, a, batch_size, progress, steps, alter) - base[:, None]
    cautions = coarse(place, x) + _left_out(order.shape[1], place) + _unfit(weights, baseline)
    # softmax as in the papers' algorithms; sums of many logits (regions) are brought to ordinary size first, or one
    # channel would take all
    weights = (weights / weights.std(1, correction=0, keepdim=True).clamp(min=1)).softmax(1)
    maps = (_along(weights, a) * a).sum(1).clamp(min=0)
    return Found(upsample(maps, tuple(x.shape[2:])), notes, cautions, signed=False)


def _kept(
    model: nn.Module,
    x: Tensor,
    hidden: Tensor,
    score: Score,
    a: Tensor,
    batch_size: int,
    progress: Progress,
    steps: int = 1,
    alter: Alter = lambda masks, _: masks,
) -> Tensor:
    """Return the score ``(B, K, ...)`` of each image seen through each of its features ``a`` ``(B, K, *grid)`` as mask.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        hidden: what is seen where a mask is 0, like ``x``.
        score: the score, or anything else that gives one row per output row.
        a: the features.
        batch_size: model rows at a time.
        progress: told after every chunk.
        steps: times that each mask is asked; the mean counts.
        alter: changes the masks from step to step.
    """
    images, kept = a.shape[:2]
    job = torch.arange(images * kept * steps)
    channel, step, rows = job // steps % kept, job % steps, job // (kept * steps)

    def masks(jobs: Tensor) -> Tensor:
        return alter(unit(upsample(a[rows[jobs], channel[jobs]], tuple(x.shape[2:]))), step[jobs])

    found: Tensor | None = None
    for jobs, _, answers in ask(model, x, replacing(x, hidden), score, rows, masks, batch_size, progress):
        found = answers.new_zeros(images * kept, *answers.shape[1:]) if found is None else found
        found.index_add_(0, (jobs // steps).to(answers.device), answers / steps)
    assert found is not None
    return found.view(images, kept, *found.shape[1:])


def unit(maps: Tensor) -> Tensor:
    """Bring each map ``(N, *size)`` to the range 0 to 1; 0 everywhere if it is flat."""
    shape = (-1, *[1] * (maps.ndim - 1))
    low, high = maps.flatten(1).amin(1).view(shape), maps.flatten(1).amax(1).view(shape)
    return (maps - low) / (high - low).clamp(min=1e-12)


def _along(weights: Tensor, a: Tensor) -> Tensor:
    """Bring weights ``(B, K)`` to the shape of features ``(B, K, *grid)``."""
    return weights.view(*weights.shape, *[1] * (a.ndim - 2))


def _most_varied(features: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return which features of each image vary most, ``(B, K)``, and these features ``(B, K, *grid)``."""
    order = features.flatten(2).std(2, correction=0).argsort(dim=1, descending=True, stable=True)[:, :channels]
    index = order.view(*order.shape, *[1] * (features.ndim - 2)).expand(-1, -1, *features.shape[2:])
    return order, features.gather(1, index)


def _left_out(kept: int, place: Place) -> tuple[str, ...]:
    if kept == place.channels:
        return ()
    return (f"Only the {kept} features that vary most, of {place.channels}, were tried.",)


def _unfit(gain: Tensor, baseline: str) -> tuple[str, ...]:
    """Return the caution that a baseline deserves above which hardly any mask scores; ``gain`` is ``(B, K)``."""
    if not ((gain < 0).double().mean(1) > 0.5).any():
        return ()
    return (
        f"Most masks score below the hidden image itself: what hides it ({baseline}) resembles what the score asks "
        "for; try another baseline.",
    )


@explainer("gscorecam")
def gscorecam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    channels: int = 300,
    baseline: str = "zero",
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Score-CAM on the features with the largest mean gradient of the image-text score (ACCV 2022, Chen).

    Args:
        model: an image tower read through texts.
        x: ``(B, C, *spatial)``.
        score: of one prompt.
        layer: module to take the features from; None lets the profile choose.
        channels: at most so many features per image are tried, those with the largest mean gradient.
        baseline: what a mask hides the image with: zero, black, white, mean, organ, blur or noise.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    place, notes = find_place(profile, layer)
    features, gradients = features_and_gradients(model, x, score, place)
    order = gradients.flatten(2).mean(2).argsort(dim=1, descending=True, stable=True)[:, :channels]
    a = features.gather(1, _along(order, features).expand(-1, -1, *features.shape[2:]))
    hidden = make_baseline(x, baseline, generator)
    with torch.no_grad():
        base = score(run(model, hidden.clone()), torch.arange(len(x)))
        gain = _kept(model, x, hidden, score, a, batch_size, progress) - base[:, None]
    cautions = coarse(place, x) + _unfit(gain, baseline)
    weights = (gain / gain.std(1, correction=0, keepdim=True).clamp(min=1)).softmax(1)
    maps = (_along(weights, a) * a).sum(1).clamp(min=0)
    note = f"{order.shape[1]} of {place.channels} features, those with the largest mean gradient."
    return Found(upsample(maps, tuple(x.shape[2:])), (*notes, note), cautions, signed=False)


@explainer("ablation_cam")
@torch.no_grad()
def ablation_cam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    channels: int = 128,
    batch_size: int = 16,
    profile: Wired,
    progress: Progress,
) -> Found:
    """Ablation-CAM: features weighted by how far the score falls when each is set to zero (WACV 2020).

    The paper divides the falls by the score; that only scales the map, and turns it around where the score is
    negative, so it is left out.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        layer: module to take the features from; None lets the profile choose.
        channels: at most so many features per image are tried, those that vary most over the image.
        batch_size: model rows at a time.
        profile: the wired profile.
        progress: told after every chunk.
    """
    place, notes = find_place(profile, layer)
    with captured(model, place) as features:
        whole = score(run(model, x.clone()), torch.arange(len(x)))
    order, a = _most_varied(place.fold(features[-1]), channels)
    kept = order.shape[1]
    weights = torch.zeros(len(x), kept, device=x.device, dtype=x.dtype)
    for first in range(0, len(x) * kept, batch_size):
        index = torch.arange(first, min(first + batch_size, len(x) * kept))
        rows, channel = index // kept, index % kept
        with thinned(model, place, order[rows, channel]):
            weights[rows, channel] = whole[rows] - score(run(model, x[rows]), rows)
        progress(int(index[-1]) + 1, len(x) * kept)
    maps = (weights.view(len(x), kept, *[1] * (x.ndim - 2)) * a).sum(1).clamp(min=0)
    return Found(upsample(maps, tuple(x.shape[2:])), notes, coarse(place, x) + _left_out(kept, place), signed=False)


@explainer("ss_cam")
@torch.no_grad()
def ss_cam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    channels: int = 32,
    samples: int = 10,
    noise: float = 2.0,
    baseline: str = "black",
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """SS-CAM: Score-CAM whose weights are means over noisy copies of each mask (arXiv 2006.14255).

    Every feature meets the same draws of noise, so that noise does not decide between features.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        layer: module to take the features from; None lets the profile choose.
        channels: at most so many features per image are tried, those that vary most over the image.
        samples: noisy copies of each mask.
        noise: standard deviation of the noise on masks from 0 to 1.
        baseline: what a mask hides the image with: black, white, mean, organ, blur, noise or zero.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: draws the noise.
        progress: told after every chunk.
    """
    draws = Draws(x[:, :1], generator)
    return _score_weighted(
        model,
        x,
        score,
        layer,
        channels,
        baseline,
        batch_size,
        profile,
        generator,
        progress,
        samples,
        lambda masks, steps: masks + noise * draws(steps)[:, 0],
    )


@explainer("is_cam")
@torch.no_grad()
def is_cam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    channels: int = 32,
    steps: int = 10,
    baseline: str = "black",
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """IS-CAM: Score-CAM whose weights are means over steps in which each mask grows (arXiv 2010.03023).

    At step n of N a mask is multiplied by (1 + 2 + ... + n) / N.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        layer: module to take the features from; None lets the profile choose.
        channels: at most so many features per image are tried, those that vary most over the image.
        steps: steps of each mask.
        baseline: what a mask hides the image with: black, white, mean, organ, blur, noise or zero.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    growth = torch.arange(1, steps + 1).cumsum(0).to(x) / steps
    found = _score_weighted(
        model,
        x,
        score,
        layer,
        channels,
        baseline,
        batch_size,
        profile,
        generator,
        progress,
        steps,
        lambda masks, step: masks * growth[step].view(-1, *[1] * (masks.ndim - 1)),
    )
    caution = "Masks grow beyond 1, as in the paper: later steps show the model content brighter than in the image."
    return Found(found.values, found.notes, (caution, *found.cautions), signed=False)


@explainer("group_cam", looks_first=True)
def group_cam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    groups: int = 32,
    hidden: float = 0.7,
    baseline: str = "blur",
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Group-CAM: groups of gradient-weighted features as masks over a blurred image, weighted by score (2103.13859).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        layer: module to take the features from; None lets the profile choose.
        groups: neighbouring features are joined into so many groups.
        hidden: share of the positions of a group's mask that is set to 0, the weakest ones.
        baseline: what a mask hides the image with: blur as in the paper, black, white, mean, organ, noise or zero.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    if not 0 <= hidden < 1:
        raise TargetError(f"group_cam: hidden={hidden} was given; it must lie from 0 to below 1")
    place, notes = find_place(profile, layer)
    a, g = features_and_gradients(model, x, score, place)
    weighted = g.flatten(2).mean(2).view(*g.shape[:2], *[1] * (g.ndim - 2)) * a
    joined = torch.stack([part.sum(1) for part in weighted.chunk(groups, 1)], 1).clamp(min=0)
    # the value that the given share of positions does not exceed
    count = max(1, round(hidden * joined[0, 0].numel()))
    floor = joined.flatten(2).kthvalue(count, 2).values
    joined = joined * (joined > _along(floor, joined))
    under, size = make_baseline(x, baseline, generator), tuple(x.shape[2:])
    with torch.no_grad():
        base = score(run(model, under.clone()), torch.arange(len(x)))
        gain = _kept(model, x, under, score, joined, batch_size, progress) - base[:, None]
    maps = torch.zeros((len(x), *size), dtype=x.dtype, device=x.device)
    for group in range(joined.shape[1]):
        maps += gain[:, group].view(-1, *[1] * len(size)) * unit(upsample(joined[:, group], size))
    note = f"{joined.shape[1]} groups of features."
    return Found(maps.clamp(min=0), (*notes, note), coarse(place, x) + _unfit(gain, baseline), signed=False)


@explainer("poly_cam")
@torch.no_grad()
def poly_cam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layers: int = 3,
    channels: int = 32,
    baseline: str = "black",
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Poly-CAM, PCAM+: score-weighted maps from coarse to fine, each sharpening the one before (arXiv 2204.13359).

    A feature's weight is how much the image seen through it scores above the hidden image. A finer map is divided by
    its own blur at the coarser resolution, so that it only redistributes what the coarser map found.

    Args:
        model: a network whose features have several resolutions.
        x: ``(B, C, *spatial)``.
        score: the score.
        layers: resolutions to join, the deepest ones.
        channels: at most so many features per image and resolution are tried, those that vary most over the image.
        baseline: what a mask hides the image with: black, white, mean, organ, blur, noise or zero.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    places = stages("poly_cam", profile, layers)
    hidden = make_baseline(x, baseline, generator)
    base = score(run(model, hidden.clone()), torch.arange(len(x)))
    joint: Tensor | None = None
    cautions: tuple[str, ...] = ()
    for place in reversed(places):
        order, a = _most_varied(features_of(model, x, place), channels)
        weights = _kept(model, x, hidden, score, a, batch_size, progress) - base[:, None]
        maps = (_along(weights, a) * a).sum(1).clamp(min=0)
        if joint is not None:
            grid = tuple(joint.shape[1:])
            wide = upsample(upsample(maps, grid), place.grid).clamp(min=1e-12)
            maps = maps / wide * upsample(joint, place.grid)
        joint = maps
        cautions += _left_out(order.shape[1], place) + _unfit(weights, baseline)
    assert joint is not None
    told = tuple(dict.fromkeys(cautions))
    return Found(upsample(joint, tuple(x.shape[2:])), (stage_note(places),), told, signed=False)


@explainer("sidu")
@torch.no_grad()
def sidu(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001
    *,
    layer: str | None = None,
    channels: int = 128,
    threshold: float = 0.15,
    width: float = 0.25,
    baseline: str = "black",
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """SIDU: features as masks, weighted by how alike all predictions stay and how unique they are (arXiv 2101.10710).

    Args:
        model: a classifier.
        x: ``(B, C, *spatial)``.
        score: not used; all probabilities are compared, whatever the label.
        layer: module to take the features from; None lets the profile choose.
        channels: at most so many features per image are tried, those that vary most over the image.
        threshold: a mask is 1 where its feature, brought to the range 0 to 1, lies above.
        width: distance between probabilities at which they count as clearly different.
        baseline: what a mask hides the image with: black, white, mean, organ, blur, noise or zero.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    if not width > 0:
        raise TargetError(f"sidu: width={width} was given; it must be above 0")
    place, notes = find_place(profile, layer)
    with captured(model, place) as features:
        whole = primary(run(model, x.clone()))
    ready = ((whole >= 0) & (whole <= 1)).flatten(1).all(1)

    def probabilities(outputs: Any, rows: Tensor) -> Tensor:
        output = primary(outputs).flatten(1)
        two = torch.cat([output, torch.zeros_like(output)], 1) if output.shape[1] == 1 else output
        own = torch.cat([output, 1 - output], 1) if output.shape[1] == 1 else output
        return torch.where(ready[rows.to(ready.device), None], own, two.softmax(1))

    order, a = _most_varied(place.fold(features[-1]), channels)
    masks = (unit(a.flatten(0, 1)).view_as(a) > threshold).to(x.dtype)
    seen = _kept(model, x, make_baseline(x, baseline, generator), probabilities, masks, batch_size, progress)
    change = torch.linalg.vector_norm(seen - probabilities(whole, torch.arange(len(x)))[:, None], dim=2)
    alike = torch.exp(-(change**2) / (2 * width**2))
    unique = torch.cdist(seen, seen).sum(2)
    maps = (_along(alike * unique, a) * masks).mean(1)
    caution = "It does not depend on the target: it asks which features keep all the probabilities as they are."
    return Found(
        upsample(maps, tuple(x.shape[2:])),
        notes,
        (caution, *coarse(place, x), *_left_out(order.shape[1], place)),
        signed=False,
    )


@explainer("recipro_cam")
@torch.no_grad()
def recipro_cam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    positions: int = 256,
    batch_size: int = 16,
    profile: Wired,
    progress: Progress,
) -> Found:
    """Recipro-CAM: the score with the features of a single position kept, position by position (arXiv 2209.14074).

    Values are differences from the score with no position kept, the variant without a Gaussian around the position.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        layer: module to take the features from; None lets the profile choose.
        positions: at most so many masks per image; where features have more positions, blocks of them are kept.
        batch_size: model rows at a time.
        profile: the wired profile.
        progress: told after every chunk.
    """
    place, notes = find_place(profile, layer)
    side = block_side(place.grid, positions)
    blocks = tuple(-(-length // side) for length in place.grid)
    label = torch.arange(torch.Size(blocks).numel()).view(1, 1, *blocks)
    for axis, length in enumerate(place.grid, start=2):
        label = label.repeat_interleave(side, axis).narrow(axis, 0, length)
    block = label[0, 0].to(x.device)
    count = torch.Size(blocks).numel() + 1  # the last mask keeps nothing
    scores = x.new_zeros(count * len(x))
    for jobs in torch.split(torch.arange(count * len(x)), batch_size):
        rows, kept = jobs % len(x), (jobs // len(x)).to(x.device)
        with dimmed(model, place, (block == kept.view(-1, *[1] * block.ndim)).to(x.dtype)):
            scores[jobs.to(x.device)] = score(run(model, x[rows]), rows)
        progress(int(jobs[-1]) + 1, count * len(x))
    table = scores.view(count, len(x))
    maps = (table[:-1] - table[-1]).T.reshape(len(x), *blocks)
    if side > 1:
        notes += (f"Blocks of {side} positions per axis were kept together.",)
    return Found(upsample(maps, tuple(x.shape[2:])), notes, coarse(place, x))


@explainer("opti_cam")
def opti_cam(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    steps: int = 100,
    rate: float = 0.1,
    baseline: str = "black",
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Opti-CAM: the mixture of features that, as a mask, lets the image score highest (arXiv 2301.07002).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        layer: module to take the features from; None lets the profile choose.
        steps: steps of the optimiser (Adam).
        rate: its learning rate.
        baseline: what the mask hides the image with: black, white, mean, organ, blur, noise or zero.
        batch_size: images at a time.
        profile: the wired profile.
        generator: for the noise baseline.
        progress: told after every step.
    """
    place, notes = find_place(profile, layer)
    hidden, size = make_baseline(x, baseline, generator), tuple(x.shape[2:])
    found = []
    for rows in torch.split(torch.arange(len(x)), batch_size):
        a = features_of(model, x[rows], place).clamp(min=0)
        raw = torch.full_like(a[:, :, :1].flatten(2)[:, :, 0], 0.5).requires_grad_()
        adam = torch.optim.Adam([raw], lr=rate)
        for step in range(steps):
            with torch.enable_grad():
                mask = _mixed(raw, a, size)
                seen = torch.lerp(hidden[rows], x[rows], mask[:, None])
                (raw.grad,) = torch.autograd.grad(-score(run(model, seen), rows).sum(), raw)
            adam.step()
            progress(int(rows[0]) * steps + (step + 1) * len(rows), len(x) * steps)
        found.append(_mixed(raw.detach(), a, size))
    caution = (
        "The mask shows what is enough for a high score; other places may be as good, and where the image looks like "
        "what hides it (its background) the mask means nothing."
    )
    return Found(torch.cat(found), notes, (caution, *coarse(place, x)), signed=False)


def _mixed(raw: Tensor, a: Tensor, size: tuple[int, ...]) -> Tensor:
    """Mix features ``(B, K, *grid)`` with the softmax of weights ``(B, K)`` to a mask from 0 to 1."""
    return unit(upsample((_along(raw.softmax(1), a) * a).sum(1), size))
