"""What metrics share: how an explanation is repeated, and the notes of what is not defined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from runners.asking import which
from runners.registry import MetricResult, Score
from taxonomy.errors import TargetError


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
    found = []
    width = min(7, *a.shape[1:])
    width -= 1 - width % 2
    for i in range(len(a)):
        one, other = (m[i].double().cpu().numpy() for m in (a, b))
        sizes = abs(one).max(), abs(other).max()
        if min(sizes) == 0:
            found.append(0.0 if sizes[0] else math.nan)
            continue
        up = 1.0 if min(one.min(), other.min()) < 0 else 0.0
        one, other = one / sizes[0] + up, other / sizes[1] + up
        mean, full = structural_similarity(  # type: ignore[no-untyped-call]
            one, other, win_size=width, data_range=1 + up, full=True
        )
        found.append(float(mean if counted is None else full[counted[i].cpu().numpy()].mean()))
    return torch.tensor(found, dtype=torch.float64, device=a.device)


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
