"""Faithfulness: does the score follow when the image is taken apart, or put together, in the order of the map?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runners.asking import at_least, which
from runners.baselines import filling
from runners.measures.common import no_probability, undefined
from runners.measures.curves import Order, area, both_ways, by_patch, by_pixel, by_segment, course, even_stops
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


@metric("pixel_flipping")
def pixel_flipping(
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
    """Flip pixels, the most relevant first: the mean of the score on the way (doi 10.1371/journal.pone.0130140).

    :func:`deletion` without its rescaling: in units of the score, so only maps of one image and target compare.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        steps: Equal steps from the image to the baseline; ``steps + 1`` model rows per image.
        baseline: What a flipped pixel becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Orders pixels of equal value.

    Returns:
        ``curve`` ``(B, steps + 1)``, the raw scores, and ``score``, the area under it; lower is better.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, steps=steps, batch_size=batch_size)
    order = by_pixel(values, generator)
    return _mean_score(model, x, score, order, min(steps, values[0].numel()), baseline, batch_size, progress, generator)


@metric("selectivity")
def selectivity(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    patches: int = 64,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Remove patches one by one, the most relevant first, and take the mean of the score on the way (arXiv 1706.07979).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        patches: Wanted number of square (cubic) patches; one model row each and one more.
        baseline: What a removed patch becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Orders patches of equal value.

    Returns:
        ``curve``, the raw scores, and ``score``, the area under it in units of the score; lower is better, and only
        maps of one image and target compare.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, patches=patches, batch_size=batch_size)
    order = by_patch(values, patches, generator)
    return _mean_score(model, x, score, order, int(order.counts[0]), baseline, batch_size, progress, generator)


@metric("region_perturbation")
def region_perturbation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    patches: int = 256,
    steps: int = 40,
    baseline: str = "noise",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Perturb patches one by one, the most relevant first: the mean drop of the score, AOPC (arXiv 1509.06321).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        patches: Wanted number of square (cubic) patches of the grid.
        steps: How many of them are perturbed, one model row each and one more; the paper perturbs 16% of the image.
        baseline: What a patch becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the noise and orders patches of equal value.

    Returns:
        ``curve``, the drops, the first of them 0, and ``score``, their mean in units of the score; higher is better,
        and only maps of one image and target compare.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, patches=patches, steps=steps, batch_size=batch_size)
    order = by_patch(values, patches, generator)
    stops = torch.arange(min(steps, int(order.counts[0])) + 1).expand(len(x), -1)
    curve = course(model, x, score, order, stops, filling(x, baseline, generator), batch_size, progress)
    drop = curve[:, :1] - curve
    note = f"{stops.shape[1] - 1} of {int(order.counts[0])} {order.groups}, baseline {baseline}, in units of the score."
    return MetricResult(drop.mean(1).float(), drop.float(), (note,))


@metric("irof")
def irof(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    segments: int = 64,
    baseline: str = "mean",
    batch_size: int = 16,
    confidence: Score | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Remove superpixels one by one, the most relevant first: the area over the share of confidence (arXiv 2003.08747).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        segments: Wanted number of superpixels (supervoxels), ordered by the mean of their values; one step each.
        baseline: What a superpixel becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        confidence: The probability of what is explained.
        progress: Told the model rows done.
        generator: Orders superpixels of equal value.

    Returns:
        ``curve`` ``(B, segments + 1)``, the confidence as a share of that in the image, and ``score``, the area over
        it: at most 1, higher is better, below 0 where removing raises the confidence. NaN where the target is no
        probability or that of the image is 0.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, segments=segments, batch_size=batch_size)
    if confidence is None:
        return no_probability(x)
    order = by_segment(values, x, segments, generator)
    stops = even_stops(order, segments)
    curve = course(model, x, confidence, order, stops, filling(x, baseline, generator), batch_size, progress)
    share = curve / curve[:, :1]
    found = 1 - area(share, (stops / order.counts[:, None]).to(curve))
    found = found.where(curve[:, 0] > 0, math.nan)
    note = f"{order.groups}, baseline {baseline}."
    return MetricResult(found.float(), share.float(), (note, *undefined(found, "the image has no confidence to lose")))


@metric("abpc")
def abpc(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    steps: int = 16,
    baseline: str = "mean",
    batch_size: int = 16,
    confidence: Score | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Remove the least relevant pixels first, and the most relevant: the area between the curves (arXiv 2505.10515).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        steps: Equal steps from the image to the baseline; ``2 * steps`` model rows per image.
        baseline: What a removed pixel becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        confidence: The probability of what is explained.
        progress: Told the model rows done.
        generator: Orders pixels of equal value.

    Returns:
        ``curve`` ``(B, steps + 1)``, by how much the confidence is higher when the least relevant go first, and
        ``score``, the area under it: -1 to 1, higher is better, 0 for a random order. NaN where the target is no
        probability.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, steps=steps, batch_size=batch_size)
    if confidence is None:
        return no_probability(x)
    order = by_pixel(values, generator)
    fill = filling(x, baseline, generator)
    steps = min(steps, values[0].numel())
    most, least, share = both_ways(model, x, confidence, order, steps, fill, batch_size, progress)
    found, note = area(least - most, share), f"pixels in {steps} steps both ways, baseline {baseline}."
    return MetricResult(found.float(), (least - most).float(), (note,))


