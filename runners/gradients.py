"""Gradient methods: one backward pass, or the mean of several."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from runners.models import leaf, run
from runners.modes import Guided
from runners.registry import Found, Progress, Score, by_channel, explainer


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
def input_x_gradient(model: nn.Module, x: Tensor, score: Score) -> Found:
    """Input times gradient, summed over the channels (arXiv 1605.01713)."""
    grad, _ = gradient(model, x, score)
    return by_channel(x * grad)


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
    sigma = noise * value_range(x)
    draws = Draws(x, generator)

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


def value_range(x: Tensor) -> Tensor:
    """Largest minus smallest value of every image, ``(B, 1, ...)``."""
    axes = tuple(range(1, x.ndim))
    return x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True)


class Draws:
    """Standard normal draws by step number, so that neither the batch nor the chunk size changes them."""

    def __init__(self, x: Tensor, generator: torch.Generator) -> None:
        self.shape, self.like = tuple(x.shape[1:]), x
        self.seed = int(torch.randint(2**62, (1,), generator=generator))

    def __call__(self, steps: Tensor) -> Tensor:
        """Return one draw ``(C, *spatial)`` per step, stacked."""
        unique = {int(s): None for s in steps}
        made = {
            s: torch.randn(self.shape, generator=torch.Generator().manual_seed((self.seed + s) % 2**63)).to(self.like)
            for s in unique
        }
        return torch.stack([made[int(s)] for s in steps])


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
