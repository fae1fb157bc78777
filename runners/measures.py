"""Metrics of explanations: what the map of an image is worth, one number per image.

A number that is not defined for an image (an all-zero map has no sparseness) is NaN, and a note says why. The gate
(``runners.gate.measure``) has checked that maps and masks fit the images and that every mask marks something.
"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Protocol

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from runners.asking import ask, at_least, correlation, which
from runners.baselines import filling
from runners.models import randomise, twin_of
from runners.registry import MetricResult, Progress, Score, metric
from taxonomy.errors import RequirementError, TargetError
from taxonomy.requirements import Gap

SMALL_GAIN = 0.25
"""Below this share of the curve's swing the difference of image and baseline is too small a unit for its area."""


class ExplainAgain(Protocol):
    """Repeats the explanation that is measured: same method, target, parameters and seed."""

    def __call__(self, x: Tensor, /, model: nn.Module = ...) -> Tensor:
        """Return the map ``(B, *spatial)`` of ``x``, of another model if one is given."""


@metric("deletion")
def deletion(
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
    """Remove pixels, the most supportive first, and take the area under the score: lower is better.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        steps: Equal steps from the image to the baseline; ``steps + 1`` model rows per image.
        baseline: What a removed pixel becomes — black, white, mean, blur, noise, zero or inpaint.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Orders pixels of equal value.

    Returns:
        ``curve`` ``(B, steps + 1)``, the raw scores, and ``score``, its area rescaled as in :func:`_area`.

    Raises:
        TargetError: a parameter is out of range.
    """
    return _area(model, x, score, values, steps, baseline, batch_size, progress, generator, insert=False)


@metric("insertion")
def insertion(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    steps: int = 32,
    baseline: str = "blur",
    batch_size: int = 16,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Start from the baseline, bring pixels back, the most supportive first: a larger area is better.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        steps: Equal steps from the baseline to the image; ``steps + 1`` model rows per image.
        baseline: Where the walk starts — black, white, mean, blur, noise, zero or inpaint.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        generator: Orders pixels of equal value.

    Returns:
        ``curve`` ``(B, steps + 1)``, the raw scores, and ``score``, its area rescaled as in :func:`_area`.

    Raises:
        TargetError: a parameter is out of range.
    """
    return _area(model, x, score, values, steps, baseline, batch_size, progress, generator, insert=True)


@torch.no_grad()
def _area(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    steps: int,
    baseline: str,
    batch_size: int,
    progress: Progress,
    generator: torch.Generator,
    *,
    insert: bool,
) -> MetricResult:
    """Walk between image and baseline in the order of the map.

    Pixels go in the order of their signed value, largest first. Equal values go in a random order that is the same for
    all images: neither the top of the image nor the left is favoured.

    The paper takes the area under a class probability. Scores here may be logits or summed logits of a region, so the
    curve is rescaled: ``(curve - score(baseline)) / |score(image) - score(baseline)|``. Where the image scores higher
    than its baseline the curve then runs between 1 and 0 and the area is that of the paper up to the scale. Where it
    scores lower, the curve runs between -1 and 0: the direction of the metric holds, but only numbers of the same image
    can be compared.
    """
    at_least(1, steps=steps, batch_size=batch_size)
    images, spatial = len(x), x.shape[2:]
    pixels = math.prod(spatial)
    steps = min(steps, pixels)
    shuffle = torch.randperm(pixels, generator=generator).to(values.device)
    order = shuffle[torch.argsort(values.flatten(1)[:, shuffle], dim=1, descending=True, stable=True)]
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(pixels, device=order.device).expand_as(order))
    gone = torch.linspace(0, pixels, steps + 1, dtype=torch.float64).round().long()
    rows = torch.arange(images).repeat_interleave(steps + 1)
    rank = rank.to(x.device)

    def keep(jobs: Tensor) -> Tensor:
        early = rank[rows[jobs].to(x.device)] < gone[jobs % (steps + 1)].to(x.device)[:, None]
        return (early if insert else ~early).view(-1, *spatial)

    asked = ask(model, x, filling(x, baseline, generator), score, rows, keep, batch_size, progress)
    curve = torch.cat([answers for *_, answers in asked]).view(images, steps + 1).double()
    first, last = curve[:, :1], curve[:, -1:]
    empty, full = (first, last) if insert else (last, first)
    gain = full - empty
    area = torch.trapezoid((curve - empty) / gain.abs(), gone.to(curve) / pixels, dim=1)
    area = area.where(gain[:, 0] != 0, math.nan)
    notes = [f"baseline {baseline}, {steps} steps, equal values in random order."]
    swings = (curve.amax(1) - curve.amin(1)).tolist()
    for i, (difference, swing) in enumerate(zip(gain[:, 0].tolist(), swings, strict=True)):
        if difference == 0:
            notes.append(f"{which(i, images)}not defined: image and baseline have the same score.")
        elif difference < 0:
            notes.append(
                f"{which(i, images)}the baseline scores higher than the image (by {-difference:.3g}): compare only "
                "numbers of this image."
            )
        if 0 < abs(difference) < SMALL_GAIN * swing:
            notes.append(
                f"{which(i, images)}image and baseline differ by {abs(difference):.3g}, the curve swings by "
                f"{swing:.3g}: the area says little; try another baseline."
            )
    return MetricResult(area.float(), curve.float(), tuple(notes))


@metric("max_sensitivity")
def max_sensitivity(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    radius: float = 0.02,
    samples: int = 10,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Explain slightly noisy copies; the largest relative change of the map (L2 norm): lower is better.

    Args:
        model: Not used: the explanation is repeated.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        radius: Half-width of the uniform noise as a share of each channel's range (largest minus smallest value).
        samples: Number of noisy copies, one explanation each.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the noise; all images get the same draw, scaled by their own range.

    Returns:
        ``score`` from 0; NaN for an all-zero map.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, samples=samples)
    if not radius > 0:
        raise TargetError(f"radius = {radius}: it must be above 0.")
    axes = tuple(range(2, x.ndim))
    reach = radius * (x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True))
    flat = values.flatten(1).double()
    worst = torch.zeros(len(x), dtype=torch.float64, device=values.device)
    for sample in range(samples):
        noise = torch.rand(x.shape[1:], generator=generator) * 2 - 1
        again = explain_again(x + reach * noise.to(x)).to(flat).flatten(1)
        worst = worst.maximum(torch.linalg.vector_norm(again - flat, dim=1))
        progress(sample + 1, samples)
    size = torch.linalg.vector_norm(flat, dim=1)
    found = (worst / size).where(size > 0, math.nan)
    note = f"the largest of {samples} changes under uniform noise of ±{radius:g} of each channel's range."
    return MetricResult(found.float(), notes=(note, *_undefined(found, "the map is all zero")))


@metric("sparseness")
def sparseness(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
) -> MetricResult:
    """Return the Gini index of the absolute values: 0 for an even map, ``1 - 1/n`` for a single one of n pixels.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1), higher is sparser; NaN for an all-zero map.
    """
    ordered = values.flatten(1).double().abs().sort(1).values
    n = ordered.shape[1]
    weights = 2 * torch.arange(1, n + 1, dtype=torch.float64, device=values.device) - n - 1
    total = ordered.sum(1)
    found = ((ordered @ weights) / (n * total)).where(total > 0, math.nan)
    return MetricResult(found.float(), notes=_undefined(found, "the map is all zero"))


@metric("pointing_game")
def pointing_game(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    tolerance: int = 0,
    mask: Tensor,
) -> MetricResult:
    """Say whether the largest value lies in the mask: 1 if it does, 0 if not.

    Where several pixels share the largest value (superpixel maps) the score is the share of them that hit, so a
    constant map gets what chance would get.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        tolerance: How many pixels (Euclidean) off the mask still count as a hit.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1], higher is better.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(0, tolerance=tolerance)
    inside = torch.stack([_near(area, tolerance) for area in mask]) if tolerance else mask
    inside, flat = inside.flatten(1), values.flatten(1)
    largest = flat == flat.amax(1, keepdim=True)
    return MetricResult((largest & inside).sum(1) / largest.sum(1), notes=_chance(inside))


