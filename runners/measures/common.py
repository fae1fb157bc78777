"""What metrics share: how an explanation is repeated, and the notes of what is not defined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
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


def ranks(row: Tensor) -> Tensor:
    """Return the ranks of the values ``(N,)``; equal values share their mean rank."""
    _, inverse, counts = torch.unique(row, return_inverse=True, return_counts=True)
    means: Tensor = counts.cumsum(0) - (counts - 1) / 2
    return means[inverse]


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
