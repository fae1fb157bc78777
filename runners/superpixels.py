"""Superpixels and supervoxels: regions that LIME and KernelSHAP switch on and off, and that XRAI ranks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import felzenszwalb, slic
from torch import Tensor
from torch.nn import functional as F

from taxonomy.errors import TargetError

COMPACTNESS = 0.2
"""Weight of nearness against likeness, for channels scaled to 0..1."""


def superpixels(x: Tensor, segments: int) -> Tensor:
    """Cut every image into connected regions of similar content (SLIC), each image on its own.

    Channels count alike, whatever they are (colours, MR sequences); their 1st to 99th percentile becomes 0..1, so a few
    bright pixels do not hide the rest. Where the content is so noisy or so uneven that regions melt together, nearness
    gets more weight until at least half of the wanted number is there; at the end of that road lies a regular grid.

    Args:
        x: Images ``(B, C, *spatial)``, 2D or 3D.
        segments: Wanted number of regions per image, at least 1; the real number is near it.

    Returns:
        Labels ``(B, *spatial)``, int64, on the device of ``x``; image ``i`` has the labels ``0 .. labels[i].max()``.
        The same image gives the same labels, always.

    Raises:
        TargetError: ``segments`` is below 1.
    """
    if segments < 1:
        raise TargetError(f"segments = {segments}: at least 1 region is needed.")
    images = x.detach().to("cpu", torch.float32).movedim(1, -1).numpy()
    return torch.stack([torch.from_numpy(_regions(image, segments)) for image in images]).to(x.device)


def _regions(image: np.ndarray, segments: int) -> np.ndarray:
    spatial, channels = image.shape[:-1], image.shape[-1]
    axes = tuple(range(len(spatial)))
    segments = min(segments, math.prod(spatial))
    low, high = np.percentile(image, (1, 99), axis=axes)
    flat = high <= low
    low, high = np.where(flat, image.min(axes), low), np.where(flat, image.max(axes), high)
    scaled = np.clip((image - low) / np.where(high > low, high - low, 1), 0, 1)
    side = (math.prod(spatial) / segments) ** (1 / len(spatial))
    compactness = COMPACTNESS * math.sqrt(channels)
    for _ in range(4):  # each round makes nearness ten times heavier; the last is a grid
        labels = slic(
            scaled,
            n_segments=segments,
            compactness=compactness,
            sigma=side / 16,
            channel_axis=-1,
            convert2lab=False,
            start_label=0,
        )
        if labels.max() + 1 >= segments / 2:
            break
        compactness *= 10
    return np.unique(labels, return_inverse=True)[1].reshape(spatial).astype(np.int64)


SIDE = {2: 224, 3: 48}
"""Positions per axis of the grid on which overlapping regions are found, in images and in volumes."""
SCALES = (50, 100, 150, 250, 500, 1200)
"""Scales of Felzenszwalb's algorithm, from small to large regions."""
COUNTS = (25, 50, 100, 200)
"""Numbers of supervoxels, for volumes, which Felzenszwalb's algorithm does not cut."""
GROWTH = 5 / 224
"""By how much every region grows on all sides, as a share of the grid's side, so that it holds its own edge."""


def overlapping_regions(image: Tensor) -> tuple[list[NDArray[np.intp]], tuple[int, ...]]:
    """Cut one image ``(C, *spatial)`` into regions of several sizes, each with its edge; regions overlap.

    Returns:
        The flat positions of every region, and the shape of the grid they lie in: that of :data:`SIDE`, whatever the
        image's size.
    """
    dims = image.ndim - 1
    grid = (SIDE[dims],) * dims
    low, high = (part.cpu().view(-1, *[1] * dims) for part in image.detach().float().flatten(1).aminmax(dim=1))
    scaled = (image.detach().float().cpu() - low) / (high - low).clamp(min=1e-12) * 2 - 1
    small = F.interpolate(scaled[None], grid, mode="bilinear" if dims == 2 else "trilinear", antialias=dims == 2)
    if dims == 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # more than three channels are meant
            cuts = [
                felzenszwalb(small[0].movedim(0, -1).numpy(), scale, sigma=0.8, min_size=150, channel_axis=-1)
                for scale in SCALES
            ]
    else:
        cuts = [superpixels(small, count)[0].numpy() for count in COUNTS]
    return [region for cut in cuts for region in _grown(cut, max(1, round(GROWTH * SIDE[dims])))], grid


def _grown(labels: NDArray[np.int64], radius: int) -> Iterator[NDArray[np.intp]]:
    """Yield the flat positions of every label ``0 .. max``, grown by all that is within ``radius``."""
    where = np.arange(labels.size).reshape(labels.shape)
    for label, box in enumerate(ndimage.find_objects(labels + 1)):
        wide = tuple(slice(max(side.start - radius, 0), side.stop + radius) for side in box)
        yield where[wide][ndimage.distance_transform_edt(labels[wide] != label) <= radius]
