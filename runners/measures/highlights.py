"""Faithfulness of what is highlighted: what does the model make of the relevant part alone?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runners.asking import ask, at_least, correlation, which
from runners.baselines import filling
from runners.measures.common import ExplainAgain, no_probability, undefined
from runners.registry import MetricResult, Progress, Score, metric
from taxonomy.errors import TargetError


@metric("average_drop")
def average_drop(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    baseline: str = "blur",
    batch_size: int = 16,
    confidence: Score | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Return by how many percent the confidence falls when only what is highlighted is shown (arXiv 1710.11063).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``; negative values highlight nothing, the largest shows its pixel whole.
        baseline: What is not highlighted becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Images per model call.
        confidence: The probability of what is explained.
        progress: Told the model rows done.
        generator: Draws the noise of some baselines.

    Returns:
        ``score`` 0 to 100, lower is better: 0 where the confidence does not fall. NaN where the target is no
        probability or that of the image is 0.

    Raises:
        TargetError: a parameter is out of range.
    """
    if confidence is None:
        return no_probability(x)
    before, after, _ = _shown(model, x, confidence, values, baseline, batch_size, progress, generator)
    found = (100 * (before - after).clamp_min(0) / before).where(before > 0, math.nan)
    why = undefined(found, "the image has no confidence to lose")
    return MetricResult(found.float(), notes=(*_told(before, after, baseline), *why))


