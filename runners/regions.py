"""Regions of an image, and others of the same shape elsewhere: what a region does is told against what those do."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

PLACEMENTS: Final = 30
"""Other places that a region is compared with."""


def placements(inside: Tensor, body: Tensor, generator: torch.Generator) -> tuple[Tensor, tuple[str, ...]]:
    """Move and mirror a region at random, so that it hides about as much of the body.

    Args:
        inside: the region, bool ``(*spatial)``; it leaves at one side and enters at the other.
        body: what is not uniform background, bool ``(*spatial)``.
        generator: draws.

    Returns:
        ``(PLACEMENTS, *spatial)``, and a note if the body did not allow as much.
    """
    wanted = int((inside & body).sum())
    found: list[Tensor] = []
    spare: list[tuple[int, int, Tensor]] = []
    for turn in range(20 * PLACEMENTS):
        moves = [int(torch.randint(side, (), generator=generator)) for side in inside.shape]
        mirrored = [axis for axis in range(inside.ndim) if torch.rand((), generator=generator) < 0.5]
        moved = inside.flip(mirrored).roll(moves, tuple(range(inside.ndim)))
        covered, common = int((moved & body).sum()), int((moved & inside).sum())
        if covered >= 0.9 * wanted and common <= 0.3 * int(inside.sum()):  # one that is nearly the same is no other
            found.append(moved)
        else:
            spare.append((covered - common, turn, moved))
        if len(found) == PLACEMENTS:
            return torch.stack(found), ()
    lacking = PLACEMENTS - len(found)
    found += [moved for *_, moved in sorted(spare, key=lambda one: (-one[0], one[1]))[:lacking]]
    return torch.stack(found), (
        f"{lacking} of the random places hide less of the body, or much of the marked place itself.",
    )
