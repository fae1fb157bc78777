"""Models that read more than an image, wrapped so that they take one image tensor: prompts, clinical values.

Everything that explains a model then explains these too: a prompt is a label, clinical values are held at the case's.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taxonomy.errors import ModelError


class Prompted(nn.Module):
    """An image tower read through texts: one output per prompt, the cosine of image and text times a scale.

    Args:
        tower: images ``(B, C, *spatial)`` to vectors ``(B, E)``.
        text: unit vectors of the prompts, ``(P, E)``.
        scale: what a cosine is multiplied by to be a logit.
    """

    text: Tensor
    scale: Tensor

    def __init__(self, tower: nn.Module, text: Tensor, scale: float = 1.0) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("text", text.detach().clone())
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, P)``."""
        return F.linear(F.normalize(self.tower(x), dim=-1), self.text * self.scale)


def prompted(model: nn.Module) -> Prompted | None:
    """Return the part of a model that is read through texts, None where there is none."""
    return next((one for one in model.modules() if isinstance(one, Prompted)), None)


class Fused(nn.Module):
    """A network of an image and clinical values, with the values of one case put in.

    Args:
        network: ``network(image (B, C, *spatial), table (B, V))``.
        values: name to value, in the order in which the network reads them.
    """

    table: Tensor

    def __init__(self, network: nn.Module, values: Mapping[str, float]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(values)
        self.register_buffer("table", torch.tensor([list(values.values())], dtype=torch.float32))

    def forward(self, x: Tensor) -> object:
        """Return what the network makes of images ``(B, C, *spatial)`` and the values of the case, or one row each."""
        return self.network(x, self.table.to(x.dtype).expand(len(x), -1))

    @contextlib.contextmanager
    def reading(self, table: Tensor) -> Iterator[None]:
        """Read other values ``(B, V)`` for a while."""
        own, self.table = self.table, table.to(self.table)
        try:
            yield
        finally:
            self.table = own


def fused(model: nn.Module) -> Fused | None:
    """Return the part of a model that reads clinical values too, None where there is none."""
    return next((one for one in model.modules() if isinstance(one, Fused)), None)


def takes_table(network: nn.Module) -> bool:
    """Say whether a network asks for a second input beside the image."""
    if isinstance(network, Fused):
        return False
    if isinstance(network, torch.jit.ScriptModule):
        schema: Any = network.forward.schema  # type: ignore[attr-defined]
        asked = [one for one in schema.arguments if one.name != "self" and not one.has_default_value()]
        return len(asked) == 2
    try:
        found = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is inspect.Parameter.empty for one in found) == 2


def with_values(network: nn.Module, values: Mapping[str, float]) -> Fused:
    """Put the clinical values of the case into a network that reads them beside the image.

    Raises:
        ModelError: none were given.
    """
    if not values:
        raise ModelError(
            "this model takes clinical values as a second input; give them in the order in which it reads them, as "
            "name=value (features)"
        )
    if missing := [name for name, value in values.items() if value != value]:
        raise ModelError(f"{', '.join(missing)}: a number is needed, as the model reads it")
    return Fused(network, values)
