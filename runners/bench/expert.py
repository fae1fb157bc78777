"""Tasks on real images: open data sets that the user points to, with the masks of experts as ground truth.

An expert's mask says where a finding *is*, not what the model looks at: a map beside it may be right. So these tasks
are kept apart from planted evidence (``truth="mask"``), and :func:`runners.bench.tasks.checked` cannot vouch for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from runners.bench.phantoms import Planted
from runners.bench.tasks import Task
from runners.images import Image, load_image, load_mask
from runners.load import Model, load_model
from taxonomy.errors import ImageError, ModelError

IMAGES = ("imagesTr", "images", "image", "img", "imgs")
MASKS = ("labelsTr", "labels", "masks", "mask", "annotations", "segmentations", "gt")
_MASK = re.compile(r"[_-](masks?|seg|segmentation|labels?|vessels|gt|lesions?|annotation)([_-]?\d+)?$", re.IGNORECASE)
_CHANNEL = re.compile(r"_(\d{4})$")
LAYOUTS = (
    "x.png with x_mask.png beside it (also _seg, _label, _vessels, _gt; several masks of one image are joined), "
    "imagesTr/ with labelsTr/ as in the Medical Segmentation Decathlon and nnU-Net, or two folders images/ and masks/ "
    "(or labels/) with the same names"
)


@dataclass(frozen=True)
class Pair:
    """An image of a data set and its masks.

    Attributes:
        name: place below the folder, without its ending.
        images: one file; one per channel in nnU-Net's layout.
        masks: at least one.
    """

    name: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))


def pairs(folder: Path) -> list[Pair]:
    """Find the images with masks of a data set.

    Args:
        folder: in one of the layouts of :data:`LAYOUTS`.

    Raises:
        ImageError: there is no such folder, or no image with a mask in it.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder; give the folder of a data set with {LAYOUTS}.")
    images: dict[str, list[Path]] = {}
    masks: dict[str, list[Path]] = {}
    tops = {path.name: path for path in folder.iterdir() if path.is_dir()}
    shown, marked = (next((tops[name] for name in names if name in tops), None) for names in (IMAGES, MASKS))
    if shown is not None and marked is not None:
        for place, found in ((shown, images), (marked, masks)):
            for path in _files(place):
                key = str(path.relative_to(place).with_name(_stem(path)))
                found.setdefault(_CHANNEL.sub("", key) if place == shown else _MASK.sub("", key), []).append(path)
        if not set(images) & set(masks):  # a name may really end in four digits
            images = {str(path.relative_to(shown).with_name(_stem(path))): [path] for path in _files(shown)}
    else:
        for path in _files(folder):
            key = str(path.relative_to(folder).with_name(_stem(path)))
            bare = _MASK.sub("", key)
            (masks if bare != key else images).setdefault(bare, []).append(path)
    listed = [Pair(key, tuple(images[key]), tuple(masks[key])) for key in sorted(set(images) & set(masks))]
    if not listed:
        raise ImageError(f"{folder.name} holds no image with a mask; allowed are {LAYOUTS}.")
    return listed


def _image(pair: Pair, channels: int | None) -> Image:
    if len(pair.images) > 1:
        parts = [load_image(path) for path in pair.images]
        return replace(parts[0], values=torch.cat([part.values for part in parts]))
    volumes = channels is not None and channels > 1 and pair.images[0].name.endswith((".nii", ".nii.gz"))
    return load_image(pair.images[0], frame="channels" if volumes else None)


def _onto(labels: Tensor, model: Model, size: tuple[int, ...]) -> Tensor:
    """Return a label map on the grid that :meth:`Model.prepare` brought its image to."""
    if model.card.size is not None:
        return F.interpolate(labels[None, None].double(), size, mode="nearest-exact")[0, 0].long()
    ends = [end for want, have in zip(reversed(size), reversed(labels.shape), strict=True) for end in (0, want - have)]
    return F.pad(labels, ends)


def expert(folder: Path, model: str | Model, number: int | None = None) -> tuple[Task, Model, list[Planted]]:
    """Return a task on a data set of the user's, with its model and its cases.

    Images in which nothing is marked are left out: there is nothing to find. ``Planted.label`` is the marked label that
    covers most (segmentation), or the class that a folder of the image is named after, or -1 where nobody told:
    then explain what the model decided. ``Planted.image`` is what the network sees.

    Args:
        folder: see :func:`pairs`.
        model: id of a bundled model, or a model with a card that names its task, modality and architecture.
        number: how many cases at most.

    Raises:
        ImageError: no image with a mask, or one that does not fit the model.
        ModelError: the card does not say what the task needs.
    """
    model = load_model(model) if isinstance(model, str) else model
    card = model.card
    if card.task not in ("classification", "segmentation") or None in (card.modality, card.architecture):
        raise ModelError(
            f"{card.name} has the task {card.task}, the modality {card.modality} and the architecture "
            f"{card.architecture} on its card; the benchmark needs a classifier or a segmenter with both"
        )
    found: list[Planted] = []
    for pair in pairs(folder):
        if number is not None and len(found) >= number:
            break
        image = _image(pair, card.channels)
        labels = torch.zeros(image.shape, dtype=torch.long)
        for path in pair.masks:
            mask = load_mask(path, like=image)
            if mask.dtype == torch.bool and len(card.labels) > 2:
                values = load_image(path).values[0].long()  # a file in which only label 2 occurs means label 2
                mask = values if int(values.max()) < len(card.labels) else mask
            labels = torch.maximum(labels, mask.long())
        x = model.prepare(image)[0]
        truth = _onto(labels, model, tuple(x.shape[1:]))
        if not truth.any():
            continue
        if card.task == "segmentation":
            label = int(truth[truth > 0].mode().values)
        else:
            named = [card.labels.index(part) for part in Path(pair.name).parts[:-1] if part in card.labels]
            label = named[-1] if named else -1
        nothing = torch.zeros_like(truth, dtype=torch.bool)
        ones = torch.ones(len(x))
        found.append(Planted(x, label, truth > 0, nothing, None, truth, None, -1, 0 * ones, ones, name=pair.name))
    if not found:
        raise ImageError(f"nothing is marked in any mask of {folder.name}; give images with findings.")
    assert card.modality is not None
    assert card.architecture is not None
    size = tuple(found[0].image.shape[1:])
    name = f"{folder.name}_{card.id}"
    return Task(name, card.modality, card.task, len(size), card.architecture, "mask", size), model, found
