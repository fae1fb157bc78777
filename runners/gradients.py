"""Gradient methods: one backward pass, or the mean of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from runners.checks import completeness_error
from runners.models import leaf, run, upsample
from runners.modes import Biases, Deconvolved, Dropping, Guided
from runners.registry import Found, Progress, Score, by_channel, explainer, no_progress
from taxonomy.errors import ModelError, TargetError


def gradient(
    model: Callable[[Tensor], Any],
    x: Tensor,
    score: Score,
    rows: Tensor | None = None,
    inside: AbstractContextManager[Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the score with respect to the input, like ``x``, and the scores ``(N,)``.

    Rows are independent: the sum over rows gives each row its own gradient. The model runs ``inside`` a mode, if given.
    """
    rows = torch.arange(len(x)) if rows is None else rows
    source, entry = leaf(x)
    with torch.enable_grad():
        with inside or nullcontext():
            outputs = run(model, entry)
        scores = score(outputs, rows)
        (grad,) = torch.autograd.grad(scores.sum(), source)
    return grad, scores.detach()


def magnitude(grad: Tensor) -> Tensor:
    """The largest absolute value over the channels, ``(B, *spatial)``."""
    return grad.abs().amax(1)


def accumulate(
    model: Callable[[Tensor], Any],
    count: int,
    shape: tuple[int, ...],
    make: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    score: Score,
    batch_size: int,
    progress: Progress,
    each: Callable[[Tensor], Tensor] = lambda grad: grad,
    inside: Callable[[Tensor], AbstractContextManager[Any]] = lambda steps: nullcontext(),  # noqa: ARG005
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
        inside: the mode in which the model runs, for the steps of the rows.
    """
    total: Tensor | None = None
    batch = shape[0]
    for start in range(0, count * batch, batch_size):
        index = torch.arange(start, min(start + batch_size, count * batch))
        steps, rows = index // batch, index % batch
        inputs, weights = make(steps, rows)
        grad, _ = gradient(model, inputs, score, rows, inside(steps))
        found = each(grad)
        total = found.new_zeros(batch, *found.shape[1:]) if total is None else total
        total.index_add_(0, rows.to(grad.device), found * weights.to(found))
        progress(int(index[-1]) + 1, count * batch)
    assert total is not None
    return total


@explainer("vanilla_gradient", looks_first=True)
def vanilla_gradient(model: nn.Module, x: Tensor, score: Score) -> Found:
    """Magnitude of the gradient, largest over the channels (simonyan: arXiv 1312.6034)."""
    grad, _ = gradient(model, x, score)
    return Found(magnitude(grad), signed=False)


@explainer("input_x_gradient", looks_first=True)
def input_x_gradient(model: nn.Module, x: Tensor, score: Score) -> Found:
    """Input times gradient, summed over the channels (arXiv 1605.01713)."""
    grad, _ = gradient(model, x, score)
    return by_channel(x * grad)


@explainer("fullgrad", looks_first=True)
def fullgrad(model: nn.Module, x: Tensor, score: Score) -> Found:
    """Input times gradient and every bias times its gradient, each layer scaled, added up (arXiv 1905.00780).

    As in the authors' code a layer's contributions are taken without sign, scaled to 0..1 over all its channels and
    positions, summed over the channels and brought to the size of the image. Biases behind the last feature map have no
    place in the image and are left out of the map. What a normalisation or a curved activation adds counts as bias.
    """
    layers: list[tuple[Tensor, Tensor]] = []
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)

    def keep(term: Tensor) -> None:
        if len(term) != len(x):
            return
        total.add_(term.flatten(1).sum(1).to(total))
        if term.ndim == x.ndim and term[0, 0].numel() > 1:
            size = term.abs()
            low, high = size.flatten(1).amin(1), size.flatten(1).amax(1)
            layers.append((size.sum(1) - size.shape[1] * low.view(-1, *[1] * (x.ndim - 2)), high - low))

    grad, scores = gradient(model, x, score, inside=Biases(keep))
    keep(x * grad)
    top = torch.stack([peak for _, peak in layers]).amax(0)
    sums: dict[tuple[int, ...], Tensor] = {}
    for maps, peak in layers:
        heard = peak > 1e-6 * top  # what is only rounding is not scaled up to 1
        share = torch.where(heard, 1 / torch.where(heard, peak, 1.0), 0.0).view(-1, *[1] * (x.ndim - 2))
        sums[maps.shape] = sums.get(maps.shape, 0) + maps * share
    values = torch.stack([upsample(maps, tuple(x.shape[2:])) for maps in sums.values()]).sum(0)
    return Found(values, signed=False, checks={"parts_error": completeness_error(total[:, None], scores)})


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
    moments = _noisy(model, x, score, samples, noise, batch_size, generator, progress, _with_square)
    return Found(_variance(moments).amax(1).to(x.dtype), signed=False)


def _with_square(grad: Tensor) -> Tensor:
    exact = grad.double()  # the difference of two large sums loses the digits of a single one
    return torch.cat([exact, exact**2], 1)


def _variance(moments: Tensor) -> Tensor:
    """The variance from the means of a value and its square, side by side in the channels."""
    mean, square = moments.chunk(2, 1)
    return (square - mean**2).clamp(min=0)


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


@explainer("guided_backprop", looks_first=True)
def guided_backprop(model: nn.Module, x: Tensor, score: Score) -> Found:
    """Gradient with only positive parts passed back at each ReLU; its magnitude (arXiv 1412.6806)."""
    grad, _ = gradient(model, x, score, inside=Guided())
    return Found(magnitude(grad), signed=False, cautions=(_EDGES,))


_EDGES = "Known to change little when the model's weights or the target change: it shows edges as much as evidence."


@explainer("deconvnet", looks_first=True)
def deconvnet(model: nn.Module, x: Tensor, score: Score) -> Found:
    """Gradient cut to its positive part at every ReLU, whatever came through there; magnitude (arXiv 1311.2901)."""
    grad, _ = gradient(model, x, score, inside=Deconvolved())
    caution = "Known to restore parts of the image whatever the model decides: it hardly tells one label from another."
    return Found(magnitude(grad), signed=False, cautions=(caution,))


@explainer("mc_guided_backprop")
def mc_guided_backprop(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 20,
    show: str = "spread",
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Guided backpropagation under dropout, many times: how certain its map is (10.1016/j.media.2019.101619).

    Args:
        model: a network of ReLUs with dropout.
        x: ``(B, C, *spatial)``.
        score: the score.
        samples: passes under dropout.
        show: spread, the standard deviation over the passes; or mean, their average.
        batch_size: model rows at a time.
        generator: draws what is dropped, the same for every image of the batch.
        progress: told after every chunk.
    """
    if show not in ("spread", "mean"):
        raise TargetError(f"mc_guided_backprop: show={show!r} was given; it must be 'spread' or 'mean'")
    seed = int(torch.randint(2**62, (1,), generator=generator))

    @contextmanager
    def dropping(steps: Tensor) -> Iterator[None]:
        with Dropping([seed + step for step in steps.tolist()]), Guided():
            yield

    moments = accumulate(
        model,
        samples,
        tuple(x.shape),
        lambda _, rows: (x[rows], torch.ones(())),
        score,
        batch_size,
        progress,
        _with_square,
        dropping,
    )
    moments = moments / samples
    if show == "mean":
        return Found(magnitude(moments.chunk(2, 1)[0]).to(x.dtype), signed=False, cautions=(_EDGES,))
    caution = "It marks where the importance is uncertain under dropout, not where it is high; show='mean' gives that."
    return Found(_variance(moments).sqrt().amax(1).to(x.dtype), signed=False, cautions=(caution, _EDGES))


@explainer("noisegrad")
def noisegrad(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 10,
    weight_noise: float = 0.2,
    input_samples: int = 1,
    noise: float = 0.0,
    batch_size: int = 16,
    generator: torch.Generator,
    progress: Progress,
) -> Found:
    """Mean gradient of models with noisy weights; its magnitude (arXiv 2106.10185).

    With noise on the input too, and several ``input_samples``, it is FusionGrad.

    Args:
        model: the model; its own weights are never changed.
        x: ``(B, C, *spatial)``.
        score: the score.
        samples: noisy models.
        weight_noise: standard deviation of the factor, around 1, of every weight.
        input_samples: noisy copies of the image for each noisy model.
        noise: standard deviation of the noise on the input, as a share of the image's range.
        batch_size: model rows at a time.
        generator: draws all noise, the same for every image of the batch.
        progress: told after every chunk.
    """
    for name, value in (("weight_noise", weight_noise), ("noise", noise)):
        if value < 0:
            raise TargetError(f"noisegrad: {name}={value} was given; it must not be negative")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ModelError("noisegrad changes weights, which TorchScript does not allow; load the model as .pt2")
    seed = int(torch.randint(2**62, (1,), generator=generator))
    factors = {name: torch.empty(weight.shape) for name, weight in model.named_parameters()}
    sigma, draws = noise * value_range(x), Draws(x, generator)
    total = torch.zeros_like(x)
    for sample in range(samples):
        weights = _noisy_weights(model, factors, weight_noise, seed + sample)

        def noisy(at: Tensor, weights: dict[str, Tensor] = weights) -> Any:
            return functional_call(model, weights, (at,))

        def make(steps: Tensor, rows: Tensor, first: int = sample * input_samples) -> tuple[Tensor, Tensor]:
            return x[rows] + sigma[rows] * draws(first + steps), torch.ones(())

        total += accumulate(noisy, input_samples, tuple(x.shape), make, score, batch_size, no_progress)
        progress(sample + 1, samples)
    return Found(magnitude(total / (samples * input_samples)), signed=False)


def _noisy_weights(model: nn.Module, factors: dict[str, Tensor], noise: float, seed: int) -> dict[str, Tensor]:
    """Return a copy of every weight, each times its own factor around 1; the memory of ``factors`` is used again."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: factors[name].normal_(1, noise, generator=generator).to(weight).mul_(weight.detach())
        for name, weight in model.named_parameters()
    }
