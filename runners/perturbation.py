"""Explainers that only ask: change the image, look at the score. Any model will do, nothing is differentiated.

All of them stream: one chunk of ``batch_size`` changed images is alive at a time, beside one number per change.
Randomness is drawn once and serves every image alike, so an image gets the same map alone and in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import (
    Part,
    ask,
    at_least,
    correlation,
    jackknife_error,
    looks,
    settle,
    settled_note,
    unmoved,
    which,
)
from runners.baselines import Fill, filling
from runners.embedding import codes
from runners.models import Wired
from runners.registry import Found, Progress, Score, explainer
from taxonomy.errors import RequirementError, TargetError
from taxonomy.requirements import Gap

POOR_AGREEMENT = 0.5
"""Below this reliability a RISE map gets a caution."""
PARTS = 4
"""Parts of the masks of RISE that are kept apart: their maps tell how sure the whole is."""
LEAST_MASKS = 100
"""Masks before the error of a map is looked at for the first time."""


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
        baseline: What replaces the content — black, white, mean, organ, blur, noise, zero, inpaint or impute.
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
    asked = ask(model, x, filling(x, baseline, generator), score, rows, keep, batch_size, progress)
    scores = torch.cat([answers for *_, answers in asked]).view(places + 1, images).T.double()
    values = (scores[:, -1:] - scores[:, :-1]).view(images, *grid)
    for axis, cover in enumerate(covers, start=1):
        average = cover.double() / cover.sum(0)
        values = torch.tensordot(values, average, dims=([axis], [0])).movedim(-1, axis)
    note = f"window {'×'.join(map(str, sides))}, stride {'×'.join(map(str, steps))}, baseline {baseline}."
    return Found(values.float(), notes=(note,), cautions=unmoved(scores))


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
    tolerance: float = 0.0,
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
        baseline: What is seen where the mask is 0 — black, white, mean, organ, blur, noise, zero, inpaint or impute.
        tolerance: Stop when the map's estimated error is below this share of its largest value; 0 asks all masks.
        batch_size: Masked images per model call.
        progress: Told the model rows done.
        generator: Draws grids and shifts.

    Returns:
        Map ``(B, *spatial)`` in units of the score. A caution gives the measured reliability where it is poor: the
        agreement of the maps of the even and the odd masks, stepped up to all masks (Spearman-Brown).

    Raises:
        TargetError: a parameter is out of range.
    """
    return _rise(
        model, x, score, masks, cells, probability, centred, baseline, tolerance, batch_size, progress, generator
    )


