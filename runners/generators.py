"""Autoencoders that counterfactuals are drawn with: the bundled ones, and the user's own, without unpickling code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.images import times
from runners.load import ZOO, Model, ModelCard, build_network, bundled, load_model, read_card
from runners.zoo import nets
from taxonomy.errors import ModelError

HOW = (
    "a bundled autoencoder, a TorchScript file with the methods encode and decode, a folder with encoder.* and "
    "decoder.*, or file.py:function that builds such a module is needed"
)


class Drawer(nn.Module):
    """An autoencoder for images of one shape, as :class:`runners.owned.Autoencoder` has it.

    Attributes:
        card: of a bundled one; None for the user's.
        notes: what was adapted, a sentence each.

    Args:
        encode: Images ``(B, C, *spatial)`` to codes ``(B, ...)``, or to several tensors, of which the first is it.
        decode: Codes to images ``(B, C, *any)``.
        like: An image ``(1, C, *spatial)``, prepared for the model.
        parts: Modules that hold the weights.
        card: as above.

    Raises:
        ModelError: it cannot draw images of this shape.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Any],
        decode: Callable[[Tensor], Any],
        like: Tensor,
        parts: Sequence[nn.Module],
        card: ModelCard | None = None,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts).eval().requires_grad_(False)
        self.card = card
        self._encode, self._decode = encode, decode
        self._shape = tuple(like.shape[1:])
        try:
            with torch.no_grad():
                code = self._code(like[:1].cpu())
                self._code_shape = tuple(code.shape[1:])
                drawn = self._image(code)
        except ModelError:
            raise
        except Exception as error:  # the user's own code
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise ModelError(
                f"The autoencoder fails on an image of shape {times(self._shape)}: {reason}; {HOW}."
            ) from error
        if drawn.ndim != like.ndim or drawn.shape[1] != like.shape[1] or len(code) != 1 or len(drawn) != 1:
            raise ModelError(
                f"The autoencoder draws {times(drawn.shape)} of an image of shape {times(like.shape)}; the same number "
                "of axes and channels is needed, and one code for each image."
            )
        if not (torch.isfinite(code).all() and torch.isfinite(drawn).all()):
            raise ModelError("The autoencoder gives NaN or infinite numbers on this image.")
        small, size = tuple(drawn.shape[2:]), self._shape[1:]
        self.notes = (
            (f"The autoencoder draws {times(small)}, enlarged or reduced to {times(size)}.",) if small != size else ()
        )

    def _code(self, x: Tensor) -> Tensor:
        found = self._encode(x)
        code = found[0] if isinstance(found, tuple | list) else found
        if not isinstance(code, Tensor):
            raise ModelError(f"encode gives {type(code).__name__}; a tensor of codes is needed.")
        return code

    def _image(self, code: Tensor) -> Tensor:
        found = self._decode(code)
        image = found[0] if isinstance(found, tuple | list) else found
        if not isinstance(image, Tensor):
            raise ModelError(f"decode gives {type(image).__name__}; a tensor of images is needed.")
        return image

    def encode(self, x: Tensor) -> Tensor:
        """Return codes ``(B, Z)`` of images ``(B, C, *spatial)``."""
        return self._code(x).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """Return images ``(B, C, *spatial)`` of codes ``(B, Z)``."""
        image = self._image(z.reshape(len(z), *self._code_shape))
        if tuple(image.shape[2:]) == self._shape[1:]:
            return image
        mode = "bilinear" if image.ndim == 4 else "trilinear"
        return F.interpolate(image, self._shape[1:], mode=mode, align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return reconstructions ``(B, C, *spatial)``."""
        return self.decode(self.encode(x))


@cache
def _cards() -> dict[str, ModelCard]:
    return {path.stem: read_card(path) for path in sorted((ZOO / "autoencoders").glob("*.yaml"))}


def bundled_autoencoders() -> list[ModelCard]:
    """Return the cards of the bundled autoencoders; each has the id of the bundled model whose images it draws."""
    return list(_cards().values())


def autoencoder_of(model: Model) -> str | None:
    """Return the id of the autoencoder that is bundled for a model; None when there is none."""
    own = {card.id: card.sha256 for card in bundled()}.get(model.card.id)
    return model.card.id if model.card.id in _cards() and own is not None and model.sha256 == own else None


def load_autoencoder(source: str | Path | nn.Module, like: Tensor, *, factory: str | None = None) -> Drawer:
    """Read an autoencoder for images like one that is prepared for the model.

    Args:
        source: id of a bundled one; a TorchScript file with the methods ``encode`` and ``decode``; a folder with the
            files ``encoder.*`` and ``decoder.*`` (TorchScript or ``torch.export``); a state dict (with ``factory``);
            ``path/to/file.py:function``; or a module with both methods. Python code that is named runs as such.
        like: An image ``(1, C, *spatial)`` as the model sees it.
        factory: as in :func:`runners.load.load_model`.

    Raises:
        ModelError: it cannot be read, or does not draw such images.
    """
    if isinstance(source, nn.Module):
        return _with_methods(source, like, type(source).__name__)
    name = str(source)
    if name in _cards():
        return _bundled(_cards()[name], like)
    path = Path(name)
    if path.is_dir():
        return _pair(path, like)
    if ".py:" in name and not path.exists():
        return _with_methods(build_network(name, {}), like, name)
    if not path.is_file():
        known = ", ".join(_cards()) or "none"
        raise ModelError(f"There is no autoencoder {name!r}; bundled are: {known}. Else {HOW}.")
    return _with_methods(load_model(path, factory=factory).network, like, path.name)


def _with_methods(network: nn.Module, like: Tensor, called: str) -> Drawer:
    missing = [name for name in ("encode", "decode") if not callable(getattr(network, name, None))]
    if missing:
        raise ModelError(f"{called} has no method {' and no '.join(missing)}; {HOW}.")
    network.eval()
    return Drawer(network.encode, network.decode, like, (network,))  # type: ignore[arg-type]


def _pair(folder: Path, like: Tensor) -> Drawer:
    found = []
    for name in ("encoder", "decoder"):
        files = sorted(one for one in folder.glob(f"{name}.*") if one.is_file())
        if len(files) != 1:
            raise ModelError(f"The folder {folder.name!r} has {len(files)} files named {name}.*; one is needed.")
        loaded = load_model(files[0])
        if loaded.black_box:
            raise ModelError(f"{files[0].name} gives no gradients; export it as TorchScript or .pt2.")
        found.append(loaded.network.eval())
    return Drawer(found[0], found[1], like, found)


def _bundled(card: ModelCard, like: Tensor) -> Drawer:
    path = ZOO / "autoencoders" / f"{card.id}.safetensors"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The weights of the bundled autoencoder {card.id} are missing ({path.name}).") from error
    if card.sha256 != hashlib.sha256(data).hexdigest():
        raise ModelError(f"The weights of the autoencoder {card.id} are not those of its card (their sha256 differs).")
    if like.ndim - 2 != card.dims or like.shape[1] != card.channels:
        raise ModelError(
            f"The autoencoder {card.id} draws {card.dims}D images of {card.channels} channels; this one is "
            f"{like.ndim - 2}D with {like.shape[1]}."
        )
    network = nets.Autoencoder(**card.kwargs)
    tensors = safetensors.torch.load(data)
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    network.eval()
    return Drawer(network.encode, network.decode, like, (network,), card)
