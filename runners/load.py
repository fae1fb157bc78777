"""Models: from any common format to one :class:`Model` with a card, without ever unpickling code.

:func:`load_model` reads TorchScript, ``torch.export``, ONNX, safetensors or ``weights_only`` state dicts with a Python
factory the user names, MONAI bundles, bioimage.io folders, timm and Hugging Face folders, and the bundled models by id.
Every failure is a :class:`taxonomy.ModelError` of one sentence.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from taxonomy.errors import ModelError
from taxonomy.schema import Dim, Id, Part, Text, Url

Task = Literal["classification", "segmentation", "regression"]
ZOO = Path(__file__).parent / "zoo"


class Normalise(Part):
    """How intensities become network input. First to 0..1, then ``(v - mean) / std``."""

    scale: Literal["display", "minmax", "percentile", "zscore", "none"] | list[float] = "display"
    """``[low, high]`` in the units of the training images maps to 0..1, clipped (``[0, 255]``; for CT in HU by its window:
    ``[-160, 240]``); ``minmax`` and ``percentile`` (1st to 99th, clipped) of each image; ``zscore`` of each image;
    ``display`` is what a viewer shows (0..255 of 8-bit images, the stored window, else 0.5th to 99.5th percentile)."""
    mean: list[float] = Field(default_factory=list)
    """One per channel, or one for all, in units of the scaled values."""
    std: list[float] = Field(default_factory=list)

    @model_validator(mode="after")
    def _pairs(self) -> Normalise:
        if isinstance(self.scale, list) and (len(self.scale) != 2 or self.scale[0] >= self.scale[1]):
            raise ValueError("scale is [low, high] with low < high, or one of its words")
        if len(self.mean) != len(self.std) or any(value <= 0 for value in self.std):
            raise ValueError("mean and std have the same length, and std is positive")
        return self


class Training(Part):
    """What a bundled model was trained on, and how."""

    data: Text
    licence: Text
    """Licence of the training images."""
    url: Url | None = None
    citation: Text | None = None
    split: Text
    script: Text
    epochs: int
    seed: int


class Measured(Part):
    """One measured quality."""

    metric: Text
    value: float
    n: int
    """Images (or volumes) it was measured on."""
    data: Text
    """Which images: "held-out patients of ..."."""


class ModelCard(Part):
    """What is known about a model. ``runners/zoo/<id>.yaml`` for bundled ones, derived or given by the user for others."""

    id: Id = Field(exclude=True)
    name: Text
    task: Task | None = None
    multilabel: bool = False
    dims: Dim | None = None
    channels: int | None = Field(default=None, ge=1)
    size: list[int] | None = None
    """Input size per spatial axis when the network is fixed to one; images are resized to it."""
    multiple_of: int | None = Field(default=None, ge=1)
    """Every spatial side must be a multiple of this (U-Nets); images are padded at the end, maps are cropped."""
    labels: list[Text] = Field(default_factory=list)
    """One per output channel; a segmenter with two or more channels has its background as label 0."""
    normalise: Normalise = Field(default_factory=Normalise)
    modality: Id | None = None
    """Modality id of the knowledge base."""
    architecture: Id | None = None
    """Architecture id of the knowledge base."""
    anatomy: Text | None = None
    factory: Text | None = None
    """``module:function`` for bundled models: a function of :mod:`runners.zoo.nets`, as ``nets:function``."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the factory."""
    training: Training | None = None
    measured: list[Measured] = Field(default_factory=list)
    intended_use: Text | None = None
    not_for: Text = "Not for clinical use."
    weights_licence: Text | None = None

    @model_validator(mode="after")
    def _fits(self) -> ModelCard:
        if self.size is not None:
            if self.dims is not None and len(self.size) != self.dims:
                raise ValueError(f"size needs {self.dims} numbers, one per spatial axis")
            if any(side < 1 for side in self.size):
                raise ValueError("size is positive")
            if self.multiple_of is not None:
                raise ValueError("give size or multiple_of, not both")
        for name, values in (("mean", self.normalise.mean), ("std", self.normalise.std)):
            if self.channels is not None and len(values) not in (0, 1, self.channels):
                raise ValueError(f"normalise.{name} needs 1 or {self.channels} numbers")
        return self


def read_card(path: Path) -> ModelCard:
    """Read one ``<id>.yaml``.

    Raises:
        ModelError: when the file is not a card; the message lists every problem.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise ModelError(f"{path.name}: a model card is a mapping of fields, this is {type(fields).__name__}.")
        return ModelCard(id=path.stem, **fields)
    except yaml.YAMLError as error:
        raise ModelError(f"{path.name} is not readable YAML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'card'}: {item['msg']}" for item in error.errors())
        raise ModelError(f"{path.name} is not a valid model card: {problems}.") from error


@cache
def _bundled() -> dict[str, ModelCard]:
    return {path.stem: read_card(path) for path in sorted(ZOO.glob("*.yaml"))}


def bundled() -> list[ModelCard]:
    """Return the cards of the bundled models, by id."""
    return list(_bundled().values())
