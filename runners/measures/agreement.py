"""Agreement: do two methods say the same of an image? A comparison of two maps, so no metric of one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from runners.asking import correlation
from runners.measures.common import ranks, ssim
from taxonomy.errors import ImageError


@dataclass(frozen=True)
class Agreement:
    """How alike two maps are, image by image.

    Attributes:
        rank: Spearman's rank correlation ``(B,)`` in [-1, 1]; NaN where a map is constant.
        ssim: structural similarity ``(B,)`` in [-1, 1], each map divided by its largest magnitude; NaN where one is all
            zero.
    """

    rank: Tensor
    ssim: Tensor


def agreement(a: Tensor, b: Tensor, *, absolute: bool = False) -> Agreement:
    """Compare two maps of the same images.

    Args:
        a: maps ``(B, *spatial)``, 2D or 3D.
        b: maps of the same shape.
        absolute: compare magnitudes: a map that only changes its sign is the same then.

    Returns:
        Rank correlation and structural similarity, float64.

    Raises:
        ImageError: the maps have different shapes.
    """
    if a.shape != b.shape or a.ndim not in (3, 4):
        raise ImageError(
            f"the maps have shapes {tuple(a.shape)} and {tuple(b.shape)}; both must be (B, H, W) or both (B, D, H, W)"
        )
    a, b = (t.double().abs() if absolute else t.double() for t in (a, b))
    rank = correlation(ranks(a.flatten(1)), ranks(b.flatten(1)))
    sizes = [t.flatten(1).abs().amax(1).view(-1, *[1] * (a.ndim - 1)) for t in (a, b)]
    first, second = a / sizes[0], b / sizes[1]
    lowest = torch.minimum(first.flatten(1).amin(1), second.flatten(1).amin(1))
    highest = torch.maximum(first.flatten(1).amax(1), second.flatten(1).amax(1))
    return Agreement(rank, ssim(first, second, highest - lowest))
