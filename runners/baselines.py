"""What stands in for removed image content: one place for explainers and metrics alike.

Inputs are already normalised, so 0 is not "nothing there": every kind is taken from the image itself, per image and
per channel, and no image of a batch sees another.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from taxonomy.errors import TargetError

BASELINES = ("black", "white", "mean", "blur", "noise", "zero")
"""The kinds :func:`baseline` knows."""

BLUR = 1 / 16
"""Standard deviation of the blur on every axis, as a share of the image's length on that axis."""


def baseline(x: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Return the image content that replaces what is removed from ``x``.

    Args:
        x: Images ``(B, C, *spatial)``, 2D or 3D.
        kind: ``black`` (the smallest value of each channel), ``white`` (the largest), ``mean`` (the average),
            ``blur`` (the image under a wide Gaussian, see :data:`BLUR`), ``noise`` (Gaussian noise with the mean and
            the spread of each channel, inside its range; the same draw for all images) or ``zero`` (the number 0 of
            the normalised input).
        generator: CPU generator; only ``noise`` draws from it.

    Returns:
        A tensor like ``x``.

    Raises:
        TargetError: ``kind`` is not one of :data:`BASELINES`.
    """
    axes = tuple(range(2, x.ndim))
    match kind:
        case "black":
            return x.amin(axes, keepdim=True).expand_as(x)
        case "white":
            return x.amax(axes, keepdim=True).expand_as(x)
        case "mean":
            return x.mean(axes, keepdim=True).expand_as(x)
        case "blur":
            return blurred(x)
        case "noise":
            draw = torch.randn(x.shape[1:], generator=generator).to(x)
            noise = x.mean(axes, keepdim=True) + x.std(axes, correction=0, keepdim=True) * draw
            return noise.clamp(x.amin(axes, keepdim=True), x.amax(axes, keepdim=True))
        case "zero":
            return torch.zeros_like(x)
        case _:
            raise TargetError(f"unknown baseline {kind!r}: choose one of {', '.join(BASELINES)}.")


def blurred(x: Tensor, share: float = BLUR) -> Tensor:
    """Return ``x`` ``(B, C, *spatial)`` under a separable Gaussian, mirrored at the borders.

    ``share`` is its standard deviation on every axis, as a share of the image's length there; 0 changes nothing.
    """
    if share == 0:
        return x
    for axis in range(2, x.ndim):
        sigma = share * x.shape[axis]
        radius = min(math.ceil(3 * sigma), x.shape[axis] - 1)
        offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        line = x.movedim(axis, -1)
        flat = F.pad(line.reshape(-1, 1, x.shape[axis]), (radius, radius), mode="reflect")
        x = F.conv1d(flat, (kernel / kernel.sum()).view(1, 1, -1)).view(line.shape).movedim(-1, axis)
    return x
