"""Explainers that show and hide whole regions of the image: superpixels, supervoxels, structures, boxes."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import (
    GROUPS,
    Part,
    ask,
    at_least,
    jackknife_error,
    looks,
    repeatable,
    settle,
    settled_note,
    unmoved,
    which,
)
from runners.baselines import Fill, filling
from runners.checks import completeness_error
from runners.models import run
from runners.registry import Found, Progress, Score, explainer
from runners.superpixels import superpixels
from runners.targets import marked, primary
from taxonomy.errors import TargetError

POOR_FIT = 0.5
"""Below this share of explained variance a linear surrogate gets a caution."""


@explainer("lime")
@torch.no_grad()
def lime(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 500,
    segments: int = 50,
    baseline: str = "mean",
    kernel_width: float = 0.25,
    ridge: float = 1.0,
    tolerance: float = 0.0,
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Switch regions on and off at random and fit a linear model to the scores near the image.

    Regions are superpixels or supervoxels. A sample ``z`` with a share ``s`` of its regions on has the cosine distance
    ``d = 1 - sqrt(s)`` from the image and the weight ``sqrt(exp(-d² / kernel_width²))``. The coefficients minimise
    the weighted squared error plus ``ridge`` times their squares (not the intercept's), in closed form.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        samples: Model rows per image, the image itself included; at least 2.
        segments: Wanted number of regions.
        baseline: What replaces a region — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        kernel_width: How fast the weight falls with the distance.
        ridge: Strength of the penalty.
        tolerance: Stop when the map's estimated error is below this share of its largest value; 0 asks all.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the samples.

    Returns:
        Signed map ``(B, *spatial)``: each pixel carries the coefficient of its region, in units of the score. A
        caution gives the weighted R² of the linear model where it is poor.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(2, samples=samples)
    at_least(1, batch_size=batch_size)
    at_least(0, tolerance=tolerance)
    if not (kernel_width > 0 and ridge > 0):
        raise TargetError(f"kernel_width = {kernel_width} and ridge = {ridge}: both must be above 0.")
    regions, counts = _segmented(x, segments)
    draw = repeatable(generator)
    chosen = [torch.rand((samples, count), generator=draw()) < 0.5 for count in counts]
    for on in chosen:
        on[0] = True

    def fit(on: Tensor, answers: Tensor) -> tuple[Tensor, float]:
        z = on.double()
        weights = torch.exp(-((1 - z.mean(1).sqrt()) ** 2) / kernel_width**2).sqrt()
        share = weights / weights.sum()
        gain = answers - answers[0]
        z, gain = z - share @ z, gain - share @ gain
        weighted = z.T * weights
        penalty = ridge * len(z) / samples  # fewer samples must not shrink the map more
        solved = torch.linalg.solve(weighted @ z + penalty * torch.eye(z.shape[1], dtype=z.dtype), weighted @ gain)
        return solved, _explained(weights, gain, z @ solved)

    fits: dict[int, tuple[Tensor, float]] = {}

    def look(i: int, answers: Tensor) -> float:
        on = chosen[i][: len(answers)]
        fits[i] = fit(on, answers)
        if tolerance == 0:
            return math.nan
        number = torch.arange(len(on))
        others = [(number % GROUPS != group) | (number == 0) for group in range(GROUPS)]  # the image itself stays
        return jackknife_error([fit(on[own], answers[own])[0] for own in others], fits[i][0])

    stops = [looks(samples, tolerance, 4 * count + 2) for count in counts]
    fill = filling(x, baseline, generator)
    scores, errors = _coalition_scores(
        model, x, fill, score, regions, chosen, batch_size, progress, stops=stops, look=look, tolerance=tolerance
    )
    coefficients, explained = zip(*(fits[i] for i in range(len(x))), strict=True)
    notes = [f"{samples} samples of {_numbers(counts)} regions, baseline {baseline}; {_fit_note(explained)}."]
    if tolerance > 0:
        notes.append(settled_note([len(answers) for answers in scores], stops, errors, "samples"))
    cautions = _few(scores, counts) + _poor(
        explained, "the linear surrogate does not describe the model near this image"
    )
    return Found(_painted(coefficients, regions), tuple(notes), unmoved(scores) + cautions)


@explainer("kernel_shap")
@torch.no_grad()
def kernel_shap(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 500,
    segments: int = 50,
    baseline: str = "mean",
    tolerance: float = 0.0,
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Estimate the Shapley value of every region from a weighted regression over coalitions of regions.

    Regions are superpixels or supervoxels; a region outside the coalition shows the baseline. If all ``2^K`` coalitions
    fit into ``samples``, all are asked and the values are exact. Otherwise coalition sizes are taken from the outside
    in (one region on or off, two, ...), completely as long as the budget allows, each with its Shapley-kernel weight;
    what is left of the kernel's mass is sampled in pairs of a coalition and its complement. The regression obeys
    ``sum of values = score(image) - score(baseline)`` exactly, in closed form.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        samples: Model rows per image at most, image and baseline included; at least 4.
        segments: Wanted number of regions ``K``.
        baseline: What a region outside shows — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        tolerance: Stop when the map's estimated error is below this share of its largest value; 0 asks all.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the coalitions.

    Returns:
        Signed map ``(B, *spatial)``: each pixel carries the value of its whole region, in units of the score. A caution
        gives the weighted R² of the additive model where regions interact so much that it is poor.

    Raises:
        TargetError: a parameter is out of range.
    """
    regions, _ = _segmented(x, segments)
    return _kernel_shap(model, x, score, regions, samples, baseline, tolerance, batch_size, progress, generator)


