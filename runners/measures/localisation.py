"""Localisation: does the map lie on what it should mark?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from runners.asking import at_least
from runners.measures.common import chance, undefined
from runners.registry import MetricResult, Score, metric


@metric("pointing_game")
def pointing_game(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    tolerance: int = 0,
    mask: Tensor,
) -> MetricResult:
    """Say whether the largest value lies in the mask: 1 if it does, 0 if not.

    Where several pixels share the largest value (superpixel maps) the score is the share of them that hit, so a
    constant map gets what chance would get.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        tolerance: How many pixels (Euclidean) off the mask still count as a hit.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1], higher is better.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(0, tolerance=tolerance)
    inside = torch.stack([_near(area, tolerance) for area in mask]) if tolerance else mask
    inside, flat = inside.flatten(1), values.flatten(1)
    largest = flat == flat.amax(1, keepdim=True)
    return MetricResult((largest & inside).sum(1) / largest.sum(1), notes=chance(inside))


@metric("relevance_mass_accuracy")
def relevance_mass_accuracy(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    mask: Tensor,
) -> MetricResult:
    """Return the share of the positive values that lies in the mask: higher is better.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1]; NaN for a map without positive values.
    """
    inside, mass = mask.flatten(1), values.flatten(1).double().clamp_min(0)
    total = mass.sum(1)
    found = ((mass * inside).sum(1) / total).where(total > 0, math.nan)
    return MetricResult(found.float(), notes=(*chance(inside), *undefined(found, "the map has no positive value")))


def _near(area: Tensor, tolerance: int) -> Tensor:
    """Return the pixels that are at most ``tolerance`` from a marked one."""
    distance = distance_transform_edt(~area.cpu().numpy())
    return torch.from_numpy(distance <= tolerance).to(area.device)
