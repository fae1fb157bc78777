"""Gradients summed along paths from a baseline to the image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from runners.baselines import baseline as make_baseline
from runners.baselines import blurred
from runners.checks import completeness_error
from runners.gradients import Draws, accumulate, gradient, value_range
from runners.models import run
from runners.registry import Found, Progress, Score, by_channel, explainer
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
        baseline: where the path starts: black, white, mean, blur, noise or zero.
        batch_size: model rows at a time.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    start = make_baseline(x, baseline, generator)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    alphas = torch.tensor((nodes + 1) / 2, dtype=x.dtype, device=x.device)
    weight = torch.tensor(weights / 2, dtype=x.dtype, device=x.device)
    shape = (-1, *[1] * (x.ndim - 1))

    def make(steps_: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        at = alphas[steps_].view(shape)
        return start[rows] + at * (x[rows] - start[rows]), weight[steps_].view(shape)

    total = accumulate(model, steps, tuple(x.shape), make, score, batch_size, progress)
    values = (x - start) * total
    return by_channel(values, checks=completeness(model, x, start, score, values))


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
        baseline: where the path starts: black, white, mean, blur, noise or zero.
        batch_size: model rows at a time.
        generator: for the noise baseline.
        progress: told after every chunk.
    """
    start = make_baseline(x, baseline, generator)
    batch, shape = len(x), (-1, *[1] * (x.ndim - 1))
    total = torch.zeros_like(x)
    # what the last point of every image waits for: the score of its next point
    waiting, scores = x.new_zeros(0, *x.shape[1:]), x.new_zeros(0)
    for first in range(0, (steps + 1) * batch, batch_size):
        index = torch.arange(first, min(first + batch_size, (steps + 1) * batch))
        rows = index % batch
        at = (index // batch).to(x) / steps
        grad, found = gradient(model, start[rows] + at.view(shape) * (x[rows] - start[rows]), score, rows)
        square = grad**2
        share = square / square.flatten(1).sum(1).clamp(min=torch.finfo(x.dtype).tiny).view(shape)
        waiting, scores = torch.cat([waiting, share]), torch.cat([scores, found.to(scores)])
        ready = max(len(scores) - batch, 0)
        gain = scores[batch:] - scores[:ready]
        owner = (torch.arange(ready) + int(index[-1]) + 1 - len(scores)) % batch
        total.index_add_(0, owner.to(x.device), waiting[:ready] * gain.view(shape))
        waiting, scores = waiting[ready:], scores[ready:]
        progress(int(index[-1]) + 1, (steps + 1) * batch)
    return by_channel(total)


def completeness(model: nn.Module, x: Tensor, start: Tensor, score: Score, values: Tensor) -> dict[str, Tensor]:
    """Check how far the sum of a map is from the difference of the scores it should add up to."""
    rows = torch.arange(len(x))
    with torch.no_grad():
        gap = score(run(model, x.clone()), rows) - score(run(model, start.clone()), rows)
    return {"completeness_error": completeness_error(values, gap)}


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
        baseline: where the paths start: black, white, mean, blur, noise or zero.
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
    return by_channel(total, cautions=("An estimate from random points: other seeds give slightly other maps.",))
