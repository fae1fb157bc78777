"""Cautions as data: checks of a map that cost nothing or little, and the sentence each gives when it is out of bounds.

A check is one number per image. Numbers are kept with the explanation; sentences are written here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BODY_MARGIN = 0.02
"""Share of an image's range within which a pixel counts as the uniform background at its border."""
LEAST_BACKGROUND = 0.1
"""Below this share of uniform background an image is taken to be filled by the body."""


@dataclass(frozen=True)
class Check:
    """What a check measures.

    Attributes:
        limit: the caution is given above this value (below it, if ``low``).
        caution: the sentence; ``{value}`` is the largest (smallest) number over the images.
        note: said when all is well, if anything.
        low: small numbers are the bad ones.
    """

    limit: float
    caution: str
    note: str = ""
    low: bool = False


CHECKS: dict[str, Check] = {
    "completeness_error": Check(
        0.05,
        "Completeness holds only within {value:.2%}: the map misses or doubles part of the score's change "
        "(more steps or samples, or another baseline, may help).",
        "Completeness: the map sums to the change of the score from the baseline within {value:.2%}.",
    ),
    "parts_error": Check(
        0.05,
        "What the map is made of adds up to the score, or to its change, only within {value:.2%}: some is missing.",
        "What the map is made of adds up to the score, or to its change from the baseline, within {value:.2%}.",
    ),
    "variation": Check(
        0.0,
        "The map is the same everywhere: this method tells no place from another here.",
        low=True,
    ),
    "outside_body": Check(
        0.25,
        "{value:.0%} of the attribution lies in the uniform background that touches the image's border.",
    ),
    "random_model": Check(
        0.5,
        "The map hardly changes when the model's weights are replaced by random ones (rank correlation {value:.2f}): "
        "it shows the image more than the model.",
        "With random weights in the model the map is another one (rank correlation {value:.2f}).",
    ),
}
"""Check to its meaning."""


def sentences(checks: Mapping[str, Sequence[float]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Turn the numbers of checks into notes and cautions."""
    notes: list[str] = []
    cautions: list[str] = []
    for name, values in checks.items():
        check = CHECKS[name]
        known = [v for v in values if v == v]
        if not known:
            continue
        worst = min(known) if check.low else max(known)
        bad = worst <= check.limit if check.low else worst > check.limit
        text = check.caution if bad else check.note
        if text:
            (cautions if bad else notes).append(text.format(value=worst))
    return tuple(notes), tuple(cautions)


def completeness_error(values: Tensor, gap: Tensor) -> Tensor:
    """Return how far the sum of each map ``(B, ...)`` is from ``gap`` ``(B,)``, relative to it."""
    total = values.flatten(1).sum(1)
    return (total - gap).abs() / gap.abs().clamp(min=1e-6)


def variation(values: Tensor) -> Tensor:
    """Return the range of each map ``(B, *spatial)``, relative to its largest magnitude."""
    flat = values.flatten(1)
    return (flat.amax(1) - flat.amin(1)) / flat.abs().amax(1).clamp(min=torch.finfo(values.dtype).tiny)


def outside_body(values: Tensor, x: Tensor) -> Tensor:
    """Return the share of each map's magnitude that lies in the uniform background around the body.

    Background is what is connected to the border and as dark (or as bright) as most of the border, in every channel.
    NaN where there is hardly any: then nothing can be said.

    Args:
        values: ``(B, *spatial)``.
        x: ``(B, C, *spatial)``.
    """
    outside = background(x)
    size = values.abs()
    share = (size * outside).flatten(1).sum(1) / size.flatten(1).sum(1).clamp(min=torch.finfo(values.dtype).tiny)
    return torch.where(outside.flatten(1).float().mean(1) < LEAST_BACKGROUND, torch.nan, share)


def background(x: Tensor) -> Tensor:
    """Return the uniform background of each image that touches its border, bool ``(B, *spatial)``."""
    from skimage.measure import label

    found = torch.zeros((len(x), *x.shape[2:]), dtype=torch.bool)
    for i, image in enumerate(x.detach().float().cpu()):
        rim = torch.ones(image.shape[1:], dtype=torch.bool)
        rim[tuple(slice(1, -1) for _ in image.shape[1:])] = False
        border = image[:, rim]
        level = border.median(1).values.view(-1, *[1] * (image.ndim - 1))
        span = (image.flatten(1).amax(1) - image.flatten(1).amin(1)).view_as(level)
        flat = ((image - level).abs() <= BODY_MARGIN * span).all(0)
        parts = torch.from_numpy(label(flat.numpy(), connectivity=1))  # type: ignore[no-untyped-call]
        touching = torch.unique(parts[rim & flat])
        found[i] = torch.isin(parts, touching[touching > 0])
    return found


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's correlation of maps ``(B, *spatial)``, image by image, on at most 64 places per axis."""
    size = [min(side, 64) for side in a.shape[1:]]
    ranks = []
    for maps in (a, b):
        flat = F.interpolate(maps[:, None], size=size, mode="area").flatten(1)
        ranks.append(flat.argsort(dim=1, stable=True).argsort(dim=1, stable=True).double())
    first, second = (r - r.mean(1, keepdim=True) for r in ranks)
    return F.cosine_similarity(first, second, dim=1)
