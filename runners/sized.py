"""Images of one size, or of several: what of a cohort goes into a model, each image as it would go in alone."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from runners.images import times
from taxonomy.errors import ImageError


@dataclass(frozen=True, eq=False)
class Images:
    """Images, or masks, of different sizes, with what a tensor ``(N, C, *spatial)`` can do without a common size.

    Attributes:
        parts: ``(C, *spatial)`` each, or masks ``(*spatial)``.
    """

    parts: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.parts)

    @overload
    def __getitem__(self, at: int) -> Tensor: ...

    @overload
    def __getitem__(self, at: slice | Tensor) -> Tensor | Images: ...

    def __getitem__(self, at: int | slice | Tensor) -> Tensor | Images:
        if isinstance(at, Tensor):
            numbers = at.nonzero()[:, 0] if at.dtype == torch.bool else at
            return several([self.parts[i] for i in numbers.tolist()])
        return several(self.parts[at]) if isinstance(at, slice) else self.parts[at]

    @property
    def ndim(self) -> int:
        """Axes of a batch."""
        return self.parts[0].ndim + 1

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.parts[0].device

    def to(self, *where: Any) -> Images:
        """Move all, as ``Tensor.to``."""
        return Images(tuple(one.to(*where) for one in self.parts))

    def cpu(self) -> Images:
        """Move all to the CPU."""
        return self.to("cpu")


Pictures: TypeAlias = Tensor | Images
"""``(N, C, *spatial)``, or images of several sizes."""


def several(parts: Sequence[Tensor]) -> Pictures:
    """Put images ``(C, *spatial)`` together: a tensor where they have one size."""
    return torch.stack(list(parts)) if len({one.shape for one in parts}) == 1 else Images(tuple(parts))


def in_one_size(images: Pictures) -> Tensor:
    """Return images of one size as they are.

    Raises:
        ImageError: their sizes differ.
    """
    if isinstance(images, Images):
        sizes = sorted({times(one.shape[1:]) for one in images})
        raise ImageError(f"the images have different sizes, such as {' and '.join(sizes[:2])}; one size is needed here")
    return images


def on_disk(images: Iterable[Tensor]) -> Pictures:
    """Put float32 images ``(C, *spatial)`` together in a temporary file: only what is looked at takes memory.

    The file has no name where the system allows that, and is gone with the last tensor that lies in it.
    """
    with tempfile.TemporaryFile() as file:
        shapes = []
        for one in images:
            file.write(one.contiguous().numpy().tobytes())
            shapes.append(tuple(one.shape))
        file.flush()
        flat = torch.from_numpy(np.memmap(file, np.float32, "c"))  # changes, if any, stay in memory
    if len(set(shapes)) == 1:
        return flat.view(len(shapes), *shapes[0])
    parts = torch.split(flat, [math.prod(shape) for shape in shapes])
    return Images(tuple(part.view(shape) for part, shape in zip(parts, shapes, strict=True)))


def chunks(images: Pictures, batch_size: int) -> Iterator[Tensor]:
    """Yield images a chunk at a time in their order, ``(n, C, *spatial)``: ``batch_size`` at most, all of one size."""
    if isinstance(images, Tensor):
        yield from torch.split(images, batch_size)
        return
    start = 0
    for end in range(1, len(images) + 1):
        own = images.parts[start]
        if end == len(images) or end - start == batch_size or images.parts[end].shape != own.shape:
            yield torch.stack(images.parts[start:end])
            start = end


def resize(values: Tensor, size: tuple[int, ...], *, antialias: bool) -> Tensor:
    """Linear interpolation of ``(B, C, *spatial)``; only 2D has antialiasing, so volumes are averaged first."""
    if values.ndim == 4:
        return F.interpolate(values, size, mode="bilinear", antialias=antialias)
    if antialias:
        factors = tuple(max(1, have // want) for have, want in zip(values.shape[2:], size, strict=True))
        values = F.avg_pool3d(values, factors, ceil_mode=True, count_include_pad=False) if max(factors) > 1 else values
    return F.interpolate(values, size, mode="trilinear")


def at_size(images: Pictures, size: Sequence[int]) -> Tensor:
    """Resize images to ``(N, C, *size)``, as a model's card does for a network of one size."""
    if isinstance(images, Tensor) and tuple(images.shape[2:]) == tuple(size):
        return images
    if images.device.type == "cpu" and not isinstance(images, Tensor):
        return in_one_size(on_disk(resize(one[None].float(), tuple(size), antialias=True)[0] for one in images))
    return torch.cat([resize(one[None], tuple(size), antialias=True) for one in images])


def masks_at_size(masks: Pictures, size: Sequence[int]) -> Tensor:
    """Resize masks to bool ``(N, *size)``."""
    one_size = [F.interpolate(one[None, None].float(), tuple(size), mode="nearest-exact")[0, 0] > 0 for one in masks]
    return torch.stack(one_size)


def framed(images: Pictures) -> Tensor:
    """Put images into the middle of frames of the largest sides, to be looked at: ``(N, C, *largest)``."""
    if isinstance(images, Tensor):
        return images
    largest = [max(one.shape[axis] for one in images) for axis in range(1, images.ndim - 1)]
    found = []
    for one in images:
        spare = [n - own for n, own in zip(reversed(largest), reversed(one.shape), strict=False)]
        found.append(F.pad(one, [end for n in spare for end in (n // 2, n - n // 2)], value=float(one.min())))
    return torch.stack(found)


def spread(features: Tensor, grid: Sequence[int]) -> Tensor:
    """Bring features ``(N, D, *any)`` to another grid their means kept: each cell is what it covers."""
    for axis, count in enumerate(grid, 2):
        own = features.shape[axis]
        if own == count:
            continue
        ends, borders = (torch.arange(n + 1, dtype=features.dtype) / n for n in (count, own))
        high, low = torch.minimum(ends[1:, None], borders[1:]), torch.maximum(ends[:-1, None], borders[:-1])
        covers = ((high - low).clamp(min=0) * count).to(features.device)  # (count, own), rows of sum 1
        features = torch.tensordot(features, covers, ([axis], [1])).movedim(-1, axis)
    return features
