"""What metrics share: how an explanation is repeated, and the notes of what is not defined."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from runners.asking import which
from runners.registry import Score


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


def ranks(values: Tensor) -> Tensor:
    """Return the ranks of the values ``(..., N)`` from 1, float64; equal values share their mean rank."""
    ordered, order = values.sort(-1)
    n = ordered.shape[-1]
    place = torch.arange(n, device=values.device).expand_as(ordered)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    first = place.where(new, 0).cummax(-1).values
    last = place.where(new.roll(-1, -1), n).flip(-1).cummin(-1).values.flip(-1)
    return torch.empty_like(values, dtype=torch.float64).scatter_(-1, order, 1 + (first + last).double() / 2)