def _rise(
    model: Callable[[Tensor], Any],
    x: Tensor,
    score: Score,
    masks: int,
    cells: int | None,
    probability: float,
    centred: bool,
    baseline: str,
    tolerance: float,
    batch_size: int,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    at_least(2, masks=masks)
    at_least(1, batch_size=batch_size)
    at_least(0, tolerance=tolerance)
    _chance(probability)
    images, spatial = len(x), x.shape[2:]
    counts = _cells(x, cells, deep=5)
    grids = (torch.rand((masks, 1, *[count + 1 for count in counts]), generator=generator) < probability).float()
    soft = _soft(grids, counts, x, generator)
    zeros = partial(torch.zeros, dtype=torch.float64, device=x.device)
    weighted = zeros(PARTS, images, math.prod(spatial))
    visible = zeros(PARTS, math.prod(spatial))
    scores = zeros(images, masks)
    values, agreement = zeros(images, math.prod(spatial)), zeros(images)
    fill = filling(x, baseline, generator)

    def go(parts: list[Part]) -> None:
        active = torch.tensor([i for i, *_ in parts])
        (first, last), each = parts[0][1:], len(parts)
        rows = active.repeat(last - first)

        def keep(jobs: Tensor) -> Tensor:
            return soft(first + jobs // each)[:, 0]

        def told(done: int, _: int) -> None:
            progress(first * images + done, masks * images)

        for jobs, kept, answers in ask(model, x, fill, score, rows, keep, batch_size, told):
            flat, number, row = kept.flatten(1).double(), (first + jobs // each).to(x.device), rows[jobs].to(x.device)
            part = number % PARTS
            weighted.view(PARTS * images, -1).index_add_(0, part * images + row, answers.double()[:, None] * flat)
            once = row == active[0].to(x.device)  # all images see the same masks
            visible.index_add_(0, part[once], flat[once])
            scores[row, number] = answers.double()

    def estimate(seen: Tensor, mass: Tensor, mean: Tensor) -> Tensor:
        found = torch.where(mass > 0, seen / mass.clamp_min(1e-12), mean)
        return found - mean if centred else found

    def look(i: int, used: int) -> float:
        own, part = scores[i, :used], torch.arange(used, device=x.device) % PARTS

        def of(parts: list[int]) -> Tensor:
            mean = own[torch.isin(part, torch.tensor(parts, device=x.device))].mean()
            return estimate(weighted[parts, i].sum(0), visible[parts].sum(0), mean)

        everything = list(range(PARTS))
        values[i] = of(everything)
        agreement[i] = correlation(of(everything[::2])[None], of(everything[1::2])[None])[0]
        if tolerance == 0:
            return math.nan
        return jackknife_error([of([p for p in everything if p != left]) for left in everything], values[i])

    stops = [looks(masks, tolerance, LEAST_MASKS)] * images
    used, errors = settle(stops, go, look, tolerance)
    progress(masks * images, masks * images)
    reliability = 2 * agreement / (1 + agreement).clamp_min(1e-12)
    cautions = tuple(
        f"{which(i, images)}the maps of the even and the odd masks agree only at r = {agreement[i]:.2f}: the "
        f"pattern is mostly noise; use more than {used[i]} masks or fewer cells."
        for i in range(images)
        if reliability[i] < POOR_AGREEMENT
    )
    notes = [
        f"{masks} masks of {'×'.join(map(str, counts))} cells, baseline {baseline}; "
        f"agreement of the two halves of the masks: r = {', '.join(f'{r:.2f}' for r in agreement.tolist())}."
    ]
    if tolerance > 0:
        notes.append(settled_note(used, stops, errors, "masks"))
    found = values.view(images, *spatial).float()
    moved = unmoved([scores[i, : used[i]] for i in range(images)])
    return Found(found, notes=tuple(notes), cautions=moved + cautions, signed=centred)


def _chance(probability: float) -> None:
    if not 0 < probability < 1:
        raise TargetError(f"probability = {probability}: it must lie between 0 and 1.")


def _soft(grids: Tensor, counts: Sequence[int], x: Tensor, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Return a function of mask numbers ``(n,)``, in order, to soft masks ``(n, K, *spatial)``.

    Grids ``(M, K, *counts + 1)`` are enlarged linearly and shifted by up to a cell.
    """
    spatial = x.shape[2:]
    sides = [math.ceil(length / count) for length, count in zip(spatial, counts, strict=True)]
    shifts = torch.stack([torch.randint(side, (len(grids),), generator=generator) for side in sides], 1).tolist()
    enlarged = tuple((count + 1) * side for count, side in zip(counts, sides, strict=True))
    mode = "bilinear" if len(spatial) == 2 else "trilinear"

    def masks(numbers: Tensor) -> Tensor:
        first, last = int(numbers[0]), int(numbers[-1])
        wide = F.interpolate(grids[first : last + 1].to(x.device), enlarged, mode=mode)
        cut = torch.empty((*wide.shape[:2], *spatial), device=x.device)
        for index, shift in enumerate(shifts[first : last + 1]):
            window = tuple(slice(s, s + length) for s, length in zip(shift, spatial, strict=True))
            cut[index] = wide[index][(slice(None), *window)]
        return cut[(numbers - first).to(x.device)]

    return masks


@explainer("mc_rise")
@torch.no_grad()
def mc_rise(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    masks: int = 500,
    cells: int | None = None,
    probability: float = 0.5,
    colour: str = "all",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Paint random cells in random colours: how far does a colour lower the score at a pixel (arXiv 2010.02468)?

    A mask leaves each cell of a coarse grid as it is or paints it in one of the colours: darkest (all channels at their
    lowest value), brightest (all at their highest) and, with several channels, one channel at its highest alone. For
    every colour the map is the mean score with the pixel left as it is less the mean score with it painted; the paper
    gives one map for each colour, and with the opposite sign.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        masks: Number of masks, at least 2.
        cells: Cells per axis of the random grid; by default 8 in 2D and 5 in 3D.
        probability: Chance of a cell to be painted.
        colour: The colour whose map is shown (dark, bright, or channel 1, channel 2, ...), or all for their mean.
        batch_size: Masked images per model call.
        progress: Told the model rows done.
        generator: Draws grids and shifts.

    Returns:
        Signed map ``(B, *spatial)`` in units of the score: positive where the colour lowers it.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(2, masks=masks)
    at_least(1, batch_size=batch_size)
    _chance(probability)
    images, spatial = len(x), x.shape[2:]
    names, colours = _colours(x)
    if colour not in ("all", *names):
        raise TargetError(f"colour = {colour!r}: it must be all, {' or '.join(names)}.")
    counts = _cells(x, cells, deep=5)
    shape = (masks, *[count + 1 for count in counts])
    painted = torch.rand(shape, generator=generator) < probability
    paint = torch.randint(len(names), shape, generator=generator) + 1
    kinds = F.one_hot(torch.where(painted, paint, 0), len(names) + 1).movedim(-1, 1).float()  # 0: left as it is
    soft = _soft(kinds, counts, x, generator)
    rows = torch.arange(masks * images) % images

    def fill(row: Tensor, shares: Tensor) -> Tensor:
        shares = shares.to(x)
        paints = torch.einsum("nkc,nk...->nc...", colours[row], shares[:, 1:])
        return shares[:, :1] * x[row] + paints

    zeros = partial(torch.zeros, dtype=torch.float64, device=x.device)
    weighted, mass = zeros(images, len(names) + 1, math.prod(spatial)), zeros(len(names) + 1, math.prod(spatial))
    scores = zeros(images, masks)
    asked = ask(model, x, fill, score, rows, lambda jobs: soft(jobs // images), batch_size, progress)
    for jobs, shares, answers in asked:
        flat, row = shares.flatten(2).double(), rows[jobs].to(x.device)
        weighted.index_add_(0, row, answers.double()[:, None, None] * flat)
        mass += flat[row == 0].sum(0)
        scores[row, (jobs // images).to(x.device)] = answers.double()
    level = scores.mean(1)[:, None, None]
    means = torch.where(mass > 0, weighted / mass.clamp_min(1e-12), level)
    drops = means[:, :1] - means[:, 1:]
    chosen = drops.mean(1) if colour == "all" else drops[:, names.index(colour)]
    strongest = "; ".join(
        f"{which(i, images)}{', '.join(f'{n} {float(d):.2g}' for n, d in zip(names, own, strict=True))}"
        for i, own in enumerate(drops.abs().amax(2))
    )
    grid = "×".join(map(str, counts))
    notes = (f"{masks} masks of {grid} cells, colour {colour}; largest change under each: {strongest}.",)
    return Found(chosen.view(images, *spatial).float(), notes, unmoved(scores))


def _colours(x: Tensor) -> tuple[list[str], Tensor]:
    """Return the names of the colours and their values ``(B, K, C)`` for each image."""
    low, high = x.flatten(2).amin(2), x.flatten(2).amax(2)
    names, values = ["dark", "bright"], [low, high]
    for channel in range(x.shape[1] if x.shape[1] > 1 else 0):
        names.append(f"channel {channel + 1}")
        values.append(torch.where(torch.arange(x.shape[1], device=x.device) == channel, high, low))
    return names, torch.stack(values, 1)


@explainer("relax")
@torch.no_grad()
def relax(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    masks: int = 500,
    cells: int | None = None,
    probability: float = 0.5,
    centred: bool = True,
    baseline: str = "mean",
    tolerance: float = 0.0,
    batch_size: int = 16,
    profile: Wired,
    progress: Progress,
    generator: torch.Generator,
) -> Found:
    """Where the image must be visible for the model's code of it to stay the same (arXiv 2112.10161).

    As RISE, with another score: the cosine similarity of the codes of the masked and of the whole image. The code is
    what the model's last linear layer reads.

    Parameters as in :func:`rise`.
    """
    _ = score
    if "embedding" not in profile.has:
        raise RequirementError(
            "relax", [Gap("embedding", "its last layer is not linear, so no code of the image is known")]
        )
    code = partial(codes, model)
    whole = code(x)

    def similarity(found: Tensor, rows: Tensor) -> Tensor:
        return F.cosine_similarity(found, whole[rows], dim=1)

    found = _rise(
        code, x, similarity, masks, cells, probability, centred, baseline, tolerance, batch_size, progress, generator
    )
    note = f"Code of {whole.shape[1]} numbers: what the last linear layer reads."
    caution = "The map shows what the model's code of the image rests on: it is the same for every target."
    return replace(found, notes=(note, *found.notes), cautions=(caution, *found.cautions))


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
        baseline: What is seen where the mask is 0 — black, white, mean, organ, blur, noise, zero, inpaint or impute.
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
    scores = _masked_scores(model, x, filling(x, baseline, generator), score, masks, counts, batch_size, progress)
    own, other = scores[:, :designs], scores[:, designs : 2 * designs]
    swapped = scores[:, 2 * designs :].view(len(x), number, designs)
    spread = torch.cat([own, other], 1).var(1, keepdim=True)
    index = (swapped - own[:, None]).square().mean(2) / 2 / torch.where(spread > 0, spread, 1.0)
    notes = (f"{designs} designs of {'×'.join(map(str, counts))} cells, baseline {baseline}.",)
    return Found(_on_grid(index, counts, x), notes, unmoved(scores), signed=False)


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
        baseline: What a hidden cell shows — black, white, mean, organ, blur, noise, zero, inpaint or impute.
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
    scores = _masked_scores(model, x, filling(x, baseline, generator), score, shown, counts, batch_size, progress)
    values = torch.stack([_dependence(2 * shown.double() - 1, answers) for answers in scores])
    notes = (f"{masks} masks of {'×'.join(map(str, counts))} cells, baseline {baseline}.",)
    return Found(_on_grid(values, counts, x), notes, unmoved(scores), signed=False)


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
    fill: Fill,
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

    asked = ask(model, x, fill, score, rows, keep, batch_size, progress)
    return torch.cat([answers.double().cpu() for *_, answers in asked]).view(len(masks), images).T


def _covers(length: int, side: int, step: int) -> Tensor:
    """Return which pixels each window of one axis covers: bool (windows, length)."""
    starts = torch.tensor(sorted({*range(0, length - side + 1, step), length - side}))[:, None]
    pixels = torch.arange(length)
    return (starts <= pixels) & (pixels < starts + side)