@metric("average_gain")
def average_gain(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    baseline: str = "blur",
    batch_size: int = 16,
    confidence: Score | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Return the percentage of the missing confidence gained when only the highlighted is shown (arXiv 2301.07002).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``; negative values highlight nothing, the largest shows its pixel whole.
        baseline: What is not highlighted becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Images per model call.
        confidence: The probability of what is explained.
        progress: Told the model rows done.
        generator: Draws the noise of some baselines.

    Returns:
        ``score`` 0 to 100, higher is better: 0 where the confidence does not rise. NaN where the target is no
        probability or that of the image is 1.

    Raises:
        TargetError: a parameter is out of range.
    """
    if confidence is None:
        return no_probability(x)
    before, after, _ = _shown(model, x, confidence, values, baseline, batch_size, progress, generator)
    found = (100 * (after - before).clamp_min(0) / (1 - before)).where(before < 1, math.nan)
    why = undefined(found, "the confidence cannot rise any more")
    return MetricResult(found.float(), notes=(*_told(before, after, baseline), *why))


@metric("average_increase")
def average_increase(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    baseline: str = "blur",
    batch_size: int = 16,
    confidence: Score | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Say whether the confidence rises when only what is highlighted is shown: 100 or 0 (arXiv 1710.11063).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``; negative values highlight nothing, the largest shows its pixel whole.
        baseline: What is not highlighted becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Images per model call.
        confidence: The probability of what is explained.
        progress: Told the model rows done.
        generator: Draws the noise of some baselines.

    Returns:
        ``score`` 0 or 100, whose mean over images is the paper's percentage; higher is better. NaN where the target is
        no probability.

    Raises:
        TargetError: a parameter is out of range.
    """
    if confidence is None:
        return no_probability(x)
    before, after, _ = _shown(model, x, confidence, values, baseline, batch_size, progress, generator)
    return MetricResult(100.0 * (after > before), notes=_told(before, after, baseline))


@metric("adcc")
def adcc(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    baseline: str = "blur",
    batch_size: int = 16,
    confidence: Score | None,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Join three qualities of what is highlighted: kept confidence, coherency and simplicity (arXiv 2104.10252).

    Coherency: the correlation with the map of the highlighted part alone, from -1..1 to 0..1. Simplicity: 1 minus the
    mean of the map, scaled to its largest value.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``; negative values highlight nothing, the largest shows its pixel whole.
        baseline: What is not highlighted becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Images per model call.
        confidence: The probability of what is explained.
        explain_again: Repeats the explanation.
        progress: Told the model rows done.
        generator: Draws the noise of some baselines.

    Returns:
        ``score``, the harmonic mean of the three: 0 to 1, higher is better. NaN where the target is no probability,
        that of the image is 0, or the map has no positive value.

    Raises:
        TargetError: a parameter is out of range.
    """
    if confidence is None:
        return no_probability(x)
    before, after, shown = _shown(model, x, confidence, values, baseline, batch_size, progress, generator)
    heat, again = (_heat(one).flatten(1).double() for one in (values, explain_again(shown).to(values)))
    alike = correlation(heat, again)
    parts = {
        "kept confidence": 1 - ((before - after).clamp_min(0) / before).to(heat),
        "coherency": ((alike + 1) / 2).where(alike.isfinite(), 0.0),
        "simplicity": 1 - heat.mean(1),
    }
    found = 3 / torch.stack([1 / part for part in parts.values()]).sum(0)
    found = found.where((before > 0).to(heat.device) & (heat.amax(1) > 0), math.nan)
    told = [
        which(i, len(x)) + ", ".join(f"{name} {part[i]:.2f}" for name, part in parts.items()) + "."
        for i in range(len(x))
    ]
    why = undefined(found, "the image has no confidence to lose, or the map no positive value")
    return MetricResult(found.float(), notes=(*_told(before, after, baseline), *told, *why))


@metric("sufficiency")
def sufficiency(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    neighbours: int = 5,
    batch_size: int = 16,
    decision: Score | None,
    explain_again: ExplainAgain,
    reference: Tensor | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Say how many of the reference images with the most similar maps get the same decision (arXiv 2202.00734).

    The paper takes all images whose explanation is the same; maps never are, so the nearest by correlation stand for
    them. The number depends on the reference images.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        neighbours: How many of the reference images count; all where there are fewer.
        batch_size: Reference images per model call.
        decision: Whether the model decides for what is explained.
        explain_again: Repeats the explanation, once for each image and reference image.
        reference: Images of the data the model was trained on, ``(R, C, *spatial)``.
        progress: Told the images done.
        generator: Orders reference images whose maps are equally similar.

    Returns:
        ``score``, 0 to 1, higher is better. NaN where the target is no decision.

    Raises:
        TargetError: there are no reference images, or a parameter is out of range.
    """
    at_least(1, neighbours=neighbours, batch_size=batch_size)
    if reference is None or len(reference) == 0:
        raise TargetError("sufficiency compares with images of the model's data: give reference=.")
    if decision is None:
        return no_probability(x)
    number = min(neighbours, len(reference))
    shuffle = torch.randperm(len(reference), generator=generator)
    found, told = [], []
    for i in range(len(x)):

        def own(outputs: object, rows: Tensor, i: int = i) -> Tensor:
            return score(outputs, torch.full_like(rows, i))

        maps = explain_again(reference, score=own).to(values)[shuffle].flatten(1).double()
        alike = correlation(maps, values[i : i + 1].flatten(1).double().expand_as(maps)).nan_to_num(0.0)
        near = alike.argsort(descending=True, stable=True)[:number]
        images = torch.cat([x[i : i + 1], reference[shuffle][near.cpu()].to(x)])
        decided = _asked(model, images, decision, torch.full((len(images),), i), batch_size)
        found.append(1 - (decided[1:] - decided[0]).abs().mean())
        told.append(f"{which(i, len(x))}their maps correlate with this one by {alike[near].mean():.2f} in the mean.")
        progress(i + 1, len(x))
    note = f"the {number} nearest of {len(reference)} reference images."
    return MetricResult(torch.stack(found).float(), notes=(note, *told))


@torch.no_grad()
def _asked(model: nn.Module, images: Tensor, score: Score, rows: Tensor, batch_size: int) -> Tensor:
    parts = zip(torch.split(images, batch_size), torch.split(rows, batch_size), strict=True)
    return torch.cat([score(model(part), row).double() for part, row in parts])


def _heat(values: Tensor) -> Tensor:
    """Return what is highlighted, 0 to 1: negative values are nothing, the largest value is 1."""
    heat = values.clamp_min(0)
    top = heat.flatten(1).amax(1).view(-1, *[1] * (values.ndim - 1))
    return (heat / top).where(top > 0, 0.0)


@torch.no_grad()
def _shown(
    model: nn.Module,
    x: Tensor,
    confidence: Score,
    values: Tensor,
    baseline: str,
    batch_size: int,
    progress: Progress,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the confidence in the images and in what is highlighted of them, ``(B,)``, and the latter images."""
    at_least(1, batch_size=batch_size)
    heat = _heat(values).to(x)
    shown = filling(x, baseline, generator)(torch.arange(len(x), device=x.device), heat)
    both, rows = torch.cat([x, shown]), torch.arange(len(x)).repeat(2)
    asked = ask(
        model, x, lambda _, kept: kept, confidence, rows, lambda jobs: both[jobs.to(x.device)], batch_size, progress
    )
    before, after = torch.cat([scores for *_, scores in asked]).double().view(2, -1)
    return before, after, shown


def _told(before: Tensor, after: Tensor, baseline: str) -> tuple[str, ...]:
    pairs = zip(before.tolist(), after.tolist(), strict=True)
    told = (
        f"{which(i, len(before))}confidence {a:.3g}, of what is highlighted {b:.3g}." for i, (a, b) in enumerate(pairs)
    )
    return (f"what is not highlighted is replaced, baseline {baseline}.", *told)
