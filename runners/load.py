"""Models: from any common format to one :class:`Model` with a card, without ever unpickling code.

:func:`load_model` reads TorchScript, ``torch.export``, ONNX, safetensors or ``weights_only`` state dicts with a Python
factory the user names, MONAI bundles, bioimage.io folders, timm and Hugging Face folders, and the bundled models by id.
:func:`load_towers` reads vision-language models, which prompts turn into classifiers. Every failure is a
:class:`taxonomy.ModelError` of one sentence.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib
import importlib.util
import io
import json
import pickle
import re
import sys
import types
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
import yaml
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from runners.aten import free_batch, to_functions
from runners.images import Image, times
from runners.joint import Prompted
from runners.models import joined
from runners.sized import resize
from runners.writing import LONGEST, Writer
from taxonomy.errors import ImageError, ModelError
from taxonomy.schema import Dim, Id, Part, Text, Url

Task = Literal["classification", "segmentation", "regression", "detection"]
ZOO = Path(__file__).parent / "zoo"


class Normalise(Part):
    """How intensities become network input. First to 0..1, then ``(v - mean) / std``."""

    scale: Literal["display", "minmax", "percentile", "zscore", "none"] | list[float] = "display"
    """``[low, high]``: these values in the units of the training images become 0 and 1, clipped; ``[0, 255]`` takes the
    displayed range of an image that is not 8-bit, ``[-160, 240]`` is a CT window in HU. ``minmax``, ``percentile`` (1st
    to 99th, clipped) and ``zscore`` are those of each image. ``display`` is what a viewer shows: 0..255 for 8-bit, the
    stored window, else the 0.5th to 99.5th percentile."""
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
    """What is known about a model: ``runners/zoo/<id>.yaml`` for bundled ones, derived or given for others."""

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
    sequences: list[Text] = Field(default_factory=list)
    """Names of the input channels (T1, T2, FLAIR), when they are more than colours."""
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
    sha256: Text | None = None
    """Of the bundled weights; when given, other weights are refused."""

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
        raise ModelError(f"{path.name} is not a valid model card: {_problems(error)}.") from error


@cache
def _bundled() -> dict[str, ModelCard]:
    return {path.stem: read_card(path) for path in sorted(ZOO.glob("*.yaml"))}


def bundled() -> list[ModelCard]:
    """Return the cards of the bundled models, by id."""
    return list(_bundled().values())


class BlackBox(nn.Module):
    """A network that onnxruntime runs: outputs only, no gradients, no layers.

    Args:
        data: the bytes of the ONNX file.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the network on ``(B, C, *spatial)``; a single output comes as a tensor, several as a tuple."""
        given = {self.input.name: x.detach().cpu().numpy().astype(np.float32, copy=False)}
        outputs = tuple(torch.from_numpy(np.asarray(array)).to(x.device) for array in self.session.run(None, given))
        return outputs[0] if len(outputs) == 1 else outputs


class OneByOne(nn.Module):
    """A network exported for one image at a time, run on each image of a batch in turn."""

    one_by_one = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        """Run ``(B, C, *spatial)`` image by image and join the outputs along the batch."""
        if len(x) == 1:
            return self.network(x)
        return joined([self.network(image[None]) for image in x])


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a network wants it.

    Attributes:
        x: float32 ``(1, C, *spatial)``.
        notes: what was converted on the way.
    """

    x: Tensor
    notes: tuple[str, ...]


