"""Explainers that only ask: change the image, look at the score. Any model will do, nothing is differentiated.

All of them stream: one chunk of ``batch_size`` changed images is alive at a time, beside one number per change.
Randomness is drawn once and serves every image alike, so an image gets the same map alone and in a batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.baselines import baseline as content
from runners.registry import Found, Progress, Score, explainer
from runners.superpixels import superpixels
from taxonomy.errors import TargetError

POOR_FIT = 0.5
"""Below this share of explained variance a linear surrogate gets a caution."""
POOR_AGREEMENT = 0.5
"""Below this reliability a RISE map gets a caution."""


@explainer("occlusion")
@torch.no_grad()
def occlusion(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Slide a window over the image, replace what is under it, and record how far the score drops.

    A pixel's value is the drop averaged over the windows that cover it. The last window of a row is moved back to end
    at the border, so all windows have the same size and every pixel is covered.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        window: Side of the window in pixels; by default an eighth of every axis.
        stride: Step in pixels; by default half the window in 2D and the whole window in 3D.
        baseline: What replaces the content (:data:`runners.baselines.BASELINES`).
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the noise baseline.

    Returns:
        Signed map ``(B, *spatial)`` in units of the score: positive where hiding lowers it.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, batch_size=batch_size, **{k: v for k, v in (("window", window), ("stride", stride)) if v is not None})
    images, spatial = len(x), x.shape[2:]
    sides = [min(window or max(1, round(length / 8)), length) for length in spatial]
    steps = [min(stride or max(1, side // (2 if len(spatial) == 2 else 1)), side) for side in sides]
    covers = [_covers(*axis).to(x.device) for axis in zip(spatial, sides, steps, strict=True)]
    grid = [len(cover) for cover in covers]
    places = math.prod(grid)

    def keep(jobs: Tensor) -> Tensor:
        place = jobs // images  # the place after the last hides nothing
        hidden = (place < places).to(x.device)
        for cover, index in zip(covers, torch.unravel_index(place % places, grid), strict=True):
            hidden = hidden[..., None] & cover[index].view(len(jobs), *[1] * (hidden.ndim - 1), -1)
        return ~hidden

    rows = torch.arange((places + 1) * images) % images
    asked = ask(model, x, content(x, baseline, generator), score, rows, keep, batch_size, progress)
    scores = torch.cat([answers for *_, answers in asked]).view(places + 1, images).T.double()
    values = (scores[:, -1:] - scores[:, :-1]).view(images, *grid)
    for axis, cover in enumerate(covers, start=1):
        average = cover.double() / cover.sum(0)
        values = torch.tensordot(values, average, dims=([axis], [0])).movedim(-1, axis)
    note = f"window {'×'.join(map(str, sides))}, stride {'×'.join(map(str, steps))}, baseline {baseline}."
    return Found(values.float(), notes=(note,), cautions=_unmoved(scores))


@explainer("rise")
@torch.no_grad()
def rise(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    masks: int = 500,
    cells: int | None = None,
    probability: float = 0.5,
    centred: bool = True,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Show the model the image through random soft masks; a pixel's value is the score when it is visible.

    Masks are coarse random grids, enlarged linearly and shifted by up to a cell. The paper's map is
    ``E[score · mask] / E[mask]``; its level is the mean score over all masks, which says nothing about places.
    ``centred`` takes that level away: what is left is ``Cov(score, mask) / E[mask]``, 0 where visibility does not
    matter, and with far less noise.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        masks: Number of masks, at least 2.
        cells: Cells per axis of the random grid; by default 8 in 2D and 5 in 3D.
        probability: Chance of a cell to be visible.
        centred: Subtract the mean score; without it the map is the paper's, and unsigned.
        baseline: What is seen where the mask is 0 (:data:`runners.baselines.BASELINES`).
        batch_size: Masked images per model call.
        progress: Told the model rows done.
        generator: Draws grids and shifts.

    Returns:
        Map ``(B, *spatial)`` in units of the score. A caution gives the measured reliability where it is poor: the
        agreement of the maps of the even and the odd masks, stepped up to all masks (Spearman-Brown).

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(2, masks=masks)
    at_least(1, batch_size=batch_size)
    if not 0 < probability < 1:
        raise TargetError(f"probability = {probability}: it must lie between 0 and 1.")
    images, spatial = len(x), x.shape[2:]
    counts = _cells(x, cells, deep=5)
    sides = [math.ceil(length / count) for length, count in zip(spatial, counts, strict=True)]
    grids = (torch.rand((masks, 1, *[count + 1 for count in counts]), generator=generator) < probability).float()
    shifts = torch.stack([torch.randint(side, (masks,), generator=generator) for side in sides], 1).tolist()
    enlarged = tuple((count + 1) * side for count, side in zip(counts, sides, strict=True))
    mode = "bilinear" if len(spatial) == 2 else "trilinear"

    def keep(jobs: Tensor) -> Tensor:
        mask = jobs // images
        first, last = int(mask[0]), int(mask[-1])
        wide = F.interpolate(grids[first : last + 1].to(x.device), enlarged, mode=mode)[:, 0]
        cut = torch.empty((len(wide), *spatial), device=x.device)
        for index, shift in enumerate(shifts[first : last + 1]):
            cut[index] = wide[index][tuple(slice(s, s + length) for s, length in zip(shift, spatial, strict=True))]
        return cut[(mask - first).to(x.device)]

    zeros = partial(torch.zeros, dtype=torch.float64, device=x.device)
    weighted = zeros(2 * images, math.prod(spatial))
    visible = zeros(2, math.prod(spatial))
    scores = zeros(masks, images)
    rows = torch.arange(masks * images) % images
    for jobs, kept, answers in ask(model, x, content(x, baseline, generator), score, rows, keep, batch_size, progress):
        flat, number, row = kept.flatten(1).double(), (jobs // images).to(x.device), rows[jobs].to(x.device)
        weighted.index_add_(0, number % 2 * images + row, answers.double()[:, None] * flat)
        visible.index_add_(0, number[row == 0] % 2, flat[row == 0])
        scores[number, row] = answers.double()

    def estimate(seen: Tensor, mass: Tensor, mean: Tensor) -> Tensor:
        level = mean[:, None]
        found = torch.where(mass > 0, seen / mass.clamp_min(1e-12), level)
        return found - level if centred else found

    halves = weighted.view(2, images, -1)
    values = estimate(halves.sum(0), visible.sum(0), scores.mean(0))
    agreement = correlation(*(estimate(halves[i], visible[i], scores[i::2].mean(0)) for i in (0, 1)))
    reliability = 2 * agreement / (1 + agreement).clamp_min(1e-12)
    cautions = tuple(
        f"{which(i, images)}the maps of the even and the odd masks agree only at r = {agreement[i]:.2f}: the "
        f"pattern is mostly noise; use more than {masks} masks or fewer cells."
        for i in range(images)
        if reliability[i] < POOR_AGREEMENT
    )
    note = (
        f"{masks} masks of {'×'.join(map(str, counts))} cells, baseline {baseline}; "
        f"agreement of the two halves of the masks: r = {', '.join(f'{r:.2f}' for r in agreement.tolist())}."
    )
    values = values.view(images, *spatial).float()
    return Found(values, notes=(note,), cautions=_unmoved(scores.T) + cautions, signed=centred)


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
        baseline: What replaces a region that is off (:data:`runners.baselines.BASELINES`).
        kernel_width: How fast the weight falls with the distance.
        ridge: Strength of the penalty.
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
    if not (kernel_width > 0 and ridge > 0):
        raise TargetError(f"kernel_width = {kernel_width} and ridge = {ridge}: both must be above 0.")
    regions, counts = _segmented(x, segments)
    draw = _repeatable(generator)
    chosen = [torch.rand((samples, count), generator=draw()) < 0.5 for count in counts]
    for on in chosen:
        on[0] = True
    base = content(x, baseline, generator)
    scores = _coalition_scores(model, x, base, score, regions, chosen, batch_size, progress)
    coefficients, fits = [], []
    for on, answers in zip(chosen, scores, strict=True):
        z = on.double()
        weights = torch.exp(-((1 - z.mean(1).sqrt()) ** 2) / kernel_width**2).sqrt()
        share = weights / weights.sum()
        gain = answers - answers[0]
        z, gain = z - share @ z, gain - share @ gain
        weighted = z.T * weights
        solved = torch.linalg.solve(weighted @ z + ridge * torch.eye(z.shape[1], dtype=z.dtype), weighted @ gain)
        coefficients.append(solved)
        fits.append(_explained(weights, gain, z @ solved))
    notes = (f"{samples} samples of {_numbers(counts)} regions, baseline {baseline}; {_fit_note(fits)}.",)
    cautions = _few(chosen) + _poor(fits, "the linear surrogate does not describe the model near this image")
    return Found(_painted(coefficients, regions), notes, _unmoved(scores) + cautions)


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
        baseline: What a region outside the coalition shows (:data:`runners.baselines.BASELINES`).
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the coalitions.

    Returns:
        Signed map ``(B, *spatial)``: each pixel carries the value of its whole region, in units of the score. A caution
        gives the weighted R² of the additive model where regions interact so much that it is poor.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(4, samples=samples)
    at_least(1, batch_size=batch_size)
    regions, counts = _segmented(x, segments)
    draw = _repeatable(generator)
    inner = [_shapley_coalitions(count, samples - 2, draw()) for count in counts]
    chosen = [torch.cat([_empty_and_full(count), on]) for count, (on, _) in zip(counts, inner, strict=True)]
    base = content(x, baseline, generator)
    scores = _coalition_scores(model, x, base, score, regions, chosen, batch_size, progress)
    found, fits = [], []
    for (on, weights), answers in zip(inner, scores, strict=True):
        gain, (empty, full) = answers[2:] - answers[0], answers[:2]
        values = _constrained(on.double(), weights, gain, full - empty)
        found.append(values)
        level = (weights @ gain / weights.sum()) if len(gain) else full
        fits.append(_explained(weights, gain - level, on.double() @ values - level))
    exact = all(len(on) == 2 ** on.shape[1] for on in chosen)
    asked = "all" if exact else _numbers([len(on) for on in chosen])
    notes = (f"{asked} coalitions of {_numbers(counts)} regions, baseline {baseline}; {_fit_note(fits)}.",)
    cautions = _few(chosen) + _poor(fits, "regions interact, and no sum of single values describes the score")
    return Found(_painted(found, regions), notes, _unmoved(scores) + cautions)


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
        baseline: What replaces a region (:data:`runners.baselines.BASELINES`).
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
    base = content(x, baseline, generator)
    scores = _coalition_scores(model, x, base, score, regions, chosen, batch_size, progress)
    drops = [answers[-1] - answers[:-1] for answers in scores]
    notes = (f"{_numbers(counts)} regions, one at a time, baseline {baseline}.",)
    return Found(_painted(drops, regions), notes, _unmoved(scores))


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
        baseline: What a region that is not yet there shows (:data:`runners.baselines.BASELINES`).
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
    regions, counts = _segmented(x, segments)
    draw = _repeatable(generator)
    ranks = [_orders(count, orders, draw()) for count in counts]
    chosen = [
        torch.cat([_empty_and_full(count), (place[:, None] < torch.arange(1, count)[:, None]).flatten(0, 1)])
        for count, place in zip(counts, ranks, strict=True)
    ]
    base = content(x, baseline, generator)
    scores = _coalition_scores(model, x, base, score, regions, chosen, batch_size, progress)
    found, errors = [], []
    for count, place, answers in zip(counts, ranks, scores, strict=True):
        ends = answers[:2].expand(orders, 2)
        steps = torch.cat([ends[:, :1], answers[2:].view(orders, count - 1), ends[:, 1:]], 1)
        gains = steps.diff(dim=1).gather(1, place)
        found.append(gains.mean(0))
        pairs = gains[: orders // 2 * 2].view(-1, 2, count).mean(1)  # an order and its reverse are not independent
        errors.append(float(pairs.std(0).mean() / math.sqrt(len(pairs))) if len(pairs) > 1 else math.nan)
    told = ", ".join(f"{error:.2g}" for error in errors)
    notes = (f"{orders} orders of {_numbers(counts)} regions, baseline {baseline}; standard error {told}.",)
    return Found(_painted(found, regions), notes, _unmoved(scores))


@explainer("sobol_attribution")
@torch.no_grad()
def sobol_attribution(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    designs: int = 32,
    cells: int | None = None,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Total Sobol index of every cell: its share of the score's variance under random masks (arXiv 2111.04138).

    Masks of any grey between the image and the baseline come from a scrambled Sobol sequence of two halves, A and B.
    For each cell A is asked again with this cell from B; Jansen's estimator makes the index of the squared changes. It
    counts what a cell does alone and together with others.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        designs: Masks of each half, a power of two keeps the sequence balanced; model rows: ``designs * (cells + 2)``.
        cells: Cells per axis of the grid; by default 8 in 2D and 4 in 3D.
        baseline: What is seen where the mask is 0 (:data:`runners.baselines.BASELINES`).
        batch_size: Masked images per model call.
        progress: Told the model rows done.
        generator: Scrambles the sequence.

    Returns:
        Unsigned map ``(B, *spatial)``: each pixel carries the index of its cell, 0 to about 1.

    Raises:
        TargetError: a parameter is out of range.
    """
    from scipy.stats import qmc

    at_least(2, designs=designs)
    at_least(1, batch_size=batch_size)
    counts = _cells(x, cells, deep=4)
    number = math.prod(counts)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    whole = qmc.Sobol(2 * number, seed=seed).random_base2((designs - 1).bit_length())  # other lengths are warned about
    drawn = torch.from_numpy(whole[:designs]).float()
    first, second = drawn.chunk(2, 1)
    mixed = torch.where(torch.eye(number, dtype=torch.bool)[:, None], second, first)  # (cells, designs, cells)
    masks = torch.cat([first, second, mixed.flatten(0, 1)])
    scores = _masked_scores(model, x, content(x, baseline, generator), score, masks, counts, batch_size, progress)
    own, other = scores[:, :designs], scores[:, designs : 2 * designs]
    swapped = scores[:, 2 * designs :].view(len(x), number, designs)
    spread = torch.cat([own, other], 1).var(1, keepdim=True)
    index = (swapped - own[:, None]).square().mean(2) / 2 / torch.where(spread > 0, spread, 1.0)
    notes = (f"{designs} designs of {'×'.join(map(str, counts))} cells, baseline {baseline}.",)
    return Found(_on_grid(index, counts, x), notes, _unmoved(scores), signed=False)


