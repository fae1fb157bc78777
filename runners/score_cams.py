"""Class activation maps whose features are weighed by asking the model, without gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runners.baselines import baseline as make_baseline
from runners.cams import coarse, features_of
from runners.models import Place, Wired, captured, find_place, run, thinned, upsample
from runners.registry import Found, Progress, Score, explainer


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
        order, a = _most_varied(features_of(model, x, place), channels)
        kept = order.shape[1]
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
    return Found(upsample(maps, size), notes, coarse(place, x) + _left_out(kept, place), signed=False)


def _most_varied(features: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return which features of each image vary most, ``(B, K)``, and these features ``(B, K, *grid)``."""
    order = features.flatten(2).std(2, correction=0).argsort(dim=1, descending=True, stable=True)[:, :channels]
    index = order.view(*order.shape, *[1] * (features.ndim - 2)).expand(-1, -1, *features.shape[2:])
    return order, features.gather(1, index)


def _left_out(kept: int, place: Place) -> tuple[str, ...]:
    if kept == place.channels:
        return ()
    return (f"Only the {kept} features that vary most, of {place.channels}, were tried.",)


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
