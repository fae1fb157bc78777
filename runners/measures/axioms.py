"""Axioms: does the map keep the rules that it should keep by its own claim?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import ask, at_least, which
from runners.baselines import BASELINES, filling
from runners.baselines import baseline as content
from runners.measures.common import ExplainAgain, length, undefined
from runners.models import run, twin_of
from runners.registry import MetricResult, Progress, Score, metric
from taxonomy.errors import RequirementError, TargetError
from taxonomy.requirements import Gap


@metric("completeness")
def completeness(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    baseline: str | None = None,
    settings: Mapping[str, Any],
    generator: torch.Generator,
) -> MetricResult:
    """Say how well the map adds up to the score's difference to a baseline: 1 when it does, lower otherwise.

    One minus the gap, relative to that difference (axiomatic_attribution_deep_2017).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        baseline: Where the difference is taken — black, white, mean, blur, noise or zero; None is the explanation's
            own baseline, zero if it has none.
        settings: The parameters of the explanation.
        generator: Draws the noise of that baseline.

    Returns:
        ``score`` up to 1; NaN where image and baseline have the same score.

    Raises:
        TargetError: there is no such baseline.
    """
    own = settings.get("baseline")
    kind = baseline or (own if own in BASELINES else "zero")
    both = torch.cat([x, content(x, kind, generator)])
    rows = torch.arange(len(x)).repeat(2)
    with torch.no_grad():
        scores = score(run(model, both), rows.to(x.device)).double()
    gain = (scores[: len(x)] - scores[len(x) :]).to(values.device)
    total = values.flatten(1).double().sum(1)
    found = (1 - (total - gain).abs() / gain.abs()).where(gain != 0, math.nan)
    whose = "" if baseline or own not in BASELINES else ", the explanation's own"
    notes = [f"baseline {kind}{whose}."]
    for i, (a, b) in enumerate(zip(total.tolist(), gain.tolist(), strict=True)):
        notes.append(f"{which(i, len(x))}the map sums to {a:.4g}, the score differs by {b:.4g}.")
    return MetricResult(found.float(), notes=(*notes, *undefined(found, "image and baseline have the same score")))


@metric("non_sensitivity")
def non_sensitivity(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    cells: int = 256,
    samples: int = 1,
    baseline: str = "noise",
    tolerance: float = 0.001,
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Return the share of features where no relevance and no effect on the score disagree: lower is better.

    A feature is a pixel, or a cell of a grid where there are more pixels than ``cells``; a cell is without relevance if
    all its pixels are. The effect is the root mean square change of the score over draws of what replaces the feature
    (quantitative_aspects_model_2020, which counts features; the share can be compared between images).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        cells: Most features per image, one model row each and draw.
        samples: Draws.
        baseline: What replaces a feature — black, white, mean, blur, noise, zero or inpaint.
        tolerance: Values and effects up to this share of the image's largest are none.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Draws the noise of that baseline.

    Returns:
        ``score`` in [0, 1]; NaN where nothing has an effect.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, cells=cells, samples=samples, batch_size=batch_size)
    at_least(0, tolerance=tolerance)
    images, spatial = len(x), tuple(x.shape[2:])
    grid = _grid(spatial, cells)
    count = math.prod(grid)
    number = torch.arange(count, dtype=torch.float64).view(1, 1, *grid)
    cell = F.interpolate(number, size=spatial, mode="nearest-exact")[0, 0].long().to(x.device)
    largest = torch.zeros(images, count, dtype=torch.float64, device=values.device)
    flat = values.flatten(1).double().abs()
    largest.scatter_reduce_(1, cell.flatten().to(values.device).expand(images, -1), flat, "amax")
    silent = largest <= tolerance * flat.amax(1, keepdim=True)
    rows = torch.arange(images).repeat_interleave(count)
    squares = torch.zeros(images, count, dtype=torch.float64, device=x.device)
    with torch.no_grad():
        own = score(run(model, x.clone()), torch.arange(images, device=x.device)).double()
        for sample in range(samples):
            asked = ask(
                model,
                x,
                filling(x, baseline, generator),
                score,
                rows,
                lambda jobs: cell != (jobs % count).to(cell.device).view(-1, *[1] * len(spatial)),
                batch_size,
                lambda done, total, sample=sample: progress(sample * total + done, samples * total),  # type: ignore[misc]
            )
            scores = torch.cat([answers for *_, answers in asked]).view(images, count).double()
            squares += (scores - own[:, None]).square()
    effect = squares.sqrt().to(values.device)
    idle = effect <= tolerance * effect.amax(1, keepdim=True)
    found = (silent != idle).double().mean(1).where(effect.amax(1) > 0, math.nan)
    notes = [
        f"{count} features ({'×'.join(map(str, grid))}), {samples} draws of baseline {baseline}; up to {tolerance:g} "
        "of the largest counts as none."
    ]
    for i in range(images):
        notes.append(
            f"{which(i, images)}{int((silent & ~idle)[i].sum())} without relevance have an effect, "
            f"{int((idle & ~silent)[i].sum())} with relevance have none."
        )
    return MetricResult(found.float(), notes=(*notes, *undefined(found, "no feature changes the score")))


@metric("input_invariance")
def input_invariance(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    shift: float = 1.0,
    explain_again: ExplainAgain,
) -> MetricResult:
    """Shift the input by a constant that the first layer's bias takes back; does the map stay? 1 when it does.

    One minus the relative change of the map (L2 norm) between two models that compute the same
    (unreliability_saliency_methods_2017). A convolution that pads with zeros is made to pad with the constant, so that
    the models agree at the border too.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        shift: The constant, in units of the input as the model sees it; not 0.
        explain_again: Repeats the explanation on the other model.

    Returns:
        ``score`` up to 1; NaN for an all-zero map.

    Raises:
        RequirementError: the model does not begin with a convolution or a linear layer that alone reads the input.
        ModelError: the model cannot be copied.
        TargetError: ``shift`` is 0.
    """
    if not shift or not math.isfinite(shift):
        raise TargetError(f"shift = {shift}: it must be a number other than 0.")
    twin = twin_of(model)
    rows = torch.arange(len(x), device=x.device)
    with torch.no_grad():
        layer = _absorb(twin, x[:1], shift)
        own = score(run(model, x.clone()), rows)
        try:
            new = score(twin(x + shift), rows)
        except Exception as error:
            raise _unabsorbed(f"the shifted copy fails with {type(error).__name__}") from error
        unchanged = score(run(model, x + shift), rows) - own
    # rounding of sums of shifted terms; what is not absorbed changes the score about as much as the shift itself does
    if ((new - own).abs() > 1e-3 * own.abs() + 1e-2 * unchanged.abs() + 1e-5).any():
        raise _unabsorbed("something beside its first layer reads the input")
    again = explain_again(x + shift, model=twin).to(values).flatten(1).double()
    flat = values.flatten(1).double()
    size = length(flat)
    found = (1 - length(again - flat) / size).where(size > 0, math.nan)
    note = f"input shifted by {shift:g}, taken back by the bias of the first {layer}."
    return MetricResult(found.float(), notes=(note, *undefined(found, "the map is all zero")))


def _grid(spatial: tuple[int, ...], cells: int) -> list[int]:
    """Return the cells per axis of the finest grid of at most ``cells`` that are about as long as they are wide."""
    if math.prod(spatial) <= cells:
        return list(spatial)
    low, high = 1.0, float(max(spatial))  # length of a cell
    for _ in range(40):
        side = (low + high) / 2
        fits = math.prod(max(1, int(length / side)) for length in spatial) <= cells
        low, high = (low, side) if fits else (side, high)
    return [max(1, int(length / high)) for length in spatial]


_Absorbing = nn.Conv2d | nn.Conv3d | nn.Linear


def _absorb(twin: nn.Module, x: Tensor, shift: float) -> str:
    """Change the bias of the first layer so that the model gives for ``x + shift`` what it gave for ``x``.

    What the shift has become when it reaches that layer is looked at: a model may normalise its input first.

    Returns:
        The kind of the layer.

    Raises:
        RequirementError: no convolution or linear layer runs, or the shift does not reach the first as a constant.
    """
    reached: list[tuple[nn.Module, Tensor]] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, _Absorbing):
            reached.append((module, inputs[0].clone()))

    modules = [module for module in twin.modules() if not isinstance(module, torch.jit.ScriptModule)]
    hooks = [module.register_forward_pre_hook(look) for module in modules]
    starts = []
    try:
        for given in (x, x + shift):
            reached.clear()
            run(twin, given.clone())
            starts += reached[:1]
    finally:
        for hook in hooks:
            hook.remove()
    if not starts:
        raise _unabsorbed("none of its layers is a convolution or a linear layer")
    (layer, before), (other, after) = starts
    if other is not layer or after.shape != before.shape:
        raise _unabsorbed("another layer runs first once the input is shifted")
    if isinstance(layer, nn.Linear):
        moved = (after - before).flatten(0, -2).double().mean(0)
        total = layer.weight.double() @ moved
    else:
        assert isinstance(layer, nn.Conv2d | nn.Conv3d)
        dims = before.ndim - 2
        moved = (after - before).double().flatten(2).mean((0, 2)).view(1, -1, *[1] * dims)
        span = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        convolve: Callable[..., Tensor] = F.conv2d if dims == 2 else F.conv3d
        even = moved.expand(1, -1, *span)
        total = convolve(even, layer.weight.double(), dilation=layer.dilation, groups=layer.groups).flatten()
        pads = list(layer._reversed_padding_repeated_twice)
        if any(pads) and layer.padding_mode == "zeros":  # beyond the border, too, the input is shifted
            constant = moved.to(before)
            layer.padding = (0,) * dims
            layer.register_forward_pre_hook(
                lambda _module, inputs: (F.pad(inputs[0] - constant, pads) + constant, *inputs[1:])
            )
    bias = -total if layer.bias is None else layer.bias.double() - total
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=False)
    return type(layer).__name__


def _unabsorbed(why: str) -> RequirementError:
    sentence = f"it needs a model whose first layer, a convolution or a linear one, alone reads the input: {why}."
    return RequirementError("input_invariance", [Gap("first_layer", sentence)])
