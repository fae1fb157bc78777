"""A case: an image, what the model answered, and what the explainers found. Export, report and store all speak of it.

A case is the same whether it was just computed or read back from the store, and holds nothing of a patient: no tags, no
file names, only the image's hash.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners import discover, explain, measure  # with all that is registered
from runners.detection import Box, Detections, found_by
from runners.discovery import Insight
from runners.gate import Explanation
from runners.images import Image
from runners.load import Model, ModelCard
from runners.models import Wired, preserved, profile, run
from runners.registry import MetricResult
from runners.targets import Contrast, Expected, Part, Region, Target, marked, primary, task_of
from taxonomy import KB
from taxonomy.errors import AtlasError, TargetError

Fit = Literal["stretch", "crop"]
"""How a map returns from the model's input to the image: resized, or cut where the input was padded at the end."""


@dataclass(frozen=True)
class Answered:
    """One line of a model's answer.

    Attributes:
        label: name or number of the output.
        value: probability, predicted value, or size of the marked region.
        unit: what ``value`` is.
        share: fraction of the image that is marked; None unless the model segments.
    """

    label: str
    value: float
    unit: Literal["probability", "value", "pixels", "voxels", "mm²", "ml"]
    share: float | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """What was explained.

    Attributes:
        image: the image; read back from the store, an 8-bit preview of it on the same grid.
        source: id of the bundled sample, or "upload".
        modality: modality id, or None.
        model: id, name, task, labels, architecture and sha256 of the model.
        answer: what the model said.
        marked: label map on the image's grid, when the model segments.
        mask: the reference region the user gave, bool on the image's grid.
        fit: how maps return to the image's grid.
        key: what the results of one press of "Run" have in common.
    """

    image: Image
    model: Mapping[str, Any]
    answer: tuple[Answered, ...] = ()
    source: str = "upload"
    modality: str | None = None
    marked: Tensor | None = None
    mask: Tensor | None = None
    fit: Fit = "stretch"
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def place(self, values: Tensor, *, labels: bool = False) -> Tensor:
        """Lay a map ``(*input spatial)`` over the image ``(*spatial)``; label maps keep whole numbers."""
        return place(values, self.image.shape, self.fit, labels=labels)


@dataclass(frozen=True, eq=False)
class Subject:
    """An image as the model sees it, and what of it is explained.

    Attributes:
        case: the image and what the model answered.
        x: the model's input, ``(1, C, *spatial)``.
        wired: what the model offers on it.
        target: what is explained.
        region: the mask of the finding on the input's grid, bool ``(*spatial)``.
    """

    case: Case
    x: Tensor
    wired: Wired
    target: Target = None
    region: Tensor | None = None


@dataclass(frozen=True)
class Measured:
    """One metric on one explanation.

    Attributes:
        metric: metric id.
        value: the score; None when it is not defined for this map.
        curve: the curve under which the score is the area, if it is one.
        notes: what was assumed.
    """

    metric: str
    value: float | None
    curve: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Result:
    """What came of one method: a map, an insight, or the sentence why there is neither."""

    method: str
    explanation: Explanation | None = None
    measured: tuple[Measured, ...] = ()
    error: str | None = None
    id: int | None = field(default=None, compare=False)
    """Number of the row in the store."""
    insight: Insight | None = None

    @property
    def found(self) -> Explanation | Insight | None:
        """What was found, of whatever kind."""
        return self.explanation or self.insight


def place(values: Tensor, shape: tuple[int, ...], fit: Fit, *, labels: bool = False) -> Tensor:
    """Bring ``(*input spatial)`` to ``(*shape)``."""
    if tuple(values.shape) == shape:
        return values
    if fit == "crop":
        return values[tuple(slice(side) for side in shape)]
    mode = "nearest-exact" if labels else {2: "bilinear", 3: "trilinear"}[len(shape)]
    resized = F.interpolate(values[None, None].float(), size=shape, mode=mode)[0, 0]
    return resized.to(values.dtype)


def to_input(mask: Tensor, shape: tuple[int, ...], fit: Fit) -> Tensor:
    """Bring a mask ``(*image spatial)`` to the model's input grid ``(*shape)``, as ``prepare`` brings the image."""
    if fit == "crop":
        pads = [(0, side - own) for side, own in zip(reversed(shape), reversed(mask.shape), strict=True)]
        return F.pad(mask.float(), [one for pad in pads for one in pad]) > 0
    return place(mask.float(), shape, fit, labels=True) > 0


def input_spacing(image: Image, shape: tuple[int, ...], fit: Fit) -> tuple[float, ...] | None:
    """Return millimetres per axis of the model's input ``(*shape)``, None where the image has no spacing."""
    if image.spacing is None or fit == "crop":
        return image.spacing
    return tuple(step * own / side for step, own, side in zip(image.spacing, image.shape, shape, strict=True))


