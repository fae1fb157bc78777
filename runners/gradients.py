"""Gradient methods: one backward pass, or the mean of several."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from runners.baselines import baseline as make_baseline
from runners.baselines import blurred
from runners.models import leaf, run
from runners.modes import Guided
from runners.registry import Found, Progress, Score, explainer
from taxonomy.errors import TargetError


def gradient(model: nn.Module, x: Tensor, score: Score, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the gradient of the score with respect to the input, like ``x``, and the scores ``(N,)``.

    Rows are independent: the sum over rows gives each row its own gradient.
    """
    rows = torch.arange(len(x)) if rows is None else rows
    source, entry = leaf(x)
    with torch.enable_grad():
        scores = score(run(model, entry), rows)
        (grad,) = torch.autograd.grad(scores.sum(), source)
    return grad, scores.detach()


def magnitude(grad: Tensor) -> Tensor:
    """The largest absolute value over the channels, ``(B, *spatial)``."""
    return grad.abs().amax(1)


def accumulate(
    model: nn.Module,
    count: int,
    shape: tuple[int, ...],
    make: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    score: Score,
    batch_size: int,
    progress: Progress,
    each: Callable[[Tensor], Tensor] = lambda grad: grad,
) -> Tensor:
    """Sum ``weight * gradient`` over ``count`` variants of every image, in chunks of ``batch_size`` rows.

    Args:
        model: the model.
        count: variants per image.
        shape: shape of ``x``.
        make: ``make(steps, rows) -> (inputs, weights)`` for 1-D index tensors of equal length; weights fit the inputs
            by broadcasting.
        score: the score.
        batch_size: rows per model pass; memory does not grow with ``count``.
        progress: told after every chunk.
        each: what is done to every gradient before it is added up.
    """
    total: Tensor | None = None
    batch = shape[0]
    for start in range(0, count * batch, batch_size):
        index = torch.arange(start, min(start + batch_size, count * batch))
        steps, rows = index // batch, index % batch
        inputs, weights = make(steps, rows)
        grad, _ = gradient(model, inputs, score, rows)
        found = each(grad)
        total = found.new_zeros(batch, *found.shape[1:]) if total is None else total
        total.index_add_(0, rows.to(grad.device), found * weights.to(found))
        progress(int(index[-1]) + 1, count * batch)
    assert total is not None
    return total


@explainer("vanilla_gradient")
def vanilla_gradient(model: nn.Module, x: Tensor, score: Score) -> Found:
    """Magnitude of the gradient, largest over the channels (simonyan: arXiv 1312.6034)."""
    grad, _ = gradient(model, x, score)
    return Found(magnitude(grad), signed=False)


@explainer("input_x_gradient")
def input_x_gradient(model: nn.Module, x: Tensor, score: Score) -> Tensor:
    """Input times gradient, summed over the channels (arXiv 1605.01713)."""
    grad, _ = gradient(model, x, score)
    return (x * grad).sum(1)


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
    values = ((x - start) * total).sum(1)
    return Found(values, *_completeness(model, x, start, score, values))


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
    values = total.sum(1)
    return Found(values, *_completeness(model, x, start, score, values))


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
    return Found(total.sum(1))


