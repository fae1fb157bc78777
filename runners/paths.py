"""Gradients summed along paths from a baseline to the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from runners.baselines import baseline as make_baseline
from runners.baselines import blurred
from runners.cams import coarse, features_and_gradients
from runners.checks import completeness_error
from runners.gradients import Draws, accumulate, gradient, value_range
from runners.models import Wired, find_place, run, upsample
from runners.registry import Found, Progress, Score, by_channel, explainer
from runners.superpixels import overlapping_regions
from taxonomy.errors import TargetError


@explainer("integrated_gradients")
def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    steps: int = 50,
    baseline: str = "black",
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Gradients along the straight path from a baseline, by Gauss-Legendre quadrature (arXiv 1703.01365).

    The sum of the map is the difference of the scores of image and baseline (completeness); how well that holds is
    measured
    and told.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        steps: points on the path.
        baseline: where the path starts: black, white, mean, organ, blur, noise or zero.
        batch_size: model rows at a time.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    start = make_baseline(x, baseline, generator)
    values = _straight(model, x, start, score, steps, batch_size, progress)
    return by_channel(values, checks=completeness(model, x, start, score, values))


def _straight(
    model: nn.Module, x: Tensor, start: Tensor, score: Score, steps: int, batch_size: int, progress: Progress
) -> Tensor:
    """Integrate the gradient along the straight path from ``start`` to ``x``, for every value of the input."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    alphas = torch.tensor((nodes + 1) / 2, dtype=x.dtype, device=x.device)
    weight = torch.tensor(weights / 2, dtype=x.dtype, device=x.device)
    shape = (-1, *[1] * (x.ndim - 1))

    def make(steps_: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        at = alphas[steps_].view(shape)
        return start[rows] + at * (x[rows] - start[rows]), weight[steps_].view(shape)

    return (x - start) * accumulate(model, steps, tuple(x.shape), make, score, batch_size, progress)


@explainer("blur_ig")
def blur_ig(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    steps: int = 50,
    blur: float = 0.25,
    batch_size: int = 16,
    progress: Progress,
) -> Found:
    """Gradients along the path from a blurred image to the sharp one (arXiv 2004.03383).

    No baseline is chosen: details appear from coarse to fine. The sum of the map is the difference of the scores of the
    sharp and the blurred image.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        steps: points on the path; the width of the blur shrinks evenly.
        blur: standard deviation at the start, as a share of the image's length on each axis.
        batch_size: model rows at a time.
        progress: told after every chunk.
    """
    if not 0 < blur <= 1:
        raise TargetError(f"blur_ig: blur={blur} was given; it must lie above 0 and not above 1")
    start = blurred(x, blur)

    def make(steps_: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        inputs, weights = [], []
        for step in sorted(set(steps_.tolist())):  # in the order of the rows
            own = x[rows[steps_ == step]]
            before, middle, after = (blurred(own, blur * (1 - (step + part) / steps)) for part in (0, 0.5, 1))
            inputs.append(middle)
            weights.append(after - before)
        return torch.cat(inputs), torch.cat(weights)

    total = accumulate(model, steps, tuple(x.shape), make, score, batch_size, progress)
    return by_channel(total, checks=completeness(model, x, start, score, total))


@explainer("idgi")
def idgi(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    steps: int = 50,
    baseline: str = "black",
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Integrated gradients that count only the part of each step that changes the score (arXiv 2303.14242).

    A step of the path that moves the score by ``d`` gives each pixel ``d · g² / |g|²``, so noise across the gradient
    leaves no trace and the map sums exactly to the difference of the scores.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        steps: steps of the path.
        baseline: where the path starts: black, white, mean, organ, blur, noise or zero.
        batch_size: model rows at a time.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    start = make_baseline(x, baseline, generator)
    shape = (-1, *[1] * (x.ndim - 1))
    total = torch.zeros_like(x)

    def look(points: Tensor, rows: Tensor) -> Pair:
        grad, scores = gradient(model, points, score, rows)
        square = grad**2
        return square / square.flatten(1).sum(1).clamp(min=torch.finfo(x.dtype).tiny).view(shape), scores.to(x)

    for owner, (share, before), (_, after) in _ends(x, start, steps, batch_size, progress, look):
        total.index_add_(0, owner.to(x.device), share * (after - before).view(shape))
    return by_channel(total)


Pair = tuple[Tensor, Tensor]
"""Two tensors with a row per point."""


def _ends(
    x: Tensor,
    start: Tensor,
    steps: int,
    batch_size: int,
    progress: Progress,
    look: Callable[[Tensor, Tensor], Pair],
) -> Iterator[tuple[Tensor, Pair, Pair]]:
    """Cut the straight path into equal steps; yield whose step it is, and what was seen at its two ends.

    Args:
        x: where the paths end.
        start: where they start.
        steps: steps of every path.
        batch_size: points at a time.
        progress: told after every chunk.
        look: ``look(points, rows)``.
    """
    batch, shape = len(x), (-1, *[1] * (x.ndim - 1))
    first, second = x.new_zeros(0), x.new_zeros(0)  # the last point of every image waits for its next one
    for begin in range(0, (steps + 1) * batch, batch_size):
        index = torch.arange(begin, min(begin + batch_size, (steps + 1) * batch))
        rows = index % batch
        at = (index // batch).to(x) / steps
        seen = look(start[rows] + at.view(shape) * (x[rows] - start[rows]), rows)
        first = torch.cat([first, seen[0]]) if len(first) else seen[0]
        second = torch.cat([second, seen[1]]) if len(second) else seen[1]
        ready = max(len(first) - batch, 0)
        owner = (torch.arange(ready) + int(index[-1]) + 1 - len(first)) % batch
        yield owner, (first[:ready], second[:ready]), (first[batch:], second[batch:])
        first, second = first[ready:], second[ready:]
        progress(int(index[-1]) + 1, (steps + 1) * batch)


def completeness(model: nn.Module, x: Tensor, start: Tensor, score: Score, values: Tensor) -> dict[str, Tensor]:
    """Check how far the sum of a map is from the difference of the scores it should add up to."""
    rows = torch.arange(len(x))
    with torch.no_grad():
        here, there = (score(run(model, images.clone()), rows) for images in (x, start))
    return {"completeness_error": completeness_error(values, here - there)}


@explainer("gradient_shap")
def gradient_shap(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 25,
    noise: float = 0.05,
    baseline: str = "black",
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Expected gradients at random points between baselines and the noisy image (arXiv 1705.07874, 1906.10670).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        samples: random points per image.
        noise: standard deviation of the noise as a share of the image's range.
        baseline: where the paths start: black, white, mean, organ, blur, noise or zero.
        batch_size: model rows at a time.
        generator: draws points and noise, the same for every image of the batch.
        progress: told after every chunk.
    """
    start = make_baseline(x, baseline, generator)
    sigma = noise * value_range(x)
    # one point in each of `samples` equal parts of the path: the same expectation with less scatter
    alphas = ((torch.arange(samples) + torch.rand(samples, generator=generator)) / samples).to(x)
    draws = Draws(x, generator)
    shape = (-1, *[1] * (x.ndim - 1))

    def make(steps: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        difference = x[rows] + sigma[rows] * draws(steps) - start[rows]
        return start[rows] + alphas[steps].view(shape) * difference, difference / samples

    total = accumulate(model, samples, tuple(x.shape), make, score, batch_size, progress)
    return by_channel(total, cautions=(_ESTIMATE,))


_ESTIMATE = "An estimate from random points: other seeds give slightly other maps."


@explainer("expected_gradients")
def expected_gradients(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 200,
    batch_size: int = 16,
    reference: Tensor,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Gradients at random points between reference images and the image, averaged (arXiv 1906.10670).

    The sum of the map tends to the score less the mean score of the reference images; how near it came is told.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        samples: random points, spread evenly over the reference images and along the paths.
        batch_size: model rows at a time.
        reference: ``(R, C, *spatial)``, images like those the model learned from.
        generator: draws the points, the same for every image of the batch.
        progress: told after every chunk.
    """
    rounds = -(-samples // len(reference))
    chosen = torch.cat([torch.randperm(len(reference), generator=generator) for _ in range(rounds)])[:samples]
    # one point in each of `samples` equal parts of the path, in an order of its own: which image it is tells nothing
    parts = torch.randperm(samples, generator=generator)
    alphas = ((parts + torch.rand(samples, generator=generator)) / samples).to(x)
    shape = (-1, *[1] * (x.ndim - 1))

    def make(steps: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        start = reference[chosen[steps]]
        difference = x[rows] - start
        return start + alphas[steps].view(shape) * difference, difference / samples

    total = accumulate(model, samples, tuple(x.shape), make, score, batch_size, progress)
    used, counts = torch.unique(chosen, return_counts=True)
    with torch.no_grad():
        gap = score(run(model, x.clone()), torch.arange(len(x))).to(x)
        for first in range(0, len(used), batch_size):
            some = slice(first, first + batch_size)
            outputs, share = run(model, reference[used[some]]), (counts[some] / samples).to(x)
            for i in range(len(x)):  # what each reference image scores for the target of image i
                gap[i] -= share @ score(outputs, torch.full((len(share),), i)).to(x)
    return by_channel(
        total,
        notes=(f"Reference images: {len(used)} of the {len(reference)} given were drawn.",),
        cautions=(_ESTIMATE,),
        checks={"completeness_error": completeness_error(total, gap)},
    )


@explainer("layer_conductance")
def layer_conductance(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    steps: int = 50,
    baseline: str = "black",
    layer: str | None = None,
    batch_size: int = 16,
    profile: Wired,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Integrated gradients that pass through each feature of a layer, summed over the features (arXiv 1805.12233).

    Along the path each step of a feature counts times the mean gradient at its two ends. Before it is brought to the
    size of the image, the map sums to the difference of the scores of image and baseline.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        steps: steps of the path.
        baseline: where the path starts: black, white, mean, organ, blur, noise or zero.
        layer: module to take the features from; None lets the profile choose.
        batch_size: model rows at a time.
        profile: the wired profile.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    place, notes = find_place(profile, layer)
    start = make_baseline(x, baseline, generator)
    total = torch.zeros(len(x), *place.grid, dtype=x.dtype, device=x.device)

    def look(points: Tensor, rows: Tensor) -> Pair:
        return features_and_gradients(model, points, score, place, rows)

    for owner, (here, slope), (there, next_slope) in _ends(x, start, steps, batch_size, progress, look):
        passed = ((slope + next_slope) / 2 * (there - here)).sum(1)
        total.index_add_(0, owner.to(x.device), passed.to(total))
    error = completeness(model, x, start, score, total)["completeness_error"]
    return Found(upsample(total, tuple(x.shape[2:])), notes, coarse(place, x), checks={"parts_error": error})


@explainer("guided_ig")
def guided_ig(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    steps: int = 200,
    fraction: float = 0.25,
    max_distance: float = 0.02,
    baseline: str = "black",
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Gradients along a path that changes the values with the smallest gradients first (arXiv 2106.09788).

    One image at a time: which values come first hangs on the last digits of the gradient, and these on the batch.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        steps: steps of the path, one after the other; every image goes its own way.
        fraction: share of the values that is changed at a time, from the smallest gradient up.
        max_distance: how far a value may run ahead of the straight path or fall behind, as a share of its way.
        baseline: where the path starts: black, white, mean, organ, blur, noise or zero.
        generator: for the noise baseline.
        progress: told after every step.
    """
    if not 0 < fraction <= 1:
        raise TargetError(f"guided_ig: fraction={fraction} was given; it must lie above 0 and not above 1")
    if not 0 <= max_distance <= 1:
        raise TargetError(f"guided_ig: max_distance={max_distance} was given; it must lie between 0 and 1")
    start = make_baseline(x, baseline, generator)
    values = torch.zeros_like(x)
    for i in range(len(x)):
        row = torch.tensor([i])
        way = (x[i] - start[i]).double()
        size, done, found = way.abs().flatten(), torch.zeros_like(way), torch.zeros_like(way)
        for step in range(steps):
            grad, _ = gradient(model, (start[i] + done * way).to(x)[None], score, row)
            slope, before = grad[0].double(), done
            done = _advanced(done.flatten(), size, slope.abs().flatten(), (step + 1) / steps, fraction, max_distance)
            done = done.view_as(way)
            found += (done - before) * way * slope
            progress(i * steps + step + 1, len(x) * steps)
        values[i] = found.to(x)
    note = (
        f"Values move in jumps of up to {min(2 * max_distance, 1):.0%} of their way: a smaller max_distance, not more "
        "steps alone, brings the sum of the map nearer to the change of the score."
    )
    return by_channel(values, notes=(note,), checks=completeness(model, x, start, score, values))


def _advanced(done: Tensor, way: Tensor, slope: Tensor, goal: float, fraction: float, slack: float) -> Tensor:
    """Move on until the share ``goal`` of the whole way is gone, values of small slope first.

    Args:
        done: ``(N,)``, the share of its way that each value has gone.
        way: ``(N,)``, lengths of the ways.
        slope: ``(N,)``, sizes of the gradients.
        goal: of the whole way.
        fraction: share of the values that moves at a time.
        slack: how far a value may be before or behind the goal.
    """
    low, high = max(goal - slack, 0.0), min(goal + slack, 1.0)
    done = torch.where(way > 0, done.clamp(min=low), high)
    total = way.sum()
    rank = int(fraction * (len(way) - 1)) + 1
    for _ in range(math.ceil(1 / fraction) + 2):  # each round brings a share of the values to the end of their slack
        left = goal * total - (done * way).sum()
        if left <= 1e-9 * total:
            break
        free = done < high
        slope = torch.where(free, slope, torch.inf)
        chosen = free & (slope <= slope.kthvalue(rank).values)
        room = ((high - done) * way)[chosen].sum()
        done = torch.where(chosen, done + (high - done) * left / room if left < room else high, done)
    return done


@explainer("xrai")
def xrai(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    steps: int = 100,
    batch_size: int = 16,
    progress: Progress,
) -> Found:
    """Regions ranked by the mean integrated gradient of what each adds (arXiv 1906.02825).

    Integrated gradients from a black and a white baseline are averaged. Among overlapping regions of many sizes the one
    whose new part has the largest mean is taken, again and again; a pixel's value is the mean of the part it came with.

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        steps: points on each of the two paths.
        batch_size: model rows at a time.
        progress: told after every chunk.
    """
    fine, checks = torch.zeros_like(x), []
    for i, kind in enumerate(("black", "white")):
        start = make_baseline(x, kind, torch.Generator())
        halves = lambda done, total, before=i: progress(before * total + done, 2 * total)  # noqa: E731
        found = _straight(model, x, start, score, steps, batch_size, halves)
        checks.append(completeness(model, x, start, score, found)["completeness_error"])
        fine += found / 2
    maps = [_by_region(image, values) for image, values in zip(x, fine.amax(1), strict=True)]
    return Found(torch.stack(maps), checks={"parts_error": torch.stack(checks).amax(0)})


LEAST_NEW = 0.001
"""Share of the image that a region must add to be taken; 50 pixels of an image of 224 by 224."""


def _by_region(image: Tensor, values: Tensor) -> Tensor:
    """Give every pixel of ``values`` ``(*spatial)`` the mean of the part of a region that it came with."""
    regions, grid = overlapping_regions(image)
    coarse = F.interpolate(values[None, None].float().cpu(), size=grid, mode="area").double().flatten().numpy()
    ranked = torch.from_numpy(_ranked(regions, coarse, max(1.0, LEAST_NEW * coarse.size)).reshape(grid))
    return F.interpolate(ranked[None, None].to(values), size=tuple(values.shape), mode="nearest-exact")[0, 0]


def _ranked(regions: list[NDArray[np.intp]], values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Take regions by the largest mean of ``values`` ``(N,)`` in what each adds; what is left gets its mean.

    What each region would still add is kept up to date, so the whole ranking costs one look at every pixel of each.
    """
    owner = np.repeat(np.arange(len(regions)), [len(region) for region in regions])
    member = csr_array((np.ones(len(owner)), (np.concatenate(regions), owner)), shape=(len(values), len(regions)))
    sizes, sums = member.sum(0), values @ member
    found, left = np.zeros_like(values), np.ones(len(values), bool)
    while (sizes >= least).any():
        best = int(np.argmax(np.where(sizes >= least, sums / np.maximum(sizes, 1), -np.inf)))
        new = regions[best][left[regions[best]]]
        found[new] = values[new].mean()
        left[new] = False
        sizes = sizes - member[new].sum(0)
        sums = sums - values[new] @ member[new]
    if left.any():
        found[left] = values[left].mean()
    return found