class Model(nn.Module):
    """A network with its card.

    Attributes:
        network: the network itself.
        card: what is known about it.
        black_box: True when only its outputs can be had (no gradients, no layers).
        sha256: of the weights as read; "" for a module that was handed over.
        notes: how it was read, a sentence each.
    """

    def __init__(
        self,
        network: nn.Module,
        card: ModelCard,
        *,
        sha256: str = "",
        black_box: bool = False,
        notes: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.card = card
        self.sha256 = sha256
        self.black_box = black_box
        self.notes = tuple(notes)

    @property
    def one_by_one(self) -> bool:
        """Whether a batch is run image by image, so that a hook sees one call per image."""
        return bool(getattr(self.network, "one_by_one", False))

    def forward(self, x: Tensor) -> Any:
        """Return the network's output for ``(B, C, *spatial)``."""
        return self.network(x)

    def prepare(self, image: Image | Tensor) -> Tensor:
        """Return the input of the network for an image, float32 ``(1, C, *spatial)``; see :meth:`fit`."""
        return self.fit(image).x

    def fit(self, image: Image | Tensor) -> Prepared:
        """Convert channels, scale intensities and resize or pad an image as the card says.

        Args:
            image: an image, or a tensor ``(C, *spatial)`` or ``(1, C, *spatial)`` in the units of the training images.

        Raises:
            ImageError: when its axes or channels do not fit the model.
        """
        notes: list[str] = []
        if isinstance(image, Tensor):
            image = _as_image(image, self.card.dims)
        if self.card.dims not in (None, image.dims):
            hint = "; take a slice of it: image.slice(axis, index)" if image.dims == 3 else ""
            raise ImageError(f"The image is {image.dims}D, {self.card.name} reads {self.card.dims}D images{hint}.")
        values = _scaled(_channels(image.values, self.card, notes), image, self.card.normalise, notes)
        if self.card.size is not None and tuple(self.card.size) != image.shape:
            values = resize(values[None], tuple(self.card.size), antialias=True)[0]
            notes.append(f"Resized from {times(image.shape)} to {times(self.card.size)}, as the model needs.")
        pad = _padding(image.shape, self.card)
        if any(pad):
            values = F.pad(values, [end for side in reversed(pad) for end in (0, side)])
            notes.append(f"Padded with zeros to {times(values.shape[1:])}, multiples of {self.card.multiple_of}.")
        return Prepared(values[None].contiguous(), tuple(notes))

    def restore(self, values: Tensor, image: Image | Tensor) -> Tensor:
        """Bring maps from the network's input size back to the grid of the image.

        Args:
            values: ``(B, *spatial)`` as the network's input is, or smaller by pooling.
            image: the image that was prepared.

        Returns:
            ``(B, *image.shape)``, interpolated linearly.
        """
        shape = image.shape if isinstance(image, Image) else tuple(image.shape[-(self.card.dims or values.ndim - 1) :])
        padded = tuple(side + more for side, more in zip(shape, _padding(shape, self.card), strict=True))
        if tuple(values.shape[1:]) != padded:
            values = resize(values[:, None], padded, antialias=False)[:, 0]
        return values[(slice(None), *(slice(side) for side in shape))]


def _as_image(tensor: Tensor, dims: int | None) -> Image:
    spatial = (
        dims if dims is not None else (tensor.ndim - 2 if tensor.shape[0] == 1 and tensor.ndim > 3 else tensor.ndim - 1)
    )
    values = tensor[0] if tensor.ndim == spatial + 2 and tensor.shape[0] == 1 else tensor
    if values.ndim != spatial + 1 or spatial not in (2, 3):
        raise ImageError(
            f"A tensor of shape {tuple(tensor.shape)} is not one image with {dims or '2 or 3'} spatial axes."
        )
    values = values.detach().float()
    if not bool(torch.isfinite(values).all()):
        raise ImageError("The tensor holds values that are NaN or infinite.")
    return Image(values, (float(values.min()), float(values.max())), "", "tensor")


def _channels(values: Tensor, card: ModelCard, notes: list[str]) -> Tensor:
    has, wants = values.shape[0], card.channels
    if wants is None or has == wants:
        return values
    if has == 1 and wants == 3:
        notes.append("The grey image was repeated to three channels.")
        return values.expand(3, *values.shape[1:])
    if has == 3 and wants == 1:
        notes.append("The colour image was turned grey by its luminance (ITU-R 601).")
        weights = values.new_tensor([0.299, 0.587, 0.114]).view(3, *[1] * (values.ndim - 1))
        return (values * weights).sum(0, keepdim=True)
    raise ImageError(
        f"The image has {has} channels, {card.name} reads {wants}; only grey and RGB are converted to each other."
    )


def _scaled(values: Tensor, image: Image, normalise: Normalise, notes: list[str]) -> Tensor:
    scale = normalise.scale
    low, high = image.display_range
    if isinstance(scale, list):
        first, last = scale
        if scale == [0, 255] and image.full_range != (0.0, 255.0) and image.format != "tensor":
            notes.append("Not an 8-bit image: the displayed range was taken for 0..255.")
            first, last = low, high
        values = ((values - first) / ((last - first) or 1.0)).clamp(0, 1)
    elif scale == "display":
        values = ((values - low) / ((high - low) or 1.0)).clamp(0, 1)
    elif scale in ("minmax", "percentile"):
        flat = values.reshape(-1).numpy()
        first, last = np.percentile(flat, (1, 99)) if scale == "percentile" else (flat.min(), flat.max())
        values = ((values - float(first)) / ((float(last) - float(first)) or 1.0)).clamp(0, 1)
    elif scale == "zscore":
        values = (values - values.mean()) / (values.std(correction=0) or 1.0)
    if normalise.mean:
        shape = (-1, *[1] * (values.ndim - 1))
        values = (values - values.new_tensor(normalise.mean).view(shape)) / values.new_tensor(normalise.std).view(shape)
    return values.float()


def _padding(shape: Sequence[int], card: ModelCard) -> tuple[int, ...]:
    step = card.multiple_of or 1
    return tuple(-side % step for side in shape)


# --- reading ---


@dataclass
class _Loaded:
    """What a reader found: a network and what its file says about it."""

    network: nn.Module
    sha256: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    black_box: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Towers:
    """A vision-language model: two towers whose vectors share a space.

    Attributes:
        image: images ``(B, C, *spatial)`` to vectors ``(B, E)``; differentiable.
        encode_text: words to unit vectors ``(n, E)``.
        scale: what a cosine is multiplied by to be a logit.
        card: how images are prepared, and its name.
    """

    image: nn.Module
    encode_text: Callable[[list[str]], Tensor]
    scale: float
    card: ModelCard


def load_model(
    source: str | Path | nn.Module | Towers,
    *,
    prompts: Sequence[str] | None = None,
    factory: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    task: Task | None = None,
    labels: Sequence[str] | None = None,
    size: Sequence[int] | None = None,
    multiple_of: int | None = None,
    channels: int | None = None,
    dims: Literal[2, 3] | None = None,
    normalise: Normalise | Mapping[str, Any] | None = None,
    modality: str | None = None,
) -> Model:
    """Read a model.

    Args:
        source: the id of a bundled model; a file (TorchScript, ``torch.export`` .pt2, ONNX, safetensors or a
            ``weights_only`` state dict); a folder (MONAI bundle, bioimage.io, timm or Hugging Face); ``timm:NAME`` or
            ``hf:NAME``; a module; or the towers of a vision-language model.
        prompts: for a vision-language model: texts, each of which becomes a label.
        factory: for state dicts: ``path/to/file.py:function`` or ``package.module:function``, called without arguments
            (or with ``kwargs``) to build the network. It is Python code and runs as such: name only code you trust.
        kwargs: keyword arguments of the factory.
        task: what the outputs mean; when None, the profile looks at them.
        labels: one name per output channel.
        size: input size per spatial axis that images are resized to.
        multiple_of: side lengths must be a multiple of this; images are padded.
        channels: input channels; when None, read from the network where it tells.
        dims: 2 or 3; when None, read from the network where it tells.
        normalise: :class:`Normalise` or its fields; by default the displayed range becomes 0..1.
        modality: modality id of the images it was trained on.

    Returns:
        The model in eval mode on the CPU.

    Raises:
        ModelError: when it cannot be read; pickled code is always refused.
    """
    given: dict[str, Any] = {
        "task": task, "labels": None if labels is None else list(labels), "size": None if size is None else list(size),
        "multiple_of": multiple_of, "channels": channels, "dims": dims, "modality": modality,
        "normalise": None if normalise is None else normalise if isinstance(normalise, Normalise) else dict(normalise),
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    if isinstance(source, str) and source in _bundled():
        card = _bundled()[source]
        loaded = _zoo(card)
        known = {**card.model_dump(), "normalise": card.normalise}
        name = source
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporters' readers are not the user's concern
            loaded, name = _load(source, factory, kwargs or {}, prompts)
        known = {"name": name, **_inferred(loaded.network), **loaded.card}
    known.pop("id", None)
    for given_key, other in (("size", "multiple_of"), ("multiple_of", "size")):  # one excludes the other
        if given_key in given:
            known.pop(other, None)
    try:
        card = ModelCard(id=_slug(name), **{**known, **given})
    except ValidationError as error:
        raise ModelError(f"{name}: {_problems(error)}.") from error
    return Model(loaded.network, card, sha256=loaded.sha256, black_box=loaded.black_box, notes=loaded.notes).eval()


def _problems(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'card'}: {item['msg']}" for item in error.errors())


def _slug(name: str) -> str:
    words = re.findall(r"[a-z0-9]+", name.lower())
    slug = "_".join(words) or "model"
    return slug if slug[0].isalpha() else f"model_{slug}"


def _inferred(network: nn.Module) -> dict[str, Any]:
    """Channels and dims as the first convolution has them."""
    for module in network.modules():
        kind = getattr(module, "original_name", type(module).__name__)  # TorchScript keeps the class name apart
        weight = getattr(module, "weight", None)
        if "Conv" in kind and "Transpose" not in kind and isinstance(weight, Tensor) and weight.ndim in (4, 5):
            return {"channels": weight.shape[1] * int(getattr(module, "groups", 1)), "dims": weight.ndim - 2}
    return {}


def _load(
    source: str | Path | nn.Module | Towers,
    factory: str | None,
    kwargs: Mapping[str, Any],
    prompts: Sequence[str] | None,
) -> tuple[_Loaded, str]:
    if isinstance(source, Towers) or (prompts and not isinstance(source, nn.Module)):
        towers = source if isinstance(source, Towers) else load_towers(source)
        return _read_through(towers, prompts or ()), towers.card.name
    if isinstance(source, nn.Module):
        return _Loaded(source), type(source).__name__
    if isinstance(source, str) and source.startswith(("timm:", "hf:")):
        kind, _, name = source.partition(":")
        return (_timm(name) if kind == "timm" else _hugging_face(name)), name.rsplit("/", 1)[-1]
    path = Path(source)
    if path.is_dir():
        return _folder(path, factory, kwargs), path.name
    if not path.is_file():
        names = ", ".join(_bundled()) or "none"
        raise ModelError(f"There is no model file, folder or bundled model {str(source)!r}; bundled are: {names}.")
    return _file(path, factory, kwargs), path.stem


def _file(path: Path, factory: str | None, kwargs: Mapping[str, Any]) -> _Loaded:
    """Find the format by content."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}.") from error
    if not data:
        raise ModelError(f"{path.name} is empty (0 bytes).")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        loaded = _by_content(data, path, factory, kwargs)
    except (ModelError, KeyboardInterrupt):
        raise
    except Exception as error:  # readers of damaged archives raise anything
        raise ModelError(
            f"{path.name} is damaged or was written by an unsupported version: {_reason(error)}."
        ) from error
    loaded.sha256 = sha256
    return loaded


def _reason(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")[:240]


def _by_content(data: bytes, path: Path, factory: str | None, kwargs: Mapping[str, Any]) -> _Loaded:
    members = _members(data)
    if any(
        name.endswith(("/archive_format", "serialized_exported_program.json")) or name == "archive_format"
        for name in members
    ):
        return _exported(data, path.name)
    if any("/code/" in name for name in members) and any(name.endswith("/constants.pkl") for name in members):
        return _script(data, path.name)
    if members or data[:1] == b"\x80":
        return _state(_plain(data, path.name), path.name, factory, kwargs)
    if len(data) > 9 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return _state(_plain(data, path.name), path.name, factory, kwargs)
    if data.startswith(b"\x89HDF"):
        raise ModelError(f"{path.name} is a Keras (HDF5) model; convert it to ONNX with tf2onnx and load that.")
    if path.suffix.lower() == ".onnx":
        return _onnx(data, path)
    raise ModelError(
        f"{path.name} is not a model file that is known: TorchScript, torch.export (.pt2), ONNX (.onnx), safetensors "
        "or a state dict (.pt, .pth, .ckpt)."
    )


def _members(data: bytes) -> list[str]:
    if not data.startswith(b"PK\x03\x04"):
        return []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as error:
        raise ModelError(f"It is a truncated archive: {_reason(error)}.") from error


# --- weights and a factory ---


def _weights(data: bytes, called: str) -> dict[str, Any]:
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"Unsupported (?:global|class|operand)[^\n]*?([\w.]+\.[\w.]+)", str(error))
        what = f" (it asks for {blocked.group(1)})" if blocked else ""
        raise ModelError(
            f"{called} holds pickled Python objects{what}; unpickling them would run code from the file, so it is "
            "refused: save the model with torch.export (.pt2) or TorchScript, or its state_dict as safetensors and "
            "name a factory."
        ) from error
    if not isinstance(found, dict):
        raise ModelError(f"{called} holds {type(found).__name__}, not a state dict.")
    return found


def _plain(data: bytes, called: str) -> dict[str, Tensor]:
    """The tensors of a state dict file, safetensors or PyTorch's, taken out of what trainers wrap around them."""
    if data[8:9] == b"{":
        return dict(safetensors.torch.load(data))
    found = _weights(data, called)
    for key in ("state_dict", "model_state_dict", "model", "net", "network"):
        if isinstance(found.get(key), dict):
            found = found[key]
            break
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(f"{called} holds no weights: its keys are {', '.join(map(str, list(found)[:6])) or 'none'}.")
    return tensors


def _state(tensors: dict[str, Tensor], called: str, factory: str | None, kwargs: Mapping[str, Any]) -> _Loaded:
    if factory is None:
        raise ModelError(
            f"{called} holds weights only; name the Python function that builds its network, "
            'as factory="path/to/file.py:function" or "package.module:function".'
        )
    network = build_network(factory, kwargs)
    notes = _fill(network, tensors, called)
    return _Loaded(network, notes=notes)


def _fill(network: nn.Module, tensors: dict[str, Tensor], called: str) -> list[str]:
    """Load weights strictly; prefixes that wrappers put before all names are taken off."""
    notes = []
    wanted = network.state_dict()
    while set(tensors) != set(wanted):
        prefix = next(
            (
                word
                for word in ("module.", "model.", "net.", "network.", "_orig_mod.")
                if all(k.startswith(word) for k in tensors)
            ),
            None,
        )
        if prefix is None or all(key.startswith(prefix) for key in wanted):
            break
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
        notes.append(f"The prefix {prefix!r} was taken off the names of the weights.")
    problems = []
    for what, names in (("missing", set(wanted) - set(tensors)), ("unexpected", set(tensors) - set(wanted))):
        if names:
            shown = ", ".join(sorted(names)[:4]) + (" …" if len(names) > 4 else "")
            problems.append(f"{len(names)} {what} ({shown})")
    shapes = [
        f"{key} is {times(tensors[key].shape)} in the file and {times(wanted[key].shape)} in the network"
        for key in wanted
        if key in tensors and tensors[key].shape != wanted[key].shape
    ]
    problems += shapes[:3]
    if problems:
        raise ModelError(
            f"The weights of {called} do not fit the network that the factory builds: {'; '.join(problems)}."
        )
    network.load_state_dict(tensors, strict=True)
    return notes


def build_network(factory: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """Call the Python function that builds a network: ``path/to/file.py:function`` or ``package.module:function``.

    Raises:
        ModelError: there is no such function, it fails or gives something else.
    """
    where, _, name = factory.rpartition(":")
    if not where or not name.isidentifier():
        raise ModelError(f'A factory is "path/to/file.py:function" or "package.module:function", not {factory!r}.')
    try:
        if where.endswith(".py"):
            path = Path(where)
            if not path.is_file():
                raise ModelError(f"There is no factory file {where!r}.")
            spec = importlib.util.spec_from_file_location(
                f"_factory_{hashlib.sha256(where.encode()).hexdigest()[:12]}", path
            )
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[module.__name__] = module  # dataclasses in the file look their module up
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
        network = getattr(module, name)(**kwargs)
    except ModelError:
        raise
    except Exception as error:  # the user's own code
        raise ModelError(f"The factory {factory!r} failed: {type(error).__name__}: {_reason(error)}.") from error
    if not isinstance(network, nn.Module):
        raise ModelError(f"The factory {factory!r} gave {type(network).__name__}, not a torch.nn.Module.")
    return network


def _zoo(card: ModelCard) -> _Loaded:
    if card.factory is None or not card.factory.startswith("nets:"):
        raise ModelError(f"The card of {card.id} names no factory of runners.zoo.nets.")
    path = ZOO / f"{card.id}.safetensors"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The weights of the bundled model {card.id} are missing ({path.name}).") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if card.sha256 not in (None, sha256):
        raise ModelError(f"The weights {path.name} are not those of the model card (their sha256 differs).")
    network = build_network(f"runners.zoo.{card.factory}", card.kwargs)
    # committed weights may be stored in half precision to be small
    tensors = {
        key: value.float() if value.is_floating_point() else value for key, value in _plain(data, path.name).items()
    }
    _fill(network, tensors, path.name)
    return _Loaded(network, sha256=sha256)


# --- TorchScript and torch.export ---


def _script(data: bytes, called: str) -> _Loaded:
    network = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]
    return _Loaded(
        network,
        notes=[f"{called} is TorchScript: it gives gradients, but its layers are hidden; export as .pt2 to see them."],
    )


def _exported(data: bytes, called: str) -> _Loaded:
    _check_exported(data, called)
    program = torch.export.load(io.BytesIO(data))
    signature = program.graph_signature
    inputs = [node for node in program.graph.nodes if node.name in signature.user_inputs]
    if len(inputs) != 1 or not isinstance(inputs[0].meta.get("val"), Tensor):
        raise ModelError(f"{called} takes {len(inputs)} inputs; a model here takes one image tensor.")
    for node in program.graph.nodes:
        flags = (
            {argument.name: position for position, argument in enumerate(node.target._schema.arguments)}
            if isinstance(node.target, torch._ops.OpOverload)
            else {}
        )
        for flag in ("train", "training"):
            if flag in flags and len(node.args) > flags[flag] and node.args[flags[flag]] is True:
                raise ModelError(
                    f"{called} was exported in training mode ({node.name}); call .eval() before exporting."
                )
    shape = inputs[0].meta["val"].shape
    fixed = [side if isinstance(side, int) else None for side in shape]
    # what one real input looks like: dynamic sides at the value they were traced with
    traced = [side if isinstance(side, int) else int(side.node.hint or 64) for side in shape]
    x = torch.rand(traced, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = program.module()(x)
        network = _as_functions(program, x, expected)
    notes = []
    if network is None:
        network = torch.export.unflatten(program)
        notes.append("Its operators could not be turned back into functions: relevance methods do not see them.")
    if fixed[0] is not None:
        network, told = _any_batch(network, x)
        notes += told
    card: dict[str, Any] = {}
    if len(shape) in (4, 5):
        card = {"dims": len(shape) - 2}
        if fixed[1] is not None:
            card["channels"] = fixed[1]
        if None not in fixed[2:]:
            card["size"] = fixed[2:]
    return _Loaded(network, card=card, notes=notes)


def _as_functions(program: torch.export.ExportedProgram, x: Tensor, expected: Any) -> nn.Module | None:
    """The program as a tree of modules that call public functions; None when its outputs would change."""
    network = torch.export.unflatten(program)
    network.check_input_constraints = False
    to_functions(network)
    try:
        found = network(x)
    except (RuntimeError, TypeError, ValueError):
        return None
    return network if _same(found, expected) else None


def _same(first: Any, second: Any, tolerance: float = 1e-4) -> bool:
    left, right = tree_leaves(first), tree_leaves(second)
    if len(left) != len(right):
        return False
    return all(
        a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=tolerance, atol=tolerance)
        if isinstance(a, Tensor) and isinstance(b, Tensor)
        else a == b
        for a, b in zip(left, right, strict=True)
    )


def _any_batch(network: nn.Module, x: Tensor) -> tuple[nn.Module, list[str]]:
    """Let a network that was exported with a fixed batch size run on any, or at least image by image."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand((1, *x.shape[1:]), generator=generator) for _ in range(3)]
    if hasattr(network, "check_input_constraints"):
        network.check_input_constraints = False  # type: ignore[assignment]
    with torch.no_grad():
        try:
            expected = joined([network(image) for image in images])
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                f"It was exported for batches of {len(x)} images only; export it with a dynamic batch size."
            ) from error
        try:
            if _same(network(torch.cat(images)), expected):
                return network, []
        except (RuntimeError, TypeError, ValueError):
            pass  # its batch size is written into its graph
        if hasattr(network, "check_input_constraints"):
            freed = copy.deepcopy(network)
            try:
                free_batch(freed, images[0], images[1])
                if _same(freed(torch.cat(images)), expected) and _same(freed(images[0]), network(images[0])):
                    return freed, ["It was exported for one image at a time; the batch size in its graph was freed."]
            except (RuntimeError, TypeError, ValueError):
                pass  # a size that depends on the batch in a way that is not recognised
    return OneByOne(network), [
        "It was exported for one image at a time: batches are run image by image, which is slower."
    ]


def _check_exported(data: bytes, called: str) -> None:
    """Refuse what torch.export.load would unpickle or run: the format itself is plain data."""
    refusal = f"{called} carries {{}}: loading that would run code from the file, so it is refused; export it again."
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if "aotinductor" in name or name.endswith(".so"):
                raise ModelError(refusal.format("compiled code"))
            content = archive.read(name) if name.endswith((".json", ".pt")) else b""
            if name.endswith(".pt"):
                try:
                    torch.load(io.BytesIO(content), weights_only=True)
                except pickle.UnpicklingError as error:
                    raise ModelError(refusal.format("pickled objects")) from error
            elif name.endswith(".json"):
                for key, value in _entries(json.loads(content)):
                    if (key == "use_pickle" and value) or (
                        key == "path_name" and str(value).startswith(("custom_obj", "opaque_obj"))
                    ):
                        raise ModelError(refusal.format("pickled objects"))
                    # sizes are symbolic expressions that the reader evaluates
                    if key == "expr_str" and not _is_size(str(value)):
                        raise ModelError(refusal.format("an expression that is not a size"))


_SIZE_NODES = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip


def _is_size(text: str) -> bool:
    """Whether an expression is only arithmetic and sympy classes on symbols: ``Mul(Integer(2), Symbol('s0'))``."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except SyntaxError:
        return False
    for node in nodes:
        if not isinstance(node, _SIZE_NODES):
            return False
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id[0].isupper()):
            return False
        word = node.id if isinstance(node, ast.Name) else node.value if isinstance(node, ast.Constant) else ""
        if isinstance(word, (str, bytes)) and not re.fullmatch(r"\w*", str(word)) or "__" in str(word):
            return False
    return True


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key, value
            yield from _entries(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _entries(value)


# --- ONNX ---


def _onnx(data: bytes, path: Path) -> _Loaded:
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ModelError('ONNX models need the extra "onnx": pip install "xai-atlas[onnx]".') from error
    proto = onnx.load_model(str(path))  # also reads weights kept beside the file
    inputs = [
        value for value in proto.graph.input if value.name not in {weight.name for weight in proto.graph.initializer}
    ]
    if len(inputs) != 1:
        raise ModelError(f"{path.name} takes {len(inputs)} inputs; a model here takes one image tensor.")
    whole = proto.SerializeToString() if proto.ByteSize() < 2**31 else data
    box = BlackBox(whole)
    sides = [side if isinstance(side, int) and side > 0 else None for side in box.input.shape]
    card: dict[str, Any] = {}
    if len(sides) in (4, 5):
        card = {"dims": len(sides) - 2}
        if sides[1] is not None:
            card["channels"] = sides[1]
        if None not in sides[2:]:
            card["size"] = sides[2:]
    shape = [
        1 if number == 0 else side or (card.get("channels") or 3 if number == 1 else 64)
        for number, side in enumerate(sides)
    ]
    if sides and sides[0] is not None:
        shape[0] = sides[0]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    network, reason = _converted(proto, box, x)
    notes = (
        []
        if network is not None
        else [f"{path.name} is run by onnxruntime as a black box, without gradients or layers: {reason}."]
    )
    chosen: nn.Module = box if network is None else network
    if sides and sides[0] is not None:
        if isinstance(chosen, BlackBox):
            if sides[0] != 1:
                raise ModelError(
                    f"{path.name} was exported for batches of {sides[0]} images; export it with a dynamic batch size."
                )
            chosen = OneByOne(chosen)
        else:
            chosen, told = _any_batch(chosen, x)
            notes += told
    return _Loaded(chosen, card=card, black_box=network is None, notes=notes)


def _converted(proto: Any, box: BlackBox, x: Tensor) -> tuple[nn.Module | None, str]:
    """The network as PyTorch modules if onnx2torch can and the outputs agree, else the reason."""
    try:
        with _without_torchvision():
            import onnx2torch
    except ImportError:
        return None, "onnx2torch is not installed"
    from onnx import version_converter

    try:
        expected = box(x)
    except Exception as error:
        raise ModelError(
            f"onnxruntime cannot run it on an input of shape {tuple(x.shape)}: {_reason(error)}."
        ) from error
    reason = ""
    for opset in (None, 17, 13):  # onnx2torch knows older operator sets better than new ones
        try:
            network = onnx2torch.convert(
                proto if opset is None else version_converter.convert_version(proto, opset)
            ).eval()
            with torch.no_grad():
                found = network(x)
        except Exception as error:  # an operator that it does not know, anywhere in conversion or running
            reason = reason or f"it cannot be converted to PyTorch ({_reason(error)})"
            continue
        if _same(found, expected, 1e-3):
            return network, ""
        reason = reason or "converted to PyTorch its outputs differ"
    return None, reason


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Let onnx2torch be imported where torchvision is not usable; only detection operators need it, and then fail."""
    try:
        importlib.import_module("torchvision")
    except Exception:  # absent, or built for another torch
        usable = False
    else:
        usable = True
    if usable or "onnx2torch" in sys.modules:
        yield
        return

    def absent(*_: Any, **__: Any) -> None:
        raise RuntimeError("this operator needs torchvision")

    stub, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    for name in ("roi_align", "nms", "box_convert"):
        setattr(ops, name, absent)
    stub.ops = ops  # type: ignore[attr-defined]
    sys.modules.update({"torchvision": stub, "torchvision.ops": ops})
    try:
        yield
    finally:
        del sys.modules["torchvision"], sys.modules["torchvision.ops"]


# --- folders ---


def _folder(folder: Path, factory: str | None, kwargs: Mapping[str, Any]) -> _Loaded:
    if any(
        (folder / "configs" / name).is_file()
        for name in ("inference.json", "train.json", "inference.yaml", "train.yaml")
    ):
        return _monai(folder)
    if (folder / "rdf.yaml").is_file() or (folder / "bioimageio.yaml").is_file():
        return _bioimage(folder, factory, kwargs)
    config = folder / "config.json"
    if config.is_file():
        fields = _json(config)
        if "model_type" in fields:
            return _hugging_face(str(folder))
        if "architecture" in fields:
            return _timm_folder(folder, fields)
    raise ModelError(
        f"The folder {folder.name!r} is none that is known: a MONAI bundle (configs/inference.json), a bioimage.io "
        "model (rdf.yaml), or a Hugging Face or timm folder (config.json)."
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} is not readable JSON: {_reason(error)}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path.name} holds {type(found).__name__}, not a mapping.")
    return found


def _monai(folder: Path) -> _Loaded:
    try:
        from monai.bundle.config_parser import ConfigParser
    except ImportError as error:
        raise ModelError('MONAI bundles need the extra "monai": pip install "xai-atlas[monai]".') from error
    configs = [folder / "configs" / f"{name}.{end}" for name in ("inference", "train") for end in ("json", "yaml")]
    parser = ConfigParser()
    for config in (path for path in configs if path.is_file()):
        parser.read_config(str(config))
        key = next((key for key in ("network_def", "network", "net_def") if key in parser), None)
        if key is not None:
            break
    else:
        raise ModelError(f"The bundle {folder.name!r} names no network_def in configs/inference.json or train.json.")
    try:
        network = parser.get_parsed_content(key)  # resolves this entry and what it refers to, nothing else
    except Exception as error:
        raise ModelError(f"The network_def of the bundle {folder.name!r} cannot be built: {_reason(error)}.") from error
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"The network_def of the bundle {folder.name!r} gives {type(network).__name__}, not a network."
        )
    weights = next(
        (path for name in ("model.safetensors", "model.pt") if (path := folder / "models" / name).is_file()), None
    )
    if weights is None:
        raise ModelError(f"The bundle {folder.name!r} has no models/model.pt; download its weights first.")
    data = weights.read_bytes()
    tensors = _plain(data, weights.name)
    notes = _fill(network, tensors, weights.name)
    metadata = folder / "configs" / "metadata.json"
    card = _monai_card(_json(metadata)) if metadata.is_file() else {}
    return _Loaded(network, hashlib.sha256(data).hexdigest(), card, notes=notes)


def _monai_card(metadata: dict[str, Any]) -> dict[str, Any]:
    """What a bundle's metadata says. Its spatial shape is a patch to slide, so it fixes no size."""
    data = metadata.get("network_data_format") or {}
    image: dict[str, Any] = next(iter((data.get("inputs") or {}).values()), {})
    output: dict[str, Any] = next(iter((data.get("outputs") or {}).values()), {})
    card: dict[str, Any] = {}
    if metadata.get("name"):
        card["name"] = str(metadata["name"])
    if isinstance(image.get("num_channels"), int):
        card["channels"] = image["num_channels"]
    if len(image.get("spatial_shape") or ()) in (2, 3):
        card["dims"] = len(image["spatial_shape"])
    names = output.get("channel_def") or {}
    if names and all(str(key).isdigit() for key in names):
        card["labels"] = [str(names[key]) for key in sorted(names, key=int)]
    if str(output.get("format", "")).lower() in ("segmentation", "classes", "probabilities", "labels", "regression"):
        word = str(output["format"]).lower()
        card["task"] = "segmentation" if word == "segmentation" or output.get("spatial_shape") else word
        if card["task"] not in ("segmentation", "regression"):
            card["task"] = "classification"
    modality = {"MR": "mri", "MRI": "mri", "CT": "ct", "US": "ultrasound"}.get(str(image.get("modality", "")).upper())
    return {**card, "modality": modality} if modality else card


def _bioimage(folder: Path, factory: str | None, kwargs: Mapping[str, Any]) -> _Loaded:
    path = next(path for name in ("rdf.yaml", "bioimageio.yaml") if (path := folder / name).is_file())
    try:
        resource = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = dict(resource["weights"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path.name} describes no bioimage.io model with weights: {_reason(error)}.") from error
    kinds = [kind for kind in ("torchscript", "onnx", "pytorch_state_dict") if kind in entries]
    if not kinds:
        raise ModelError(
            f"{path.name} offers {', '.join(entries)} weights; readable are torchscript, onnx and pytorch_state_dict."
        )
    # a state dict keeps its layers visible, but needs the architecture that the user has to name
    kind = "pytorch_state_dict" if "pytorch_state_dict" in kinds and factory else kinds[0]
    weights = folder / Path(str(entries[kind].get("source"))).name
    if not weights.is_file():
        raise ModelError(f"The weights {weights.name} that {path.name} names are not in the folder.")
    loaded = _file(weights, factory, kwargs)
    loaded.card = {**loaded.card, "name": str(resource.get("name") or folder.name), **_bioimage_card(resource)}
    return loaded


def _bioimage_card(resource: dict[str, Any]) -> dict[str, Any]:
    first = (resource.get("inputs") or [{}])[0]
    axes = first.get("axes") or ""
    names = list(axes) if isinstance(axes, str) else [str(axis.get("id", axis.get("type"))) for axis in axes]
    card: dict[str, Any] = {"dims": sum(name in "xyz" for name in names)} if names else {}
    if card.get("dims") not in (2, 3):
        card = {}
    for step in first.get("preprocessing") or []:
        name = step.get("name") or step.get("id")
        if name == "zero_mean_unit_variance":
            card["normalise"] = {"scale": "zscore"}
        elif name == "scale_range":
            card["normalise"] = {"scale": "percentile"}
    return card


# --- timm and Hugging Face ---


def _import(module: str, extra: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent = f"{error.name} is missing" if error.name and error.name != module else f"{module} is not installed"
        raise ModelError(f'{what} need the extra "{extra}" ({absent}): pip install "xai-atlas[{extra}]".') from error
    except Exception as error:  # a torchvision built for another torch raises RuntimeError when imported
        raise ModelError(f"{what} cannot be used here, importing {module} fails: {_reason(error)}.") from error


def _timm(name: str) -> _Loaded:
    timm = _import("timm", "timm", "timm models")
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:
        raise ModelError(f"timm cannot give {name!r}: {_reason(error)}.") from error
    return _Loaded(network, card=_timm_card(network.pretrained_cfg))


def _timm_folder(folder: Path, fields: dict[str, Any]) -> _Loaded:
    timm = _import("timm", "timm", "timm models")
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(f"The folder {folder.name!r} has no model.safetensors; pickled weights are not read.")
    try:
        network = timm.create_model(
            fields["architecture"], num_classes=fields.get("num_classes", 1000), **fields.get("model_args", {})
        )
    except Exception as error:
        raise ModelError(f"timm cannot build {fields['architecture']!r}: {_reason(error)}.") from error
    data = weights.read_bytes()
    notes = _fill(network, _plain(data, weights.name), weights.name)
    card = _timm_card(fields.get("pretrained_cfg") or {})
    if fields.get("label_names"):
        card["labels"] = [str(label) for label in fields["label_names"]]
    return _Loaded(network, hashlib.sha256(data).hexdigest(), card, notes=notes)


def _timm_card(config: Mapping[str, Any]) -> dict[str, Any]:
    card: dict[str, Any] = {"task": "classification", "dims": 2}
    if config.get("input_size"):
        card |= {"channels": int(config["input_size"][0]), "size": [int(side) for side in config["input_size"][1:]]}
    if config.get("mean") and config.get("std"):
        card["normalise"] = {
            "scale": "display",
            "mean": [float(v) for v in config["mean"]],
            "std": [float(v) for v in config["std"]],
        }
    return card


def _hugging_face(name: str) -> _Loaded:
    transformers = _import("transformers", "huggingface", "Hugging Face models")
    local = Path(name).is_dir()
    try:
        options = {"trust_remote_code": False, "local_files_only": local}
        config = transformers.AutoConfig.from_pretrained(name, **options)
        if kind := next((word for word in config.architectures or () if word in WRITERS), None):
            return _writer(transformers, kind, name, options)
        if other := next((word for word in config.architectures or () if word.endswith(_TEXT)), None):
            raise ModelError(
                f"{Path(name).name} ({other}) writes text in a way that is not read here; readable are "
                f"{' and '.join(WRITERS)}, whose text reads image tokens by cross-attention"
            )
        if _two_towers(config):
            raise ModelError(
                f"{Path(name).name} is a vision-language model, which answers to texts only; give what to ask about as "
                'prompts (prompts=, --prompt "..."), at least two'
            )
        segments = any("Segmentation" in word for word in config.architectures or ())
        auto = (
            transformers.AutoModelForSemanticSegmentation if segments else transformers.AutoModelForImageClassification
        )
        network = auto.from_pretrained(name, use_safetensors=True, **options)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"Hugging Face transformers cannot give {Path(name).name!r}: {_reason(error)}.") from error
    card: dict[str, Any] = {"task": "segmentation" if segments else "classification", "dims": 2}
    if getattr(config, "id2label", None):
        card["labels"] = [str(config.id2label[key]) for key in sorted(config.id2label)]
    if isinstance(getattr(config, "num_channels", None), int):
        card["channels"] = config.num_channels
    side = getattr(config, "image_size", None)
    if isinstance(side, int):
        card["size"] = [side, side]
    card |= _processor(Path(name)) if local else {}
    return _Loaded(network, card=card)


WRITERS = ("VisionEncoderDecoderModel", "BlipForConditionalGeneration")
"""Models of Hugging Face that write text from image tokens by cross-attention."""


_TEXT = ("ForConditionalGeneration", "ForCausalLM", "ForQuestionAnswering", "Text2Text")


class _Pieces(nn.Module):
    """The text decoder of a Hugging Face model."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text

    def forward(self, ids: Tensor, tokens: Tensor) -> Tensor:
        """Return logits ``(B, T, V)`` of word pieces ``(B, T)`` that are written about image tokens ``(B, N, E)``."""
        logits: Tensor = self.text(input_ids=ids, encoder_hidden_states=tokens, use_cache=False).logits
        return logits


def _writer(transformers: Any, kind: str, name: str, options: Mapping[str, Any]) -> _Loaded:
    with _quiet(transformers):
        network = getattr(transformers, kind).from_pretrained(name, use_safetensors=True, **options).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
    if kind == "VisionEncoderDecoderModel":
        vision, text, projection = network.encoder, network.decoder, getattr(network, "enc_to_dec_proj", None)
        made = network.generation_config
        start = _known(made.decoder_start_token_id, network.config.decoder_start_token_id, tokenizer.bos_token_id)
        end = _known(made.eos_token_id, network.config.decoder.eos_token_id, tokenizer.eos_token_id)
    else:
        vision, text, projection = network.vision_model, network.text_decoder, None
        start, end = network.config.text_config.bos_token_id, network.config.text_config.sep_token_id
    if start is None or end is None:
        raise ModelError(
            f"{Path(name).name} does not say with which word piece its text begins and ends; its configuration needs "
            "decoder_start_token_id and eos_token_id"
        )
    longest = getattr(text.config, "max_position_embeddings", None) or LONGEST
    writer = Writer(
        _Vision(vision, projection, "last_hidden_state"),
        _Pieces(text),
        start=[start],
        end=end if isinstance(end, list) else [end],
        spell=lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)),
        pieces=lambda words: list(tokenizer(words, add_special_tokens=False).input_ids),
        longest=int(longest),
    )
    side = getattr(vision.config, "image_size", None)
    card = {
        "task": "regression",  # a number for each sentence
        "dims": 2,
        "channels": getattr(vision.config, "num_channels", 3),
        "size": [side, side] if isinstance(side, int) else side,
        "architecture": "vlm",
        **(_processor(Path(name)) if Path(name).is_dir() else {}),
    }
    return _Loaded(writer, card={key: value for key, value in card.items() if value})


def _known(*values: Any) -> Any:
    """Return the first value that is known."""
    return next((one for one in values if one is not None), None)


def _processor(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    fields = _json(path) if path.is_file() else {}
    if not (fields.get("image_mean") and fields.get("image_std")):
        return {}
    return {
        "normalise": {
            "scale": "display",
            "mean": list(map(float, fields["image_mean"])),
            "std": list(map(float, fields["image_std"])),
        }
    }


# --- vision-language models ---


def load_towers(source: str | Path) -> Towers:
    """Read a vision-language model from a folder of Hugging Face (CLIP, SigLIP and their like) or of open_clip.

    Args:
        source: the folder; nothing is fetched from anywhere.

    Raises:
        ModelError: it cannot be read, or has no two towers.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise ModelError(f"There is no folder {str(source)!r}; give a folder with a vision-language model.")
    if (folder / "open_clip_config.json").is_file():
        return _open_clip(folder)
    if (folder / "config.json").is_file():
        return _clip(folder)
    raise ModelError(
        f"The folder {folder.name!r} holds no vision-language model: config.json (Hugging Face) or "
        "open_clip_config.json (open_clip) is needed."
    )


def _two_towers(config: Any) -> bool:
    """Say whether a Hugging Face configuration is of an image and a text tower without a head for labels."""
    heads = any("ForImageClassification" in word for word in getattr(config, "architectures", None) or ())
    return not heads and hasattr(config, "vision_config") and hasattr(config, "text_config")


class _Vision(nn.Module):
    """The image tower of a Hugging Face model, projected where the model does.

    Args:
        vision: the tower.
        projection: what its answer goes through, None for nothing.
        gives: which answer is taken, ``pooler_output`` ``(B, E)`` or ``last_hidden_state`` ``(B, N, E)``.
    """

    def __init__(self, vision: nn.Module, projection: nn.Module | None, gives: str = "pooler_output") -> None:
        super().__init__()
        self.vision, self.projection, self.gives = vision, projection, gives

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors ``(B, E)``, or tokens ``(B, N, E)``, of images ``(B, C, H, W)``."""
        found: Tensor = getattr(self.vision(pixel_values=x), self.gives)
        return found if self.projection is None else self.projection(found)


def _clip(folder: Path) -> Towers:
    transformers = _import("transformers", "huggingface", "vision-language models of Hugging Face")
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        if not _two_towers(config):
            raise ModelError(f"The model in {folder.name!r} has no image and text tower; give a CLIP-like model.")
        with _quiet(transformers):
            network = transformers.AutoModel.from_pretrained(folder, use_safetensors=True, **options).eval()
        tokens = transformers.AutoTokenizer.from_pretrained(folder, **options)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"Hugging Face transformers cannot read {folder.name!r}: {_reason(error)}.") from error
    missing = [one for one in ("vision_model", "text_model", "logit_scale") if not hasattr(network, one)]
    if missing:
        raise ModelError(f"The model in {folder.name!r} has no {', '.join(missing)}; give a CLIP-like model.")
    padding = "max_length" if "siglip" in config.model_type else True  # as these were trained

    @torch.no_grad()
    def encode_text(words: list[str]) -> Tensor:
        found = network.text_model(**tokens(words, padding=padding, truncation=True, return_tensors="pt")).pooler_output
        projection = getattr(network, "text_projection", None)
        return F.normalize(found if projection is None else projection(found), dim=-1)

    vision = config.vision_config
    card = {"channels": getattr(vision, "num_channels", 3), "size": [vision.image_size] * 2, **_processor(folder)}
    return Towers(
        _Vision(network.vision_model, getattr(network, "visual_projection", None)).eval(),
        encode_text,
        float(network.logit_scale.detach().exp()),
        ModelCard(id=_slug(folder.name), name=folder.name, dims=2, **card),
    )


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep the library's own progress bars off the terminal, where ours stand."""
    log = transformers.utils.logging
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            log.enable_progress_bar()


def _open_clip(folder: Path) -> Towers:
    library = _import("open_clip", "open_clip", "open_clip models")
    try:
        network = library.create_model(f"local-dir:{folder}", weights_only=True).eval()
        tokens = library.get_tokenizer(f"local-dir:{folder}")
        given = network.visual.preprocess_cfg
        size = given["size"]
        card: dict[str, Any] = {
            "size": [size, size] if isinstance(size, int) else list(size),
            "normalise": {"scale": "display", "mean": list(given["mean"]), "std": list(given["std"])},
        }
    except Exception as error:
        raise ModelError(f"open_clip cannot read {folder.name!r}: {_reason(error)}.") from error

    @torch.no_grad()
    def encode_text(words: list[str]) -> Tensor:
        return F.normalize(network.encode_text(tokens(words)), dim=-1)

    named = ModelCard(id=_slug(folder.name), name=folder.name, dims=2, channels=3, **card)
    return Towers(network.visual, encode_text, float(network.logit_scale.detach().exp()), named)


def _read_through(towers: Towers, prompts: Sequence[str]) -> _Loaded:
    """Make a classifier of the image tower whose labels are texts."""
    words = [one.strip() for one in prompts if one.strip()]
    if len(set(words)) < 2:
        raise ModelError(
            "at least two different prompts are needed to tell apart, what to find and what else it could be, such as "
            '"an x-ray with a fracture" and "an x-ray without a fracture"'
        )
    network = Prompted(towers.image, towers.encode_text(words), towers.scale)
    fields = towers.card.model_dump(include={"dims", "channels", "size"}) | {"normalise": towers.card.normalise}
    note = f"The images are told apart by {len(words)} prompts; their words decide what is found."
    return _Loaded(network, card={"task": "classification", "labels": words, **fields}, notes=[note])
