"""Randomisation: does the map notice that the model is another one?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least, correlation
from runners.measures.common import ExplainAgain, likeness, ranks, undefined
from runners.measures.copies import above_zero, owned
from runners.models import Place, Wired, randomise, twin_of, unwrap
from runners.registry import MetricResult, Progress, Score, metric
from taxonomy.errors import ModelError, RequirementError
from taxonomy.requirements import Gap


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
    return _cascade(
        "mprt",
        model,
        x,
        values,
        lambda twin: explain_again(x, model=twin),
        stages,
        cascading,
        absolute,
        progress,
        generator,
    )


@metric("smooth_mprt")
def smooth_mprt(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    stages: int = 5,
    noise: float = 0.1,
    samples: int = 16,
    bottom_up: bool = True,
    absolute: bool = True,
    batch_size: int = 16,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Randomise the weights layer by layer; do maps that are averaged over noisy images notice? Low is better.

    As :func:`mprt`, without the noise of the maps themselves and from the input up, so that no random layer stands
    above a trained one unseen (sanity_checks_revisited_2023). All stages see the same noise.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        values: Maps ``(B, *spatial)``; only where they are all zero or constant matters here.
        stages: Number of groups of layers, ``samples`` explanations each; at most one per layer.
        noise: Standard deviation of the Gaussian noise as a share of the image's range.
        samples: Explanations that are averaged; one of them is of the image itself.
        bottom_up: Go from the input up, as in the paper; otherwise from the output down.
        absolute: Compare absolute values: a map that only changes its sign has not noticed.
        batch_size: Copies explained at a time.
        explain_again: Repeats the explanation on the randomised copy.
        progress: Told the stages done.
        generator: Draws the noise and the weights.

    Returns:
        ``curve`` ``(B, stages + 1)``: Spearman's rank correlation with the averaged map after each stage, 1 before the
        first. ``score``: the mean of the stages, in [-1, 1]; NaN for a constant map.

    Raises:
        RequirementError: the model has no weights to randomise.
        ModelError: the model cannot be copied.
        TargetError: a parameter is out of range.
    """
    at_least(1, samples=samples, batch_size=batch_size)
    above_zero(noise=noise)
    axes = tuple(range(1, x.ndim))
    sigma = noise * (x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True))
    seed = int(torch.randint(2**62, (1,), generator=generator))
    step = max(1, batch_size // len(x))

    def smooth(network: nn.Module) -> Tensor:
        draw, total = torch.Generator().manual_seed(seed), torch.zeros_like(values, dtype=torch.float64)
        for start in range(0, samples, step):
            count = min(step, samples - start)
            copies = [
                x + (sigma * torch.randn(x.shape[1:], generator=draw).to(x) if start + n else 0) for n in range(count)
            ]
            about = owned(score, torch.arange(len(x), device=x.device).repeat(count))
            maps = explain_again(torch.cat(copies), model=network, score=about).to(total)
            total += maps.view(count, *values.shape).sum(0)
        return total / samples

    found = _cascade(
        "smooth_mprt",
        model,
        x,
        smooth(model),
        smooth,
        stages,
        True,
        absolute,
        progress,
        generator,
        bottom_up=bottom_up,
    )
    told = f"maps averaged over {samples} copies under Gaussian noise of {noise:g} of the image's range."
    return MetricResult(found.score, found.curve, (told, *found.notes))


@metric("efficient_mprt")
def efficient_mprt(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    samples: int = 1,
    bins: int = 100,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Randomise all weights at once; how much does the entropy of the map rise, relatively? Higher is better.

    The entropy is that of a histogram of the map's values, from its smallest to its largest
    (sanity_checks_revisited_2023).

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used: ``explain_again`` brings it.
        values: Maps ``(B, *spatial)``.
        samples: Random models, one explanation each; the mean of their entropies counts.
        bins: Equal bins of the histogram.
        explain_again: Repeats the explanation on the randomised copy.
        progress: Told the explanations done.
        generator: Draws the weights.

    Returns:
        ``score`` from -1; NaN for a constant map.

    Raises:
        RequirementError: the model has no weights to randomise.
        ModelError: the model cannot be copied.
        TargetError: a parameter is out of range.
    """
    at_least(1, samples=samples)
    at_least(2, bins=bins)
    _weights("efficient_mprt", model)
    before = _entropy(values, bins)
    after = []
    for sample in range(samples):
        twin = twin_of(model)
        randomise(list(twin.parameters()), generator)
        after.append(_entropy(explain_again(x, model=twin).to(values), bins))
        progress(sample + 1, samples)
    mean = torch.stack(after).mean(0)
    found = ((mean - before) / before).where(before > 0, math.nan)
    pairs = ", ".join(f"{a:.2f} to {b:.2f}" for a, b in zip(before.tolist(), mean.tolist(), strict=True))
    note = f"entropy of {bins} bins from {pairs} nats; random models: {samples}."
    return MetricResult(found.float(), notes=(note, *undefined(found, "the map is constant")))


@metric("random_logit")
def random_logit(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    samples: int = 1,
    explain_again: ExplainAgain,
    others: tuple[Score, ...],
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Explain another output, drawn at random: a map that hardly changes does not explain the label. Lower is better.

    Maps are compared by their structural similarity with their sign (when_explanations_lie_2019): with two outputs the
    other one often is the opposite, and a map that says so has noticed. Of a segmentation another label is explained at
    the same places.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used.
        values: Maps ``(B, *spatial)``.
        samples: Other outputs, one explanation each; at most all.
        explain_again: Explains the other output.
        others: Scores of the other outputs.
        progress: Told the explanations done.
        generator: Draws the outputs; they lie equally far from the explained one for all images.

    Returns:
        ``score`` in [-1, 1]; 0 for another output whose map is all zero; NaN for an all-zero map.

    Raises:
        RequirementError: the model has no other output.
        TargetError: a parameter is out of range.
    """
    at_least(1, samples=samples)
    if not others:
        why = (
            "it explains another label instead, and there is none: the model has one output, or no label is explained."
        )
        raise RequirementError("random_logit", [Gap("outputs", why)])
    drawn = torch.randperm(len(others), generator=generator)[:samples].tolist()
    alike = []
    for number, other in enumerate(drawn):
        alike.append(likeness(values, explain_again(x, score=others[other]).to(values)))
        progress(number + 1, len(drawn))
    found = torch.stack(alike).mean(0)
    note = f"{len(drawn)} of {len(others)} other outputs, signed maps divided by their largest magnitude."
    return MetricResult(found.float(), notes=(note, *undefined(found, "the map is all zero")))


@metric("data_randomisation")
def data_randomisation(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    absolute: bool = True,
    explain_again: ExplainAgain,
    members: tuple[nn.Module, ...],
    progress: Progress,
) -> MetricResult:
    """Compare with the map of a model that was trained on permuted labels: a low similarity is better.

    Args:
        model: Not used.
        x: Images ``(B, C, *spatial)``.
        score: Not used: ``explain_again`` brings it.
        values: Maps ``(B, *spatial)``.
        absolute: Compare absolute values: a map that only changes its sign has not noticed.
        explain_again: Repeats the explanation on the other model.
        members: Models trained on permuted labels, one explanation each.
        progress: Told the explanations done.

    Returns:
        ``score`` in [-1, 1]: Spearman's rank correlation, the mean over the members; 0 for a member whose map is
        constant; NaN for a constant map.
    """
    original = _ranked(values, absolute)
    alike = []
    for number, member in enumerate(members):
        alike.append(_similarity(original, _ranked(explain_again(x, model=member).to(values), absolute)))
        progress(number + 1, len(members))
    found = torch.stack(alike).mean(0).where(original.amin(1) < original.amax(1), math.nan)
    note = f"{len(members)} members; that they were trained on permuted labels is taken for granted."
    return MetricResult(found.float(), notes=(note, *undefined(found, "the map is constant")))


@metric("csc")
def csc(
    model: nn.Module,
    x: Tensor,
    score: Score,
    values: Tensor,
    *,
    layers: int = 1,
    samples: int = 4,
    batch_size: int = 16,
    profile: Wired,
    explain_again: ExplainAgain,
    progress: Progress,
    generator: torch.Generator,
) -> MetricResult:
    """Explain random mixtures of deep features: maps that come out alike ignore what lies above. Lower is better.

    The cosine similarity of the maps of two mixtures, without its sign, as a map that the layers below have collapsed
    to one pattern still turns with the mixture (when_explanations_lie_2019). There it is followed from layer to layer;
    here it is taken where it matters, at the image.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: Not used: the mixtures are explained.
        values: Maps ``(B, *spatial)``; not used.
        layers: Depths at which mixtures are taken, the deepest last; several only for methods that reach back to the
            input by themselves.
        samples: Mixtures per depth, one explanation each, at least 2.
        batch_size: Copies explained at a time.
        profile: What the model offers.
        explain_again: Explains the mixtures.
        progress: Told the explanations done.
        generator: Draws the mixtures, the same for all images.

    Returns:
        ``curve`` ``(B, layers)``, the median over all pairs at each depth; ``score``, that of the deepest, in [0, 1];
        NaN where fewer than two maps have a value.

    Raises:
        RequirementError: the model has no inner layer that keeps the layout of the image.
        TargetError: a parameter is out of range.
    """
    at_least(1, layers=layers, batch_size=batch_size)
    at_least(2, samples=samples)
    if profile.place is None:
        why = profile.lacks.get("spatial_features") or "none was found"
        gap = Gap("spatial_features", f"it needs an inner layer that keeps the layout of the image ({why}).")
        raise RequirementError("csc", [gap])
    before = [place for place in profile.places if place.name != profile.place.name]
    before = before[: profile.places.index(profile.place)]
    earlier = [before[len(before) * i // (layers - 1)] for i in range(layers - 1)] if before and layers > 1 else []
    places = [*dict.fromkeys(earlier), profile.place]
    images, step = len(x), max(1, batch_size // len(x))
    curve = []
    for depth, place in enumerate(places):
        mixtures = torch.randn(samples, place.channels, *place.grid, generator=generator).to(x)
        maps = []
        with _followed(model, place) as features:
            for start in range(0, samples, step):
                own = mixtures[start : start + step].repeat_interleave(images, 0)

                def mixed(outputs: Any, rows: Tensor, own: Tensor = own) -> Tensor:
                    found = features[-1]
                    if len(found) != len(rows):
                        raise ModelError(
                            "csc needs a method that asks for the score of what the model saw last; this one does not."
                        )
                    return (found * own[rows.to(own.device)].to(found)).flatten(1).sum(1)

                again = explain_again(torch.cat([x] * (len(own) // images)), score=mixed)
                maps.append(again.to(x.device).view(-1, images, *x.shape[2:]))
                progress(depth * samples + start + len(own) // images, len(places) * samples)
        flat = torch.cat(maps).flatten(2).double()
        pairs = torch.triu_indices(samples, samples, 1)
        cosines = F.cosine_similarity(flat[pairs[0]], flat[pairs[1]], dim=2).abs()
        some = flat.abs().amax(2) > 0
        curve.append(cosines.where(some[pairs[0]] & some[pairs[1]], math.nan).nanmedian(0).values)
    similarity = torch.stack(curve, 1)
    found = similarity[:, -1]
    note = f"{samples} random mixtures of the features of each of: {', '.join(place.text() for place in places)}."
    notes = (note, *undefined(found, "fewer than two maps of mixtures have a value"))
    return MetricResult(found.float(), similarity.float(), notes)


@contextlib.contextmanager
def _followed(model: nn.Module, place: Place) -> Iterator[list[Tensor]]:
    """Keep the features ``(N, C, *grid)`` of a place in every forward pass: the list holds those of the last one."""
    last: list[Tensor] = []
    calls = 0

    def begin(*_: object) -> None:
        nonlocal calls
        calls = 0

    def keep(_module: nn.Module, _inputs: object, output: Any) -> None:
        nonlocal calls
        calls += 1
        if calls - 1 == place.call:
            last[:] = [place.fold(output[0] if isinstance(output, tuple) else output)]

    network = unwrap(model)
    handles = [
        network.register_forward_pre_hook(begin),
        network.get_submodule(place.name).register_forward_hook(keep),
    ]
    try:
        yield last
    finally:
        for handle in handles:
            handle.remove()


def _weights(name: str, model: nn.Module) -> None:
    if next(model.parameters(), None) is None:
        raise RequirementError(name, [Gap("weights", "it randomises weights, and this model shows none.")])


def _entropy(maps: Tensor, bins: int) -> Tensor:
    """Return the entropy of the histogram of every map ``(B, *spatial)``, in nats, ``(B,)``; 0 for a constant one."""
    flat = maps.flatten(1).double()
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    place = ((flat - low) / (high - low).where(high > low, 1.0) * bins).long().clamp(max=bins - 1)
    counts = torch.zeros(len(flat), bins, dtype=torch.float64, device=flat.device)
    counts.scatter_add_(1, place, torch.ones_like(flat))
    found: Tensor = torch.special.entr(counts / flat.shape[1]).sum(1)
    return found


def _ranked(maps: Tensor, absolute: bool) -> Tensor:
    flat = maps.flatten(1).double()
    return ranks(flat.abs() if absolute else flat)


def _similarity(original: Tensor, again: Tensor) -> Tensor:
    """Return Spearman's correlation of ranks ``(B, N)``, 0 where the second are all alike."""
    return correlation(original, again).where(again.amin(1) < again.amax(1), 0.0)


def _cascade(
    name: str,
    model: nn.Module,
    x: Tensor,
    values: Tensor,
    explain: Callable[[nn.Module], Tensor],
    stages: int,
    cascading: bool,
    absolute: bool,
    progress: Progress,
    generator: torch.Generator,
    *,
    bottom_up: bool = False,
) -> MetricResult:
    """Explain a copy of the model whose weights are randomised group by group, and compare with the first map."""
    at_least(1, stages=stages)
    _weights(name, model)
    twin = twin_of(model)
    groups = _groups(twin, x[:1], stages)
    groups = groups[::-1] if bottom_up else groups
    original = _ranked(values, absolute)
    curve = [torch.ones(len(x), dtype=torch.float64, device=values.device)]
    for stage, group in enumerate(groups):
        kept = [parameter.detach().clone() for parameter in group] if not cascading else []
        randomise(group, generator)
        curve.append(_similarity(original, _ranked(explain(twin).to(values.device), absolute)))
        for parameter, before in zip(group, kept, strict=not cascading):
            parameter.data.copy_(before)
        progress(stage + 1, len(groups))
    similarity = torch.stack(curve, 1)
    defined = original.amin(1) < original.amax(1)
    found = similarity[:, 1:].mean(1).where(defined, math.nan)
    way = "from the input up" if bottom_up else "from the output down"
    order = f"cascading {way}" if cascading else "one group at a time"
    note = f"{sum(map(len, groups))} weight tensors in {len(groups)} groups, {order}."
    return MetricResult(found.float(), similarity.float(), (note, *undefined(found, "the map is constant")))


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
