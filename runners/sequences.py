"""Which input channel mattered: MR sequences, energies, stains, frames stacked as channels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runners.asking import ask
from runners.baselines import baseline as content
from runners.models import as_input, preserved, run, unwrap
from runners.registry import Progress, Score, no_progress, seeded
from runners.targets import Target, resolve
from taxonomy.errors import TargetError

MOST = 10
"""All coalitions of so many channels are asked at most: 1,024 images."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """What each input channel adds to the score.

    Attributes:
        values: Shapley values ``(B, C)``; they sum to the score of the image minus that of its baseline.
        target: what was explained, in words.
        order: channels of each image, the one of the largest magnitude first, ``(B, C)``.
    """

    values: Tensor
    target: str

    @property
    def order(self) -> Tensor:
        """Channels by magnitude."""
        return self.values.abs().argsort(dim=1, descending=True, stable=True)


def rank_channels(
    model: nn.Module,
    x: Any,
    target: Target = None,
    *,
    baseline: str = "mean",
    seed: int = 0,
    task: str | None = None,
    batch_size: int = 16,
    progress: Progress = no_progress,
) -> Ranking:
    """Rank the input channels by their exact Shapley values.

    Every coalition of channels is asked once, the others showing the baseline.

    Args:
        model: any model that takes one image tensor.
        x: ``(B, C, *spatial)``, 2 to 10 channels, or an ``Image`` when the model has a card.
        target: as in ``explain``.
        baseline: what an absent channel shows (:data:`runners.baselines.BASELINES`).
        seed: of the noise baseline.
        task: as in ``explain``.
        batch_size: images that go through the model at a time.
        progress: told the model rows done.

    Raises:
        TargetError: there is one channel only, or there are too many.
        ImageError, ModelError: the input does not fit or the model fails.
    """
    model, x = unwrap(model), as_input(model, x)
    with preserved(model, seed), torch.no_grad():
        resolved = resolve(target, run(model, x.clone()), x, task)
        values = channel_shapley(model, x, resolved.score, baseline, batch_size, progress, seeded(seed))
    return Ranking(values.float(), resolved.text)


def channel_shapley(
    model: Callable[[Tensor], Any],
    x: Tensor,
    score: Score,
    baseline: str,
    batch_size: int,
    progress: Progress,
    generator: torch.Generator,
) -> Tensor:
    """Return the exact Shapley value of every input channel, float64 ``(B, C)`` on the CPU.

    Args:
        model: network in eval mode.
        x: ``(B, C, *spatial)``, 2 to 10 channels.
        score: one number per output row.
        baseline: what an absent channel shows.
        batch_size: images that go through the model at a time.
        progress: told the model rows done.
        generator: of the noise baseline.

    Raises:
        TargetError: there is one channel only, or there are too many.
    """
    images, count = x.shape[:2]
    if not 2 <= count <= MOST:
        raise TargetError(f"the image has {count} channels; 2 to {MOST} can be ranked against each other")
    coalitions = coalitions_of(count)
    base = content(x, baseline, generator)

    def keep(jobs: Tensor) -> Tensor:
        return coalitions[jobs // images].to(x.device)

    def fill(rows: Tensor, kept: Tensor) -> Tensor:
        return torch.where(kept.view(*kept.shape, *[1] * (x.ndim - 2)), x[rows], base[rows])

    rows = torch.arange(len(coalitions) * images) % images
    with torch.no_grad():
        asked = ask(model, x, fill, score, rows, keep, batch_size, progress)
        scores = torch.cat([answers.double().cpu() for *_, answers in asked]).view(len(coalitions), images)
    return exact_shapley(scores)


def coalitions_of(count: int) -> Tensor:
    """Return every coalition of ``count`` parts, bool ``(2^count, count)``, in the order of :func:`exact_shapley`."""
    return torch.tensor(list(itertools.product((False, True), repeat=count))).view(-1, count)


def exact_shapley(scores: Tensor) -> Tensor:
    """Return the Shapley values ``(N, P)`` of scores ``(2^P, N)`` of every coalition (:func:`coalitions_of`)."""
    count = (len(scores) - 1).bit_length()
    coalitions = coalitions_of(count)
    values = torch.zeros(scores.shape[1], count, dtype=scores.dtype)
    sizes = coalitions.sum(1)
    for part in range(count):
        without = (~coalitions[:, part]).nonzero()[:, 0]
        joined = without + 2 ** (count - 1 - part)  # the same coalition with the part
        weight = torch.tensor(
            [1 / (count * math.comb(count - 1, int(size))) for size in sizes[without]], dtype=scores.dtype
        )
        values[:, part] = weight @ (scores[joined] - scores[without])
    return values
