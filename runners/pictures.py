"""Pictures of explanations: a map laid over its image, with a colour bar that says what the colours mean.

Colour and opacity both follow the magnitude: where the map is near zero the anatomy is untouched. Signed maps use a
diverging scale with zero in the middle (red for, blue against), others a perceptually even one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from runners.case import Case
from runners.gate import Explanation
from taxonomy.errors import TargetError

Rgb = NDArray[np.uint8]

COLOUR_MAPS: dict[str, tuple[bool, float, float]] = {
    "RdBu_r": (True, 0.08, 0.92),
    "PuOr_r": (True, 0.08, 0.92),
    "coolwarm": (True, 0.0, 1.0),
    "magma": (False, 0.1, 1.0),
    "viridis": (False, 0.0, 1.0),
    "cividis": (False, 0.0, 1.0),
    "inferno": (False, 0.1, 1.0),
}
"""Name to: diverging?, and the part of it that is used. The ends left out are too dark to be seen on dark images."""
MARKED = (255, 214, 0)
"""Outline of what the model marked."""
REFERENCE = (0, 230, 160)
"""Outline of the reference mask."""
LOW, HIGH = 1.0, 99.5
"""Percentiles between which a map is scaled: single extreme pixels do not darken the rest."""


def default_colours(signed: bool, colour_image: bool) -> str:
    """Return the colour map that reads best: on colour photographs magma's tones would be taken for tissue."""
    return "RdBu_r" if signed else "viridis" if colour_image else "magma"


def limits(values: Tensor, signed: bool) -> tuple[float, float]:
    """Return the values at the two ends of the colour scale, for a whole map or volume.

    Signed maps get ends of the same size, so that zero is in the middle. A map that is the same everywhere gets two
    equal ends and is not drawn.
    """
    array = values.detach().cpu().numpy()
    if signed:
        size = float(np.percentile(np.abs(array), HIGH)) or float(np.abs(array).max())
        return -size, size
    low, high = (float(one) for one in np.percentile(array, (LOW, HIGH)))
    return (low, high) if high > low else (float(array.min()), float(array.max()))


