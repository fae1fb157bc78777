"""Faithfulness of sets: does removing a set of pixels change the score by what the map gives to the set?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runners.asking import ask, at_least, correlation
from runners.baselines import filling
from runners.measures.common import between, one_of, ranks, undefined
from runners.measures.curves import by_pixel, further
from runners.registry import MetricResult, Progress, Score, metric
from taxonomy.errors import TargetError


@metric("faithfulness_correlation")
@torch.no_grad()
def faithfulness_correlation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    samples: int = 100,
    share: float = 0.1,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Remove random sets of pixels: does the score fall by what the map gives to them (arXiv 2005.00631)?

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        samples: Sets, one model row each; at least 3.
        share: Size of each set as a share of the image.
        baseline: What a removed pixel becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the sets, the same for all images.

    Returns:
        ``score``, Pearson's correlation of the sets' relevance with the drop of the score: -1 to 1, higher is better;
        NaN where one of them never changes.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(3, samples=samples)
    between(0, 1, share=share)
    count = max(1, round(share * values[0].numel()))
    sums, drops = _random_sets(model, x, score, values, [count] * samples, baseline, batch_size, progress, generator)
    found = _agreement(values, sums, drops)
    note = f"{samples} random sets of {count} pixels, baseline {baseline}."
    return MetricResult(found.float(), notes=(note, *undefined(found, "the map or the score is the same for all sets")))


@metric("sensitivity_n")
@torch.no_grad()
def sensitivity_n(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    sizes: int = 6,
    samples: int = 24,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Correlate relevance with the drop of the score over random sets of n pixels, for several n (arXiv 1711.06104).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        sizes: Different n, from 1% to 80% of the image in equal factors.
        samples: Sets of each size, one model row each; at least 3.
        baseline: What a removed pixel becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the sets, the same for all images.

    Returns:
        ``curve`` ``(B, sizes)``, Pearson's correlation at every n, and ``score``, their mean: -1 to 1, higher is
        better; NaN where the sets of some size have all the same relevance or drop.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, sizes=sizes)
    at_least(3, samples=samples)
    shares = torch.logspace(math.log10(SMALLEST), math.log10(LARGEST), sizes, dtype=torch.float64)
    counts = (shares * values[0].numel()).round().long().clamp_min(1).tolist()
    each = [count for count in counts for _ in range(samples)]
    sums, drops = _random_sets(model, x, score, values, each, baseline, batch_size, progress, generator)
    apart = (part.reshape(-1, samples) for part in (sums, drops))
    curve = _agreement(values.repeat_interleave(sizes, 0), *apart).view(len(x), sizes)
    found = curve.mean(1)
    note = f"{samples} random sets of each of {', '.join(map(str, counts))} pixels, baseline {baseline}."
    why = undefined(found, "the map or the score is the same for all sets of a size")
    return MetricResult(found.float(), curve.float(), (note, *why))


@metric("faithfulness_estimate")
@torch.no_grad()
def faithfulness_estimate(
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
    """Remove groups of like relevance, each alone: does the score fall by what the map gives to it (arXiv 1806.07538)?

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        steps: Groups of equal number into which the pixels are put in the order of the map, one model row each and one
            more; at least 3.
        baseline: What a removed pixel becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Orders pixels of equal value.

    Returns:
        ``score``, Pearson's correlation of the groups' relevance with the drop of the score: -1 to 1, higher is better;
        NaN where one of them never changes.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(3, steps=steps)
    sums, drops = _each_alone(model, x, score, values, steps, baseline, batch_size, progress, generator)
    found = _agreement(values, sums, drops)
    note = f"{sums.shape[1]} groups of pixels of like relevance, baseline {baseline}."
    return MetricResult(
        found.float(), notes=(note, *undefined(found, "the map or the score is the same for all groups"))
    )