def _completeness(
    model: nn.Module, x: Tensor, start: Tensor, score: Score, values: Tensor
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell how far the sum of a map is from the difference of the scores it should add up to."""
    rows = torch.arange(len(x))
    with torch.no_grad():
        gap = score(run(model, x.clone()), rows) - score(run(model, start.clone()), rows)
    return completeness_text(values.flatten(1).sum(1), gap)


def completeness_text(total: Tensor, gap: Tensor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes and cautions on completeness: ``total`` and ``gap`` ``(B,)``."""
    error = ((total - gap).abs() / gap.abs().clamp(min=1e-6)).max().item()
    note = f"Completeness: the map sums to the change of the score from the baseline within {100 * error:.2g} %."
    if error > 0.05:
        return (), (
            f"Completeness holds only within {100 * error:.2g} %: the map misses or doubles part of the score's change "
            "(more steps or another baseline may help).",
        )
    return (note,), ()


def _noisy(
    model: nn.Module,
    x: Tensor,
    score: Score,
    samples: int,
    noise: float,
    batch_size: int,
    generator: torch.Generator,
    progress: Progress,
    each: Callable[[Tensor], Tensor] = lambda grad: grad,
) -> Tensor:
    """Return the mean, over noisy copies of each image, of what ``each`` makes of the gradient."""
    sigma = noise * _range(x)
    draws = _Draws(x, generator)

    def make(steps: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return x[rows] + sigma[rows] * draws(steps), torch.ones(())

    return accumulate(model, samples, tuple(x.shape), make, score, batch_size, progress, each) / samples


@explainer("smoothgrad")
def smoothgrad(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 25,
    noise: float = 0.15,
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Mean gradient under Gaussian noise; its magnitude (arXiv 1706.03825).

    Args:
        model: the model.
        x: ``(B, C, *spatial)``.
        score: the score.
        samples: noisy copies per image.
        noise: standard deviation as a share of the image's range.
        batch_size: model rows at a time.
        generator: draws the noise, the same for every image of the batch.
        progress: told after every chunk.
    """
    mean = _noisy(model, x, score, samples, noise, batch_size, generator, progress)
    return Found(magnitude(mean), signed=False)


@explainer("squaregrad")
def squaregrad(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 25,
    noise: float = 0.15,
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Mean squared gradient under Gaussian noise, largest over the channels (arXiv 1806.10758).

    Parameters as in :func:`smoothgrad`.
    """
    mean = _noisy(model, x, score, samples, noise, batch_size, generator, progress, torch.square)
    return Found(mean.amax(1), signed=False)


@explainer("vargrad")
def vargrad(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 25,
    noise: float = 0.15,
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Variance of the gradient under Gaussian noise, largest over the channels (arXiv 1810.03307).

    Parameters as in :func:`smoothgrad`. The map shows where the gradient depends on details of the image, not which way
    it points.
    """

    def both(grad: Tensor) -> Tensor:
        exact = grad.double()  # the difference of two large sums loses the digits of a single one
        return torch.cat([exact, exact**2], 1)

    mean, square = _noisy(model, x, score, samples, noise, batch_size, generator, progress, both).chunk(2, 1)
    return Found((square - mean**2).clamp(min=0).amax(1).to(x.dtype), signed=False)


def _range(x: Tensor) -> Tensor:
    """Largest minus smallest value of every image, ``(B, 1, ...)``."""
    axes = tuple(range(1, x.ndim))
    return x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True)


class _Draws:
    """Standard normal draws by step number, so that neither the batch nor the chunk size changes them."""

    def __init__(self, x: Tensor, generator: torch.Generator) -> None:
        self.shape, self.like = tuple(x.shape[1:]), x
        self.seed = int(torch.randint(2**62, (1,), generator=generator))

    def __call__(self, steps: Tensor) -> Tensor:
        unique = {int(s): None for s in steps}
        made = {
            s: torch.randn(self.shape, generator=torch.Generator().manual_seed((self.seed + s) % 2**63)).to(self.like)
            for s in unique
        }
        return torch.stack([made[int(s)] for s in steps])


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
    sigma = noise * _range(x)
    # one point in each of `samples` equal parts of the path: the same expectation with less scatter
    alphas = ((torch.arange(samples) + torch.rand(samples, generator=generator)) / samples).to(x)
    draws = _Draws(x, generator)
    shape = (-1, *[1] * (x.ndim - 1))

    def make(steps: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        difference = x[rows] + sigma[rows] * draws(steps) - start[rows]
        return start[rows] + alphas[steps].view(shape) * difference, difference / samples

    total = accumulate(model, samples, tuple(x.shape), make, score, batch_size, progress)
    return Found(total.sum(1), cautions=("An estimate from random points: other seeds give slightly other maps.",))


@explainer("guided_backprop")
def guided_backprop(model: nn.Module, x: Tensor, score: Score) -> Found:
    """Gradient with only positive parts passed back at each ReLU; its magnitude (arXiv 1412.6806)."""
    source, entry = leaf(x)
    with torch.enable_grad():
        with Guided():
            outputs = run(model, entry)
        (grad,) = torch.autograd.grad(score(outputs, torch.arange(len(x))).sum(), source)
    return Found(
        magnitude(grad),
        signed=False,
        cautions=(
            "Known to change little when the model's weights or the target change: it shows edges as much as evidence.",
        ),
    )