def overlay(
    base: Tensor,
    values: Tensor,
    *,
    signed: bool,
    opacity: float = 0.7,
    colours: str | None = None,
    limit: tuple[float, float] | None = None,
) -> Rgb:
    """Lay a map over an image.

    Args:
        base: ``(H, W)`` grey or ``(H, W, 3)`` colour, in 0..1, as ``Image.display`` gives it.
        values: ``(H, W)``.
        signed: positive speaks for and negative against; else only how much it matters.
        opacity: of the strongest places, 0..1.
        colours: a name of :data:`COLOUR_MAPS`.
        limit: ends of the colour scale, see :func:`limits`; give those of the volume for a slice.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        TargetError: there is no such colour map, it does not suit the map, or the map is not on the image's grid.
    """
    if tuple(values.shape) != tuple(base.shape[:2]):
        raise TargetError(f"a map of shape {tuple(values.shape)} cannot lie on an image of {tuple(base.shape[:2])}")
    table = _table(colours or default_colours(signed, base.ndim == 3), signed)
    low, high = limits(values, signed) if limit is None else limit
    grey = base if base.ndim == 3 else base[..., None].expand(*base.shape, 3)
    span = high - low
    at = ((values.float() - low) / span).clamp(0, 1) if span > 0 else torch.full_like(values, 0.5 if signed else 0.0)
    strength = (2 * at - 1).abs() if signed else at
    alpha = (opacity * strength)[..., None]
    painted = grey * (1 - alpha) + table[(at * 255).round().long()] * alpha
    return (painted.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


@cache
def _colours(name: str) -> Tensor:
    _, start, end = COLOUR_MAPS[name]
    return torch.from_numpy(colormaps[name](np.linspace(start, end, 256))[:, :3]).float()


def _table(name: str, signed: bool) -> Tensor:
    fitting = [one for one, (diverging, _, _) in COLOUR_MAPS.items() if diverging == signed]
    if name not in fitting:
        kind = "a signed map" if signed else "a map without sign"
        raise TargetError(f"the colour map {name!r} does not suit {kind}; take one of {', '.join(fitting)}")
    return _colours(name)


def outline(picture: Rgb, mask: Tensor, colour: tuple[int, int, int], width: int = 1, *, outside: bool = False) -> Rgb:
    """Return a picture ``(H, W, 3)`` with the edge of a mask ``(H, W)``, ``width`` pixels wide.

    The edge lies within the mask, or just ``outside`` of it, so that two regions that agree can both be seen.
    """
    side = ~mask.bool() if outside else mask.bool()
    near = F.max_pool2d((~side)[None, None].float(), 2 * width + 1, 1, width)[0, 0] > 0
    drawn = picture.copy()
    drawn[(side & near).numpy()] = colour
    return drawn


@dataclass(frozen=True)
class Plane:
    """One picture of a case: the whole 2D image, or a slice through a volume.

    Attributes:
        base: ``(H, W)`` or ``(H, W, 3)`` in 0..1, in square pixels.
        values: ``(H, W)``, or None when only the image is shown.
        marked: label map, or None. mask: reference mask, or None.
        title: which slice.
        letters: directions at the left, right, top and bottom edge, or None.
    """

    base: Tensor
    values: Tensor | None = None
    marked: Tensor | None = None
    mask: Tensor | None = None
    title: str | None = None
    letters: tuple[str, str, str, str] | None = None


_ORIENTED = {
    0: ("sagittal", ("A", "P", "S", "I")),
    1: ("coronal", ("R", "L", "S", "I")),
    2: ("axial", ("R", "L", "A", "P")),
}


def planes(case: Case, values: Tensor | None = None, *, side: int = 420) -> list[Plane]:
    """Return what to draw: the image itself, or for a volume three slices through the centre of what the map marks.

    Args:
        case: the case.
        values: a map on the image's grid, or None.
        side: pixels of the longest side of a 2D image; that of a volume gets 0.6 of it.
    """
    if case.image.dims == 2:
        return [plane(case, values, side=side)]
    centre = middle(values if values is not None and bool(values.any()) else case.image.values[0])
    return [plane(case, values, axis, centre[axis], side=round(0.6 * side)) for axis in (2, 1, 0)]


def plane(
    case: Case, values: Tensor | None = None, axis: int | None = None, index: int | None = None, *, side: int = 420
) -> Plane:
    """Return one picture in square pixels, with the directions of an oriented volume.

    Args:
        case: the case.
        values: a map on the image's grid, or None.
        axis: the axis across the slice, default the image's usual one; ignored for 2D images.
        index: the slice, default the middle one.
        side: pixels of the longest side of the image or volume.

    Raises:
        ImageError: the map is not on the image's grid, or the slice does not exist.
    """
    image = case.image
    title = letters = None
    if image.dims == 2:
        tall, wide = image.spacing or (1.0, 1.0)
        height, width = image.shape[0] * tall / min(tall, wide), image.shape[1] * wide / min(tall, wide)
        scale = side / max(height, width)
    else:
        axis = image.plane_axis if axis is None else axis
        index = image.shape[axis] // 2 if index is None else index
        spacing = image.spacing or (1.0, 1.0, 1.0)
        lengths = [n * mm for n, mm in zip(image.shape, spacing, strict=True)]
        rest = [lengths[a] for a in range(3) if a != axis]
        height, width = rest if image.affine is None else rest[::-1]
        scale = side / max(lengths)
        name, letters = _ORIENTED[axis] if image.affine is not None else (f"across axis {axis}", None)
        title = f"{name} {index + 1} of {image.shape[axis]}"
    size = (max(1, round(height * scale)), max(1, round(width * scale)))

    def cut(array: Tensor | None, mode: str) -> Tensor | None:
        return None if array is None else _resize(image.view(array.float(), axis, index), size, mode)

    shown = image.display(axis, index)
    base = (
        torch.stack([_resize(shown[..., channel], size, "bilinear") for channel in range(3)], -1)
        if shown.ndim == 3
        else _resize(shown, size, "bilinear")
    )
    marked, mask = cut(case.marked, "nearest-exact"), cut(case.mask, "nearest-exact")
    return Plane(base, cut(values, "bilinear"), marked, mask, title, letters)


def middle(values: Tensor) -> tuple[int, ...]:
    """Return the voxel in the middle of what a map marks: the centre of mass of its upper half of magnitudes."""
    weight = values.abs().double()
    weight = (weight - 0.5 * weight.max()).clamp_min(0)
    total = weight.sum()
    if not total > 0:
        return tuple(n // 2 for n in values.shape)
    found = []
    for axis, side in enumerate(values.shape):
        others = tuple(a for a in range(values.ndim) if a != axis)
        profile = weight.sum(others)
        found.append(round(float((profile * torch.arange(side, dtype=torch.float64)).sum() / total)))
    return tuple(found)


def _resize(plane: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if tuple(plane.shape) == size:
        return plane
    return F.interpolate(plane[None, None].float(), size=size, mode=mode, antialias=mode == "bilinear")[0, 0]


def draw(
    plane: Plane, *, signed: bool, limit: tuple[float, float], opacity: float = 0.7, colours: str | None = None
) -> Rgb:
    """Draw one plane: image, map, outlines of what the model marked and of the reference mask, directions."""
    if plane.values is None:
        base = plane.base if plane.base.ndim == 3 else plane.base[..., None].expand(*plane.base.shape, 3)
        picture: Rgb = (base.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    else:
        picture = overlay(plane.base, plane.values, signed=signed, opacity=opacity, colours=colours, limit=limit)
    width = max(1, max(picture.shape[:2]) // 250)
    for labels, colour, outside in ((plane.marked, MARKED, False), (plane.mask, REFERENCE, True)):
        if labels is not None:
            for label in np.unique(labels.numpy()).tolist():
                if label:
                    picture = outline(picture, labels == label, colour, width, outside=outside)
    if plane.letters is not None:
        picture = _directions(picture, plane.letters)
    return picture


def _directions(picture: Rgb, letters: tuple[str, str, str, str]) -> Rgb:
    canvas = Pillow.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    width, height = canvas.size
    places = [
        ((4, height / 2), "lm"),
        ((width - 4, height / 2), "rm"),
        ((width / 2, 3), "ma"),
        ((width / 2, height - 3), "md"),
    ]
    for letter, (place, anchor) in zip(letters, places, strict=True):
        pen.text(place, letter, (255, 255, 255), _font(15), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(canvas)


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def polarity(signed: bool) -> tuple[str, str]:
    """Return what the two ends of the colour scale mean, the upper one first."""
    return ("speaks for", "speaks against") if signed else ("matters most", "matters least")


def ramp(signed: bool, colours: str, length: int = 256, thickness: int = 18) -> Rgb:
    """Draw the bare colour scale from left (lowest) to right, ``(thickness, length, 3)``."""
    table = F.interpolate(_table(colours, signed).T[None], size=length, mode="linear")[0].T
    row: Rgb = (table * 255).round().to(torch.uint8).numpy()
    return np.repeat(row[None], thickness, 0)


def colour_bar(height: int, *, signed: bool, limit: tuple[float, float], colours: str, width: int = 128) -> Rgb:
    """Draw the colour scale ``(height, width, 3)`` with its numbers and what its ends mean, black on white."""
    canvas = Pillow.new("RGB", (width, height), "white")
    top, bottom = 26, height - 26
    canvas.paste(Pillow.fromarray(np.rot90(ramp(signed, colours, bottom - top, 18))), (10, top))
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((9, top - 1, 28, bottom), outline=(120, 120, 120))
    upper, lower = polarity(signed)
    pen.text((8, 4), upper, "black", _font(14))
    pen.text((8, height - 6), lower, "black", _font(14), anchor="ls")
    low, high = limit
    for y, value in ((top + 6, high), *([((top + bottom) / 2, 0.0)] if signed else []), (bottom - 6, low)):
        text = "0" if abs(value) < 1e-3 * (high - low) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        pen.text((34, y), text, "black", _font(13), anchor="lm")
    return np.asarray(canvas)


def figure(
    case: Case, explanation: Explanation | None, *, opacity: float = 0.7, colours: str | None = None, side: int = 420
) -> Rgb:
    """Draw a whole figure: the image or a volume's three slices with the map, and its colour bar.

    Args:
        case: the case.
        explanation: what to lay over the image; None draws the image with the outlines alone.
        opacity: of the strongest places, 0..1.
        colours: a name of :data:`COLOUR_MAPS`.
        side: size of the picture, see :func:`planes`.

    Returns:
        uint8 ``(H, W, 3)``.
    """
    values = None if explanation is None else case.place(explanation.values[0])
    signed = explanation is not None and explanation.signed
    limit = (0.0, 0.0) if values is None else limits(values, signed)
    name = colours or default_colours(signed, case.image.channels == 3)
    parts = []
    for one in planes(case, values, side=side):
        picture = draw(one, signed=signed, limit=limit, opacity=opacity, colours=name)
        parts.append(captioned(picture, one.title) if one.title else picture)
    height = max(len(part) for part in parts)
    if values is not None:
        parts.append(colour_bar(max(height, 140), signed=signed, limit=limit, colours=name))
    return beside(parts)


def captioned(picture: Rgb, title: str) -> Rgb:
    """Return a picture ``(H, W, 3)`` with a line of text below it."""
    canvas = Pillow.new("RGB", (max(picture.shape[1], 120), picture.shape[0] + 22), "white")
    canvas.paste(Pillow.fromarray(picture), (0, 0))
    ImageDraw.Draw(canvas).text((2, picture.shape[0] + 3), title, "black", _font(14))
    return np.asarray(canvas)


def beside(parts: Sequence[Rgb], gap: int = 8) -> Rgb:
    """Return pictures ``(H, W, 3)`` side by side on white."""
    height = max(len(part) for part in parts)
    width = sum(part.shape[1] for part in parts) + gap * (len(parts) - 1)
    canvas = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for part in parts:
        canvas[: len(part), left : left + part.shape[1]] = part
        left += part.shape[1] + gap
    return canvas
