"""Superpixels and supervoxels: the regions that LIME and KernelSHAP switch on and off."""

from __future__ import annotations

import math

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor

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