@metric("relevance_mass_accuracy")
def relevance_mass_accuracy(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    mask: Tensor,
) -> MetricResult:
    """Return the share of the positive values that lies in the mask: higher is better.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        mask: What the map should mark, bool ``(B, *spatial)``.

    Returns:
        ``score`` in [0, 1]; NaN for a map without positive values.
    """
    inside, mass = mask.flatten(1), values.flatten(1).double().clamp_min(0)
    total = mass.sum(1)
    found = ((mass * inside).sum(1) / total).where(total > 0, math.nan)
    return MetricResult(found.float(), notes=(*_chance(inside), *_undefined(found, "the map has no positive value")))


@metric("mprt")
def mprt(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    stages: int = 5,
    cascading: bool = True,
    absolute: bool = True,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Randomise the weights from the output down and see whether the map notices: a low similarity is better.

    A copy of the model is randomised, never the model itself. Its layers are put into ``stages`` groups of equal
    number, from the last to run to the first, and after each group the explanation is repeated. Every weight tensor
    gets normal numbers with its own mean and spread, so activations keep their scale; buffers stay.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used: ``explain_again`` brings it.
        values: Maps ``(B, *spatial)``.
        stages: Number of groups, one explanation each; at most one per layer.
        cascading: Keep upper groups random while going down (the original test); otherwise one group at a time.
        absolute: Compare absolute values: a map that only changes its sign has not noticed.
        explain_again: Repeats the explanation on the randomised copy.
        progress: Told the explanations done.
        generator: Draws the weights.

    Returns:
        ``curve`` ``(B, stages + 1)``: Spearman's rank correlation with the map after each stage, 1 before the first; 0
        where the new map is constant. ``score``: the mean of the stages, in [-1, 1]; NaN for a constant map.

    Raises:
        RequirementError: the model has no weights to randomise.
        ModelError: the model cannot be copied.
        TargetError: a parameter is out of range.
    """
    at_least(1, stages=stages)
    if next(model.parameters(), None) is None:
        raise RequirementError("mprt", [Gap("weights", "it randomises weights, and this model shows none.")])
    twin = twin_of(model)
    groups = _groups(twin, x[:1], stages)

    def ranked(found: Tensor) -> Tensor:
        flat = found.flatten(1).double()
        return torch.stack([_ranks(row) for row in (flat.abs() if absolute else flat)])

    original = ranked(values)
    curve = [torch.ones(len(x), dtype=torch.float64, device=values.device)]
    for stage, group in enumerate(groups):
        kept = [parameter.detach().clone() for parameter in group] if not cascading else []
        randomise(group, generator)
        again = ranked(explain_again(x, model=twin).to(values.device))
        curve.append(correlation(original, again).where(again.amin(1) < again.amax(1), 0.0))
        for parameter, before in zip(group, kept, strict=not cascading):
            parameter.data.copy_(before)
        progress(stage + 1, len(groups))
    similarity = torch.stack(curve, 1)
    defined = original.amin(1) < original.amax(1)
    found = similarity[:, 1:].mean(1).where(defined, math.nan)
    order = "cascading from the output down" if cascading else "one group at a time"
    note = f"{sum(map(len, groups))} weight tensors in {len(groups)} groups, {order}."
    return MetricResult(found.float(), similarity.float(), (note, *_undefined(found, "the map is constant")))


def _undefined(found: Tensor, why: str) -> tuple[str, ...]:
    return tuple(f"{which(i, len(found))}not defined: {why}." for i in range(len(found)) if found[i].isnan())


def _chance(inside: Tensor) -> tuple[str, ...]:
    shares = ", ".join(f"{share:.1%}" for share in inside.double().mean(1).tolist())
    return (f"the mask covers {shares} of the image: what an even map would get.",)


def _near(area: Tensor, tolerance: int) -> Tensor:
    """Return the pixels that are at most ``tolerance`` from a marked one."""
    distance = distance_transform_edt(~area.cpu().numpy())
    return torch.from_numpy(distance <= tolerance).to(area.device)


def _ranks(row: Tensor) -> Tensor:
    """Return the ranks of the values ``(N,)``; equal values share their mean rank."""
    _, inverse, counts = torch.unique(row, return_inverse=True, return_counts=True)
    means: Tensor = counts.cumsum(0) - (counts - 1) / 2
    return means[inverse]


def _groups(model: nn.Module, x: Tensor, stages: int) -> list[list[nn.Parameter]]:
    """Return the weights of at most ``stages`` groups of layers, the last to run first.

    A module that holds weights is a layer; one that is never called as a module (weights read by its parent) counts as
    running with the nearest parent that is. TorchScript tells nothing of its calls: its order of declaration counts.
    """
    started: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            started.setdefault(name, len(started))

        return hook

    plain = ((name, module) for name, module in model.named_modules() if not isinstance(module, torch.jit.ScriptModule))
    hooks = [module.register_forward_pre_hook(note(name)) for name, module in plain]
    try:
        with torch.no_grad():
            model(x.clone())  # a model may change its input in place
    finally:
        for hook in hooks:
            hook.remove()

    def turn(name: str) -> int:
        while name and name not in started:
            name = name.rpartition(".")[0]
        return started.get(name, 0)

    layers: dict[str, list[nn.Parameter]] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.is_floating_point() and id(p) not in seen]
        seen.update(map(id, own))
        if own:
            layers[name] = own
    names = sorted(layers, key=turn)[::-1]
    count = min(stages, len(names))
    bounds = [len(names) * i // count for i in range(count + 1)]
    return [[p for name in names[a:b] for p in layers[name]] for a, b in itertools.pairwise(bounds)]
