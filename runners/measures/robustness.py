"""Robustness: does the map stay when hardly anything changes?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least, which
from runners.baselines import baseline as content
from runners.baselines import blurred
from runners.measures.common import ExplainAgain, length, likeness, undefined
from runners.measures.copies import (
    Make,
    Seen,
    above_zero,
    ask,
    decided,
    explained,
    moved,
    noisy,
    otherwise,
    same,
    spread,
)
from runners.models import Place, Wired, find_place, randomise, run, twin_of
from runners.registry import MetricResult, Progress, Score, metric
from runners.targets import primary, resolve
from taxonomy.errors import RequirementError, TargetError
from taxonomy.requirements import Gap

LEAST = 1e-6
"""What stands for a zero that would be divided by."""

Change = Callable[[Seen, Seen], Tensor]
"""Images and their copies, as seen, to how much the maps changed ``(N,)``."""


@metric("max_sensitivity")
def max_sensitivity(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    radius: float = 0.02,
    samples: int = 10,
    batch_size: int = 16,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Explain slightly noisy copies; the largest relative change of the map (L2 norm): lower is better.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        radius: Half-width of the uniform noise as a share of each channel's range (largest minus smallest value).
        samples: Number of noisy copies, one explanation each.
        batch_size: Copies explained at a time.
        profile: What the model offers.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the noise; all images get the same draw, scaled by their own range.

    Returns:
        ``score`` from 0; NaN for an all-zero map.

    Raises:
        TargetError: a parameter is out of range.
    """
    make = noisy(x, radius, generator)
    changes, held = _changes(
        model, x, score, values, make, samples, profile, explain_again, batch_size, progress, _relative
    )
    note = f"the largest of {samples} changes under {_noise(radius)}."
    return _result(changes.amax(0), note, held, "the map is all zero")


