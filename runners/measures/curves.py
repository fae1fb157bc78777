"""Courses: the scores of a model while an image is taken apart, or put together, in the order of a map.

What is removed at a time are pixels, patches of a grid or superpixels; a metric is an area under the course.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from runners.asking import ask
from runners.baselines import Fill
from runners.registry import Progress, Score
from runners.superpixels import superpixels


@dataclass(frozen=True)
class Order:
    """In which order an image is taken apart.

    Attributes:
        rank: ``(B, P)``, the place of every pixel, that of its group; 0 goes first, equal values in random order.
        counts: ``(B,)`` on the CPU, the number of groups.
        groups: what a group is, in words.
    """

    rank: Tensor
    counts: Tensor
    groups: str

    def reversed(self) -> Order:
        """Return the opposite order."""
        return replace(self, rank=self.counts.to(self.rank.device)[:, None] - 1 - self.rank)


def by_pixel(values: Tensor, generator: torch.Generator) -> Order:
    """Order single pixels by their signed value, largest first.

    Args:
        values: Maps ``(B, *spatial)``.
        generator: Orders pixels of equal value; the same order for all images.
    """
    flat = values.flatten(1)
    return Order(_ranks(flat, generator, flat.shape[1]), torch.full((len(flat),), flat.shape[1]), "pixels")


def by_patch(values: Tensor, patches: int, generator: torch.Generator) -> Order:
    """Order the patches of a grid by the sum of their values, largest first.

    Patches have the same side on all axes and lie around the centre; those at the border may be cut.

    Args:
        values: Maps ``(B, *spatial)``.
        patches: Wanted number of patches.
        generator: As in :func:`by_pixel`.
    """
    spatial = values.shape[1:]
    side = max(1, round((math.prod(spatial) / patches) ** (1 / len(spatial))))
    label = torch.zeros((), dtype=torch.long)
    for length in spatial:
        number = math.ceil(length / side)
        at = (torch.arange(length) + (number * side - length) // 2) // side
        label = label[..., None] * number + at
    label = label.flatten().to(values.device).expand(len(values), -1)
    rank, counts = _grouped(label, values, generator, mean=False)
    return Order(rank, counts, f"patches of {'×'.join([str(side)] * len(spatial))}")


def by_segment(values: Tensor, x: Tensor, segments: int, generator: torch.Generator) -> Order:
    """Order superpixels (supervoxels) by the mean of their values, largest first.

    Args:
        values: Maps ``(B, *spatial)``.
        x: Images ``(B, C, *spatial)``.
        segments: Wanted number of superpixels.
        generator: As in :func:`by_pixel`.
    """
    label = superpixels(x, segments).flatten(1).to(values.device)
    rank, counts = _grouped(label, values, generator, mean=True)
    return Order(rank, counts, f"{', '.join(map(str, counts.tolist()))} superpixels")


def _grouped(label: Tensor, values: Tensor, generator: torch.Generator, *, mean: bool) -> tuple[Tensor, Tensor]:
    """Return the rank of every pixel's group ``(B, P)`` and the number of groups ``(B,)`` of labels ``(B, P)``."""
    counts = label.amax(1) + 1
    flat = values.flatten(1).double()
    total = flat.new_zeros(len(flat), int(counts.max())).scatter_add_(1, label, flat)
    if mean:
        total /= torch.zeros_like(total).scatter_add_(1, label, torch.ones_like(flat)).clamp_min(1)
    absent = torch.arange(total.shape[1], device=total.device) >= counts[:, None]
    rank = _ranks(total.masked_fill(absent, -torch.inf), generator, flat.shape[1])
    return rank.gather(1, label), counts.cpu()


def _ranks(values: Tensor, generator: torch.Generator, pixels: int) -> Tensor:
    """Return the places of ``values`` ``(B, N)``, largest first, equal ones shuffled alike whatever else is there."""
    shuffle = torch.randperm(pixels, generator=generator)
    shuffle = shuffle[shuffle < values.shape[1]].to(values.device)
    order = shuffle[torch.argsort(values[:, shuffle], dim=1, descending=True, stable=True)]
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def even_stops(order: Order, steps: int) -> Tensor:
    """Return how many groups are gone after each of so many equal steps, ``(B, steps + 1)``; none at the first."""
    return (torch.linspace(0, 1, steps + 1, dtype=torch.float64) * order.counts[:, None]).round().long()


@torch.no_grad()
def course(
    model: Callable[[Tensor], Any],
    x: Tensor,
    score: Score,
    order: Order,
    stops: Tensor,
    fill: Fill,
    batch_size: int,
    progress: Progress,
    *,
    insert: bool = False,
) -> Tensor:
    """Return the scores while groups go, or come.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        order: In which order groups go.
        stops: ``(B, K)`` on the CPU, how many are gone (there) at each point; equal neighbours are asked once.
        fill: Puts the image and its replacement together.
        batch_size: Changed images per model call.
        progress: Told the model rows done.
        insert: Groups come instead of going.

    Returns:
        ``(B, K)``, float64 on the device of the scores.
    """
    rank = order.rank.to(x.device)
    fresh = torch.ones_like(stops, dtype=torch.bool)
    fresh[:, 1:] = stops.diff(dim=1) != 0
    rows, gone = fresh.nonzero()[:, 0], stops[fresh]

    def keep(jobs: Tensor) -> Tensor:
        early = rank[rows[jobs].to(x.device)] < gone[jobs].to(x.device)[:, None]
        return (early if insert else ~early).view(-1, *x.shape[2:])

    asked = ask(model, x, fill, score, rows, keep, batch_size, progress)
    answers = torch.cat([scores for *_, scores in asked]).double()
    return answers[(fresh.flatten().cumsum(0) - 1).to(answers.device)].view(stops.shape)


def both_ways(
    model: Callable[[Tensor], Any],
    x: Tensor,
    score: Score,
    order: Order,
    steps: int,
    fill: Fill,
    batch_size: int,
    progress: Progress,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the courses with the most and with the least relevant first, and the share that is gone.

    The arguments are those of :func:`course`. Both courses begin and end alike; that is asked once.

    Returns:
        Three tensors ``(B, steps + 1)``.
    """
    stops = even_stops(order, steps)
    inner, total = stops[:, 1:-1], stops.numel() + stops[:, 1:-1].numel()
    most = course(model, x, score, order, stops, fill, batch_size, further(progress, 0, total))
    least = most.clone()
    if steps > 1:
        told = further(progress, stops.numel(), total)
        least[:, 1:-1] = course(model, x, score, order.reversed(), inner, fill, batch_size, told)
    progress(total, total)
    return most, least, (stops / order.counts[:, None]).to(most)


def further(progress: Progress, before: int, total: int) -> Progress:
    """Return the progress of a part of the work, for a part that begins after ``before`` of ``total``."""
    return lambda done, _: progress(before + done, total)


def area(curve: Tensor, share: Tensor) -> Tensor:
    """Return the area under curves ``(B, K)`` over shares from 0 to 1."""
    found: Tensor = torch.trapezoid(curve, share, dim=1)
    return found
