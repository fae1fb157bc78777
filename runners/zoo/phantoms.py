"""Physically motivated pictures with exact masks: a breast ultrasound phantom, and lesions put into real ultrasound.

A lesion lowers the echo inside its contour, and what lies below it is darkened (posterior shadow) or, behind fluid,
brightened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

GREY_PER_DB = 255 / 55
"""Grey levels per decibel at a dynamic range of 55 dB."""


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Return a random number between ``low`` and ``high``."""
    return low + (high - low) * float(torch.rand((), generator=generator))


@lru_cache(maxsize=128)
def _smoothing(count: int, width: float) -> Tensor:
    """Return the matrix ``(count, count)`` that blurs a line of pixels, its ends replicated."""
    reach = min(math.ceil(3 * width), count - 1)
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = (-(steps**2) / (2 * width**2)).exp()
    kernel = kernel / kernel.sum()
    rows = torch.arange(count)[:, None]
    columns = (rows + steps.long()).clamp(0, count - 1)
    return torch.zeros(count, count).index_put_((rows, columns), kernel.expand(count, -1), accumulate=True)


def blur(values: Tensor, sigma: Sequence[float]) -> Tensor:
    """Return ``(*spatial)`` convolved with a Gaussian of ``sigma`` pixels per axis, borders replicated."""
    for axis, width in enumerate(sigma):
        # by matrices: for pictures of a few hundred pixels a side faster than a convolution with one channel
        values = (values.movedim(axis, -1) @ _smoothing(values.shape[axis], width).T).movedim(-1, axis)
    return values


def contour(size: tuple[int, int], irregular: float, generator: torch.Generator) -> Tensor:
    """Return a random lesion outline as a boolean ``(H, W)`` map.

    Args:
        size: Height and width in pixels.
        irregular: 0 for a smooth oval that lies wider than tall, 1 for a lobed, spiculated one that may stand upright.
        generator: Source of randomness.
    """
    height, width = size
    half_width = uniform(0.06, 0.24, generator) * width
    half_height = half_width * uniform(0.45, 0.8 + 0.5 * irregular, generator)
    half_height = min(half_height, 0.34 * height)
    down = torch.arange(height, dtype=torch.float32)[:, None] - uniform(0.22, 0.68, generator) * height
    right = torch.arange(width, dtype=torch.float32)[None] - uniform(0.2, 0.8, generator) * width
    tilt = uniform(-0.4, 0.4, generator)
    along = (right * math.cos(tilt) + down * math.sin(tilt)) / half_width
    across = (down * math.cos(tilt) - right * math.sin(tilt)) / half_height
    angle = torch.atan2(across, along)
    edge = torch.ones_like(angle)
    for waves in range(2, 10):
        strength = (0.03 + 0.22 * irregular) * uniform(0, 1, generator) / math.sqrt(waves)
        edge += strength * torch.cos(waves * angle + uniform(0, 2 * math.pi, generator))
    return (along**2 + across**2).sqrt() < edge


def below(mask: Tensor) -> Tensor:
    """Return how much of the lesion lies above each point, as a share of the image height."""
    return mask.float().cumsum(0) * ~mask / len(mask)