@metric("symmetric_relevance_gain")
def symmetric_relevance_gain(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    segments: int = 64,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Remove the least relevant superpixels first, and the most relevant: the gain between them (arXiv 2401.06654).

    The difference hardly depends on the infill, which shifts both curves alike.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        segments: Wanted number of superpixels (supervoxels), ordered by the mean of their values; one step each.
        baseline: What a superpixel becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Orders superpixels of equal value.

    Returns:
        ``curve`` ``(B, segments + 1)``, by how much the score is higher when the least relevant go first, and
        ``score``, the area under it in units of the score: higher is better, 0 for a random order; only maps of one
        image and target compare.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, segments=segments, batch_size=batch_size)
    order = by_segment(values, x, segments, generator)
    fill = filling(x, baseline, generator)
    most, least, share = both_ways(model, x, score, order, segments, fill, batch_size, progress)
    note = f"{order.groups} both ways, baseline {baseline}, in units of the score."
    return MetricResult(area(least - most, share).float(), (least - most).float(), (note,))


@metric("road")
def road(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    steps: int = 10,
    baseline: str = "impute",
    batch_size: int = 16,
    decision: Score | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Impute the most relevant pixels, their place hidden: how long does the decision hold (arXiv 2202.00449)?

    The paper gives the accuracy over a data set at every percentage. Here one image is asked whether the decision that
    is explained still holds, 1 or 0, of a segmentation the share of the region that keeps its label. The mean of that
    over correctly decided images is the paper's accuracy.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        steps: Equal shares of the image; all but the last are removed, with 10 steps 10% to 90%. At least 2.
        baseline: ROAD is impute; black, white, mean, organ, blur, noise, zero and inpaint show what the infill changes.
        batch_size: Changed images per model call.
        decision: Whether the model decides for what is explained.
        progress: Told the model rows done.
        generator: Draws the noise of the imputation and orders pixels of equal value.

    Returns:
        ``curve`` ``(B, steps)``, what is left of the decision from 0% on, and ``score``, the mean after 0%: 0 to 1,
        lower is better. NaN where the target is no decision, or not that of the model.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(2, steps=steps)
    at_least(1, batch_size=batch_size)
    if decision is None:
        return no_probability(x)
    order = by_pixel(values, generator)
    stops = even_stops(order, steps)[:, :-1]
    curve = course(model, x, decision, order, stops, filling(x, baseline, generator), batch_size, progress)
    found = curve[:, 1:].mean(1).where(curve[:, 0] > 0, math.nan)
    note = f"{steps - 1} shares from {1 / steps:.0%} to {1 - 1 / steps:.0%}, baseline {baseline}."
    why = undefined(found, "the model does not decide for what is explained")
    return MetricResult(found.float(), curve.float(), (note, *why))


@metric("pic_aic_sic")
def pic_aic_sic(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    steps: int = 16,
    accuracy: bool = False,
    baseline: str = "blur",
    batch_size: int = 16,
    confidence: Score | None,
    decision: Score | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Bring relevant pixels back into a blurred image: confidence over information, SIC or AIC (arXiv 1906.02825).

    How much information an image holds is the entropy of the differences between its neighbouring grey levels; the
    paper takes the size of a compressed file. Both axes run from the blurred image, 0, to the image, 1, and the curve
    never falls, as in the paper. Not as there, images of low confidence count too.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        steps: Points after the blurred image; the share of pixels that is back grows with the square of the step.
        accuracy: Take the decision (AIC) instead of the confidence (SIC).
        baseline: Where the walk starts — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        confidence: The probability of what is explained.
        decision: Whether the model decides for what is explained.
        progress: Told the model rows done.
        generator: Orders pixels of equal value.

    Returns:
        ``curve`` ``(B, steps + 1)``, the rescaled confidence, and ``score``, the area under it over the information:
        0 to 1, higher is better. NaN where the target is no probability, or where the blurred image holds as much
        information, or gets as much confidence, as the image.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, steps=steps, batch_size=batch_size)
    asked = decision if accuracy else confidence
    if asked is None:
        return no_probability(x)
    order, pixels = by_pixel(values, generator), values[0].numel()
    back = torch.unique((pixels * torch.linspace(0, 1, steps + 1, dtype=torch.float64) ** 2).round().long())
    fill, bits = filling(x, baseline, generator), []
    low, high = (extreme.view(-1, x.shape[1], *[1] * (x.ndim - 2)) for extreme in x.flatten(2).aminmax(dim=2))

    def seen(rows: Tensor, kept: Tensor) -> Tensor:
        image = fill(rows, kept)
        bits.append(_information((image - low[rows]) / (high - low)[rows].clamp_min(TINY)))
        return image

    curve = course(model, x, asked, order, back.expand(len(x), -1), seen, batch_size, progress, insert=True)
    told = torch.cat(bits).view_as(curve)
    told = (told - told[:, :1]) / (told[:, -1:] - told[:, :1])
    belief = (curve - curve[:, :1]) / (curve[:, -1:] - curve[:, :1])
    at, place = told.clamp(0, 1).sort(dim=1, stable=True)
    belief = belief.clamp(0, 1).cummax(1).values
    able = (curve[:, -1] > curve[:, 0]) & (told[:, -1] == 1)
    found = area(belief.gather(1, place), at).where(able, math.nan)
    note = f"{'AIC' if accuracy else 'SIC'}, {len(back) - 1} points after the start, baseline {baseline}."
    why = "the start holds as much information, or gets as much confidence, as the image"
    return MetricResult(found.float(), belief.float(), (note, *undefined(found, why)))


@metric("monotonicity_arya")
def monotonicity_arya(
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
    """Bring pixels back, the least relevant first: the share of steps that do not lower the score (arXiv 1909.03012).

    The paper asks whether all steps are such; that is a score of 1. Where the pixels' effects add up, the share does
    not depend on their order: the metric tells little of such models.

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
        ``curve`` ``(B, steps + 1)``, the raw scores, and ``score``, 0 to 1, higher is better.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, steps=steps, batch_size=batch_size)
    order = by_pixel(values, generator).reversed()
    stops = even_stops(order, min(steps, values[0].numel()))
    fill = filling(x, baseline, generator)
    curve = course(model, x, score, order, stops, fill, batch_size, progress, insert=True)
    note = f"{stops.shape[1] - 1} steps from the least to the most relevant pixels, baseline {baseline}."
    return MetricResult((curve.diff(dim=1) >= 0).double().mean(1).float(), curve.float(), (note,))


LEVELS = 256
"""Grey levels in which the information of an image is counted, as in a file."""
TINY = 1e-12
"""Keeps an even image from dividing by its range."""


def _information(image: Tensor) -> Tensor:
    """Return the entropy of the steps from each pixel to the next along the last axis, in bits, ``(n,)``.

    Args:
        image: Images ``(n, C, *spatial)``, scaled to 0..1.
    """
    steps = (image.clamp(0, 1) * (LEVELS - 1)).round().long().diff(dim=-1).flatten(1) + LEVELS - 1
    kinds = 2 * LEVELS - 1
    apart = torch.arange(len(image), device=image.device)[:, None] * kinds
    counts = torch.bincount((steps + apart).flatten(), minlength=len(image) * kinds).view(-1, kinds).double()
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    return -counts.mul(share.clamp_min(TINY).log2()).sum(1)


def _mean_score(
    model: nn.Module,
    x: Tensor,
    score: Score,
    order: Order,
    steps: int,
    baseline: str,
    batch_size: int,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Return the area under the raw scores while groups go."""
    stops = even_stops(order, steps)
    curve = course(model, x, score, order, stops, filling(x, baseline, generator), batch_size, progress)
    found = area(curve, (stops / order.counts[:, None]).to(curve))
    return MetricResult(
        found.float(), curve.float(), (f"{order.groups} in {steps} steps, baseline {baseline}, in units of the score.",)
    )


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
    order = by_pixel(values, generator)
    steps = min(steps, values[0].numel())
    stops = even_stops(order, steps)
    fill = filling(x, baseline, generator)
    curve = course(model, x, score, order, stops, fill, batch_size, progress, insert=insert)
    first, last = curve[:, :1], curve[:, -1:]
    empty, full = (first, last) if insert else (last, first)
    gain = full - empty
    found = area((curve - empty) / gain.abs(), (stops / order.counts[:, None]).to(curve))
    found = found.where(gain[:, 0] != 0, math.nan)
    notes = [f"baseline {baseline}, {steps} steps, equal values in random order."]
    swings = (curve.amax(1) - curve.amin(1)).tolist()
    for i, (difference, swing) in enumerate(zip(gain[:, 0].tolist(), swings, strict=True)):
        if difference == 0:
            notes.append(f"{which(i, len(x))}not defined: image and baseline have the same score.")
        elif difference < 0:
            notes.append(
                f"{which(i, len(x))}the baseline scores higher than the image (by {-difference:.3g}): compare only "
                "numbers of this image."
            )
        if 0 < abs(difference) < SMALL_GAIN * swing:
            notes.append(
                f"{which(i, len(x))}image and baseline differ by {abs(difference):.3g}, the curve swings by "
                f"{swing:.3g}: the area says little; try another baseline."
            )
    return MetricResult(found.float(), curve.float(), tuple(notes))
