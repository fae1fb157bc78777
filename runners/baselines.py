"""What stands in for removed image content: one place for explainers and metrics alike.

Inputs are already normalised, so 0 is not "nothing there": every kind is taken from the image itself, per image and
per channel, and no image of a batch sees another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from taxonomy.errors import TargetError

BASELINES = ("black", "white", "mean", "blur", "noise", "zero")
"""The kinds :func:`baseline` knows."""
FILLINGS = (*BASELINES, "inpaint")
"""The kinds :func:`filling` knows: ``inpaint`` depends on what is removed."""
SWEEPS = 20
"""Rounds of relaxation at each resolution of :func:`inpainted`."""
REACH = 0.98
"""How slow the slowest error is taken to decay there, for a hole of some twenty pixels; coarser grids do the rest."""

Fill = Callable[[Tensor, Tensor], Tensor]
"""Rows ``(n,)`` and what stays of these images, ``(n, *spatial)``, to the images with the rest replaced."""

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


def filling(x: Tensor, kind: str, generator: torch.Generator) -> Fill:
    """Return what replaces removed content of ``x``, once it is known what stays.

    Args:
        x: Images ``(B, C, *spatial)``.
        kind: One of :data:`FILLINGS`: a kind of :func:`baseline`, or ``inpaint``: the surroundings continued into the
            removed part, see :func:`inpainted`.
        generator: As in :func:`baseline`.

    Returns:
        A function of rows ``(n,)`` and of what stays, ``(n, *spatial)``, bool or a share from 0 to 1.

    Raises:
        TargetError: ``kind`` is unknown.
    """
    if kind == "inpaint":

        def fill(rows: Tensor, kept: Tensor) -> Tensor:
            own = x.expand(len(rows), *x.shape[1:]) if len(x) == 1 else x[rows]
            return mixed(own, inpainted(own, kept), kept)

        return fill
    if kind not in BASELINES:
        raise TargetError(f"unknown baseline {kind!r}: choose one of {', '.join(FILLINGS)}.")
    return replacing(x, baseline(x, kind, generator))


def replacing(x: Tensor, base: Tensor) -> Fill:
    """Return what puts ``base``, like ``x``, where the images are removed; a lone image need not be copied."""
    return lambda rows, kept: mixed(*((x, base) if len(x) == 1 else (x[rows], base[rows])), kept)


def mixed(own: Tensor, other: Tensor, kept: Tensor) -> Tensor:
    """Return images ``(n, C, *spatial)`` where only a part is ``kept`` ``(n, *spatial)`` and the rest is ``other``."""
    seen = kept[:, None]
    return torch.where(seen, own, other) if kept.dtype == torch.bool else torch.lerp(other, own, seen.to(own))


def inpainted(x: Tensor, kept: Tensor) -> Tensor:
    """Continue what is kept smoothly into what is not: each removed pixel becomes the mean of its neighbours.

    That is the harmonic infill, a membrane spanned over the hole without a new edge. It is found from coarse to fine,
    to within some percent of the image's spread. Where nothing is kept at all, the mean of the channel.

    Args:
        x: Images ``(n, C, *spatial)``.
        kept: ``(n, *spatial)``, bool or a share from 0 to 1; of a half removed pixel half is known.

    Returns:
        A tensor like ``x``; only its removed part is of use.
    """
    weight = kept[:, None].to(x)
    mean = x.mean(tuple(range(2, x.ndim)), keepdim=True)
    return torch.where(kept.flatten(1).any(1).view(-1, *[1] * (x.ndim - 1)), _spanned(x, weight), mean)


def _spanned(x: Tensor, weight: Tensor) -> Tensor:
    spatial = x.shape[2:]
    if max(spatial) == 1:
        return x
    pool = F.avg_pool2d if len(spatial) == 2 else F.avg_pool3d
    half = [min(side, 2) for side in spatial]
    share = pool(weight, half, ceil_mode=True)
    coarse = pool(x * weight, half, ceil_mode=True) / share.clamp_min(1e-6)
    guess = _spanned(coarse, (share * math.prod(half)).clamp(max=1))
    filled = F.interpolate(guess, size=spatial, mode="bilinear" if len(spatial) == 2 else "trilinear")
    known, free = weight * x, 1 - weight
    before, pace = filled, 1.0
    for sweep in range(SWEEPS):  # Jacobi's iteration, sped up by Chebyshev's
        pace = 1 / (1 - REACH**2 * pace / (2 if sweep == 1 else 4)) if sweep else 1.0
        filled, before = before + pace * (known + free * _neighbours(filled) - before), filled
    return filled


def _neighbours(x: Tensor) -> Tensor:
    """Return the mean of the neighbours along the axes of every pixel; at the border the pixel itself stands in."""
    wide = F.pad(x, (1, 1) * (x.ndim - 2), mode="replicate")
    middle = [slice(None), slice(None), *[slice(1, -1)] * (x.ndim - 2)]
    total = torch.zeros_like(x)
    for axis in range(2, x.ndim):
        for part in (slice(None, -2), slice(2, None)):
            total += wide[(*middle[:axis], part, *middle[axis + 1 :])]
    return total / (2 * (x.ndim - 2))


def blurred(x: Tensor, share: float = BLUR) -> Tensor:
    """Return ``x`` ``(B, C, *spatial)`` under a separable Gaussian, mirrored at the borders.

    ``share`` is its standard deviation on every axis, as a share of the image's length there; 0 changes nothing.
    """
    return smoothed(x, [share * length for length in x.shape[2:]])


def smoothed(x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return ``x`` ``(B, C, *spatial)`` under a Gaussian, mirrored at the borders, with a width in pixels per axis."""
    for axis, sigma in enumerate(sigmas, start=2):
        radius = min(math.ceil(3 * sigma), x.shape[axis] - 1)
        if radius == 0:
            continue
        offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        line = x.movedim(axis, -1)
        flat = line.reshape(-1, 1, x.shape[axis])
        before, after = flat[..., 1 : radius + 1].flip(-1), flat[..., -radius - 1 : -1].flip(-1)
        # F.pad's reflection has no gradient of more than 65,535 rows on CUDA
        x = (
            F.conv1d(torch.cat([before, flat, after], -1), (kernel / kernel.sum()).view(1, 1, -1))
            .view(line.shape)
            .movedim(-1, axis)
        )
    return x