def insert_lesion(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put a hypoechoic lesion into a B-mode picture.

    Args:
        image: ``(H, W)`` grey levels, 0 to 255.
        generator: Source of randomness.

    Returns:
        The picture ``(H, W)``, 0 to 255, and the lesion's boolean mask.
    """
    size = (image.shape[0], image.shape[1])
    irregular = uniform(0, 1, generator)
    mask = contour(size, irregular, generator)
    soft = blur(mask.float(), (uniform(0.5, 1 + 2 * irregular, generator) * size[0] / 256,) * 2)
    local = blur(image, (size[0] / 40, size[1] / 40))
    level = float(image[mask].median()) if mask.any() else 0.0
    dark = max(level - uniform(6, 22, generator) * GREY_PER_DB / 2, uniform(2, 30, generator))
    dark = min(dark, 0.75 * level)
    clumps = blur(torch.randn(size, generator=generator), (size[0] / 50, size[1] / 40))
    texture = uniform(0.3, 0.9, generator) * (image - local) + uniform(0, 12, generator) * clumps / clumps.std()
    inside = dark + (texture * min(1.0, dark / 40))
    path = blur(below(mask), (1.0, size[1] / 60))
    fade = uniform(-1.2, 0.8, generator) if irregular < 0.5 else uniform(-0.4, 2.0, generator)
    depth = torch.linspace(0, 1, size[0])[:, None]
    behind = image * (1 - fade * (5 * path).clamp(max=0.75) * (1 - 0.4 * depth))
    rim = (blur(mask.float(), (size[0] / 60, size[1] / 60)) - soft).clamp(0, 1)
    around = behind + uniform(-20, 70, generator) * rim
    return (soft * inside + (1 - soft) * around).clamp(0, 255), mask


def speckle(size: tuple[int, int], generator: torch.Generator, grain: float = 1.0) -> Tensor:
    """Return the envelope ``(H, W)`` of fully developed speckle: Rayleigh distributed, with mode 1.

    Complex Gaussian scatterers are blurred by a point spread that widens with depth.

    Args:
        size: Height and width in pixels.
        generator: Source of randomness.
        grain: Size of the point spread, 1 for pictures of about 256 pixels a side.
    """
    depth = torch.linspace(0, 1, size[0])[:, None].expand(size)
    parts = []
    for _ in range(2):
        noise = torch.randn(size, generator=generator)
        near, far = blur(noise, (0.9 * grain, 1.8 * grain)), blur(noise, (1.1 * grain, 3.4 * grain))
        parts.append((1 - depth) * near / near.std() + depth * far / far.std())
    return (parts[0] ** 2 + parts[1] ** 2).sqrt()


def compressed(envelope: Tensor) -> Tensor:
    """Return the log-compressed grey levels, whole numbers from 0 to 255, of an echo's envelope."""
    return (255 + GREY_PER_DB * (20 * envelope.clamp_min(1e-6).log10() - 8)).clamp(0, 255).round()


def breast_tissue(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return the echo strength ``(H, W)`` in decibel of skin, fat with septa, gland and muscle in wavy layers."""
    height, width = size
    depth = torch.linspace(0, 1, height)[:, None].expand(size)
    across = torch.linspace(0, 1, width)[None].expand(size)

    def wavy(level: float) -> Tensor:
        line = torch.full_like(across, level)
        for waves in range(1, 5):
            phase = uniform(0, 2 * math.pi, generator)
            line = line + 0.025 / waves * torch.cos(2 * math.pi * waves * uniform(0.5, 1, generator) * across + phase)
        return line

    gland, muscle = wavy(uniform(0.22, 0.32, generator)), wavy(uniform(0.72, 0.8, generator))
    strands = blur(torch.randn(size, generator=generator), (height / 150, width / 25))
    strands = strands / strands.std()
    decibel = torch.where(depth < gland, -15 + 9 * (strands - 0.7).relu(), -7 + 4 * strands)
    decibel = torch.where(depth > muscle, -12 + 6 * strands, decibel)
    return torch.where(depth < 0.035, torch.tensor(2.0), decibel)


def breast_phantom(seed: int, size: tuple[int, int] = (256, 320), lesion: bool = True) -> tuple[Tensor, Tensor]:
    """Return a synthetic breast ultrasound picture and its lesion mask.

    Skin, fat with septa, glandular tissue and muscle lie in wavy layers of different echo strength; complex Gaussian
    scatterers are blurred by a point spread that widens with depth; their log-compressed envelope gives the speckle.

    Args:
        seed: The same seed gives the same picture, bit for bit.
        size: Height and width in pixels.
        lesion: Whether to put a hypoechoic, irregular lesion with a posterior shadow into it.

    Returns:
        Grey levels ``(H, W)`` of whole numbers from 0 to 255 and a boolean mask ``(H, W)``.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    depth = torch.linspace(0, 1, height)[:, None].expand(size)
    decibel = breast_tissue(size, generator)
    mask = torch.zeros(size, dtype=torch.bool)
    if lesion:
        mask = contour(size, uniform(0.4, 0.9, generator), generator)
        soft = blur(mask.float(), (1.0, 1.5))
        decibel = soft * uniform(-32, -25, generator) + (1 - soft) * decibel
        shadow = blur(below(mask), (1.0, width / 60))
        decibel = decibel - uniform(30, 60, generator) * shadow
    decibel = decibel - 6 * depth
    grey = compressed(speckle(size, generator) * 10 ** (decibel / 20))
    return grey, mask


def nuclei_phantom(seed: int, size: tuple[int, int] = (256, 256), count: int = 28) -> tuple[Tensor, Tensor]:
    """Return a synthetic fluorescence picture of cell nuclei and their mask.

    Ellipses with a mottled dye are blurred by the optics and counted as photons over a dim background.

    Args:
        seed: The same seed gives the same picture, bit for bit.
        size: Height and width in pixels.
        count: How many nuclei to try to place; those that would overlap are left out.

    Returns:
        Grey levels ``(H, W)`` of whole numbers from 0 to 255 and a boolean mask ``(H, W)``.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    down = torch.arange(height, dtype=torch.float32)[:, None]
    right = torch.arange(width, dtype=torch.float32)[None]
    mask = torch.zeros(size, dtype=torch.bool)
    light = torch.zeros(size)
    for _ in range(count):
        row, column = uniform(0, height, generator), uniform(0, width, generator)
        long = uniform(0.035, 0.06, generator) * min(size)
        short = long * uniform(0.6, 0.95, generator)
        turn = uniform(0, math.pi, generator)
        along = (right - column) * math.cos(turn) + (down - row) * math.sin(turn)
        across = (down - row) * math.cos(turn) - (right - column) * math.sin(turn)
        distance = (along / long) ** 2 + (across / short) ** 2
        brightness = uniform(0.4, 1, generator)
        if (mask & (distance < 1.6)).any():
            continue
        mask |= distance < 1
        light += brightness * (distance < 1)
    mottle = blur(torch.randn(size, generator=generator), (2.5, 2.5))
    light = blur(light * (1 + 0.15 * mottle / mottle.std()).clamp_min(0.2), (1.0, 1.0))
    photons = torch.poisson(120 * light.clamp_min(0) + 8, generator=generator)
    return (photons * 255 / 200).clamp(0, 255).round(), mask
