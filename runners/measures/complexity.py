"""Complexity: on how few pixels does the map rest?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runners.measures.common import undefined
from runners.registry import MetricResult, Score, metric
from taxonomy.errors import TargetError


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


@metric("complexity_entropy")
def complexity_entropy(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
) -> MetricResult:
    """Return the entropy of the pixels' shares in the map's magnitude (evaluating_aggregating_feature_based_2020).

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.

    Returns:
        ``score`` in nats, lower is simpler: 0 for a single pixel, ``log n`` for an even map of n pixels; NaN for an
        all-zero map.
    """
    size = values.flatten(1).double().abs()
    total = size.sum(1, keepdim=True)
    found = torch.special.entr(size / total).sum(1).where(total[:, 0] > 0, math.nan)
    most = f"in nats; an even map of {size.shape[1]} pixels has {math.log(size.shape[1]):.3g}."
    return MetricResult(found.float(), notes=(most, *undefined(found, "the map is all zero")))


@metric("effective_complexity")
def effective_complexity(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    eps: float = 1e-5,
) -> MetricResult:
    """Count the pixels whose magnitude is above a small share of the largest (quantitative_aspects_model_2020).

    The count is Quantus's, on the map divided by its largest magnitude. The paper asks which features can be left out
    without the score changing, which this stands in for.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        eps: Share of the largest magnitude, 0 to below 1.

    Returns:
        ``score`` from 1 to the number of pixels, lower is simpler; NaN for an all-zero map.

    Raises:
        TargetError: a parameter is out of range.
    """
    if not 0 <= eps < 1:
        raise TargetError(f"eps = {eps}: it must lie from 0 to below 1.")
    size = values.flatten(1).abs()
    most = size.amax(1, keepdim=True)
    found = (size / most > eps).sum(1).float().where(most[:, 0] > 0, math.nan)
    note = f"of {size.shape[1]} pixels, above {eps:g} of the largest magnitude."
    return MetricResult(found, notes=(note, *undefined(found, "the map is all zero")))