@explainer("hsic_attribution")
@torch.no_grad()
def hsic_attribution(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    masks: int = 500,
    cells: int | None = None,
    baseline: str = "mean",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Dependence of the score on each cell of a grid under random masks, by kernels (HSIC; arXiv 2206.06219).

    Cells are shown or hidden at random, half of them at a time on average. Whether two masks agree in a cell is one
    kernel, a Gaussian of the difference of their scores (as wide as their standard deviation) the other; their
    Hilbert-Schmidt independence criterion, in its unbiased form, is the cell's value.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        masks: Number of masks, at least 4.
        cells: Cells per axis of the grid; by default 8 in 2D and 4 in 3D.
        baseline: What is seen where a cell is hidden (:data:`runners.baselines.BASELINES`).
        batch_size: Masked images per model call.
        progress: Told the model rows done.
        generator: Draws the masks.

    Returns:
        Unsigned map ``(B, *spatial)``: each pixel carries the value of its cell; 0 is independence.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(4, masks=masks)
    at_least(1, batch_size=batch_size)
    counts = _cells(x, cells, deep=4)
    shown = (torch.rand((masks, math.prod(counts)), generator=generator) < 0.5).float()
    scores = _masked_scores(model, x, content(x, baseline, generator), score, shown, counts, batch_size, progress)
    values = torch.stack([_dependence(2 * shown.double() - 1, answers) for answers in scores])
    notes = (f"{masks} masks of {'×'.join(map(str, counts))} cells, baseline {baseline}.",)
    return Found(_on_grid(values, counts, x), notes, _unmoved(scores), signed=False)


def _dependence(signs: Tensor, answers: Tensor) -> Tensor:
    """Return the unbiased HSIC of every column of signs ``(n, K)``, -1 or 1, and the answers ``(n,)``; none below 0.

    The kernel of a column is ``(1 + s sᵀ) / 2``, so that no matrix of its own is needed.
    """
    n = len(answers)
    spread = answers.var()  # the median difference, as in the paper, is next to 0 where many masks score alike
    if spread == 0:
        return torch.zeros(signs.shape[1], dtype=signs.dtype)
    near = torch.exp(-((answers[:, None] - answers) ** 2) / (2 * spread)).fill_diagonal_(0)
    whole, rows, total = near.sum(), near.sum(1), signs.sum(0)
    trace = (whole + (signs * (near @ signs)).sum(0)) / 2
    agree = (n**2 + total**2) / 2 - n
    cross = (n * whole + total * (rows @ signs)) / 2 - whole
    found: Tensor = (trace + agree * whole / ((n - 1) * (n - 2)) - 2 / (n - 2) * cross) / (n * (n - 3))
    return found.clamp(min=0)


def _cells(x: Tensor, cells: int | None, deep: int) -> list[int]:
    """Return the cells per axis of a grid over the images: by default 8 in 2D and ``deep`` in 3D."""
    at_least(1, **({} if cells is None else {"cells": cells}))
    return [min(cells or (8 if x.ndim == 4 else deep), length) for length in x.shape[2:]]


def _on_grid(values: Tensor, counts: Sequence[int], x: Tensor) -> Tensor:
    """Paint values of cells ``(N, cells)`` onto images ``(N, *spatial)``."""
    return F.interpolate(values.view(-1, 1, *counts).to(x.device, torch.float32), size=tuple(x.shape[2:]))[:, 0]


def _masked_scores(
    model: nn.Module,
    x: Tensor,
    base: Tensor,
    score: Score,
    masks: Tensor,
    counts: Sequence[int],
    batch_size: int,
    progress: Progress,
) -> Tensor:
    """Return the scores ``(B, M)``, float64 on the CPU, of every image under masks ``(M, cells)``: 0 hidden, 1 seen."""
    images = len(x)
    rows = torch.arange(len(masks) * images) % images

    def keep(jobs: Tensor) -> Tensor:
        return _on_grid(masks[jobs // images], counts, x)

    asked = ask(model, x, base, score, rows, keep, batch_size, progress)
    return torch.cat([answers.double().cpu() for *_, answers in asked]).view(len(masks), images).T


def _orders(count: int, orders: int, generator: torch.Generator) -> Tensor:
    """Return the place of every region in random orders ``(orders, count)``; every second order is a reverse."""
    half = torch.rand(((orders + 1) // 2, count), generator=generator).argsort(1).argsort(1)
    return torch.stack([half, count - 1 - half], 1).flatten(0, 1)[:orders]


Keep = Callable[[Tensor], Tensor]
"""Jobs ``(n,)`` to what stays of the image: ``(n, *spatial)``, bool or a share from 0 to 1."""


def ask(
    model: nn.Module,
    x: Tensor,
    base: Tensor,
    score: Score,
    rows: Tensor,
    keep: Keep,
    batch_size: int,
    progress: Progress,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Score images that are partly replaced, ``batch_size`` at a time.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        base: Replacements, like ``x``.
        score: One number per output row.
        rows: ``(N,)`` on the CPU, the image that each job changes.
        keep: What stays of the image in the given jobs.
        batch_size: Jobs per model call.
        progress: Told the jobs done.

    Yields:
        Jobs ``(n,)``, what was kept ``(n, *spatial)``, scores ``(n,)``.
    """
    for jobs in torch.split(torch.arange(len(rows)), batch_size):
        row = rows[jobs].to(x.device)
        kept = keep(jobs)
        seen = kept[:, None]
        own, other = (x, base) if len(x) == 1 else (x[row], base[row])  # a lone image need not be copied
        mixed = torch.where(seen, own, other) if kept.dtype == torch.bool else torch.lerp(other, own, seen.to(own))
        yield jobs, kept, score(model(mixed), row).detach()
        progress(int(jobs[-1]) + 1, len(rows))


def at_least(least: int, **given: int) -> None:
    """Raise a TargetError unless every named number reaches ``least``."""
    for name, number in given.items():
        if number < least:
            raise TargetError(f"{name} = {number}: it must be at least {least}.")


def which(image: int, images: int) -> str:
    """Return the words that name an image of a batch in a message; none when there is only one."""
    return f"image {image + 1}: " if images > 1 else ""


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's r of the rows of ``a`` and ``b`` ``(B, N)``; NaN where a row is constant."""
    a, b = (t - t.mean(1, keepdim=True) for t in (a, b))
    r: Tensor = torch.linalg.vecdot(a, b) / (torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1))
    return r


def _covers(length: int, side: int, step: int) -> Tensor:
    """Return which pixels each window of one axis covers: bool (windows, length)."""
    starts = torch.tensor(sorted({*range(0, length - side + 1, step), length - side}))[:, None]
    pixels = torch.arange(length)
    return (starts <= pixels) & (pixels < starts + side)


def _unmoved(scores: Sequence[Tensor] | Tensor) -> tuple[str, ...]:
    return tuple(
        f"{which(i, len(scores))}the score did not change under any perturbation, so the map is empty."
        for i, answers in enumerate(scores)
        if answers.min() == answers.max()
    )


def _segmented(x: Tensor, segments: int) -> tuple[Tensor, list[int]]:
    regions = superpixels(x, segments)
    return regions, [int(labels.max()) + 1 for labels in regions]


def _repeatable(generator: torch.Generator) -> Callable[[], torch.Generator]:
    """Return a source of generators that all begin alike: every image gets the draws it would get alone."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return lambda: torch.Generator().manual_seed(seed)


def _coalition_scores(
    model: nn.Module,
    x: Tensor,
    base: Tensor,
    score: Score,
    regions: Tensor,
    chosen: Sequence[Tensor],
    batch_size: int,
    progress: Progress,
) -> list[Tensor]:
    """Return the scores, float64 on the CPU, of every image with only the chosen regions kept.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        base: Replacements, like ``x``.
        score: One number per output row.
        regions: Labels ``(B, *spatial)``.
        chosen: Per image, bool ``(N_i, K_i)``.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
    """
    sizes = [len(on) for on in chosen]
    rows = torch.repeat_interleave(torch.arange(len(x)), torch.tensor(sizes))
    widest = max(on.shape[1] for on in chosen)
    table = torch.cat([F.pad(on, (0, widest - on.shape[1])) for on in chosen]).to(x.device)

    def keep(jobs: Tensor) -> Tensor:
        labels = regions[rows[jobs].to(x.device)]
        return table[jobs.to(x.device)].gather(1, labels.flatten(1)).view(labels.shape)

    asked = ask(model, x, base, score, rows, keep, batch_size, progress)
    return list(torch.split(torch.cat([answers.double().cpu() for *_, answers in asked]), sizes))


def _empty_and_full(count: int) -> Tensor:
    return torch.tensor([[False], [True]]).expand(2, count)


def _shapley_coalitions(count: int, budget: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return coalitions other than the empty and the full one, bool (n, count), and their Shapley-kernel weights (n,).

    n is at most ``budget``; the weights sum to 1 (unless there is none).
    """
    sizes = range(1, count // 2 + 1)
    mass = {s: (1 if 2 * s == count else 2) / (s * (count - s)) for s in sizes}
    whole = sum(mass.values())
    mass = {s: m / whole for s, m in mass.items()}
    complete, weights = [], []
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
    pairs = budget // 2
    if todo and pairs:
        share = torch.tensor([mass[s] for s in todo], dtype=torch.float64)
        left = float(share.sum())
        # one draw per equal slice of the distribution of sizes: every size gets its due
        slices = (torch.arange(pairs) + torch.rand(pairs, generator=generator, dtype=torch.float64)) / pairs
        index = torch.searchsorted(share.cumsum(0) / left, slices).clamp_max(len(todo) - 1)
        ranks = torch.rand((pairs, count), generator=generator).argsort(1).argsort(1)
        on = ranks < torch.tensor(todo)[index][:, None]
        drawn, times = torch.unique(torch.cat([on, ~on]), dim=0, return_counts=True)
        complete.append(drawn)
        weights.append(times.double() * left / (2 * pairs))
    if not complete:
        return torch.zeros((0, count), dtype=torch.bool), torch.zeros(0, dtype=torch.float64)
    return torch.cat(complete), torch.cat(weights)


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


def _few(chosen: Sequence[Tensor]) -> tuple[str, ...]:
    return tuple(
        f"{which(i, len(chosen))}{len(on)} samples for {on.shape[1]} regions are too few to tell the regions apart; "
        f"use at least {2 * on.shape[1] + 2} samples or fewer segments."
        for i, on in enumerate(chosen)
        if len(on) < min(2 * on.shape[1] + 2, 2 ** on.shape[1])
    )


def _poor(fits: Sequence[float], meaning: str) -> tuple[str, ...]:
    return tuple(
        f"{which(i, len(fits))}{meaning} (weighted R² = {fit:.2f})." for i, fit in enumerate(fits) if fit < POOR_FIT
    )