def measured(metric: str, result: MetricResult) -> Measured:
    """Turn the result of a metric on one image into plain numbers."""
    value = float(result.score[0])
    curve = None if result.curve is None else tuple(result.curve[0].tolist())
    return Measured(metric, value if value == value else None, curve, tuple(result.notes))


def explained(model: Model, x: Tensor, method: str, target: Target, **given: Any) -> Result:
    """Run one method; when it fails, keep the sentence that says why."""
    try:
        return Result(method, explain(model, x, method, target, **given))
    except AtlasError as error:
        return Result(method, error=str(error))


def discovered(model: nn.Module, x: Tensor, method: str, target: Target, **given: Any) -> Result:
    """Run one method whose answer is not a map; when it fails, keep the sentence that says why."""
    try:
        return Result(method, insight=discover(model, x, method, target, **given))
    except AtlasError as error:
        return Result(method, error=str(error))


def scored(
    metric: str, model: Model, x: Tensor, result: Result, target: Target, region: Tensor | None, kb: KB, **given: Any
) -> Measured:
    """Measure one map; when that fails, keep the sentence that says why."""
    assert result.explanation is not None
    mask = region if "mask" in kb.metrics[metric].needs else None
    try:
        return measured(metric, measure(metric, model, x, result.explanation, target, mask=mask, **given))
    except AtlasError as error:
        return Measured(metric, None, notes=(str(error),))


def fit_of(card: ModelCard) -> Fit:
    """Return how an image comes to the size that a model wants."""
    return "crop" if card.multiple_of else "stretch"


def open_case(
    image: Image,
    model: Model,
    x: Tensor,
    *,
    source: str = "upload",
    modality: str | None = None,
    mask: Tensor | None = None,
) -> Case:
    """Run the model once and take down what it says.

    Args:
        image: the image.
        model: the model, with its card.
        x: what ``model.prepare(image)`` gave, ``(1, C, *spatial)``.
        source: id of the bundled sample, or "upload".
        modality: modality id, when it is known better than the image and the card tell.
        mask: reference region, bool ``(*image.shape)``.

    Raises:
        ModelError: the model fails on the image.
    """
    card = model.card
    with preserved(model), torch.no_grad():
        outputs = run(model, x.clone())
    found = found_by(outputs, x.shape[2:])
    task = card.task or task_of(outputs, x)
    fit = fit_of(card)
    output = torch.zeros(1, 0) if found is not None else primary(outputs).detach().float().cpu()
    labels = None
    if output.ndim == x.ndim:
        labels = place(
            place(marked(output)[0], tuple(x.shape[2:]), "stretch", labels=True), image.shape, fit, labels=True
        )
    return Case(
        image=image,
        model={
            "id": card.id,
            "name": card.name,
            "task": task,
            "labels": list(card.labels),
            "architecture": card.architecture,
            "sha256": model.sha256,
        },
        answer=_boxes(found[0], card)
        if found is not None
        else _regions(labels, output.shape[1], card, image)
        if labels is not None
        else answers(output, task, card),
        source=source,
        modality=modality or image.modality or card.modality,
        marked=labels,
        mask=mask,
        fit=fit,
    )


def subject(
    image: Image,
    model: Model,
    *,
    source: str = "upload",
    modality: str | None = None,
    mask: Tensor | None = None,
    target: str | None = None,
) -> Subject:
    """Bring an image and a model together.

    Args:
        image: the image.
        model: the model, with its card.
        source: id of the bundled sample, or "upload".
        modality: modality id, when it is known better than the image and the card tell.
        mask: the finding, bool ``(*image.shape)``, to measure against.
        target: what to explain, as users type it; None for what the model decided.

    Raises:
        ImageError, ModelError, TargetError: they do not fit.
    """
    x = model.prepare(image)
    case = open_case(image, model, x, source=source, modality=modality, mask=mask)
    region = None if mask is None else to_input(mask, tuple(x.shape[2:]), case.fit)
    what = read_target(target, model.card, task=case.model["task"])
    return Subject(case, x, profile(model, x), what, region)


def answers(output: Tensor, task: str, card: ModelCard) -> tuple[Answered, ...]:
    """Return what a classifier or a regression says, from the row ``(1, K)`` of its outputs."""
    row = output.reshape(len(output), -1)[0]
    if task == "regression":
        return tuple(Answered(label_name(card.labels, i), v, "value") for i, v in enumerate(row.tolist()))
    if bool((row >= 0).all()) and bool((row <= 1).all()) and (card.multilabel or abs(float(row.sum()) - 1) < 1e-3):
        probabilities = row  # the model ends in its own softmax or sigmoid
    elif len(row) == 1:
        positive = row.sigmoid()
        probabilities = torch.cat([1 - positive, positive]) if len(card.labels) == 2 else positive
    else:
        probabilities = row.sigmoid() if card.multilabel else row.softmax(0)
    return tuple(Answered(label_name(card.labels, i), v, "probability") for i, v in enumerate(probabilities.tolist()))


