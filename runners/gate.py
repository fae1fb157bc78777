"""The one gate: every check, once, for every explainer.

``explain(model, x, method)`` checks the input, profiles the model, matches its gaps, resolves the target, seeds,
runs, checks the result and leaves the model as it was.
"""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from runners.checks import outside_body, rank_correlation, sentences, variation
from runners.detection import found_by
from runners.models import Wired, as_input, finite, needed_to_look, preserved, profile, randomise, run, twin_of, unwrap
from runners.registry import (
    Found,
    MetricResult,
    Progress,
    Score,
    explainers,
    injected,
    looking_first,
    metrics,
    no_progress,
    parameters,
    seeded,
)
from runners.targets import Resolved, Similarity, Target, for_image, primary, resolve
from taxonomy import KB, load_kb
from taxonomy.errors import AtlasError, ImageError, ModelError, RequirementError, TargetError, UnknownIdError
from taxonomy.requirements import Gap, gaps
from taxonomy.schema import Metric


@dataclass(frozen=True, eq=False)
class Explanation:
    """What an explainer found.

    Attributes:
        values: float32 ``(B, *spatial)`` on the CPU, at the input's resolution, unscaled; positive speaks for the
            score when ``signed``.
        method: method id of the knowledge base.
        target: what was explained, in words.
        target_scores: ``(B,)``, the value of the explained score on the image.
        signed: False for maps of importance without direction.
        notes: what was wired and decided. cautions: how the map can mislead.
        parameters: the method's parameters as used, with layer and seed.
        channels: float32 ``(B, C, *spatial)``, the map of every input channel (sequence, colour, stain) where the
            method tells them apart and there are several; ``values`` is their sum.
        checks: numbers per image of the checks in ``runners.checks``; those out of bounds are among the cautions.
        passes: images that went through the model forwards and backwards for the map, and, as "again", through all
            layers with other weights, where the method's rule asks for it; profiling, and the pass in which the target
            is found where the method does not look at the images themselves first, not included.
        seconds: wall time of the explainer. versions: of the packages involved.
    """

    values: Tensor
    method: str
    target: str
    target_scores: Tensor
    signed: bool
    notes: tuple[str, ...]
    cautions: tuple[str, ...]
    parameters: Mapping[str, Any]
    passes: Mapping[str, int]
    seconds: float
    seed: int
    versions: Mapping[str, str] = field(default_factory=dict)
    channels: Tensor | None = None
    checks: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def explain(
    model: nn.Module,
    x: Any,
    method: str,
    target: Target = None,
    *,
    layer: str | None = None,
    seed: int = 0,
    task: str | None = None,
    known: Wired | None = None,
    reference: Any = None,
    members: Sequence[nn.Module] = (),
    autocast: str | None = None,
    compiled: bool = False,
    random_check: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Explanation:
    """Explain what a model computed on images.

    Args:
        model: any ``torch.nn.Module`` that takes one image tensor; its forward may return a tensor, tuple, dict or
            dataclass.
        x: float ``(B, C, H, W)`` or ``(B, C, D, H, W)``, or an ``Image`` when the model has a card (see
            ``load_model``).
        method: a method id with an explainer; see ``explainers``.
        target: None for what the model decided; a label or output index; one index per image; a ``Region`` of a
            segmentation, a ``Box`` of a detector, a ``Contrast`` of two labels, the ``Expected`` grade of an ordinal
            model, the ``Similarity`` of an embedding; or a function of the outputs that returns one number per row.
        layer: dotted module name, to overrule the automatic choice of the features.
        seed: the same seed gives the same map, bit for bit.
        task: "classification", "segmentation" or "regression", when the output's shape does not tell.
        known: what ``profile`` found of this model, or of one built alike, to save finding it again.
        reference: images like those the model learned from, ``(R, C, *spatial)`` as the model sees them, for methods
            that compare with them.
        members: further models trained for the same task, for methods that compare models.
        autocast: "bfloat16" or "float16": the precision in which the model may compute, faster on accelerators.
        compiled: compile the model first, worth its time for methods that ask it very often; only for those that do
            not look inside.
        random_check: explain a copy of the model with random weights too, and tell how alike the maps are.
        progress: called with ``(done, total)``.
        **options: the method's parameters.

    Returns:
        The explanation; the model is exactly as before.

    Raises:
        UnknownIdError: there is no such explainer.
        RequirementError: the model lacks something the method needs; all gaps are named.
        ImageError, TargetError, ModelError: the input, the target or the model does not fit.
    """
    if method in left_out():
        raise RequirementError(method, [Gap("explainer", f"it is not run here: {left_out()[method]}")])
    if method not in explainers:
        raise UnknownIdError(method, explainers, "explainer")
    function = explainers[method]
    model, x = unwrap(model), as_input(model, x)
    wired = known or profile(model, x, target if needed_to_look(target) else None, task=task)
    missing = unmet(method, wired, target, reference=reference, members=members)
    if missing:
        raise RequirementError(method, missing)
    used = chosen_options(method, function, options, x, wired)
    if getattr(model, "one_by_one", False) and "batch_size" in used:
        used["batch_size"] = 1  # as it runs anyway: a hook or a mode inside then sees one image
    given = _given(model, x, reference, members)
    if layer is not None and "layer" not in used:
        raise TargetError(f"{method} does not use a layer; leave layer out")
    if layer is not None:
        used["layer"] = layer
    if getattr(model, "one_by_one", False) and len(x) > 1:  # one call per image would reach hooks and modes piecemeal
        Look(model, x, target, task).now()  # a target that does not fit the batch is told as such
        parts = [
            explain(
                model,
                x[i : i + 1],
                method,
                for_image(target, i, x.ndim - 2),
                layer=layer,
                seed=seed,
                task=task,
                known=wired,
                reference=reference,
                members=members,
                autocast=autocast,
                compiled=compiled,
                random_check=random_check,
                **options,
            )
            for i in range(len(x))
        ]
        return _joined(parts)
    counts = {"forward": 0, "backward": 0}
    look = Look(model, x, target, task)
    with preserved(model, seed), _faster(model, method, x, autocast, compiled):
        # boxes and functions of the user's want the outputs as they are, outside of any mode
        whole = len(x) <= used.get("batch_size", len(x))
        if method not in looking_first or not whole or wired.task == "detection" or callable(target):
            look.now()
        extra = {"profile": wired, "generator": seeded(seed), "progress": progress or no_progress, **given}
        start = time.perf_counter()
        with counted(model, counts):
            found = _call(function, method, model, x.clone(), look.score, {**used, **_wanted(function, extra)})
        seconds = time.perf_counter() - start
        resolved, scores = look.now()
    if found.again:
        counts["again"] = found.again * len(x)
    if "layer" in used and used["layer"] is None and wired.place is not None:
        used["layer"] = wired.place.name  # the record says which features were taken
    values = _checked(found.values, x, method)
    several = found.channels is not None and x.shape[1] > 1
    channels = found.channels.detach().float().cpu() if several and found.channels is not None else None
    card = getattr(model, "card", None)
    checks = _checks(found, values, x)
    if random_check:
        checks["random_model"] = _with_random_weights(
            model,
            x,
            method,
            resolved,
            values,
            seed=seed,
            task=task,
            known=wired,
            layer=layer,
            reference=reference,
            members=members,
            **options,
        )
    notes, warnings = sentences(checks)
    cautions = [*resolved.cautions, *found.cautions, *warnings]
    precision = autocast or str(x.dtype).removeprefix("torch.")
    if precision in ("float16", "bfloat16"):
        cautions.append(f"The model computes in {precision}: the map is as coarse as its numbers.")
    if not values.any():
        cautions = [c for c in cautions if c not in warnings]
        cautions.append("The map is zero everywhere: this method found nothing that speaks for the score.")
    return Explanation(
        values=values,
        method=method,
        target=resolved.text,
        target_scores=scores.float().cpu(),
        signed=found.signed,
        notes=(*wired.notes, *found.notes, *notes, *_shares(channels, getattr(card, "sequences", ()))),
        cautions=tuple(cautions),
        parameters=used,
        passes=dict(counts),
        seconds=seconds,
        seed=seed,
        versions=versions(),
        channels=channels,
        checks=checks,
    )


@contextmanager
def _faster(model: nn.Module, method: str, x: Tensor, autocast: str | None, compiled: bool) -> Iterator[None]:
    """Let the model's forward pass run compiled or in a lower precision; the explainer's own arithmetic stays as it is.

    Raises:
        TargetError: there is no such precision, or the method looks inside the model, which a compiled one forbids.
    """
    needs = knowledge().methods[method].requires.needs
    if autocast not in (None, "bfloat16", "float16"):
        raise TargetError(f"autocast={autocast!r} was given; bfloat16 or float16 is allowed")
    if compiled and needs:
        raise TargetError(f"compiled=True works for methods that only ask the model; {method} needs {', '.join(needs)}")
    own = model.__dict__.get("forward")
    forward = torch.compile(model.forward) if compiled else model.forward

    def lower(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(x.device.type, getattr(torch, str(autocast))):
            return forward(*args, **kwargs)

    if compiled or autocast:
        model.forward = lower if autocast else forward
    try:
        yield
    finally:
        if own is not None:
            model.forward = own
        elif "forward" in model.__dict__:
            del model.forward


def _with_random_weights(
    model: nn.Module, x: Tensor, method: str, resolved: Resolved, values: Tensor, *, seed: int, **more: Any
) -> tuple[float, ...]:
    """Return the rank correlation of each map with the map of the same model under random weights."""
    twin = twin_of(model)
    randomise(list(twin.parameters()), seeded(seed))
    again = explain(twin, x, method, resolved.score, seed=seed, **more)
    return tuple(rank_correlation(values, again.values).tolist())


def unmet(
    method: str, wired: Wired, target: Target = None, *, reference: Any = None, members: Sequence[nn.Module] = ()
) -> list[Gap]:
    """Return every known reason why a method cannot explain this target of this model; none when it can.

    Args:
        method: a method id with an explainer.
        wired: what ``profile`` found of the model.
        target: as in ``explain``.
        reference: as in ``explain``; what was not given is a reason.
        members: as in ``explain``.
    """
    kb, wanted, lacks = knowledge(), injected(explainers[method]), dict(wired.lacks)
    if "reference" in wanted and reference is None:
        lacks |= dict.fromkeys(("training_data", "reference_images"), "give reference=")
    if "members" in wanted and not members:
        lacks["retraining"] = "give members=, models trained for the same task"
    vector = wired.task in ("classification", "regression")
    task = "retrieval" if isinstance(target, Similarity) and vector else wired.task
    return gaps(kb.methods[method].requires, replace(wired, lacks=lacks, task=task), kb.vocabulary.needs)


def _given(model: nn.Module, x: Tensor, reference: Any, members: Sequence[nn.Module]) -> dict[str, Any]:
    """Check what the owner of the model gave beside the image.

    Raises:
        ImageError: the reference images do not fit the image.
    """
    if reference is not None:
        reference = as_input(model, reference).to(x.device)
        if reference.shape[1:] != x.shape[1:]:
            raise ImageError(
                f"the reference images have shape {tuple(reference.shape)}; {('R', *x.shape[1:])} is needed, each one "
                "prepared like the image"
            )
    return {"reference": reference, "members": tuple(unwrap(member) for member in members)}


def _shares(channels: Tensor | None, names: Sequence[str]) -> tuple[str, ...]:
    """Say how much of the map each input channel carries, unless channels are only colours."""
    if channels is None or (channels.shape[1] == 3 and not names):
        return ()
    size = channels.abs().flatten(2).sum(2)
    share = (size / size.sum(1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)).mean(0)
    told = [names[i] if i < len(names) else f"channel {i}" for i in range(len(share))]
    order = share.argsort(descending=True).tolist()
    return ("Share of the attribution: " + ", ".join(f"{told[i]} {share[i]:.0%}" for i in order) + ".",)


def _checks(found: Found, values: Tensor, x: Tensor) -> dict[str, tuple[float, ...]]:
    """Measure what costs next to nothing, beside what came with the map."""
    checks = {
        **found.checks,
        "variation": variation(values),
        "outside_body": outside_body(values, x),
    }
    return {name: tuple(numbers.tolist()) for name, numbers in checks.items()}


def _joined(parts: Sequence[Explanation]) -> Explanation:
    """Join explanations of single images to one of the batch."""
    return replace(
        parts[0],
        values=torch.cat([part.values for part in parts]),
        target="; ".join(dict.fromkeys(part.target for part in parts)),
        target_scores=torch.cat([part.target_scores for part in parts]),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        cautions=tuple(dict.fromkeys(caution for part in parts for caution in part.cautions)),
        channels=None
        if parts[0].channels is None
        else torch.cat([p.channels for p in parts if p.channels is not None]),
        checks={name: tuple(v for part in parts for v in part.checks[name]) for name in parts[0].checks},
        passes={key: sum(part.passes[key] for part in parts) for key in parts[0].passes},
        seconds=sum(part.seconds for part in parts),
    )


@cache
def left_out() -> dict[str, str]:
    """Return the methods that give a map and have no explainer here, with the reason."""
    found: dict[str, str] = yaml.safe_load((Path(__file__).parent / "left_out.yaml").read_text("utf-8"))
    return found


@cache
def knowledge() -> KB:
    """The knowledge base, read once in a process: an explanation costs its model passes, not the reading of files."""
    return load_kb()


def measure(
    metric: str,
    model: nn.Module,
    x: Any,
    explanation: Explanation,
    target: Target = None,
    *,
    mask: Tensor | None = None,
    seed: int = 0,
    task: str | None = None,
    known: Wired | None = None,
    reference: Any = None,
    members: Sequence[nn.Module] = (),
    spacing: Sequence[float] | None = None,
    repeat: Callable[[nn.Module, Tensor, Score], Tensor] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> MetricResult:
    """Measure an explanation.

    Args:
        metric: a metric id with a computation; see ``metrics``.
        model: the explained model.
        x: the explained images.
        explanation: what ``explain`` returned for them.
        target: the same target as in ``explain``.
        mask: ``(B, *spatial)`` or ``(*spatial)``, what the map should mark, for metrics of localisation.
        seed: seed of the metric's own randomness.
        task: as in ``explain``.
        known: as in ``explain``.
        reference: as in ``explain``, for metrics that explain again or compare with such images.
        members: as in ``explain``, for metrics too that compare models.
        spacing: millimetres from one input pixel to the next, one number per axis, for distances.
        repeat: what explains again, for an explanation that no explainer of ours made: model, images and score to maps
            ``(B, *spatial)``.
        progress: called with ``(done, total)``.
        **options: the metric's parameters.

    Raises:
        UnknownIdError: there is no such metric.
        TargetError: a parameter or the mask is missing or does not fit.
        RequirementError: reference images or members are missing, or the model lacks something the metric needs.
        ModelError: the model fails.
    """
    if metric not in metrics:
        raise UnknownIdError(metric, metrics, "metric")
    function = metrics[metric]
    model, x = unwrap(model), as_input(model, x)
    asked = injected(function)
    without = {
        "reference": reference is None and Gap("reference_images", "it needs reference images; give reference=."),
        "members": not members and Gap("retraining", "it needs models trained for the same task; give members=."),
    }
    if missing := [gap for name, gap in without.items() if gap and name in asked]:
        raise RequirementError(metric, missing)
    entry = knowledge().get(metric)
    if isinstance(entry, Metric) and "mask" in entry.needs and mask is None:
        raise TargetError(f"{metric} needs a mask of what the map should mark; give mask=")
    if mask is not None:
        mask = _mask_like(mask, x)
    values = explanation.values.to(x.device)
    if tuple(values.shape) != (len(x), *x.shape[2:]):
        raise ImageError(
            f"the explanation has shape {tuple(values.shape)}, the images {tuple(x.shape)}: give the images it explains"
        )

    given = _given(model, x, reference, members)
    if spacing is not None and (len(spacing) != x.ndim - 2 or not all(side > 0 for side in spacing)):
        raise TargetError(f"spacing={tuple(spacing)} was given; {x.ndim - 2} numbers above 0 are needed, one per axis")

    explained = model

    def explain_again(again: Tensor, model: nn.Module = model, *, score: Score | None = None) -> Tensor:
        if repeat is not None:
            return repeat(model, again, score or resolved.score).to(x.device)
        kept = {k: v for k, v in explanation.parameters.items() if k != "layer"}
        alike = _layers(model) == _layers(explained)  # another architecture has other layers
        named = explanation.parameters.get("layer") if alike else None
        # the score of the original decision, not of the changed one
        return explain(
            model,
            again,
            explanation.method,
            score or resolved.score,
            layer=named,
            seed=explanation.seed,
            task=wired.task,
            known=wired if alike else None,
            reference=reference,
            members=members,
            **kept,
        ).values.to(x.device)

    wired = known or profile(model, x, target if needed_to_look(target) else None, task=task)
    used = chosen_options(metric, function, options, x, wired)
    with preserved(model, seed):
        resolved, _ = Look(model, x, target, task).now()
        extra = {
            "profile": wired,
            "generator": seeded(seed),
            "progress": progress or no_progress,
            "mask": mask,
            "explain_again": explain_again,
            "channels": None if explanation.channels is None else explanation.channels.to(x.device),
            **given,
            "spacing": spacing,
            "others": resolved.others,
            "settings": explanation.parameters,
            "confidence": resolved.confidence,
            "decision": resolved.decision,
        }
        try:
            return function(model, x.clone(), resolved.score, values, **used, **_wanted(function, extra))
        except AtlasError:
            raise
        except Exception as error:
            raise ModelError(f"{metric} failed on this model: {type(error).__name__}: {first_line(error)}") from error


def _layers(model: nn.Module) -> list[tuple[str, type[nn.Module]]]:
    """Return the names and kinds of a model's modules."""
    return [(name, type(module)) for name, module in unwrap(model).named_modules()]


def _mask_like(mask: Tensor, x: Tensor) -> Tensor:
    mask = torch.as_tensor(mask, device=x.device) > 0
    if mask.ndim == x.ndim - 2:
        mask = mask.expand(len(x), *mask.shape)
    if tuple(mask.shape) != (len(x), *x.shape[2:]):
        raise TargetError(
            f"the mask has shape {tuple(mask.shape)}; {tuple(x.shape[2:])} or {(len(x), *x.shape[2:])} is needed"
        )
    if not mask.flatten(1).any(1).all():
        raise TargetError("the mask is empty: it must mark at least one pixel in every image")
    return mask


MOST_MEMORY = 4 * 2**30
"""Bytes that a chunk may take on an accelerator, however much is free: more does not make it faster."""
MOST_ON_CPU = 2**30
"""The same on a CPU, where more makes it slower: large tensors come fresh from the system each time."""
VALUES_AT_A_TIME = 16 * 3 * 256 * 256
"""Input values that go through the model at a time by default: 16 colour images, or one volume of 146³ voxels."""


def _chunk(usual: int, x: Tensor, wired: Wired) -> int:
    """Return how many images go through the model at a time: the usual number, or what memory allows.

    An accelerator takes more at once; large volumes, and images of deep networks on a CPU, go few at a time.
    """
    if x.is_cuda:
        most, free = 8 * usual, torch.cuda.mem_get_info(x.device)[0]
        values, limit = 8 * VALUES_AT_A_TIME, MOST_MEMORY
    else:
        most, free = usual, _free_memory()
        values, limit = VALUES_AT_A_TIME, MOST_ON_CPU
    most, needed = min(most, values // x[0].numel()), 2 * wired.bytes_per_image  # as much again for gradients
    room = min(free // 2, limit) if free else limit
    return max(1, min(most, room // needed) if needed else most)


def _free_memory() -> int:
    """Return the bytes of memory that can still be had, 0 where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next((1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable")), 0)
    except OSError:
        return 0


def chosen_options(
    name: str, function: Callable[..., Any], options: Mapping[str, Any], x: Tensor, wired: Wired
) -> dict[str, Any]:
    """Return a function's parameters with what the user chose.

    Raises:
        TargetError: it has no such parameter, or the value has the wrong type.
    """
    known = parameters(function)
    if "batch_size" in known:  # the result is the same whatever the chunks
        known["batch_size"] = _chunk(known["batch_size"], x, wired)
    for key, value in options.items():
        if key not in known:
            raise TargetError(f"{name} has no parameter {key!r}; it has {', '.join(known) or 'none'}")
        default = known[key]
        wrong = (
            (isinstance(default, bool) and not isinstance(value, bool))
            or (isinstance(default, int) and not isinstance(default, bool) and type(value) is not int)
            or (isinstance(default, float) and (isinstance(value, bool) or not isinstance(value, int | float)))
            or (isinstance(default, str) and not isinstance(value, str))
        )
        if wrong:
            raise TargetError(
                f"{name}: {key}={value!r} was given; a {type(default).__name__} such as {default!r} is needed"
            )
        if key in POSITIVE and isinstance(value, int) and value < 1:
            raise TargetError(f"{name}: {key}={value} was given; it must be at least 1")
    return known | dict(options)


POSITIVE = frozenset(
    """
    steps samples masks segments batch_size cells window stride channels references layers parts pool groups positions
    input_samples orders designs stages models bins patches sizes neighbours
    """.split()
)
"""Parameters that count something."""


def _wanted(function: Callable[..., Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    return {name: extra[name] for name in injected(function) if name in extra}


@dataclass
class Look:
    """The target, resolved on the model's answer to the images themselves: at once, or when the score is first asked.

    Attributes:
        model: the model. x: the images. target: the target. task: the task, if known better than the shape tells.
        found: the resolved target and its scores on the images, ``(B,)``.
    """

    model: nn.Module
    x: Tensor
    target: Target
    task: str | None
    found: tuple[Resolved, Tensor] | None = None

    def now(self) -> tuple[Resolved, Tensor]:
        """Return the resolved target and its scores on the images, with a pass of its own if there was none."""
        if self.found is None:
            with torch.no_grad():
                outputs = run(self.model, self.x.clone())
            self._resolve(outputs)
        assert self.found is not None
        return self.found

    def score(self, outputs: Any, rows: Tensor) -> Tensor:
        """Score outputs; the first ones are those on the images where nothing was resolved before."""
        if self.found is None:
            assert rows[: len(self.x)].tolist() == list(range(len(self.x)))
            self._resolve(primary(outputs).detach()[: len(self.x)])
        assert self.found is not None
        return self.found[0].score(outputs, rows)

    @torch.no_grad()
    def _resolve(self, outputs: Any) -> None:
        card = getattr(self.model, "card", None)
        if not callable(self.target) and found_by(outputs, self.x.shape[2:]) is None:
            output = primary(outputs)
            if not torch.isfinite(output).all():
                raise ModelError("the model's output is NaN or infinite on this image; there is nothing to explain")
        labels, task = tuple(getattr(card, "labels", None) or ()), self.task or getattr(card, "task", None)
        resolved = resolve(
            self.target, outputs, self.x, task, labels, multilabel=bool(getattr(card, "multilabel", False))
        )
        self.found = resolved, resolved.score(outputs, torch.arange(len(self.x))).detach()


def _call(
    function: Callable[..., Any], method: str, model: nn.Module, x: Tensor, score: Score, keywords: dict[str, Any]
) -> Found:
    try:
        result = function(model, x, score, **keywords)
    except AtlasError:
        raise
    except MemoryError as error:
        raise ModelError(f"{method} ran out of memory; use a smaller batch_size or a smaller image") from error
    except Exception as error:
        raise ModelError(f"{method} failed on this model: {type(error).__name__}: {first_line(error)}") from error
    return result if isinstance(result, Found) else Found(result)


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, shortened."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else "no message"


def _checked(values: Tensor, x: Tensor, method: str) -> Tensor:
    values = values.detach().float().cpu().contiguous()
    if tuple(values.shape) != (len(x), *x.shape[2:]):
        raise ModelError(f"{method} gave a map of shape {tuple(values.shape)} for images of shape {tuple(x.shape)}")
    if not finite(values):
        raise ModelError(f"{method} gave values that are NaN or infinite on this model")
    return values


@contextmanager
def counted(model: nn.Module, counts: dict[str, int]) -> Iterator[None]:
    """Count the images that pass through the model, forwards and backwards."""

    def back(count: int, _grad: Tensor) -> None:
        counts["backward"] += count

    def hook(_module: nn.Module, inputs: Any, outputs: Any) -> None:
        rows = len(inputs[0]) if inputs and isinstance(inputs[0], Tensor) else 0
        counts["forward"] += rows
        boxes = found_by(outputs, inputs[0].shape[2:]) if isinstance(outputs, list) else None
        try:
            parts = [(one.scores, 1) for one in boxes] if boxes is not None else [(primary(outputs), rows)]
        except ModelError:  # only a callable target can read these outputs; its backward passes are not counted
            return
        for tensor, count in parts:
            if tensor.requires_grad:
                tensor.register_hook(functools.partial(back, count))  # type: ignore[no-untyped-call]

    handle = model.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    for package in ("xai-atlas", "torch", "numpy", "monai", "scikit-image"):
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def versions() -> dict[str, str]:
    """Return the versions of the packages that a map depends on."""
    return dict(_versions())
