"""What is explained: from the user's target to one score per output row, for every task with the same explainers.

A target is None (what the model itself decided), a label or output index, one index per image, a :class:`Region`,
a :class:`Contrast`, an :class:`Expected` value, a :class:`Similarity`, a ``Box`` of a detector, or any callable on the
model's outputs. The result is ``score(outputs, rows) -> (N,)``.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from runners.detection import Box, Detections, found_by, likeness, wanted
from runners.registry import Score
from taxonomy.errors import ModelError, TargetError

PREFERRED = ("logits", "out", "pred", "prediction", "output", "y", "x")
"""Keys under which models return their main output."""


Part = Literal["all", "boundary", "structure", "pixel", "false_positive", "missed"]


@dataclass(frozen=True)
class Region:
    """What of a segmentation to explain: "why did you mark this?".

    Attributes:
        label: the output channel. With a single output channel 1 is the marked structure and 0 the background. None is
            what the model marks at the place ``at``, else the label it marks most of.
        mask: bool or 0/1, ``(*spatial)`` or ``(B, *spatial)``; None takes the region that the model itself marks.
        part: ``all`` of the region; its ``boundary`` (its outermost pixels); the connected ``structure`` of it at
            ``at``; the single ``pixel`` at ``at``; with the reference as ``mask``, the ``false_positive`` that the
            model marks outside of it, or what it ``missed`` inside.
        at: place in the image, one index per axis.
    """

    label: int | None = None
    mask: Tensor | None = None
    part: Part = "all"
    at: Sequence[int] | None = None


@dataclass(frozen=True)
class Contrast:
    """Why this label rather than that: the difference of their outputs.

    Attributes:
        label: None is what the model decided.
        versus: None is the most likely of the others.
    """

    label: int | None = None
    versus: int | None = None


@dataclass(frozen=True)
class Expected:
    """The expected grade of an ordinal model: why this severe?

    Attributes:
        outputs: ``grades`` (one logit per grade; the mean grade under their softmax) or ``thresholds`` (one logit per
            step from grade to grade, as in CORAL; the expected number of steps taken).
    """

    outputs: Literal["grades", "thresholds"] = "grades"


@dataclass(frozen=True)
class Similarity:
    """Why does the model find two images alike: the cosine of their embeddings.

    Attributes:
        to: embedding of the other image, as the model returns it, ``(D,)`` or one per image ``(B, D)``.
    """

    to: Tensor


Target = int | Sequence[int] | Region | Contrast | Expected | Similarity | Box | Callable[..., Tensor] | None


SPECIAL = (Contrast, Expected, Similarity, Box)


@dataclass(frozen=True)
class Resolved:
    """A target made ready.

    Attributes:
        score: one number per output row.
        text: what is explained, in words.
        cautions: what the user must know about it.
        others: the scores of the other labels, from the one after the explained label on; of a segmentation, at the
            same places. Empty for a single output and for targets that are no label.
        confidence: the probability that the model gives to what is explained, 0 to 1; of a region, the mean over it.
        decision: 1 where the model decides for what is explained, else 0; of a region, the share of it. Both None
            where the target is no probability, no decision.
    """

    score: Score
    text: str
    cautions: tuple[str, ...] = ()
    others: tuple[Score, ...] = ()
    confidence: Score | None = None
    decision: Score | None = None


def plain(target: Any) -> Target:
    """Return a target given as tensor, array or NumPy number as int or list."""
    if isinstance(target, Region):
        label = plain(target.label)
        return replace(target, label=label) if type(label) is int else target
    if isinstance(target, SPECIAL):
        return target
    found: Target = target.tolist() if hasattr(target, "tolist") else target
    return found


def for_image(target: Target, index: int, dims: int) -> Target:
    """Return the target of one image of a batch of images with ``dims`` spatial dimensions."""
    target = plain(target)
    if isinstance(target, Region) and target.mask is not None and target.mask.ndim > dims and len(target.mask) > 1:
        return replace(target, mask=target.mask[index])
    if isinstance(target, Similarity) and target.to.ndim > 1 and len(target.to) > 1:
        return Similarity(target.to[index])
    if isinstance(target, Sequence) and not isinstance(target, str):
        return [target[index]]
    if callable(target) and _takes_rows(target):
        return functools.wraps(target)(lambda outputs, rows: target(outputs, rows + index))
    return target


def _takes_rows(target: Callable[..., Tensor]) -> bool:
    try:
        inspect.signature(target).bind(None, None)
    except TypeError:
        return False
    return True


def primary(outputs: Any) -> Tensor:
    """Return the main output tensor of a model that returns a tensor, tuple, list, mapping or dataclass.

    Raises:
        ModelError: nothing among the outputs is a floating tensor with a batch dimension.
    """
    found = _find(outputs)
    if found is None:
        raise ModelError(
            f"the model returned {_describe(outputs)}, which holds no floating tensor with a batch dimension; "
            "let it return logits, or give a callable target"
        )
    return found


def _find(outputs: Any) -> Tensor | None:
    if isinstance(outputs, Tensor):
        return outputs if outputs.is_floating_point() and outputs.ndim >= 1 else None
    if dataclasses.is_dataclass(outputs) and not isinstance(outputs, type) and not isinstance(outputs, Mapping):
        outputs = {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
    if isinstance(outputs, Mapping):
        ordered = [outputs[key] for key in PREFERRED if key in outputs]
        ordered += [value for key, value in outputs.items() if key not in PREFERRED and key != "loss"]
    elif isinstance(outputs, tuple | list):
        ordered = list(outputs)
    else:
        return None
    return next((tensor for tensor in map(_find, ordered) if tensor is not None), None)


def _describe(outputs: Any) -> str:
    if isinstance(outputs, Tensor):
        return f"a {outputs.dtype} tensor of shape {tuple(outputs.shape)}"
    return f"a {type(outputs).__name__}"


def task_of(outputs: Any, x: Tensor) -> str:
    """Tell the task from the outputs: detection from boxes, else from the shape of the main output."""
    if found_by(outputs, x.shape[2:]) is not None:
        return "detection"
    output = primary(outputs)
    if output.ndim == x.ndim:
        return "segmentation"
    if output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1):
        return "regression"
    if output.ndim == 2:
        return "classification"
    raise ModelError(
        f"the model's main output has shape {tuple(output.shape)} for an input of shape {tuple(x.shape)}; "
        "(B,), (B, labels) and (B, labels, *spatial) are understood: give a callable target for anything else"
    )


def resolve(
    target: Target,
    outputs: Any,
    x: Tensor,
    task: str | None = None,
    labels: Sequence[str] = (),
    *,
    multilabel: bool = False,
) -> Resolved:
    """Turn a target into a score.

    Args:
        target: See the module's docstring.
        outputs: The model's outputs on ``x``, whatever their type.
        x: ``(B, C, *spatial)``.
        task: The task when it is known better than the shape tells (a binary classifier has one output too).
        labels: Names of the labels, for the description.
        multilabel: The labels of a classifier do not exclude each other.

    Raises:
        TargetError: the target does not fit the output.
        ModelError: the output is not understood.
    """
    target = plain(target)
    if callable(target):
        return _from_callable(target, outputs, len(x))
    found = found_by(outputs, x.shape[2:])
    if found is not None or isinstance(target, Box):
        return _from_boxes(target, found, x)
    output = primary(outputs).detach()
    if len(output) != len(x):
        raise ModelError(f"the model returned {len(output)} rows for {len(x)} images")
    if isinstance(target, Contrast | Expected | Similarity):
        return _from_vector(target, output, labels)
    task = task if task in ("classification", "segmentation", "regression") else task_of(output, x)
    output = output[:, None] if output.ndim == 1 else output
    if output.ndim == x.ndim:
        return _from_region(target, output, x, labels)
    if output.ndim != 2:
        task_of(output, x)  # raises with the shapes
    if isinstance(target, Region):
        raise TargetError(
            f"a Region needs a segmentation model; this one returns {tuple(output.shape)}: give a label index"
        )
    signed_label = output.shape[1] == 1 and task == "classification"
    count = 2 if signed_label else output.shape[1]
    if target is None:
        chosen = (output[:, 0] > 0).long() if signed_label else output.argmax(1)
    else:
        chosen = _indices(target, len(x), count, "label" if task == "classification" else "output").to(output.device)
    column = torch.zeros_like(chosen) if signed_label else chosen
    sign = (2.0 * chosen - 1.0) if signed_label else torch.ones_like(chosen, dtype=output.dtype)

    def score(outputs: Any, rows: Tensor, step: int = 0) -> Tensor:
        values = primary(outputs)
        values = values[:, None] if values.ndim == 1 else values
        at = rows.to(values.device)
        return values.gather(1, (column[at, None] + step) % values.shape[1])[:, 0] * sign[at].to(values.dtype)

    others = _others(score, output.shape[1])
    if task != "classification":
        return Resolved(score, f"output {_names(chosen, labels)}", others=others)
    text = f"label {_names(chosen, _both(labels) if signed_label else labels)}"
    if signed_label:
        return Resolved(
            score,
            text,
            (),
            others,
            lambda outputs, rows: score(outputs, rows).sigmoid(),
            lambda outputs, rows: _won(score(outputs, rows)),
        )
    likely = _likely(output, multilabel)

    def confidence(outputs: Any, rows: Tensor) -> Tensor:
        return score(likely(primary(outputs)), rows)

    def decision(outputs: Any, rows: Tensor) -> Tensor:
        if multilabel:
            return _won(confidence(outputs, rows) - 0.5)
        values = primary(outputs)
        return (values.argmax(1) == chosen[rows.to(values.device)]).to(values.dtype)

    return Resolved(score, text, (), others, confidence, decision)


def _others(score: Callable[..., Tensor], count: int) -> tuple[Score, ...]:
    """Return the scores of the other outputs than the explained one, of ``count``."""
    return tuple(functools.partial(score, step=step) for step in range(1, count))


def _won(margin: Tensor) -> Tensor:
    return (margin > 0).to(margin.dtype)


def _likely(output: Tensor, multilabel: bool) -> Callable[[Tensor], Tensor]:
    """Return what makes probabilities of outputs ``(N, K, ...)``: nothing where they are probabilities already."""
    inside = bool((output >= 0).all()) and bool((output <= 1).all())
    if inside and (multilabel or output.shape[1] == 1 or bool(((output.sum(1) - 1).abs() < 1e-3).all())):
        return lambda values: values
    if multilabel or output.shape[1] == 1:
        return torch.sigmoid
    return lambda values: values.softmax(1)


def _from_boxes(target: Target, found: list[Detections] | None, x: Tensor) -> Resolved:
    """The score of one box per image."""
    if found is None:
        raise TargetError("a Box needs a detector, which returns boxes with scores; this model returns none")
    if len(found) != len(x):
        raise ModelError(f"the model returned boxes for {len(found)} images, not for the {len(x)} given")
    if target is not None and not isinstance(target, Box):
        if isinstance(target, bool) or not isinstance(target, int):
            raise TargetError(f"target {target!r} is not understood: a detector's targets are None, a label or a Box")
        target = Box(label=target)
    boxes = wanted(target or Box(), found)
    spatial = tuple(x.shape[2:])

    def score(outputs: Any, rows: Tensor) -> Tensor:
        found = found_by(outputs, spatial)
        assert found is not None
        return torch.stack([likeness(one, boxes[row]) for one, row in zip(found, rows.tolist(), strict=True)])

    return Resolved(score, "; ".join(box.text() for box in boxes) + ", its score times the overlap", confidence=score)


def _from_vector(target: Contrast | Expected | Similarity, output: Tensor, labels: Sequence[str]) -> Resolved:
    """A score of all outputs ``(B, K)`` together."""
    if output.ndim != 2 or output.shape[1] < (2 if isinstance(target, Contrast) else 1):
        need = "one row of several outputs" if isinstance(target, Contrast) else "one row of outputs"
        raise TargetError(f"{type(target).__name__} needs {need} per image; this model returns {tuple(output.shape)}")
    if isinstance(target, Contrast):
        return _contrast(target, output, labels)
    if isinstance(target, Expected):
        return _expected(target, output)
    to = torch.as_tensor(target.to).detach().to(output)
    to = to[None] if to.ndim == 1 else to
    if to.ndim != 2 or len(to) not in (1, len(output)) or to.shape[1] != output.shape[1]:
        raise TargetError(
            f"the embedding to compare with has shape {tuple(target.to.shape)}; the model's have {output.shape[1]} "
            f"values: ({output.shape[1]},) or {tuple(output.shape)} is needed"
        )
    to = to.expand(len(output), -1)

    def score(outputs: Any, rows: Tensor) -> Tensor:
        values = primary(outputs)
        return F.cosine_similarity(values, to.to(values)[rows.to(values.device)], dim=1)

    return Resolved(score, "likeness to the other image (cosine of the embeddings)")


def _contrast(target: Contrast, output: Tensor, labels: Sequence[str]) -> Resolved:
    batch, count = output.shape
    label = output.argmax(1) if target.label is None else _indices(target.label, batch, count, "label")
    label = label.to(output.device)
    if target.versus is None:
        versus = output.scatter(1, label[:, None], -torch.inf).argmax(1)
    else:
        versus = _indices(target.versus, batch, count, "label").to(output.device)
    if (label == versus).any():
        raise TargetError(f"label {int(label[0])} cannot be set against itself; name another one as versus")

    def score(outputs: Any, rows: Tensor) -> Tensor:
        values, at = primary(outputs), rows.to(output.device)
        return (values.gather(1, label[at, None]) - values.gather(1, versus[at, None]))[:, 0]

    return Resolved(
        score,
        f"label {_names(label, labels)} rather than {_names(versus, labels)}",
        confidence=lambda outputs, rows: score(outputs, rows).sigmoid(),
        decision=lambda outputs, rows: _won(score(outputs, rows)),
    )


def _expected(target: Expected, output: Tensor) -> Resolved:
    if target.outputs not in ("grades", "thresholds"):
        raise TargetError(f"Expected(outputs={target.outputs!r}): grades or thresholds is allowed")
    steps = target.outputs == "thresholds"

    def score(outputs: Any, rows: Tensor) -> Tensor:  # noqa: ARG001
        values = primary(outputs)
        if steps:
            return values.sigmoid().sum(1)
        grades = torch.arange(values.shape[1], device=values.device, dtype=values.dtype)
        return (values.softmax(1) * grades).sum(1)

    most = output.shape[1] - (0 if steps else 1)
    return Resolved(score, f"expected grade, 0 to {most}")


def _both(labels: Sequence[str]) -> Sequence[str]:
    """Names of the two labels of a single output channel, which may name only what it marks."""
    return ("not " + labels[0], labels[0]) if len(labels) == 1 else labels


def _names(chosen: Tensor, labels: Sequence[str]) -> str:
    indices = chosen.tolist()
    unique = [indices[0]] if len(set(indices)) == 1 else indices
    return ", ".join(f"{i} ({labels[i]})" if i < len(labels) else str(i) for i in unique)


def _indices(target: int | Sequence[int], batch: int, count: int, what: str) -> Tensor:
    given = [target] * batch if isinstance(target, int) and not isinstance(target, bool) else target
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(type(i) is int for i in given):
        raise TargetError(
            f"target {target!r} is not understood: give None, a {what} index, one per image, a Region or a callable"
        )
    if len(given) != batch:
        raise TargetError(f"{len(given)} targets for {batch} images: give one, or one per image")
    wrong = [i for i in given if not 0 <= i < count]
    if wrong:
        raise TargetError(f"{what} {wrong[0]} does not exist: the model has {count}, numbered 0 to {count - 1}")
    return torch.tensor(given)


def marked(output: Tensor) -> Tensor:
    """Return the label map ``(B, *spatial)`` that a segmentation output ``(B, K, *spatial)`` stands for.

    One channel means a logit, or a probability when all values lie in [0, 1]; 1 is the structure.
    """
    if output.shape[1] > 1:
        return output.max(1).indices  # several times faster than argmax across channels on a CPU
    probability = bool((output >= 0).all() and (output <= 1).all())
    return (output[:, 0] > (0.5 if probability else 0.0)).long()


def _from_region(target: Target, output: Tensor, x: Tensor, labels: Sequence[str]) -> Resolved:
    single = output.shape[1] == 1
    count = 2 if single else output.shape[1]
    label_map = marked(output)
    spatial = tuple(output.shape[2:])
    dims = tuple(range(1, label_map.ndim))
    cautions: list[str] = []
    if isinstance(target, Region) and target.label is None and target.at is not None:
        chosen = label_map[_everywhere(_place(target.at, spatial, tuple(x.shape[2:])))]
    elif isinstance(target, Region) and target.label is not None:
        chosen = _indices(target.label, len(x), count, "label").to(output.device)
    elif target is None or isinstance(target, Region):
        sizes = torch.stack([(label_map == k).sum(dims) for k in range(1, count)], 1)
        chosen = sizes.argmax(1) + 1
        if not single:  # nothing marked: the label that comes closest
            closest = output[:, 1:].flatten(2).amax(2).argmax(1) + 1
            chosen = torch.where(sizes.sum(1) > 0, chosen, closest)
    else:
        chosen = _indices(target, len(x), count, "label").to(output.device)  # type: ignore[arg-type]
    column = torch.zeros_like(chosen) if single else chosen
    sign = (
        (2.0 * chosen - 1.0).to(output.dtype)
        if single
        else torch.ones(len(x), dtype=output.dtype, device=output.device)
    )
    shape = (-1, *[1] * len(spatial))
    own = label_map == chosen.view(shape)
    if isinstance(target, Region):
        mask, where = _part(target, own, tuple(x.shape[2:]))
    else:
        mask, where = own, "where the model marks it"
    empty = ~mask.flatten(1).any(1)
    if empty.any():
        logit = output[torch.arange(len(x), device=output.device), column] * sign.view(shape)
        strongest = F.one_hot(logit.flatten(1).argmax(1), logit[0].numel()).view_as(logit).bool()
        mask = torch.where(empty.view(shape), strongest, mask)
        cautions.append("The model marks no pixel of this label; the pixel that comes closest is explained instead.")
    weight = mask.to(output.dtype)

    def score(outputs: Any, rows: Tensor, step: int = 0) -> Tensor:
        values = primary(outputs)
        at = rows.to(values.device)
        own = values[torch.arange(len(values), device=values.device), (column[at] + step) % values.shape[1]]
        return (own * weight[at]).flatten(1).sum(1) * sign[at]

    likely, size = _likely(output, multilabel=False), weight.flatten(1).sum(1)

    def confidence(outputs: Any, rows: Tensor) -> Tensor:
        share = score(likely(primary(outputs)), rows) / size[rows.to(size.device)]
        return torch.where(sign[rows.to(sign.device)] < 0, 1 + share, share)

    def decision(outputs: Any, rows: Tensor) -> Tensor:
        values, at = primary(outputs), rows.to(weight.device)
        found = (likely(values)[:, 0] > 0.5).long() if single else values.max(1).indices
        kept = (found == chosen[at].view(shape)).to(values.dtype)
        return (kept * weight[at]).flatten(1).sum(1) / size[at]

    sizes_text = ", ".join(str(int(n)) for n in mask.flatten(1).sum(1))
    unit = "voxels" if len(spatial) == 3 else "pixels"
    names = _names(chosen, _both(labels) if single else labels)
    text = f"label {names} {where} ({sizes_text} {unit}), sum of its logits"
    return Resolved(score, text, tuple(cautions), _others(score, output.shape[1]), confidence, decision)


def _part(target: Region, own: Tensor, image: tuple[int, ...]) -> tuple[Tensor, str]:
    """Return the part of a segmentation that a target means, bool ``(B, *spatial)``, and its words.

    Args:
        target: the target.
        own: what the model marks with the label.
        image: spatial shape of the image, which ``at`` and ``mask`` may refer to.

    Raises:
        TargetError: something it needs is missing, or there is no such part.
    """
    part, spatial = target.part, tuple(own.shape[1:])
    if part not in get_args(Part):
        raise TargetError(f"Region(part={part!r}): {', '.join(get_args(Part))} is allowed")
    if part in ("pixel", "structure") and target.at is None:
        raise TargetError(f"Region(part={part!r}) needs at=, the place in the image")
    if part in ("false_positive", "missed") and target.mask is None:
        raise TargetError(f"Region(part={part!r}) needs mask=, the reference to compare with")
    given = None if target.mask is None else _mask(target.mask, len(own), spatial, image).to(own.device)
    if given is not None and part in ("all", "boundary") and not given.flatten(1).any(1).all():
        raise TargetError("the region's mask is empty: it must mark at least one pixel in every image")
    region, where = (own, "where the model marks it") if given is None else (given, "in the given region")
    if part == "all":
        return region, where
    if part == "boundary":
        return region & ~_eroded(region), f"at the boundary, {where}"
    if part in ("false_positive", "missed"):
        assert given is not None
        found = own & ~given if part == "false_positive" else given & ~own
        where = "marked outside the reference" if part == "false_positive" else "of the reference that was missed"
    else:
        place = _place(target.at or (), spatial, image)
        where = f"at {tuple(target.at or ())}"
        if part == "pixel":
            found = torch.zeros_like(own)
            found[_everywhere(place)] = True
        else:
            found, where = _connected(region, place), f"in the connected structure {where}"
    if not found.flatten(1).any(1).all():
        raise TargetError(f"the model's answer has nothing of this label {where}: there is nothing to explain")
    return found, where


def _eroded(mask: Tensor) -> Tensor:
    """Take away the outermost pixels of regions ``(B, *spatial)``; the image's border does not count as outside."""
    outside = (~mask)[:, None].float()
    pool = F.max_pool2d if mask.ndim == 3 else F.max_pool3d
    return pool(outside, 3, 1, 1)[:, 0] == 0