MOST_BOXES = 10
"""So many findings of a detector are told, the most certain first."""


def _boxes(found: Detections, card: ModelCard) -> tuple[Answered, ...]:
    """Tell what a detector found, in the order in which a ``Box`` counts."""
    order = found.scores.argsort(descending=True, stable=True)[:MOST_BOXES]
    lines = []
    for at in order.tolist():
        corners = ", ".join(f"{value:.0f}" for value in found.boxes[at].tolist())
        label = label_name(card.labels, int(found.labels[at]))
        lines.append(Answered(f"{label} in box ({corners})", float(found.scores[at]), "probability"))
    return tuple(lines)


def _regions(labels: Tensor, channels: int, card: ModelCard, image: Image) -> tuple[Answered, ...]:
    found = []
    for index in range(1, max(channels, 2)):
        count = int((labels == index).sum())
        size: float
        unit: Literal["pixels", "voxels", "mm²", "ml"]
        if image.spacing is None:
            size, unit = float(count), "pixels" if image.dims == 2 else "voxels"
        else:
            size = count * math.prod(image.spacing)
            size, unit = (size, "mm²") if image.dims == 2 else (size / 1000, "ml")
        name = label_name(card.labels, index if channels > 1 else index - 1)
        found.append(Answered(name, size, unit, share=count / labels.numel()))
    return tuple(found)


def label_name(labels: Sequence[str], index: int) -> str:
    """Return the name of an output, or its number when it has none."""
    return labels[index] if index < len(labels) else f"label {index}"


def at_input(at: Sequence[int], image: tuple[int, ...], shape: tuple[int, ...], fit: Fit) -> tuple[int, ...]:
    """Bring a place in the image ``(*image)`` to the model's input grid ``(*shape)``."""
    if len(at) != len(image) or not all(0 <= i < side for i, side in zip(at, image, strict=False)):
        raise TargetError(f"the place {tuple(at)} does not lie in the image, which has {image} pixels")
    if fit == "crop":
        return tuple(at)
    return tuple(i * own // side for i, own, side in zip(at, shape, image, strict=True))


WORDS: Mapping[str, Target] = {"grade": Expected("grades"), "steps": Expected("thresholds")}
"""Targets with a word of their own."""


def read_target(
    text: str | None,
    card: ModelCard,
    mask: Tensor | None = None,
    *,
    task: str | None = None,
    part: Part = "all",
    at: Sequence[int] | None = None,
) -> Target:
    """Turn what a user typed into a target.

    Args:
        text: a label's name or number; ``A vs B`` for why the one rather than the other; ``box N`` for the finding N of
            a detector, from 0; ``grade`` or ``steps`` for the expected grade of an ordinal model (one output per grade,
            or per step between grades); None for what the model decided.
        card: the model's card.
        mask: region to explain, or the reference for what was marked wrongly, on the model's input grid; segmentation
            only.
        task: the task as profiled, when the card does not tell.
        part: which part of a segmentation, as in ``Region``.
        at: place in the model's input, as in ``Region``.

    Raises:
        TargetError: there is no such label, or a region is given to a model that does not segment.
    """
    segments = (card.task or task) == "segmentation"
    region = mask is not None or part != "all" or at is not None
    if region and not segments:
        raise TargetError("a region can only be explained of a model that segments; leave the region out")
    index = None if text is None else _label(text.strip(), card, segments)
    if region and mask is not None and part in ("all", "boundary") and index is None:
        raise TargetError("a region needs the label it was marked as; give the target too")
    if region:
        if index is not None and not isinstance(index, int):
            raise TargetError(f"{text!r} is no label; a region is explained for one label")
        return Region(index, mask, part, at)
    return Region(index) if segments and isinstance(index, int) else index


def _label(text: str, card: ModelCard, segments: bool) -> Target:
    offset = 1 if segments and len(card.labels) == 1 else 0  # one channel: its label is the structure, 0 the background
    names = {name.casefold(): number + offset for number, name in enumerate(card.labels)}
    if text.isdecimal():
        return int(text)
    if text.casefold() in names:
        return names[text.casefold()]
    if (word := WORDS.get(text.casefold())) is not None:
        return word
    if box := re.fullmatch(r"box (\d+)", text.casefold()):
        return Box(int(box[1]))
    if len(sides := re.split(r"\s+vs\.?\s+", text)) == 2:
        label, versus = (_label(side.strip(), card, segments) for side in sides)
        if isinstance(label, int) and isinstance(versus, int):
            return Contrast(label, versus)
    known = ", ".join(card.labels) or "none; give a label's number"
    raise TargetError(f"the model has no label {text!r}; its labels are: {known}")
