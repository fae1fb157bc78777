"""Complexity: on how few pixels does the map rest?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runners.measures.common import undefined
from runners.registry import MetricResult, Score, metric


@metric("sparseness")
def sparseness(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
) -> MetricResult:
    """Return the Gini index of the absolute values: 0 for an even map, ``1 - 1/n`` for a single one of n pixels.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1), higher is sparser; NaN for an all-zero map.
    """
    ordered = values.flatten(1).double().abs().sort(1).values
    n = ordered.shape[1]
    weights = 2 * torch.arange(1, n + 1, dtype=torch.float64, device=values.device) - n - 1
    total = ordered.sum(1)
    found = ((ordered @ weights) / (n * total)).where(total > 0, math.nan)
    return MetricResult(found.float(), notes=undefined(found, "the map is all zero"))
