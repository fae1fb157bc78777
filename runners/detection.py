"""Detections: the boxes of any detector in one form, and the score of one of them.

Understood are lists with one mapping per image (``boxes``, ``scores``, ``labels`` as in torchvision; ``box``,
``label_scores``, ``label`` as in MONAI) and set predictions (``pred_boxes`` and ``logits``, as in DETR). Boxes are two
opposite corners, in pixels of the model's input, 2D or 3D.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taxonomy.errors import TargetError

KEYS = {
    "boxes": ("boxes", "box"),
    "scores": ("scores", "label_scores", "box_scores", "score"),
    "labels": ("labels", "label"),
}
"""What each part is called in the outputs of detectors."""


@dataclass(frozen=True)
class Box:
    """A finding of a detector to explain: "why did you find this here?".

    Attributes:
        index: which of the boxes the model found, the most certain first; used unless ``corners`` is given.
        corners: a box of your own, ``(first corner, second corner)`` in the order of the model's boxes.
        label: the label it must have; None takes that of the box ``index``, or any with ``corners``.
    """

    index: int = 0
    corners: Sequence[float] | None = None
    label: int | None = None


@dataclass(frozen=True)
class Detections:
    """The boxes ``(n, 2 * dims)``, scores ``(n,)`` and labels ``(n,)`` of one image."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def found_by(outputs: Any, spatial: Sequence[int]) -> list[Detections] | None:
    """Read the outputs of a detector, image by image; None when they are not those of a detector.

    Args:
        outputs: what the model returned.
        spatial: spatial shape of its input, for boxes that are told as shares of it.
    """
    if isinstance(outputs, list | tuple) and outputs and all(isinstance(one, Mapping) for one in outputs):
        parts = [_parts(one) for one in outputs]
        return None if any(part is None for part in parts) else [part for part in parts if part is not None]
    if dataclasses.is_dataclass(outputs) and not isinstance(outputs, type) and not isinstance(outputs, Mapping):
        outputs = {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
    if isinstance(outputs, Mapping) and {"pred_boxes", "logits"} <= outputs.keys():
        return _set_prediction(outputs["pred_boxes"], outputs["logits"], spatial)
    return None


def _parts(one: Mapping[str, Any]) -> Detections | None:
    found = {
        part: next((one[key] for key in keys if isinstance(one.get(key), Tensor)), None) for part, keys in KEYS.items()
    }
    boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
    if boxes is None or scores is None or boxes.ndim != 2:
        return None
    return Detections(boxes, scores, torch.ones_like(scores, dtype=torch.long) if labels is None else labels)


def _set_prediction(boxes: Tensor, logits: Tensor, spatial: Sequence[int]) -> list[Detections]:
    """Centre, width and height as shares of the image; the last class means "nothing here"."""
    scores, labels = logits.softmax(-1)[..., :-1].max(-1)
    size = torch.tensor([float(side) for side in reversed(spatial)], device=boxes.device, dtype=boxes.dtype)
    centre, extent = boxes.chunk(2, -1)
    corners = torch.cat([(centre - extent / 2) * size, (centre + extent / 2) * size], -1)
    return [Detections(b, s, n) for b, s, n in zip(corners, scores, labels, strict=True)]


def overlap(boxes: Tensor, box: Tensor) -> Tensor:
    """Return the intersection over union of boxes ``(n, 2 * dims)`` with one box ``(2 * dims,)``."""
    dims = box.shape[-1] // 2
    low, high = torch.maximum(boxes[:, :dims], box[:dims]), torch.minimum(boxes[:, dims:], box[dims:])
    both = (high - low).clamp(min=0).prod(1)
    sizes = [(b[..., dims:] - b[..., :dims]).clamp(min=0).prod(-1) for b in (boxes, box)]
    union: Tensor = sizes[0] + sizes[1] - both
    return both / union.clamp(min=torch.finfo(boxes.dtype).tiny)


@dataclass(frozen=True)
class Wanted:
    """The box that is looked for in one image; without a label any will do."""

    box: Tensor
    label: int | None

    def text(self) -> str:
        """Say which box it is."""
        corners = ", ".join(f"{value:.0f}" for value in self.box.tolist())
        return f"box ({corners})" + ("" if self.label is None else f" of label {self.label}")


def wanted(target: Box, found: Sequence[Detections]) -> list[Wanted]:
    """Return the box of every image that a target means.

    Raises:
        TargetError: there is no such box.
    """
    chosen = []
    for number, one in enumerate(found):
        where = f"image {number + 1}: " if len(found) > 1 else ""
        if target.corners is not None:
            corners = torch.tensor([float(value) for value in target.corners])
            if len(one.boxes) and len(corners) != one.boxes.shape[1]:
                raise TargetError(f"the box has {len(corners)} numbers; the model's boxes have {one.boxes.shape[1]}")
            chosen.append(Wanted(corners.to(one.boxes), target.label))
            continue
        order = one.scores.argsort(descending=True, stable=True)
        if target.label is not None:
            order = order[one.labels[order] == target.label]
        if not 0 <= target.index < len(order):
            what = "box" if target.label is None else f"box of label {target.label}"
            raise TargetError(
                f"{where}there is no {what} number {target.index}: the model found {len(order)} here, counted from 0 "
                "with the most certain first; give corners= to ask about a place of your own"
            )
        at = int(order[target.index])
        chosen.append(Wanted(one.boxes[at].detach(), int(one.labels[at])))
    return chosen


def likeness(one: Detections, box: Wanted) -> Tensor:
    """Return how well the box is found again: its best score among boxes of its label, times their overlap with it.

    That is the similarity of D-RISE (arXiv 2006.03204) for detectors that tell one label per box. Its gradient is that
    of the score: where a box lies is not differentiated. 0 where nothing of the label is found.
    """
    scores = one.scores * overlap(one.boxes.detach(), box.box.to(one.boxes))
    if box.label is not None:
        scores = scores[one.labels == box.label]
    return scores.max() if len(scores) else one.scores.sum() * 0
