"""Agreement: do two methods say the same of an image? A comparison of two maps, so no metric of one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from runners.asking import correlation
from runners.measures.common import ranks
from taxonomy.errors import ImageError

WINDOW = 7
"""Side of the window of the structural similarity, as in scikit-image; less where the image is thinner."""


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


def ssim(a: Tensor, b: Tensor, spread: Tensor) -> Tensor:
    """Return the mean structural similarity over all whole windows, with the sample covariance, as scikit-image.

    Args:
        a: float ``(B, *spatial)``.
        b: float ``(B, *spatial)``.
        spread: what lies between the lowest and the highest value that can be, ``(B,)``.
    """
    side = min(WINDOW, *a.shape[1:])
    side -= 1 - side % 2
    pool = F.avg_pool2d if a.ndim == 3 else F.avg_pool3d
    count = side ** (a.ndim - 1)

    def mean(t: Tensor) -> Tensor:
        return pool(t[:, None], side, stride=1)[:, 0]

    mean_a, mean_b = mean(a), mean(b)
    unbiased = count / (count - 1) if count > 1 else 1.0
    var_a, var_b = unbiased * (mean(a * a) - mean_a**2), unbiased * (mean(b * b) - mean_b**2)
    both = unbiased * (mean(a * b) - mean_a * mean_b)
    c1, c2 = ((k * spread.view(-1, *[1] * (a.ndim - 1))) ** 2 for k in (0.01, 0.03))
    alike = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return alike.flatten(1).mean(1)