def _kernel_shap(
    model: nn.Module,
    x: Tensor,
    score: Score,
    regions: Tensor,
    samples: int,
    baseline: str,
    tolerance: float,
    batch_size: int,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    at_least(4, samples=samples)
    at_least(1, batch_size=batch_size)
    at_least(0, tolerance=tolerance)
    counts = _counted(regions)
    draw = repeatable(generator)
    inner = [_shapley_coalitions(count, samples - 2, draw()) for count in counts]
    chosen = [torch.cat([_empty_and_full(count), on]) for count, (on, *_) in zip(counts, inner, strict=True)]
    fits: dict[int, tuple[Tensor, float]] = {}

    def fit(i: int, answers: Tensor, left_out: int = -1) -> tuple[Tensor, float]:
        on, weights, sure = inner[i]
        number = len(answers) - 2
        drawn = torch.arange(sure, number)
        drawn = drawn[(drawn - sure) // 2 % GROUPS != left_out]  # a coalition and its complement stay together
        index = torch.cat([torch.arange(min(sure, number)), drawn])
        on, weights = on[index], weights[index].clone()
        if len(weights) > sure:  # what was drawn stands for the whole rest of the kernel
            weights[sure:] *= (1 - weights[:sure].sum()) / weights[sure:].sum()
        gain, (empty, full) = answers[2:][index] - answers[0], answers[:2]
        values = _constrained(on.double(), weights, gain, full - empty)
        level = (weights @ gain / weights.sum()) if len(gain) else full
        return values, _explained(weights, gain - level, on.double() @ values - level)

    def look(i: int, answers: Tensor) -> float:
        fits[i] = fit(i, answers)
        if len(answers) - 2 <= inner[i][2] + 2 * GROUPS:
            return 0.0 if len(answers) == 2 ** counts[i] else math.nan
        if tolerance == 0:
            return math.nan
        return jackknife_error([fit(i, answers, group)[0] for group in range(GROUPS)], fits[i][0])

    stops = [
        looks(len(on), tolerance, 2 + sure + 2 * count, 2)
        for on, count, (*_, sure) in zip(chosen, counts, inner, strict=True)
    ]
    fill = filling(x, baseline, generator)
    scores, errors = _coalition_scores(
        model, x, fill, score, regions, chosen, batch_size, progress, stops=stops, look=look, tolerance=tolerance
    )
    found, explained = zip(*(fits[i] for i in range(len(x))), strict=True)
    exact = all(len(on) == 2 ** on.shape[1] for on in chosen)
    asked = "all" if exact else _numbers([len(on) for on in chosen])
    notes = [f"{asked} coalitions of {_numbers(counts)} regions, baseline {baseline}; {_fit_note(explained)}."]
    if tolerance > 0:
        notes.append(settled_note([len(answers) for answers in scores], stops, errors, "coalitions"))
    cautions = _few(scores, counts) + _poor(
        explained, "regions interact, and no sum of single values describes the score"
    )
    return Found(_painted(found, regions), tuple(notes), unmoved(scores) + cautions)


@explainer("kernel_shap_supervoxels")
@torch.no_grad()
def kernel_shap_supervoxels(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 500,
    segments: int = 50,
    baseline: str = "mean",
    tolerance: float = 0.0,
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """KernelSHAP whose players are regular supervoxels of a face-centred cubic lattice (arXiv 2604.11775).

    Every voxel belongs to the nearest point of the lattice, so that all regions are alike (cut where they cross the
    border), wherever the anatomy runs. The paper asks only about the surroundings of a region and reuses patches that
    did not change; here the whole volume is asked each time.

    Parameters as in :func:`kernel_shap`.
    """
    at_least(1, segments=segments)
    regions = _lattice(tuple(x.shape[2:]), segments).to(x.device).expand(len(x), *x.shape[2:])
    return _kernel_shap(model, x, score, regions, samples, baseline, tolerance, batch_size, progress, generator)


def _lattice(spatial: tuple[int, ...], segments: int) -> Tensor:
    """Return labels ``spatial`` of the cells of a face-centred cubic lattice, about so many in number."""
    half = (4 * math.prod(spatial) / segments) ** (1 / 3) / 2  # four points in a cube of twice this side
    labels = torch.zeros(spatial, dtype=torch.int64)
    for _ in range(4):  # at the border lie many cells of which only a part is inside
        labels = _nearest([(torch.arange(length, dtype=torch.float64) + 0.5) / half for length in spatial])
        half *= ((int(labels.max()) + 1) / segments) ** (1 / 3)
    return labels


def _nearest(axes: Sequence[Tensor]) -> Tensor:
    """Return the number of the nearest lattice point for every point of a grid: integers with an even sum."""
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    near = at.round()
    # where the sum is odd, the coordinate that is furthest off goes to its other neighbour
    off = at - near
    worst = F.one_hot(off.abs().argmax(-1), at.shape[-1]).bool()
    other = near + torch.where(off >= 0, 1.0, -1.0)
    near = torch.where(worst & (near.sum(-1, keepdim=True) % 2 == 1), other, near).long()
    code = torch.zeros_like(near[..., 0])
    for coordinate in near.unbind(-1):
        code = code * (int(near.max()) + 2) + coordinate + 1
    labels: Tensor = torch.unique(code, return_inverse=True)[1]
    return labels


@explainer("kernel_shap_organ_units")
@torch.no_grad()
def kernel_shap_organ_units(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 500,
    baseline: str = "mean",
    tolerance: float = 0.0,
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """KernelSHAP whose players are the structures that the model itself segments (arXiv 2604.11775).

    Every label that the model gives is one player, and what it leaves unlabelled is one more. The paper takes organs
    from the segmentation of the whole body; a model with few labels has few players.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        samples: Model rows per image at most, image and baseline included; at least 4.
        baseline: What a structure outside shows — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        tolerance: Stop when the map's estimated error is below this share of its largest value; 0 asks all.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the coalitions.

    Returns:
        Signed map ``(B, *spatial)``: each pixel carries the value of its whole structure, in units of the score.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, batch_size=batch_size)
    parts = [primary(run(model, part.clone())) for part in torch.split(x, batch_size)]
    labels = F.interpolate(marked(torch.cat(parts))[:, None].float(), size=tuple(x.shape[2:]), mode="nearest-exact")[
        :, 0
    ]
    regions = torch.stack([one.unique(return_inverse=True)[1].view_as(one) for one in labels.long()])
    found = _kernel_shap(model, x, score, regions, samples, baseline, tolerance, batch_size, progress, generator)
    few = tuple(
        f"{which(i, len(x))}the model marks nothing, so the whole image is one player and the map tells no place."
        for i, count in enumerate(_counted(regions))
        if count == 1
    )
    return replace(found, cautions=found.cautions + few)


@explainer("feature_ablation")
@torch.no_grad()
def feature_ablation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    segments: int = 50,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Replace one region at a time and record how far the score drops (arXiv 1910.01545).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        segments: Wanted number of regions (superpixels or supervoxels).
        baseline: What replaces a region — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the noise baseline.

    Returns:
        Signed map ``(B, *spatial)``: each pixel carries the drop of its whole region, in units of the score.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, batch_size=batch_size)
    regions, counts = _segmented(x, segments)
    chosen = [~torch.eye(count + 1, count, dtype=torch.bool) for count in counts]  # the last row hides nothing
    fill = filling(x, baseline, generator)
    scores, _ = _coalition_scores(model, x, fill, score, regions, chosen, batch_size, progress)
    drops = [answers[-1] - answers[:-1] for answers in scores]
    notes = (f"{_numbers(counts)} regions, one at a time, baseline {baseline}.",)
    return Found(_painted(drops, regions), notes, unmoved(scores))


@explainer("shapley_sampling")
@torch.no_grad()
def shapley_sampling(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    orders: int = 10,
    segments: int = 50,
    baseline: str = "mean",
    tolerance: float = 0.0,
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Estimate the Shapley value of every region from its gain in random orders (10.1016/j.cor.2008.04.004).

    An order adds the regions one by one to the baseline. Orders come in pairs of one and its reverse, which cancels
    much of the noise; the gains of each order, and so the values, sum to ``score(image) - score(baseline)`` exactly.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        orders: Number of orders, at least 1; each costs one model row less than there are regions.
        segments: Wanted number of regions (superpixels or supervoxels).
        baseline: What an absent region shows — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        tolerance: Stop when the map's estimated error is below this share of its largest value; 0 asks all.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the orders.

    Returns:
        Signed map ``(B, *spatial)``: each pixel carries the value of its whole region, in units of the score. A note
        gives the standard error.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, batch_size=batch_size, orders=orders)
    at_least(0, tolerance=tolerance)
    regions, counts = _segmented(x, segments)
    draw = repeatable(generator)
    ranks = [_orders(count, orders, draw()) for count in counts]
    chosen = [
        torch.cat([_empty_and_full(count), (place[:, None] < torch.arange(1, count)[:, None]).flatten(0, 1)])
        for count, place in zip(counts, ranks, strict=True)
    ]
    found: dict[int, Tensor] = {}
    spread: dict[int, float] = {}

    def look(i: int, answers: Tensor) -> float:
        count = counts[i]
        done = (len(answers) - 2) // max(count - 1, 1) if count > 1 else orders
        ends = answers[:2].expand(done, 2)
        steps = torch.cat([ends[:, :1], answers[2:].view(done, count - 1), ends[:, 1:]], 1)
        gains = steps.diff(dim=1).gather(1, ranks[i][:done])
        found[i] = gains.mean(0)
        pairs = gains[: done // 2 * 2].view(-1, 2, count).mean(1)  # an order and its reverse are not independent
        errors = pairs.std(0) / math.sqrt(len(pairs)) if len(pairs) > 1 else torch.full((count,), math.nan)
        spread[i] = float(errors.mean())
        largest = float(found[i].abs().max())
        return float(errors.square().mean().sqrt()) / largest if largest > 0 else math.nan

    stops = [
        looks(len(on), tolerance, 2 + 4 * (count - 1), 2 * (count - 1)) if count > 1 else [len(on)]
        for on, count in zip(chosen, counts, strict=True)
    ]
    fill = filling(x, baseline, generator)
    scores, errors = _coalition_scores(
        model, x, fill, score, regions, chosen, batch_size, progress, stops=stops, look=look, tolerance=tolerance
    )
    told = ", ".join(f"{spread[i]:.2g}" for i in range(len(x)))
    notes = [f"{orders} orders of {_numbers(counts)} regions, baseline {baseline}; standard error {told}."]
    if tolerance > 0:
        notes.append(settled_note([len(answers) for answers in scores], stops, errors, "model rows"))
    return Found(_painted([found[i] for i in range(len(x))], regions), tuple(notes), unmoved(scores))


@explainer("shap_partition")
@torch.no_grad()
def shap_partition(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 500,
    cells: int | None = None,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Owen values over a binary tree of image halves, refined where the score moves most (arXiv 1705.07874).

    A node of the tree is a box of the image, halved along its longer side down to single cells. Its two halves share
    its gain as two players do: each gets its gain before and after the other, half and half. The part of the tree that
    moves the score most is opened first, until the budget is spent; what was not opened spreads its value evenly. The
    values sum to ``score(image) - score(baseline)`` exactly at any time.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        samples: Model rows per image at most, image and baseline included; at least 4.
        cells: Cells per axis at the end of the tree; by default 32 in 2D and 16 in 3D.
        baseline: What a hidden box shows — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the noise baseline.

    Returns:
        Signed map ``(B, *spatial)`` that sums to the difference of the scores of image and baseline.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(4, samples=samples)
    at_least(1, batch_size=batch_size, **({} if cells is None else {"cells": cells}))
    images, spatial = len(x), tuple(x.shape[2:])
    counts = [min(cells or (32 if x.ndim == 4 else 16), length) for length in spatial]
    owners = [torch.arange(length) * count // length for length, count in zip(spatial, counts, strict=True)]
    sizes = [owner.bincount(minlength=count) for owner, count in zip(owners, counts, strict=True)]
    pixels = _outer(sizes).double()
    fill = filling(x, baseline, generator)
    asked = 0

    def scored(jobs: list[tuple[int, Tensor]]) -> list[float]:
        """Score image ``i`` with the cells of a grid kept, for every ``(i, grid)``."""
        nonlocal asked

        def keep(numbers: Tensor) -> Tensor:
            kept = torch.stack([jobs[int(n)][1] for n in numbers]).to(x.device)
            for axis, owner in enumerate(owners, start=1):
                kept = kept.index_select(axis, owner.to(x.device))
            return kept

        def told(done: int, _: int) -> None:
            progress(asked + done, images * samples)

        rows = torch.tensor([i for i, _ in jobs])
        answers = [a.double().cpu() for *_, a in ask(model, x, fill, score, rows, keep, batch_size, told)]
        asked += len(jobs)
        return torch.cat(answers).tolist()

    empty, full = torch.zeros(counts, dtype=torch.bool), torch.ones(counts, dtype=torch.bool)
    ends = scored([(i, grid) for i in range(images) for grid in (empty, full)])
    whole = tuple((0, count) for count in counts)
    density = torch.zeros((images, *counts), dtype=torch.float64)
    open_: list[list[_Node]] = [
        [(-abs(ends[2 * i + 1] - ends[2 * i]), 0, whole, empty, ends[2 * i], ends[2 * i + 1], 1.0)]
        for i in range(images)
    ]
    left, born = [samples - 2] * images, 0
    while any(waiting and rows >= 2 for waiting, rows in zip(open_, left, strict=True)):
        turn: list[tuple[int, _Node, tuple[_Box, _Box]]] = []
        for i, waiting in enumerate(open_):
            taken = 0
            while waiting and taken < min(AT_ONCE, left[i] // 2):
                node = heapq.heappop(waiting)
                halves = _halved(node[2], sizes)
                if halves is None:
                    _give(density[i], node, pixels)
                else:
                    turn.append((i, node, halves))
                    taken += 1
            left[i] -= 2 * taken
        if not turn:
            continue
        grids = [(i, _with(node[3], half)) for i, node, halves in turn for half in halves]
        answers = scored(grids)
        for k, (i, (_, _, _, kept, low, high, weight), (first_half, second_half)) in enumerate(turn):
            first, second = answers[2 * k : 2 * k + 2]
            children = (
                (first_half, kept, low, first),
                (second_half, kept, low, second),
                (first_half, grids[2 * k + 1][1], second, high),
                (second_half, grids[2 * k][1], first, high),
            )
            for box, context, before, after in children:
                born += 1
                key = -abs(after - before) * weight / 2
                heapq.heappush(open_[i], (key, born, box, context, before, after, weight / 2))
    for i, waiting in enumerate(open_):
        for node in waiting:
            _give(density[i], node, pixels)
    progress(images * samples, images * samples)
    values = density
    for axis, owner in enumerate(owners, start=1):
        values = values.index_select(axis, owner)
    gain = torch.tensor(ends, dtype=torch.float64).view(images, 2)
    notes = (f"A tree over {'×'.join(map(str, counts))} cells, at most {samples} model rows, baseline {baseline}.",)
    checks = {"completeness_error": completeness_error(values, gain[:, 1] - gain[:, 0])}
    return Found(values.to(x.device, torch.float32), notes, unmoved(gain) if not density.any() else (), checks=checks)


AT_ONCE = 8
"""Nodes of a tree that are opened together, so that the chunks of model calls are filled."""
_Box = tuple[tuple[int, int], ...]
"""First cell and the one after the last, for each axis."""
_Node = tuple[float, int, _Box, Tensor, float, float, float]
"""Priority, birth, box, cells kept around it, score without and with the box, weight of this context."""


def _outer(lengths: Sequence[Tensor]) -> Tensor:
    """Return the product of one number per axis, for every cell of a grid."""
    total = torch.ones((), dtype=torch.int64)
    for one in lengths:
        total = total[..., None] * one
    return total


def _slices(box: _Box) -> tuple[slice, ...]:
    return tuple(slice(*ends) for ends in box)


def _with(grid: Tensor, box: _Box) -> Tensor:
    grid = grid.clone()
    grid[_slices(box)] = True
    return grid


def _halved(box: _Box, sizes: Sequence[Tensor]) -> tuple[_Box, _Box] | None:
    """Cut a box across its longest side, in pixels; None for a single cell."""
    lengths = [
        int(size[first:last].sum()) if last - first > 1 else 0 for size, (first, last) in zip(sizes, box, strict=True)
    ]
    axis = max(range(len(box)), key=lengths.__getitem__)
    first, last = box[axis]
    if last - first < 2:
        return None
    middle = (first + last) // 2
    return (*box[:axis], (first, middle), *box[axis + 1 :]), (*box[:axis], (middle, last), *box[axis + 1 :])


def _give(density: Tensor, node: _Node, pixels: Tensor) -> None:
    """Spread the value of a node evenly over the pixels of its box."""
    _, _, box, _, before, after, weight = node
    density[_slices(box)] += weight * (after - before) / pixels[_slices(box)].sum()


def _orders(count: int, orders: int, generator: torch.Generator) -> Tensor:
    """Return the place of every region in random orders ``(orders, count)``; every second order is a reverse."""
    half = torch.rand(((orders + 1) // 2, count), generator=generator).argsort(1).argsort(1)
    return torch.stack([half, count - 1 - half], 1).flatten(0, 1)[:orders]


def _segmented(x: Tensor, segments: int) -> tuple[Tensor, list[int]]:
    regions = superpixels(x, segments)
    return regions, _counted(regions)


def _counted(regions: Tensor) -> list[int]:
    return [int(labels.max()) + 1 for labels in regions]


def _coalition_scores(
    model: nn.Module,
    x: Tensor,
    fill: Fill,
    score: Score,
    regions: Tensor,
    chosen: Sequence[Tensor],
    batch_size: int,
    progress: Progress,
    *,
    stops: Sequence[Sequence[int]] | None = None,
    look: Callable[[int, Tensor], float] = lambda _i, _answers: math.nan,
    tolerance: float = 0.0,
) -> tuple[list[Tensor], list[float]]:
    """Score every image with only the chosen regions kept, until its map is good enough.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        fill: Replaces regions that are not kept.
        score: One number per output row.
        regions: Labels ``(B, *spatial)``.
        chosen: Per image, bool ``(N_i, K_i)``.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        stops: As in :func:`runners.asking.settle`; by default all is asked at once.
        look: Image and its answers so far to the error of its map; called after the last answer in any case.
        tolerance: As in :func:`runners.asking.settle`.

    Returns:
        Per image the scores, float64 on the CPU, and the last error.
    """
    sizes = [len(on) for on in chosen]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    widest = max(on.shape[1] for on in chosen)
    table = torch.cat([F.pad(on, (0, widest - on.shape[1])) for on in chosen]).to(x.device)
    answers = [torch.empty(size, dtype=torch.float64) for size in sizes]
    asked = 0

    def go(parts: list[Part]) -> None:
        nonlocal asked
        lengths = torch.tensor([last - first for _, first, last in parts])
        rows = torch.repeat_interleave(torch.tensor([i for i, *_ in parts]), lengths)
        entries = torch.cat([torch.arange(starts[i] + first, starts[i] + last) for i, first, last in parts])

        def keep(jobs: Tensor) -> Tensor:
            labels = regions[rows[jobs].to(x.device)]
            return table[entries[jobs].to(x.device)].gather(1, labels.flatten(1)).view(labels.shape)

        def told(done: int, _: int) -> None:
            progress(asked + done, sum(sizes))

        found = torch.cat([a.double().cpu() for *_, a in ask(model, x, fill, score, rows, keep, batch_size, told)])
        asked += len(rows)
        for (i, first, last), own in zip(parts, torch.split(found, lengths.tolist()), strict=True):
            answers[i][first:last] = own

    used, errors = settle(
        stops or [[size] for size in sizes], go, lambda i, number: look(i, answers[i][:number]), tolerance
    )
    progress(sum(sizes), sum(sizes))
    return [own[:number] for own, number in zip(answers, used, strict=True)], errors


def _empty_and_full(count: int) -> Tensor:
    return torch.tensor([[False], [True]]).expand(2, count)


def _shapley_coalitions(count: int, budget: int, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Return coalitions other than the empty and the full one, their Shapley-kernel weights, and how many are complete.

    Bool ``(n, count)`` with ``n`` at most ``budget`` and ``(n,)`` that sum to 1 (unless there is none). First come the
    sizes that are complete; then what was drawn, in random order, each followed by its complement.
    """
    sizes = range(1, count // 2 + 1)
    mass = {s: (1 if 2 * s == count else 2) / (s * (count - s)) for s in sizes}
    whole = sum(mass.values())
    mass = {s: m / whole for s, m in mass.items()}
    complete, weights = [torch.zeros((0, count), dtype=torch.bool)], [torch.zeros(0, dtype=torch.float64)]
    todo = list(sizes)
    everything = 2**count - 2 <= budget
    while todo:
        size, left = todo[0], sum(mass[s] for s in todo)
        number = math.comb(count, size) * (1 if 2 * size == count else 2)
        if not everything and budget * mass[size] / left < number:
            break
        members = torch.tensor(list(itertools.combinations(range(count), size)))
        on = torch.zeros((len(members), count), dtype=torch.bool).scatter_(1, members, True)
        complete.append(on if 2 * size == count else torch.cat([on, ~on]))
        weights.append(torch.full((number,), mass[size] / number, dtype=torch.float64))
        budget -= number
        todo.pop(0)
    sure = sum(map(len, complete))
    pairs = budget // 2
    if todo and pairs:
        share = torch.tensor([mass[s] for s in todo], dtype=torch.float64)
        left = float(share.sum())
        # one draw per equal slice of the distribution of sizes: every size gets its due
        slices = (torch.arange(pairs) + torch.rand(pairs, generator=generator, dtype=torch.float64)) / pairs
        index = torch.searchsorted(share.cumsum(0) / left, slices).clamp_max(len(todo) - 1)
        ranks = torch.rand((pairs, count), generator=generator).argsort(1).argsort(1)
        on = ranks < torch.tensor(todo)[index][:, None]
        on = torch.where(on[:, :1], on, ~on)
        drawn, times = torch.unique(on, dim=0, return_counts=True)
        order = torch.randperm(len(drawn), generator=generator)
        drawn, times = drawn[order], times[order]
        complete.append(torch.stack([drawn, ~drawn], 1).flatten(0, 1))
        weights.append(times.double().repeat_interleave(2) * left / (2 * pairs))
    return torch.cat(complete), torch.cat(weights), sure


def _constrained(z: Tensor, weights: Tensor, gain: Tensor, total: Tensor) -> Tensor:
    """Return the weighted least-squares solution of ``z @ values = gain`` among those whose sum is ``total``.

    Values are the equal shares plus a part that sums to 0; the smallest such part, if coalitions do not settle it.
    """
    count = z.shape[1]
    size = z.mean(1)
    root = weights.sqrt()[:, None]
    matrix = root * (z - size[:, None])
    part: Tensor = torch.linalg.pinv(matrix) @ (root[:, 0] * (gain - size * total))
    return total / count + part - part.mean()


def _explained(weights: Tensor, target: Tensor, fitted: Tensor) -> float:
    """Return the weighted R² of ``fitted`` for a ``target`` of weighted mean 0; NaN for a ``target`` of zeros."""
    spread = weights @ target**2
    return float(1 - weights @ (target - fitted) ** 2 / spread) if spread > 0 else math.nan


def _painted(found: Sequence[Tensor], regions: Tensor) -> Tensor:
    return torch.stack([v.to(labels.device, torch.float32)[labels] for v, labels in zip(found, regions, strict=True)])


def _numbers(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _fit_note(fits: Sequence[float]) -> str:
    return f"weighted R² of the additive model: {', '.join(f'{fit:.2f}' for fit in fits)}"


def _few(scores: Sequence[Tensor], counts: Sequence[int]) -> tuple[str, ...]:
    return tuple(
        f"{which(i, len(counts))}{len(answers)} samples for {count} regions are too few to tell the regions apart; "
        f"use at least {2 * count + 2} samples or fewer segments."
        for i, (answers, count) in enumerate(zip(scores, counts, strict=True))
        if len(answers) < min(2 * count + 2, 2**count)
    )


def _poor(fits: Sequence[float], meaning: str) -> tuple[str, ...]:
    return tuple(
        f"{which(i, len(fits))}{meaning} (weighted R² = {fit:.2f})." for i, fit in enumerate(fits) if fit < POOR_FIT
    )
