"""What is explained: from the user's target to one score per output row, for every task with the same explainers.

A target is None (what the model itself decided), a label or output index, one index per image, a :class:`Region`, or
any callable on the model's outputs. The result is ``score(outputs, rows) -> (N,)``.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from runners.registry import Score
from taxonomy.errors import ModelError, TargetError

PREFERRED = ("logits", "out", "pred", "prediction", "output", "y", "x")
"""Keys under which models return their main output."""


@dataclass(frozen=True)
class Region:
    """A structure to explain: "why did you mark this?".

    Attributes:
        label: the output channel. With a single output channel 1 is the marked structure and 0 the background.
        mask: bool or 0/1, ``(*spatial)`` or ``(B, *spatial)``; None takes the region that the model itself marks.
    """

    label: int
    mask: Tensor | None = None


Target = int | Sequence[int] | Region | Callable[..., Tensor] | None


@dataclass(frozen=True)
class Resolved:
    """A target made ready: the score, its description, and what the user must know about it."""

    score: Score
    text: str
    cautions: tuple[str, ...] = ()


def plain(target: Any) -> Target:
    """Return a target given as tensor, array or NumPy number as int or list."""
    if isinstance(target, Region):
        label = plain(target.label)
        return replace(target, label=label) if type(label) is int else target
    found: Target = target.tolist() if hasattr(target, "tolist") else target
    return found


def for_image(target: Target, index: int, dims: int) -> Target:
    """Return the target of one image of a batch of images with ``dims`` spatial dimensions."""
    target = plain(target)
    if isinstance(target, Region) and target.mask is not None and target.mask.ndim > dims and len(target.mask) > 1:
        return Region(target.label, target.mask[index])
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


def task_of(output: Tensor, x: Tensor) -> str:
    """Tell the task from the shape of the main output: segmentation, classification or regression."""
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


def resolve(target: Target, outputs: Any, x: Tensor, task: str | None = None, labels: Sequence[str] = ()) -> Resolved:
    """Turn a target into a score.

    Args:
        target: See the module's docstring.
        outputs: The model's outputs on ``x``, whatever their type.
        x: ``(B, C, *spatial)``.
        task: The task when it is known better than the shape tells (a binary classifier has one output too).
        labels: Names of the labels, for the description.

    Raises:
        TargetError: the target does not fit the output.
        ModelError: the output is not understood.
    """
    target = plain(target)
    if callable(target):
        return _from_callable(target, outputs, len(x))
    output = primary(outputs).detach()
    if len(output) != len(x):
        raise ModelError(f"the model returned {len(output)} rows for {len(x)} images")
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

    def score(outputs: Any, rows: Tensor) -> Tensor:
        values = primary(outputs)
        values = values[:, None] if values.ndim == 1 else values
        at = rows.to(values.device)
        return values.gather(1, column[at, None])[:, 0] * sign[at].to(values.dtype)

    what = "label" if task == "classification" else "output"
    return Resolved(score, f"{what} {_names(chosen, _both(labels) if signed_label else labels)}")


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
    if isinstance(target, Region):
        chosen = _indices(target.label, len(x), count, "label").to(output.device)
    elif target is None:
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
    if isinstance(target, Region) and target.mask is not None:
        mask = _mask(target.mask, len(x), spatial, tuple(x.shape[2:])).to(output.device)
        where = "in the given region"
    else:
        mask = label_map == chosen.view(shape)
        where = "where the model marks it"
    empty = ~mask.flatten(1).any(1)
    if isinstance(target, Region) and target.mask is not None and empty.any():
        raise TargetError("the region's mask is empty: it must mark at least one pixel in every image")
    if empty.any():
        own = output[torch.arange(len(x), device=output.device), column] * sign.view(shape)
        strongest = F.one_hot(own.flatten(1).argmax(1), own[0].numel()).view_as(own).bool()
        mask = torch.where(empty.view(shape), strongest, mask)
        cautions.append("The model marks no pixel of this label; the pixel that comes closest is explained instead.")
    weight = mask.to(output.dtype)

    def score(outputs: Any, rows: Tensor) -> Tensor:
        values = primary(outputs)
        at = rows.to(values.device)
        own = values[torch.arange(len(values), device=values.device), column[at]]
        return (own * weight[at]).flatten(1).sum(1) * sign[at]

    sizes_text = ", ".join(str(int(n)) for n in mask.flatten(1).sum(1))
    unit = "voxels" if len(spatial) == 3 else "pixels"
    names = _names(chosen, _both(labels) if single else labels)
    text = f"label {names} {where} ({sizes_text} {unit}), sum of its logits"
    return Resolved(score, text, tuple(cautions))


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
