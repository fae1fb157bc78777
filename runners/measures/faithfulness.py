"""Faithfulness: does the score of the model follow what the map calls important?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runners.asking import ask, at_least, which
from runners.baselines import filling
from runners.registry import MetricResult, Progress, Score, metric

SMALL_GAIN = 0.25
"""Below this share of the curve's swing the difference of image and baseline is too small a unit for its area."""


@metric("deletion")
def deletion(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    steps: int = 32,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Remove pixels, the most supportive first, and take the area under the score: lower is better.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        steps: Equal steps from the image to the baseline; ``steps + 1`` model rows per image.
        baseline: What a removed pixel becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Orders pixels of equal value.

    Returns:
        ``curve`` ``(B, steps + 1)``, the raw scores, and ``score``, its area rescaled as in :func:`_area`.

    Raises:
        TargetError: a parameter is out of range.
    """
    return _area(model, x, score, values, steps, baseline, batch_size, progress, generator, insert=False)


@metric("insertion")
def insertion(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    steps: int = 32,
    baseline: str = "blur",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Start from the baseline, bring pixels back, the most supportive first: a larger area is better.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        steps: Equal steps from the baseline to the image; ``steps + 1`` model rows per image.
        baseline: Where the walk starts — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Orders pixels of equal value.

    Returns:
        ``curve`` ``(B, steps + 1)``, the raw scores, and ``score``, its area rescaled as in :func:`_area`.

    Raises:
        TargetError: a parameter is out of range.
    """
    return _area(model, x, score, values, steps, baseline, batch_size, progress, generator, insert=True)


@torch.no_grad()
def _area(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    steps: int,
    baseline: str,
    batch_size: int,
    progress: Progress,
    generator: torch.Generator,
    *,
    insert: bool,
) -> MetricResult:
    """Walk between image and baseline in the order of the map.

    Pixels go in the order of their signed value, largest first. Equal values go in a random order that is the same for
    all images: neither the top of the image nor the left is favoured.

    The paper takes the area under a class probability. Scores here may be logits or summed logits of a region, so the
    curve is rescaled: ``(curve - score(baseline)) / |score(image) - score(baseline)|``. Where the image scores higher
    than its baseline the curve then runs between 1 and 0 and the area is that of the paper up to the scale. Where it
    scores lower, the curve runs between -1 and 0: the direction of the metric holds, but only numbers of the same image
    can be compared.
    """
    at_least(1, steps=steps, batch_size=batch_size)
    images, spatial = len(x), x.shape[2:]
    pixels = math.prod(spatial)
    steps = min(steps, pixels)
    shuffle = torch.randperm(pixels, generator=generator).to(values.device)
    order = shuffle[torch.argsort(values.flatten(1)[:, shuffle], dim=1, descending=True, stable=True)]
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(pixels, device=order.device).expand_as(order))
    gone = torch.linspace(0, pixels, steps + 1, dtype=torch.float64).round().long()
    rows = torch.arange(images).repeat_interleave(steps + 1)
    rank = rank.to(x.device)

    def keep(jobs: Tensor) -> Tensor:
        early = rank[rows[jobs].to(x.device)] < gone[jobs % (steps + 1)].to(x.device)[:, None]
        return (early if insert else ~early).view(-1, *spatial)

    asked = ask(model, x, filling(x, baseline, generator), score, rows, keep, batch_size, progress)
    curve = torch.cat([answers for *_, answers in asked]).view(images, steps + 1).double()
    first, last = curve[:, :1], curve[:, -1:]
    empty, full = (first, last) if insert else (last, first)
    gain = full - empty
    area = torch.trapezoid((curve - empty) / gain.abs(), gone.to(curve) / pixels, dim=1)
    area = area.where(gain[:, 0] != 0, math.nan)
    notes = [f"baseline {baseline}, {steps} steps, equal values in random order."]
    swings = (curve.amax(1) - curve.amin(1)).tolist()
    for i, (difference, swing) in enumerate(zip(gain[:, 0].tolist(), swings, strict=True)):
        if difference == 0:
            notes.append(f"{which(i, images)}not defined: image and baseline have the same score.")
        elif difference < 0:
            notes.append(
                f"{which(i, images)}the baseline scores higher than the image (by {-difference:.3g}): compare only "
                "numbers of this image."
            )
        if 0 < abs(difference) < SMALL_GAIN * swing:
            notes.append(
                f"{which(i, images)}image and baseline differ by {abs(difference):.3g}, the curve swings by "
                f"{swing:.3g}: the area says little; try another baseline."
            )
    return MetricResult(area.float(), curve.float(), tuple(notes))