def _place(at: Sequence[int], spatial: tuple[int, ...], image: tuple[int, ...]) -> tuple[int, ...]:
    """Bring a place in the image to the grid of the output."""
    if len(at) != len(image) or not all(type(i) is int and 0 <= i < side for i, side in zip(at, image, strict=False)):
        raise TargetError(f"at={tuple(at)} was given; one index per axis is needed, inside an image of {image}")
    return tuple(i * own // side for i, own, side in zip(at, spatial, image, strict=True))


def _everywhere(place: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the index of a place in every image of a batch."""
    return (slice(None), *place)


def _connected(mask: Tensor, place: tuple[int, ...]) -> Tensor:
    """Return the connected part of each region ``(B, *spatial)`` that holds a place; nothing where it is outside."""
    from skimage.measure import label

    parts = torch.stack([torch.from_numpy(label(one.cpu().numpy())) for one in mask])  # type: ignore[no-untyped-call]
    at = parts[_everywhere(place)].view(-1, *[1] * (mask.ndim - 1))
    return ((parts == at) & (at > 0)).to(mask.device)


def _mask(mask: Tensor, batch: int, spatial: tuple[int, ...], image: tuple[int, ...]) -> Tensor:
    mask = torch.as_tensor(mask)
    mask = mask[None] if mask.ndim == len(spatial) else mask
    if mask.ndim == len(spatial) + 2 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.ndim != len(spatial) + 1 or len(mask) not in (1, batch):
        raise TargetError(
            f"the region's mask has shape {tuple(mask.shape)}; {spatial} or {(batch, *spatial)} is needed"
        )
    if tuple(mask.shape[1:]) == image != spatial:  # the model's output has another resolution than its input
        mask = F.interpolate(mask[:, None].float(), size=spatial, mode="nearest-exact")[:, 0]
    if tuple(mask.shape[1:]) != spatial:
        raise TargetError(f"the region's mask has shape {tuple(mask.shape[1:])}; the model's output is {spatial}")
    return (mask > 0).expand(batch, *spatial)


def _from_callable(target: Callable[..., Tensor], outputs: Any, batch: int) -> Resolved:
    with_rows = _takes_rows(target)

    def score(outputs: Any, rows: Tensor) -> Tensor:
        values = target(outputs, rows) if with_rows else target(outputs)
        if not isinstance(values, Tensor) or values.shape != rows.shape or not values.is_floating_point():
            given = _describe(values)
            raise TargetError(
                f"the target function returned {given}; it must return one number per row, shape {tuple(rows.shape)}"
            )
        return values

    with torch.no_grad():
        score(outputs, torch.arange(batch))
    return Resolved(score, f"function {getattr(target, '__name__', type(target).__name__)}")
