"""Randomisation: does the map notice that the model is another one?"""

# ruff: noqa: ARG001 (all metrics share one signature)
from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from runners.asking import at_least, correlation
from runners.measures.common import ExplainAgain, ranks, undefined
from runners.models import randomise, twin_of
from runners.registry import MetricResult, Progress, Score, metric
from taxonomy.errors import RequirementError
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
    at_least(1, stages=stages)
    if next(model.parameters(), None) is None:
        raise RequirementError("mprt", [Gap("weights", "it randomises weights, and this model shows none.")])
    twin = twin_of(model)
    groups = _groups(twin, x[:1], stages)

    def ranked(found: Tensor) -> Tensor:
        flat = found.flatten(1).double()
        return ranks(flat.abs() if absolute else flat)

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
