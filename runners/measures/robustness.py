"""Robustness: does the map stay when hardly anything changes?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runners.asking import at_least
from runners.measures.common import ExplainAgain, undefined
from runners.registry import MetricResult, Progress, Score, metric
from taxonomy.errors import TargetError


@metric("max_sensitivity")
def max_sensitivity(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    radius: float = 0.02,
    samples: int = 10,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Explain slightly noisy copies; the largest relative change of the map (L2 norm): lower is better.

    Args:
        model: Not used: the explanation is repeated.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        radius: Half-width of the uniform noise as a share of each channel's range (largest minus smallest value).
        samples: Number of noisy copies, one explanation each.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the noise; all images get the same draw, scaled by their own range.

    Returns:
        ``score`` from 0; NaN for an all-zero map.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, samples=samples)
    if not radius > 0:
        raise TargetError(f"radius = {radius}: it must be above 0.")
    axes = tuple(range(2, x.ndim))
    reach = radius * (x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True))
    flat = values.flatten(1).double()
    worst = torch.zeros(len(x), dtype=torch.float64, device=values.device)
    for sample in range(samples):
        noise = torch.rand(x.shape[1:], generator=generator) * 2 - 1
        again = explain_again(x + reach * noise.to(x)).to(flat).flatten(1)
        worst = worst.maximum(torch.linalg.vector_norm(again - flat, dim=1))
        progress(sample + 1, samples)
    size = torch.linalg.vector_norm(flat, dim=1)
    found = (worst / size).where(size > 0, math.nan)
    note = f"the largest of {samples} changes under uniform noise of ±{radius:g} of each channel's range."
    return MetricResult(found.float(), notes=(note, *undefined(found, "the map is all zero")))