@metric("saco")
@torch.no_grad()
def saco(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    groups: int = 10,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Compare all pairs of pixel groups: the one with more relevance should lower the score more (arXiv 2404.01415).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        groups: Groups of equal number into which the pixels are put in the order of the map, one model row each and one
            more; at least 2.
        baseline: What a removed pixel becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Orders pixels of equal value.

    Returns:
        ``score``, the share of pairs in the right order minus that in the wrong one, each pair weighing by its
        difference in relevance: -1 to 1, higher is better; NaN where map or score are the same for all groups.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(2, groups=groups)
    sums, drops = _each_alone(model, x, score, values, groups, baseline, batch_size, progress, generator)
    first, second = torch.triu_indices(sums.shape[1], sums.shape[1], 1, device=sums.device)
    weight = sums[:, first] - sums[:, second]  # groups go from the most to the least relevant: never below 0
    right = torch.where(drops[:, first] >= drops[:, second], 1.0, -1.0).to(weight)
    total = weight.abs().sum(1)
    found = ((weight * right).sum(1) / total).where(_varies(values).to(total.device) & _varies(drops), math.nan)
    note = f"{sums.shape[1]} groups of pixels of like relevance, baseline {baseline}."
    return MetricResult(
        found.float(), notes=(note, *undefined(found, "the map or the score is the same for all groups"))
    )


@metric("monotonicity_correlation")
@torch.no_grad()
def monotonicity_correlation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    steps: int = 32,
    samples: int = 8,
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Give groups of pixels other values: does the score move more where the map is stronger (arXiv 2007.07584)?

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``; their magnitude counts.
        steps: Groups of equal number into which the pixels are put in the order of the magnitude; at least 3.
        samples: Values that each group gets in turn, each one level between the smallest and the largest value of a
            channel; ``steps * samples + 1`` model rows per image.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the levels, as shares of the channel's range the same for all images, and orders pixels of
            equal value.

    Returns:
        ``score``, Spearman's correlation of the groups' relevance with the mean square change of the score: -1 to 1,
        higher is better; NaN where one of them never changes.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(3, steps=steps)
    at_least(1, samples=samples)
    strength = values.abs()
    label, sums = _groups(strength, steps, generator)
    number = sums.shape[1]
    rows = torch.arange(len(x)).repeat_interleave(number * samples)
    low, high = (extreme.view(-1, x.shape[1], *[1] * (x.ndim - 2)) for extreme in x.flatten(2).aminmax(dim=2))
    level = torch.rand((samples, x.shape[1], *[1] * (x.ndim - 2)), generator=generator).to(x)
    now = torch.empty(0, dtype=torch.long)

    def keep(jobs: Tensor) -> Tensor:
        nonlocal now
        now = (jobs % samples).to(x.device)
        group = (jobs // samples % number).to(x.device)
        return (label[rows[jobs].to(x.device)] != group[:, None]).view(-1, *x.shape[2:])

    def fill(at: Tensor, kept: Tensor) -> Tensor:
        return torch.where(kept[:, None], x[at], torch.lerp(low[at], high[at], level[now]))

    total = len(rows) + len(x)
    whole = _untouched(model, x, score, batch_size, further(progress, 0, total))
    asked = ask(model, x, fill, score, rows, keep, batch_size, further(progress, len(x), total))
    answers = torch.cat([scores for *_, scores in asked]).double().view(len(x), number, samples)
    moved = (answers - whole[:, None, None]).square().mean(2)
    found = _agreement(strength, *(torch.stack([ranks(row) for row in part]) for part in (sums, moved)))
    note = f"{number} groups of pixels of like relevance, each at {samples} levels between the channel's extremes."
    return MetricResult(
        found.float(), notes=(note, *undefined(found, "the map or the score is the same for all groups"))
    )


@metric("infidelity")
@torch.no_grad()
def infidelity(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    perturbation: str = "square",
    slopes: bool = False,
    scaled: bool = True,
    samples: int = 64,
    grain: float = 0.2,
    baseline: str = "mean",
    batch_size: int = 16,
    channels: Tensor | None,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Return the mean square gap between the drop of the score and what the map says of it (arXiv 1901.09392).

    For a perturbation I the map says ``sum(I * slope)``. A map of contributions, which most are, says the same of a
    removed region by its sum there: the slope times what was taken away is the contribution.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        perturbation: square removes a random square (cube) of a tenth to half of every axis; noise replaces the whole
            image by the baseline and Gaussian noise, and needs slopes.
        slopes: The map holds slopes (gradients), not contributions.
        scaled: Scale each map so that the gap is least, by no number below 0: a map in other units is no worse, one of
            the wrong sign is. Without it as captum and Quantus have it; captum's own scaling turns wrong signs round.
        samples: Perturbations, one model row each and one more.
        grain: Standard deviation of the noise as a share of the channel's.
        baseline: What a removed pixel becomes — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        channels: The map of every channel ``(B, C, *spatial)``; without it slopes are spread evenly over channels.
        progress: Told the model rows done.
        generator: Draws the perturbations, the same for all images.

    Returns:
        ``score`` from 0, in squared units of the score, lower is better; only maps of one image and target compare.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, samples=samples)
    between(0, math.inf, grain=grain)
    one_of(("square", "noise"), perturbation=perturbation)
    if perturbation == "noise" and not slopes:
        raise TargetError("perturbation = 'noise' was given; it needs slopes = true, a map of gradients.")
    rows, usual = torch.arange(len(x)).repeat(samples), filling(x, baseline, generator)
    slope = channels if channels is not None else (values[:, None] / x.shape[1]).expand_as(x)
    spread = grain * x.std(tuple(range(2, x.ndim)), correction=0, keepdim=True)
    drawn: dict[int, Tensor] = {}
    last = x

    def keep(jobs: Tensor) -> Tensor:  # of noise: the noise instead of what stays
        samples_now = jobs // len(x)
        for sample in range(int(samples_now[0]), int(samples_now[-1]) + 1):
            if sample not in drawn:
                drawn[sample] = (
                    _square(tuple(x.shape[2:]), generator)
                    if perturbation == "square"
                    else torch.randn(x.shape[1:], generator=generator)
                )
        for sample in [old for old in drawn if old < samples_now[0]]:
            del drawn[sample]
        return torch.stack([drawn[sample] for sample in samples_now.tolist()]).to(x.device)

    def fill(at: Tensor, kept: Tensor) -> Tensor:
        nonlocal last
        if perturbation == "square":
            last = usual(at, kept)
        else:
            last = usual(at, kept.new_zeros(len(at), *x.shape[2:], dtype=torch.bool)) + spread[at] * kept.to(x)
        return last

    total = len(rows) + len(x)
    whole = _untouched(model, x, score, batch_size, further(progress, 0, total))
    said, answers = [], []
    for jobs, kept, scores in ask(model, x, fill, score, rows, keep, batch_size, further(progress, len(x), total)):
        at = rows[jobs].to(x.device)
        told = (x[at] - last) * slope[at] if slopes else values[at] * ~kept
        said.append(told.flatten(1).double().sum(1))
        answers.append(scores.double())
    predicted = torch.cat(said).view(samples, -1).T
    drops = whole[:, None] - torch.cat(answers).view(samples, -1).T
    if scaled:
        size = predicted.square().mean(1)
        best = ((predicted * drops).mean(1) / size).clamp_min(0).where(size > 0, 0.0)
        predicted = predicted * best[:, None]
    found = (predicted - drops).square().mean(1)
    kind = "random squares" if perturbation == "square" else f"whole images with noise of {grain:g} of the spread"
    note = (
        f"{samples} {kind}, baseline {baseline}, the map as {'slopes' if slopes else 'contributions'}"
        f"{', scaled to fit' if scaled else ''}, in squared units of the score."
    )
    return MetricResult(found.float(), notes=(note,))


SMALLEST, LARGEST = 0.01, 0.8
"""Smallest and largest sets of :func:`sensitivity_n`, as shares of the image."""
SIDES = (0.1, 0.5)
"""Smallest and largest side of the squares of :func:`infidelity`, as shares of an axis."""


def _varies(values: Tensor) -> Tensor:
    flat = values.flatten(1)
    return flat.amax(1) > flat.amin(1)


def _agreement(values: Tensor, sums: Tensor, drops: Tensor) -> Tensor:
    """Return the correlation of relevance and drop ``(B, S)``; NaN where they, or the map, are the same everywhere."""
    able = _varies(values).to(sums.device) & _varies(sums) & _varies(drops)
    return correlation(sums, drops).where(able, math.nan)


def _square(spatial: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return what stays of an image without a random square, bool ``spatial``."""
    draw = torch.rand(1 + len(spatial), generator=generator, dtype=torch.float64)
    side = SIDES[0] + (SIDES[1] - SIDES[0]) * float(draw[0])
    gone = torch.ones((), dtype=torch.bool)
    for length, place in zip(spatial, draw[1:].tolist(), strict=True):
        own = max(1, round(side * length))
        start = round(place * (length - own))
        at = torch.arange(length)
        gone = gone[..., None] & (at >= start) & (at < start + own)
    return ~gone


def _untouched(model: nn.Module, x: Tensor, score: Score, batch_size: int, progress: Progress) -> Tensor:
    """Return the scores of the images themselves, float64 ``(B,)``."""
    asked = ask(model, x, lambda at, _: x[at], score, torch.arange(len(x)), lambda jobs: jobs, batch_size, progress)
    return torch.cat([scores for *_, scores in asked]).double()


def _random_sets(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    counts: list[int],
    baseline: str,
    batch_size: int,
    progress: Progress,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return relevance and drop of the score ``(B, S)`` of ``S`` random sets of so many pixels, float64.

    Sets are drawn one by one when they are needed: memory does not grow with their number.
    """
    at_least(1, batch_size=batch_size)
    images, flat = len(x), values.flatten(1).double()
    fill = filling(x, baseline, generator)
    drawn = {0: torch.ones(flat.shape[1], dtype=torch.bool, device=x.device)}  # the images themselves come first
    sums = flat.new_empty(images, len(counts))

    def keep(jobs: Tensor) -> Tensor:
        turns = jobs // images
        for turn in range(int(turns[0]), int(turns[-1]) + 1):
            if turn not in drawn:
                chosen = torch.randperm(flat.shape[1], generator=generator)[: counts[turn - 1]].to(x.device)
                drawn[turn] = torch.ones_like(drawn[max(drawn)]).index_fill_(0, chosen, False)
                sums[:, turn - 1] = flat[:, chosen].sum(1)
        for turn in [old for old in drawn if old < turns[0]]:
            del drawn[turn]
        return torch.stack([drawn[turn] for turn in turns.tolist()]).view(-1, *x.shape[2:])

    rows = torch.arange(images).repeat(len(counts) + 1)
    asked = ask(model, x, fill, score, rows, keep, batch_size, progress)
    answers = torch.cat([scores for *_, scores in asked]).double().view(-1, images).T
    return sums.to(answers.device), answers[:, :1] - answers[:, 1:]


def _groups(values: Tensor, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put pixels into groups of equal number in the order of the map, the largest first.

    Returns:
        The group of every pixel ``(B, P)`` and the sum of the values of every group ``(B, G)``, float64.
    """
    flat = values.flatten(1).double()
    pixels = flat.shape[1]
    number = min(number, pixels)
    label = by_pixel(values, generator).rank * number // pixels
    return label, flat.new_zeros(len(flat), number).scatter_add_(1, label, flat)


def _each_alone(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    number: int,
    baseline: str,
    batch_size: int,
    progress: Progress,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return relevance and drop of the score ``(B, G)`` of groups of pixels, each removed alone, float64."""
    at_least(1, batch_size=batch_size)
    label, sums = _groups(values, number, generator)
    jobs_each = sums.shape[1] + 1
    rows = torch.arange(len(x)).repeat_interleave(jobs_each)

    def keep(jobs: Tensor) -> Tensor:
        group = (jobs % jobs_each - 1).to(x.device)  # -1: the image itself
        return (label[rows[jobs].to(x.device)] != group[:, None]).view(-1, *x.shape[2:])

    asked = ask(model, x, filling(x, baseline, generator), score, rows, keep, batch_size, progress)
    answers = torch.cat([scores for *_, scores in asked]).double().view(len(x), jobs_each)
    return sums.to(answers.device), answers[:, :1] - answers[:, 1:]
