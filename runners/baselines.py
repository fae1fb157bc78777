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

from runners.checks import background
from taxonomy.errors import TargetError

BASELINES = ("black", "white", "mean", "organ", "blur", "noise", "zero")
"""The kinds :func:`baseline` knows."""
FILLINGS = (*BASELINES, "inpaint", "impute")
"""The kinds :func:`filling` knows: ``inpaint`` and ``impute`` depend on what is removed."""
GRAIN = 0.01
"""Standard deviation of the noise of ``impute``, as a share of the channel's: it hides the edges of the hole."""
SWEEPS = 16
"""Rounds of conjugate gradients at each resolution of :func:`inpainted` and :func:`imputed`."""
TINY = 1e-30
"""Keeps a solved system from dividing zero by zero."""

Fill = Callable[[Tensor, Tensor], Tensor]
"""Rows ``(n,)`` and what stays of these images, ``(n, *spatial)``, to the images with the rest replaced."""

BLUR = 1 / 16
"""Standard deviation of the blur on every axis, as a share of the image's length on that axis."""


def baseline(x: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Return the image content that replaces what is removed from ``x``.

    Args:
        x: Images ``(B, C, *spatial)``, 2D or 3D.
        kind: ``black`` (the smallest value of each channel), ``white`` (the largest), ``mean`` (the average),
            ``organ`` (the average of the body, without the uniform background around it), ``blur`` (the image under a
            wide Gaussian, see :data:`BLUR`), ``noise`` (Gaussian noise with the mean and the spread of each channel,
            inside its range; the same draw for all images) or ``zero`` (the number 0 of the normalised input).
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
        case "organ":
            return _organ(x)
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
        kind: One of :data:`FILLINGS`: a kind of :func:`baseline`; ``inpaint``: the surroundings continued into the
            removed part, see :func:`inpainted`; ``impute``: the same with all neighbours and a little noise, see
            :func:`imputed`.
        generator: As in :func:`baseline`; ``impute`` draws its noise, the same for all images.

    Returns:
        A function of rows ``(n,)`` and of what stays, ``(n, *spatial)``, bool or a share from 0 to 1.

    Raises:
        TargetError: ``kind`` is unknown.
    """
    if kind in ("inpaint", "impute"):
        noise = grain(x, generator) if kind == "impute" else None

        def fill(rows: Tensor, kept: Tensor) -> Tensor:
            own = x.expand(len(rows), *x.shape[1:]) if len(x) == 1 else x[rows]
            if noise is None:
                return mixed(own, inpainted(own, kept), kept)
            return mixed(own, imputed(own, kept) + (noise if len(x) == 1 else noise[rows]), kept)

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
    return _filled(x, kept, _beside)


def imputed(x: Tensor, kept: Tensor) -> Tensor:
    """Impute linearly what is not kept: each removed pixel becomes the weighted mean of all its neighbours.

    The system of ROAD (arXiv 2202.00449) without its noise: of the eight neighbours in 2D those across a corner weigh
    half of the others; in 3D, where the paper says nothing, half again across a corner of the voxel. Found as in
    :func:`inpainted`, which has the arguments and the result.
    """
    return _filled(x, kept, _around)


def grain(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return the noise of ``impute`` for ``x`` ``(B, C, *spatial)``: see :data:`GRAIN`."""
    draw = torch.randn(x.shape[1:], generator=generator).to(x)
    return GRAIN * x.std(tuple(range(2, x.ndim)), correction=0, keepdim=True) * draw


def _organ(x: Tensor) -> Tensor:
    """Return the mean of each channel over the body, as ``x``; over all where everything is background."""
    body = (~background(x))[:, None].to(x)
    axes = tuple(range(2, x.ndim))
    size = body.sum(axes, keepdim=True)
    mean = (x * body).sum(axes, keepdim=True) / size.clamp_min(1)
    return torch.where(size > 0, mean, x.mean(axes, keepdim=True)).expand_as(x)


def _filled(x: Tensor, kept: Tensor, around: Callable[[Tensor], Tensor]) -> Tensor:
    weight = kept[:, None].to(x)
    mean = x.mean(tuple(range(2, x.ndim)), keepdim=True)
    found = _spanned(x, weight, around)
    return torch.where(kept.flatten(1).any(1).view(-1, *[1] * (x.ndim - 1)), found, mean)


def _spanned(x: Tensor, weight: Tensor, around: Callable[[Tensor], Tensor]) -> Tensor:
    """Solve ``u = weight * x + (1 - weight) * mean of the neighbours of u``, from coarse to fine.

    ``around`` sums the weighted neighbours of every pixel that lie in the image.
    """
    spatial = x.shape[2:]
    if max(spatial) == 1:
        return x
    pool = F.avg_pool2d if len(spatial) == 2 else F.avg_pool3d
    half = [min(side, 2) for side in spatial]
    share = pool(weight, half, ceil_mode=True)
    coarse = pool(x * weight, half, ceil_mode=True) / share.clamp_min(1e-6)
    guess = _spanned(coarse, (share * math.prod(half)).clamp(max=1), around)
    filled = F.interpolate(guess, size=spatial, mode="bilinear" if len(spatial) == 2 else "trilinear")
    free, sums = 1 - weight, around(torch.ones_like(x[:1, :1]))
    unknown = free > 0
    mass = torch.where(unknown, sums / free, 0.0)  # by it the equations are symmetric
    inverse = free / sums
    filled = torch.where(unknown, filled, x)
    left = mass * (weight * x - filled) + around(filled)
    way = inverse * left
    size, scalar = _dot(left, way), (*x.shape[:2], *[1] * len(spatial))
    for _ in range(SWEEPS):  # conjugate gradients
        change = torch.addcmul(around(way).neg_(), mass, way)
        pace = (size / _dot(way, change).clamp_min(TINY)).view(scalar)
        filled.addcmul_(way, pace)
        left.addcmul_(change, pace, value=-1)
        step = inverse * left
        before, size = size, _dot(left, step)
        way = step.addcmul_(way, (size / before.clamp_min(TINY)).view(scalar))
    return filled


def _dot(a: Tensor, b: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vecdot(a.flatten(2), b.flatten(2))
    return found


def _beside(x: Tensor) -> Tensor:
    """Sum the neighbours along the axes of every pixel."""
    total = torch.zeros_like(x)
    for axis in range(2, x.ndim):
        _add_neighbours(total, x, axis)
    return total


def _around(x: Tensor) -> Tensor:
    """Sum all neighbours of every pixel; each weighs half as much per axis that it lies off."""
    total = x
    for axis in range(2, x.ndim):
        wide = 2 * total
        _add_neighbours(wide, total, axis)
        total = wide
    return total.sub_(x, alpha=2 ** (x.ndim - 2))


def _add_neighbours(total: Tensor, x: Tensor, axis: int) -> None:
    length = x.shape[axis] - 1
    total.narrow(axis, 1, length).add_(x.narrow(axis, 0, length))
    total.narrow(axis, 0, length).add_(x.narrow(axis, 1, length))


def blurred(x: Tensor, share: float = BLUR) -> Tensor:
    """Return ``x`` ``(B, C, *spatial)`` under a separable Gaussian, mirrored at the borders.

    ``share`` is its standard deviation on every axis, as a share of the image's length there; 0 changes nothing.
    """
    return smoothed(x, [share * length for length in x.shape[2:]])


def smoothed(x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return ``x`` ``(B, C, *spatial)`` under a Gaussian, mirrored at the borders, with a width in pixels per axis."""
    for axis, sigma in enumerate(sigmas, start=2):
        length = x.shape[axis]
        radius = min(math.ceil(3 * sigma), length - 1)
        if radius == 0:
            continue
        offsets = torch.arange(-radius, radius + 1)
        kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
        seen = (torch.arange(length)[:, None] + offsets).abs()
        seen = torch.where(seen < length, seen, 2 * (length - 1) - seen)
        # a product with a matrix is many times faster than a convolution as wide as the image
        weights = kernel.new_zeros(length, length).scatter_add_(1, seen, (kernel / kernel.sum()).expand(length, -1))
        x = (x.movedim(axis, -1) @ weights.T.to(x)).movedim(-1, axis)
    return x
