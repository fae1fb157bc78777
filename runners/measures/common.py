"""What metrics share: how an explanation is repeated, and the notes of what is not defined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import which
from runners.registry import MetricResult, Score
from taxonomy.errors import TargetError

WINDOW = 7
"""Side of the window of the structural similarity, as in scikit-image; less where the image is thinner."""


class ExplainAgain(Protocol):
    """Repeats the explanation that is measured: same method, target, parameters and seed."""

    def __call__(self, x: Tensor, /, model: nn.Module = ..., *, score: Score = ...) -> Tensor:
        """Return the map ``(B, *spatial)`` of ``x``, of another model or another score if one is given."""


def undefined(found: Tensor, why: str) -> tuple[str, ...]:
    """Return a note for every image whose number ``(B,)`` is NaN."""
    return tuple(f"{which(i, len(found))}not defined: {why}." for i in range(len(found)) if found[i].isnan())


def chance(inside: Tensor) -> tuple[str, ...]:
    """Return the note of what an even map would get from the masks ``(B, N)``."""
    shares = ", ".join(f"{share:.1%}" for share in inside.double().mean(1).tolist())
    return (f"the mask covers {shares} of the image: what an even map would get.",)


def length(rows: Tensor) -> Tensor:
    """Return the L2 norm of every row of ``(N, K)``."""
    found: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return found


def ranks(rows: Tensor) -> Tensor:
    """Return the ranks of the values ``(..., N)`` of every row; equal values share their mean rank."""
    ordered, order = rows.sort(-1)
    places = torch.arange(rows.shape[-1], device=rows.device).expand_as(rows)
    differs = ordered[..., 1:] != ordered[..., :-1]
    edge = torch.ones_like(ordered[..., :1], dtype=torch.bool)
    first = places.where(torch.cat([edge, differs], -1), 0).cummax(-1).values
    last = places.where(torch.cat([differs, edge], -1), rows.shape[-1]).flip(-1).cummin(-1).values.flip(-1)
    means = (first + last).double() / 2 + 1
    return torch.empty_like(means).scatter_(-1, order, means)


def likeness(a: Tensor, b: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the structural similarity (SSIM) of maps ``(N, *spatial)``, pair by pair, in [-1, 1].

    Every map is first divided by its largest magnitude. Where one has negative values, 1 is added to both: means of
    opposite sign would make opposite maps alike. Windows are 7 wide, or as wide as a smaller image allows.

    Args:
        a: Maps.
        b: Maps.
        counted: bool ``(N, *spatial)``, the pixels whose windows count; all by default.

    Returns:
        ``(N,)`` float64; NaN where the first map is all zero, 0 where only the second is.
    """
    axes = (-1, *[1] * (a.ndim - 1))
    first, second = a.double(), b.to(a.device).double()
    sizes = [one.flatten(1).abs().amax(1) for one in (first, second)]
    first, second = (one / size.where(size > 0, 1).view(axes) for one, size in zip((first, second), sizes, strict=True))
    up = (torch.minimum(first.flatten(1).amin(1), second.flatten(1).amin(1)) < 0).double()
    first, second = first + up.view(axes), second + up.view(axes)
    if counted is None:
        found = ssim(first, second, 1 + up)
    else:
        seen = counted.to(a.device)
        found = (structure(first, second, 1 + up) * seen).flatten(1).sum(1) / seen.flatten(1).sum(1)
    return found.where(sizes[1] > 0, 0.0).where(sizes[0] > 0, math.nan)


def ssim(a: Tensor, b: Tensor, spread: Tensor) -> Tensor:
    """Return the mean of :func:`structure` over all whole windows, ``(B,)``, as scikit-image."""
    reach = _window(a) // 2
    inside = [slice(reach, side - reach) for side in a.shape[1:]]
    return structure(a, b, spread)[(slice(None), *inside)].flatten(1).mean(1)


def structure(a: Tensor, b: Tensor, spread: Tensor) -> Tensor:
    """Return the structural similarity around every pixel, ``(B, *spatial)``, with the sample covariance.

    Beyond the border the image is mirrored.

    Args:
        a: float ``(B, *spatial)``, 2D or 3D.
        b: float ``(B, *spatial)``.
        spread: what lies between the lowest and the highest value that can be, ``(B,)``.
    """
    side = _window(a)
    pool = F.avg_pool2d if a.ndim == 3 else F.avg_pool3d
    count = side ** (a.ndim - 1)

    def mean(t: Tensor) -> Tensor:
        for axis, length in enumerate(t.shape[1:], start=1):
            at = torch.arange(length, device=t.device)
            t = t.index_select(axis, torch.cat([at[: side // 2].flip(0), at, at[length - side // 2 :].flip(0)]))
        return pool(t[:, None], side, stride=1)[:, 0]

    mean_a, mean_b = mean(a), mean(b)
    unbiased = count / (count - 1) if count > 1 else 1.0
    var_a, var_b = unbiased * (mean(a * a) - mean_a**2), unbiased * (mean(b * b) - mean_b**2)
    both = unbiased * (mean(a * b) - mean_a * mean_b)
    c1, c2 = ((k * spread.view(-1, *[1] * (a.ndim - 1))) ** 2 for k in (0.01, 0.03))
    return (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def _window(maps: Tensor) -> int:
    """Return the side of the window: an odd number, at most that of the thinnest axis."""
    side: int = min(WINDOW, *maps.shape[1:])
    return side - 1 + side % 2


def between(low: float, high: float, **given: float) -> None:
    """Raise a TargetError unless every named number lies above ``low`` and does not exceed ``high``."""
    for name, number in given.items():
        if not low < number <= high:
            raise TargetError(f"{name} = {number}: it must be above {low} and at most {high}.")


def one_of(allowed: Sequence[str], **given: str) -> None:
    """Raise a TargetError unless every named word is allowed."""
    for name, word in given.items():
        if word not in allowed:
            raise TargetError(f"{name} = {word!r}: {', '.join(allowed)} is allowed.")


def no_probability(x: Tensor) -> MetricResult:
    """Return what is known where a metric of probabilities meets a target that is none: nothing."""
    why = "not defined: the target is no probability (an output of a regression, a likeness, a function)."
    return MetricResult(torch.full((len(x),), math.nan, device=x.device), notes=(why,))