@metric("avg_sensitivity")
def avg_sensitivity(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    radius: float = 0.02,
    samples: int = 10,
    batch_size: int = 16,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Explain slightly noisy copies; the mean relative change of the map (L2 norm): lower is better.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        radius: Half-width of the uniform noise as a share of each channel's range (largest minus smallest value).
        samples: Number of noisy copies, one explanation each.
        batch_size: Copies explained at a time.
        profile: What the model offers.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the noise; all images get the same draw, scaled by their own range.

    Returns:
        ``score`` from 0; NaN for an all-zero map.

    Raises:
        TargetError: a parameter is out of range.
    """
    make = noisy(x, radius, generator)
    changes, held = _changes(
        model, x, score, values, make, samples, profile, explain_again, batch_size, progress, _relative
    )
    note = f"the mean of {samples} changes under {_noise(radius)}."
    return _result(changes.mean(0), note, held, "the map is all zero")


@metric("local_lipschitz")
def local_lipschitz(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    radius: float = 0.02,
    samples: int = 10,
    normalise: bool = True,
    batch_size: int = 16,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Explain slightly noisy copies; the largest change of the map over that of the image: lower is better.

    Both changes are L2 norms (robustness_interpretability_methods_2018). In units of the normalised input, so only
    numbers of models with the same input can be compared.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        radius: Half-width of the uniform noise as a share of each channel's range (largest minus smallest value).
        samples: Number of noisy copies, one explanation each.
        normalise: Divide every map by its largest magnitude first, so that methods with small values gain nothing.
        batch_size: Copies explained at a time.
        profile: What the model offers.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the noise; all images get the same draw, scaled by their own range.

    Returns:
        ``score`` from 0; NaN for an all-zero map, or for an image of one value.

    Raises:
        TargetError: a parameter is out of range.
    """

    def change(own: Seen, copy: Seen) -> Tensor:
        moved_by = length((copy.x - own.x).flatten(1).double())
        return length(_scaled(copy, normalise) - _scaled(own, normalise)) / moved_by

    make = noisy(x, radius, generator)
    changes, held = _changes(
        model, x, score, values, make, samples, profile, explain_again, batch_size, progress, change
    )
    how = "maps divided by their largest magnitude" if normalise else "maps as they are"
    note = f"the largest of {samples} ratios under {_noise(radius)}, {how}."
    found = changes.amax(0).where(values.flatten(1).any(1), math.nan)
    return _result(found, note, held, "the map is all zero or the image is of one value")


@metric("continuity")
def continuity(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    steps: int = 16,
    reach: float = 0.25,
    baseline: str = "black",
    normalise: bool = True,
    batch_size: int = 16,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Shift the image along its last axis; the largest change of the map over that of the image: lower is better.

    The map's change is an L1 norm, the image's an L2 norm (methods_interpreting_understanding_2017). The map of the
    shifted image is compared as it lies, not shifted back.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        steps: Shifts, evenly spread over both directions; at most one per pixel.
        reach: Longest shift as a share of the axis, above 0 up to 1.
        baseline: What comes in at the border — black, white, mean, blur, noise or zero.
        normalise: Divide every map by its largest magnitude first, so that methods with small values gain nothing.
        batch_size: Copies explained at a time.
        profile: What the model offers.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the noise of that baseline.

    Returns:
        ``score`` from 0; NaN for an all-zero map, or where no shift changes the image.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, steps=steps)
    if not 0 < reach <= 1:
        raise TargetError(f"reach = {reach}: it must be above 0 and at most 1.")
    beyond, longest = content(x, baseline, generator), max(1, round(reach * x.shape[-1]))
    spread_out = torch.linspace(-longest, longest, steps + 1 if steps % 2 == 0 else steps, dtype=torch.float64)
    shifts = [by for by in dict.fromkeys(spread_out.round().int().tolist()) if by] or [longest]

    def change(own: Seen, copy: Seen) -> Tensor:
        moved_by = length((copy.x - own.x).flatten(1).double())
        # a shift that changes nothing says nothing
        return (_scaled(copy, normalise) - _scaled(own, normalise)).abs().sum(1) / moved_by.where(
            moved_by > 0, math.nan
        )

    changes, held = _changes(
        model,
        x,
        score,
        values,
        lambda number: moved(x, shifts[number], x.ndim - 1, beyond),
        len(shifts),
        profile,
        explain_again,
        batch_size,
        progress,
        change,
        undo=lambda number, found: moved(found, -shifts[number], found.ndim - 1, torch.zeros_like(found)),
    )
    how = "maps divided by their largest magnitude" if normalise else "maps as they are"
    note = f"the largest of {len(shifts)} ratios, shifts of up to {longest} pixels, baseline {baseline}, {how}."
    found = _largest(changes).where(values.flatten(1).any(1), math.nan)
    return _result(found, note, held, "the map is all zero or no shift changes the image")


@metric("relative_input_stability")
def relative_input_stability(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    radius: float = 0.02,
    samples: int = 10,
    floor: float = 0.01,
    batch_size: int = 16,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Explain noisy copies; the largest relative change of the map over that of the image: lower is better.

    Every pixel's change is divided by its own value before the L2 norm is taken; pixels near zero would rule the
    number, so there is a ``floor``. Copies on which the model decides otherwise are left out, as in the paper
    (rethinking_stability_attribution_based_2022).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        radius: Half-width of the uniform noise as a share of each channel's range (largest minus smallest value).
        samples: Number of noisy copies, one explanation each.
        floor: Smaller values than this share of the largest are divided by that share; 0 divides by the value itself,
            by 1e-6 where it is zero.
        batch_size: Copies explained at a time.
        profile: What the model offers.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the noise; all images get the same draw, scaled by their own range.

    Returns:
        ``score`` from 0; NaN for an all-zero map, or where the decision held on no copy.

    Raises:
        TargetError: a parameter is out of range.
    """

    def under(own: Seen, copy: Seen) -> Tensor:
        return length(_shares(own.x.flatten(1).double(), copy.x.flatten(1).double(), floor))

    return _stability(
        model,
        x,
        score,
        values,
        radius,
        samples,
        floor,
        profile,
        explain_again,
        batch_size,
        progress,
        generator,
        under,
        "image",
    )


@metric("relative_output_stability")
def relative_output_stability(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    radius: float = 0.02,
    samples: int = 10,
    floor: float = 0.01,
    batch_size: int = 16,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Explain noisy copies; the largest relative change of the map over that of the outputs: lower is better.

    Every pixel's change is divided by its own value before the L2 norm is taken; the outputs' change is the L2 norm
    over all outputs (rethinking_stability_attribution_based_2022). Copies on which the model decides otherwise are left
    out, as there.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        radius: Half-width of the uniform noise as a share of each channel's range (largest minus smallest value).
        samples: Number of noisy copies, one explanation each.
        floor: Smaller values than this share of the largest are divided by that share; 0 divides by the value itself,
            by 1e-6 where it is zero.
        batch_size: Copies explained at a time.
        profile: What the model offers.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the noise; all images get the same draw, scaled by their own range.

    Returns:
        ``score`` from 0; NaN for an all-zero map, or where the decision held on no copy.

    Raises:
        TargetError: a parameter is out of range.
    """

    def under(own: Seen, copy: Seen) -> Tensor:
        return length(own.outputs - copy.outputs)

    return _stability(
        model,
        x,
        score,
        values,
        radius,
        samples,
        floor,
        profile,
        explain_again,
        batch_size,
        progress,
        generator,
        under,
        "outputs",
    )


@metric("relative_representation_stability")
def relative_representation_stability(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    layer: str | None = None,
    radius: float = 0.02,
    samples: int = 10,
    floor: float = 0.01,
    batch_size: int = 16,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Explain noisy copies; the largest relative change of the map over that of inner features: lower is better.

    Every pixel's change and every feature's is divided by its own value before the L2 norms are taken
    (rethinking_stability_attribution_based_2022). Copies on which the model decides otherwise are left out, as there.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        layer: Module whose features are read; by default the one that class activation maps use.
        radius: Half-width of the uniform noise as a share of each channel's range (largest minus smallest value).
        samples: Number of noisy copies, one explanation each.
        floor: Smaller values than this share of the largest are divided by that share; 0 divides by the value itself,
            by 1e-6 where it is zero.
        batch_size: Copies explained at a time.
        profile: What the model offers.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the noise; all images get the same draw, scaled by their own range.

    Returns:
        ``score`` from 0; NaN for an all-zero map, or where the decision held on no copy.

    Raises:
        RequirementError: the model has no inner layer with features.
        ModelError: ``layer`` is not one.
        TargetError: a parameter is out of range.
    """
    place = _place("relative_representation_stability", profile, layer)

    def under(own: Seen, copy: Seen) -> Tensor:
        assert own.features is not None
        assert copy.features is not None
        return length(_shares(own.features, copy.features, floor))

    return _stability(
        model,
        x,
        score,
        values,
        radius,
        samples,
        floor,
        profile,
        explain_again,
        batch_size,
        progress,
        generator,
        under,
        f"features {place.text()}",
        place,
    )


@metric("consistency_dasgupta")
def consistency_dasgupta(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    radius: float = 0.5,
    samples: int = 32,
    cells: int = 4,
    batch_size: int = 16,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Among copies with the same explanation, the share about which the model decides the same: higher is better.

    The paper (framework_evaluating_faithfulness_2022) takes its chance over the data; here it is over copies of the one
    image, from slightly to strongly noisy. Each copy's own decision is explained. Explanations are the same when the
    most supportive cell of a coarse grid is.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        radius: Half-width of the strongest uniform noise as a share of each channel's range.
        samples: Number of noisy copies, one explanation each.
        cells: Cells per axis of the grid.
        batch_size: Copies explained at a time.
        profile: What the model offers.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the noise; all images get the same draw, scaled by their own range.

    Returns:
        ``score`` in [0, 1]; NaN where no copy has the image's explanation, or for a constant map.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(1, samples=samples, cells=cells)
    above_zero(radius=radius)
    spatial = tuple(x.shape[2:])

    def strongest(maps: Tensor) -> Tensor:
        pool: Callable[..., Tensor] = F.adaptive_avg_pool2d if len(spatial) == 2 else F.adaptive_avg_pool3d
        return pool(maps.view(-1, 1, *spatial), [min(cells, side) for side in spatial]).flatten(1).argmax(1)

    draw = noisy(x, 1.0, generator)
    make: Make = lambda number: x + radius * (number + 1) / samples * (draw(number) - x)  # noqa: E731
    own, alike, agreed = strongest(values.double()), [], []
    for owners, copy, kept in explained(
        model,
        x,
        score,
        make,
        samples,
        own=ask(model, x, score, profile.task).decision,
        task=profile.task,
        explain_again=explain_again,
        batch_size=batch_size,
        progress=progress,
        about_decision=True,
    ):
        alike.append((strongest(copy.maps) == own[owners]).view_as(kept))
        agreed.append(kept)
    together, held = torch.cat(alike), torch.cat(agreed)
    flat = values.flatten(1)
    count = together.sum(0)
    found = ((together & held).sum(0) / count).where((count > 0) & (flat.amin(1) < flat.amax(1)), math.nan)
    told = ", ".join(map(str, count.tolist()))
    notes = (
        f"over copies of this image, not over the data: {samples} under uniform noise of up to ±{radius:g} of each "
        f"channel's range; {told} of them are explained by the same cell of {cells} per axis.",
        *otherwise(held),
        *undefined(found, "the map is constant or no copy has its explanation"),
    )
    return MetricResult(found.float(), notes=notes)


@metric("cose")
def cose(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    models: int = 4,
    batch_size: int = 16,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Ask of the map to stay where the decision stays, and to change where it changes: higher is better.

    The image is flipped, shifted, made brighter, darker, starker, flatter and softer; copies of the model get random
    weights. Consistency is the mean structural similarity of the maps (brought back to their place) where the decision
    held, sensitivity one minus that where it did not; the score is the root of their product (cose_2023, whose means
    are over a data set). Where the decision changed, the new one is explained.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        models: Copies of the model with random weights, one explanation each.
        batch_size: Copies explained at a time.
        profile: What the model offers.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the weights.

    Returns:
        ``score`` in [0, 1]; NaN where the decision held never or always, or for an all-zero map.

    Raises:
        ModelError: the model cannot be copied.
        TargetError: a parameter is out of range.
    """
    at_least(1, models=models)
    changes, own = _transforms(x), ask(model, x, score, profile.task).decision
    images, spatial = len(x), tuple(x.shape[2:])
    total = len(changes) + models
    told: Progress = lambda done, _: progress(done, total)  # noqa: E731
    alike: list[Tensor] = []
    held: list[Tensor] = []
    for owners, copy, kept in explained(
        model,
        x,
        score,
        lambda number: changes[number][0](x),
        len(changes),
        own=own,
        task=profile.task,
        explain_again=explain_again,
        batch_size=batch_size,
        progress=told,
        undo=lambda number, found: changes[number][1](found),
        about_decision=True,
    ):
        start = sum(len(one) for one in held)
        group = changes[start : start + len(kept)]
        counted = torch.cat([valid.expand(images, *spatial) for *_, valid in group])
        parts = torch.split(copy.maps.view(-1, *spatial), images)
        back = torch.cat([undo(part) for (_, undo, _), part in zip(group, parts, strict=True)])
        found = likeness(values[owners], back, counted)
        alike.append(found.view_as(kept))
        held.append(kept)
    for number in range(models):
        twin = twin_of(model)
        randomise(list(twin.parameters()), generator)
        about, kept = _decision(twin, x, score, profile.task, own)
        again = explain_again(x, model=twin, score=about).to(values)
        alike.append(likeness(values, again)[None])
        held.append(kept[None])
        progress(len(changes) + number + 1, total)
    similarity, stayed = torch.cat(alike), torch.cat(held)
    consistency = similarity.where(stayed, math.nan).nanmean(0)
    sensitivity = 1 - similarity.where(~stayed, math.nan).nanmean(0)
    found = (consistency.clamp(0, 1) * sensitivity.clamp(0, 1)).sqrt().where(values.flatten(1).any(1), math.nan)
    notes = [f"{len(changes)} changes of the image, {models} models with random weights."]
    for i in range(images):
        notes.append(
            f"{which(i, images)}consistency {consistency[i]:.2f} over {int(stayed[:, i].sum())} where the decision "
            f"held, sensitivity {sensitivity[i]:.2f} over {int((~stayed[:, i]).sum())} where it did not."
        )
    why = "the map is all zero, or the decision held always or never"
    return MetricResult(found.float(), notes=(*notes, *undefined(found, why)))


@metric("repeatability_ssim")
def repeatability_ssim(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    explain_again: ExplainAgain,
    members: tuple[nn.Module, ...],
    progress: Progress,
) -> MetricResult:
    """Return the mean structural similarity to the maps of separately trained models: higher is better.

    Every map is divided by its largest magnitude first. Whether it is repeatability (one architecture) or
    reproducibility (several) is up to the members (arun_2020_trustworthiness).

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used: ``explain_again`` brings it.
        values: Maps ``(B, *spatial)``.
        explain_again: Repeats the explanation on the other models.
        members: Models trained for the same task, one explanation each.
        progress: Told the explanations done.

    Returns:
        ``score`` in [-1, 1]; 0 for a member whose map is all zero; NaN for an all-zero map.
    """
    found = []
    for number, member in enumerate(members):
        found.append(likeness(values, explain_again(x, model=member).to(values)))
        progress(number + 1, len(members))
    alike = torch.stack(found)
    each = "; ".join(", ".join(f"{one:.2f}" for one in row) for row in alike.T.tolist())
    notes = (f"mean over {len(members)} members: {each}.", *undefined(alike.mean(0), "the map is all zero"))
    return MetricResult(alike.mean(0).float(), notes=notes)


@metric("input_independence_rate")
def input_independence_rate(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    samples: int = 4,
    side: float = 0.25,
    steps: int = 100,
    tolerance: float = 0.1,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Add patches that change no output; the share of them under which the map hardly changes: higher is better.

    The paper (yang_2019_bam) takes its share over a data set of such images; here it is over patches in the one image.
    A patch shows what lies elsewhere in the image, changed by gradient descent, and made fainter if need be, until all
    outputs are as before (of a segmentation, the explained score). Its relevance is the mean of the map's positive part
    there, the map's 99th percentile being 1, as in the paper.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``.
        samples: Patches, one explanation each.
        side: Length of a patch on every axis as a share of the image's, above 0 and below 1.
        steps: Most steps of the descent, a forward and a backward pass each.
        tolerance: Up to this relative change the relevance is the same.
        profile: What the model offers.
        explain_again: Repeats the explanation.
        progress: Told the explanations done.
        generator: Draws the places of the patches, the same for all images.

    Returns:
        ``score`` in [0, 1]; NaN for an all-zero map, or where no patch leaves the outputs as they were.

    Raises:
        RequirementError: the model gives no gradients.
        TargetError: a parameter is out of range.
    """
    at_least(1, samples=samples, steps=steps)
    above_zero(tolerance=tolerance)
    if not 0 < side < 1:
        raise TargetError(f"side = {side}: it must be above 0 and below 1.")
    if "gradients" in profile.lacks or profile.task == "detection":
        why = profile.lacks.get("gradients") or "a detector returns boxes"
        raise RequirementError(
            "input_independence_rate", [Gap("gradients", f"it needs gradients of all outputs, and has none ({why}).")]
        )
    rows = torch.arange(len(x), device=x.device)

    def answer(images: Tensor) -> Tensor:
        outputs = run(model, images.clone())
        # what a segmentation says of the patch itself changes with the patch
        return score(outputs, rows)[:, None] if profile.task == "segmentation" else primary(outputs).flatten(1)

    before = _relevance(values)
    same_map, usable, strength = [], [], []
    for sample in range(samples):
        place = _box(x, side, generator)
        patched, silent = _silent_patch(answer, x, place, steps)
        after = _relevance(explain_again(patched).to(values))
        own, new = (part.masked_select(place).view(len(x), -1).mean(1) for part in (before, after))
        same_map.append((new - own).abs() <= tolerance * own)
        usable.append(silent)
        strength.append(((patched - x).abs() / spread(x).clamp_min(1e-12)).mean(1)[:, place].mean(1))
        progress(sample + 1, samples)
    alike, kept = torch.stack(same_map), torch.stack(usable)
    count = kept.sum(0)
    found = ((alike & kept).sum(0) / count).where((count > 0) & values.flatten(1).any(1), math.nan)
    what = "explained score" if profile.task == "segmentation" else "outputs"
    notes = [f"patches of {side:g} of every axis; the {what} may change by {SILENT:.0%} (L2 norm)."]
    sizes = torch.stack(strength).where(kept, math.nan).nanmean(0)
    for i in range(len(x)):
        told = f"; they change the image by {sizes[i]:.0%} of its range" if count[i] else ""
        notes.append(f"{which(i, len(x))}{int(count[i])} of {samples} patches leave it so{told}.")
    return MetricResult(found.float(), notes=(*notes, *undefined(found, "the map is all zero or no patch leaves them")))


@metric("input_dependence_rate")
def input_dependence_rate(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    mask: Tensor,
    reference: Tensor,
    explain_again: ExplainAgain,
) -> MetricResult:
    """Say whether an object that the model is known to ignore gets less relevance than what it covers: 1 or 0.

    Only the owner of the model knows of such an object. The relevance of a place is the mean of the map's positive part
    there, the map's 99th percentile being 1 (yang_2019_bam).

    Args:
        model: Not used.
        x: Images with the object, ``(B, C, *spatial)``.
        score: Not used: ``explain_again`` brings it.
        values: Maps ``(B, *spatial)``.
        mask: Where the object is, bool ``(B, *spatial)``.
        reference: The same images without the object, in the same order, ``(B, C, *spatial)``.
        explain_again: Explains the images without the object.

    Returns:
        ``score`` 1 or 0, higher is better; NaN where the map has no positive value with or without the object.

    Raises:
        TargetError: the reference images are not the same images without the object.
    """
    if len(reference) != len(x):
        raise TargetError(
            f"{len(reference)} reference images were given for {len(x)} images; input_dependence_rate needs each "
            "image without its object, in the same order"
        )
    outside = ((reference - x).abs() > 1e-3 * spread(x)).any(1) & ~mask
    if outside.flatten(1).any():
        raise TargetError(
            "a reference image differs from its image outside the mask; input_dependence_rate needs the same images "
            "without the object, and the object's place as mask"
        )
    without = explain_again(reference).to(values)
    inside = mask.flatten(1).double()
    new, old = ((_relevance(maps).flatten(1) * inside).sum(1) / inside.sum(1) for maps in (values, without))
    found = (new < old).double().where((values.flatten(1) > 0).any(1) & (without.flatten(1) > 0).any(1), math.nan)
    pairs = "; ".join(f"{a:.3f} against {b:.3f}" for a, b in zip(new.tolist(), old.tolist(), strict=True))
    note = f"relevance of the object against what it covers: {pairs}; that the model ignores it is taken for granted."
    return MetricResult(found.float(), notes=(note, *undefined(found, "a map has no positive value")))


def _noise(radius: float) -> str:
    return f"uniform noise of ±{radius:g} of each channel's range"


def _changes(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    make: Make,
    count: int,
    profile: Wired,
    explain_again: ExplainAgain,
    batch_size: int,
    progress: Progress,
    change: Change,
    place: Place | None = None,
    undo: Callable[[int, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return how much every copy changes the maps, ``(count, B)``, and whether the decision held, likewise."""
    at_least(1, samples=count)
    own = replace(ask(model, x, score, profile.task, place), maps=values.flatten(1).double())
    found, held = [], []
    for owners, copy, kept in explained(
        model,
        x,
        score,
        make,
        count,
        own=own.decision,
        task=profile.task,
        explain_again=explain_again,
        batch_size=batch_size,
        progress=progress,
        place=place,
        undo=undo,
    ):
        found.append(change(own.of(owners), copy).view_as(kept))
        held.append(kept)
    return torch.cat(found), torch.cat(held)


def _result(found: Tensor, note: str, held: Tensor, why: str) -> MetricResult:
    return MetricResult(found.float(), notes=(note, *otherwise(held), *undefined(found, why)))


def _relative(own: Seen, copy: Seen) -> Tensor:
    size = length(own.maps)
    return length(copy.maps - own.maps) / size.where(size > 0, math.nan)


def _scaled(seen: Seen, normalise: bool) -> Tensor:
    if not normalise:
        return seen.maps
    size = seen.maps.abs().amax(1, keepdim=True)
    return seen.maps / size.where(size > 0, 1.0)


def _shares(own: Tensor, new: Tensor, floor: float) -> Tensor:
    """Return the change of every number ``(N, K)`` as a share of it, or of ``floor`` times the row's largest."""
    sizes = own.abs()
    sizes = torch.maximum(sizes, floor * sizes.amax(1, keepdim=True))
    return (new - own) / sizes.where(sizes > 0, LEAST)


def _largest(found: Tensor) -> Tensor:
    """Return the largest of ``(count, B)``, leaving out NaN; NaN where there is nothing else."""
    largest = found.where(~found.isnan(), -math.inf).amax(0)
    return largest.where(largest > -math.inf, math.nan)


def _stability(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    radius: float,
    samples: int,
    floor: float,
    profile: Wired,
    explain_again: ExplainAgain,
    batch_size: int,
    progress: Progress,
    generator: torch.Generator,
    under: Change,
    what: str,
    place: Place | None = None,
) -> MetricResult:
    """Return the largest relative change of the map over ``under``, among copies on which the decision held."""
    if not 0 <= floor < 1:
        raise TargetError(f"floor = {floor}: it must be at least 0 and below 1.")

    def change(own: Seen, copy: Seen) -> Tensor:
        below = under(own, copy)
        return length(_shares(own.maps, copy.maps, floor)) / below.where(below > 0, LEAST)

    make = noisy(x, radius, generator)
    changes, held = _changes(
        model, x, score, values, make, samples, profile, explain_again, batch_size, progress, change, place
    )
    flat = values.flatten(1)
    found = _largest(changes.where(held, math.nan)).where(flat.any(1), math.nan)
    least = f"values are divided by {floor:g} of the largest at least" if floor else f"zeros count as {LEAST:g}"
    note = f"relative to the change of the {what}; the largest of {samples} under {_noise(radius)}; {least}."
    return _result(found, note, held, "the map is all zero or the decision held on no copy")


def _place(name: str, profile: Wired, layer: str | None) -> Place:
    if layer is None and profile.place is None:
        why = profile.lacks.get("spatial_features") or "none was found"
        raise RequirementError(
            name, [Gap("spatial_features", f"it needs an inner layer that keeps the layout of the image ({why}).")]
        )
    return find_place(profile, layer)[0]


SHIFT = 0.05
"""Length of a shift as a share of the axis."""

_Transform = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Tensor]
"""What is done to images, what brings a map back, and where the map that was brought back counts."""


def _transforms(x: Tensor) -> list[_Transform]:
    """Return the changes of the image whose maps are compared."""
    everywhere = torch.ones(x.shape[2:], dtype=torch.bool, device=x.device)
    found: list[_Transform] = []
    dims = x.ndim - 2
    for axis in range(dims):
        found.append((lambda t, a=axis: t.flip(a + 2), lambda m, a=axis: m.flip(a + 1), everywhere))  # type: ignore[misc]
    for axis in range(dims):
        step = max(1, round(SHIFT * x.shape[axis + 2]))
        for by in (step, -step):
            valid = moved(everywhere, by, axis, ~everywhere)
            valid = moved(valid, -by, axis, ~everywhere)
            found.append(
                (
                    lambda t, a=axis, n=by: moved(t, n, a + 2, content(t, "black", torch.Generator())),  # type: ignore[misc]
                    lambda m, a=axis, n=by: moved(m, -n, a + 1, torch.zeros_like(m)),  # type: ignore[misc]
                    valid,
                )
            )
    axes = tuple(range(2, x.ndim))
    for change in (
        lambda t: t + 0.1 * spread(t),
        lambda t: t - 0.1 * spread(t),
        lambda t: torch.lerp(t.mean(axes, keepdim=True), t, 1.25),
        lambda t: torch.lerp(t.mean(axes, keepdim=True), t, 0.8),
        lambda t: blurred(t, 1 / 100),
    ):
        found.append((change, lambda m: m, everywhere))
    return found


def _decision(twin: nn.Module, x: Tensor, score: Score, task: str | None, own: Tensor) -> tuple[Score, Tensor]:
    """Return the score of what another model decides, and for which images that is the decision ``own``, ``(B,)``."""
    with torch.no_grad():
        outputs = run(twin, x.clone())
        new = decided(outputs, score(outputs, torch.arange(len(x))), task, x)
    about = resolve(None, outputs, x, task).score if task in ("classification", "segmentation") else score
    return about, same(own, new).to(x.device)


SILENT = 0.02
"""A patch that changes the outputs by this share (L2 norm) changes nothing."""
STRIDE = 0.03
"""Step of the descent to such a patch, as a share of a channel's range."""
FADED = (0.5, 0.25, 0.125)
"""So faint may a patch become to change nothing."""


def _box(x: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """Return a box at a random place, bool ``(*spatial)``."""
    found = torch.zeros(x.shape[2:], dtype=torch.bool, device=x.device)
    where = []
    for whole in x.shape[2:]:
        own = max(1, round(side * whole))
        start = int(torch.randint(whole - own + 1, (1,), generator=generator))
        where.append(slice(start, start + own))
    found[tuple(where)] = True
    return found


def _silent_patch(answer: Callable[[Tensor], Tensor], x: Tensor, place: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return images with a patch that changes no answer, and for which of them it was found, ``(B,)``.

    Adam on the patch, every channel scaled to its own range and kept within; every image stops by itself. Where that
    does not suffice, the patch is made fainter.

    Args:
        answer: Images to what must stay ``(B, K)``.
        x: Images ``(B, C, *spatial)``.
        place: Where the patch is, bool ``(*spatial)``.
        steps: Most steps.
    """
    axes, shape = tuple(range(2, x.ndim)), (-1, *[1] * (x.ndim - 1))
    low, reach = x.amin(axes, keepdim=True), spread(x)
    scale = reach.where(reach > 0, 1.0)
    with torch.no_grad():
        own = answer(x)
    size = length(own).clamp_min(1e-12)
    patch = ((x.roll([side // 2 for side in x.shape[2:]], axes) - low) / scale).detach().requires_grad_()
    descent = torch.optim.Adam([patch], lr=STRIDE)
    best, least = x, torch.full_like(size, math.inf)
    for _ in range(steps):
        with torch.enable_grad():
            current = torch.where(place, low + scale * patch, x)
            off = length(answer(current) - own) / size
            (patch.grad,) = torch.autograd.grad(off.sum(), patch)
        better = off.detach() < least
        # the first that is near enough: it has changed least from what lies elsewhere
        better &= least > SILENT
        least, best = torch.where(better, off.detach(), least), torch.where(better.view(shape), current.detach(), best)
        if bool((least <= SILENT).all()):
            break
        descent.step()
        patch.data.clamp_(0, 1)
    with torch.no_grad():
        for share in FADED:
            fainter = torch.lerp(x, best, share)
            off = length(answer(fainter) - own) / size
            better = (least > SILENT) & (off <= SILENT)
            least, best = torch.where(better, off, least), torch.where(better.view(shape), fainter, best)
    return best, least <= SILENT


def _relevance(maps: Tensor) -> Tensor:
    """Return the positive part of maps ``(B, *spatial)``, the 99th percentile being 1."""
    positive = maps.double().clamp_min(0).flatten(1)
    top = positive.kthvalue(max(1, math.ceil(0.99 * positive.shape[1])), dim=1, keepdim=True).values
    # a map of a few pixels has its 99th percentile at zero: its largest value counts then
    top = top.where(top > 0, positive.amax(1, keepdim=True))
    return (positive / top.where(top > 0, 1.0)).clamp(max=1).view(maps.shape)
