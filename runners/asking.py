"""Ask a model about changed images, a chunk at a time, and stop when the answers suffice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from runners.baselines import Fill
from runners.registry import Progress, Score
from taxonomy.errors import TargetError

Keep = Callable[[Tensor], Tensor]
"""Jobs ``(n,)`` to what stays of the image: ``(n, *spatial)``, bool or a share from 0 to 1."""
Part = tuple[int, int, int]
"""An image, its first sample that is still to ask, and the one after the last."""


def ask(
    model: Callable[[Tensor], Any],
    x: Tensor,
    fill: Fill,
    score: Score,
    rows: Tensor,
    keep: Keep,
    batch_size: int,
    progress: Progress,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Score images that are partly replaced, ``batch_size`` at a time.

    Not under ``torch.inference_mode``: a model that keeps a tensor from one call to the next (a grid of positions, the
    mask of shifted windows) could not be differentiated afterwards.

    Args:
        model: Network in eval mode, or a function of images.
        x: Images ``(B, C, *spatial)``.
        fill: Puts the image and its replacement together.
        score: One number per output row.
        rows: ``(N,)`` on the CPU, the image that each job changes.
        keep: What stays of the image in the given jobs.
        batch_size: Jobs per model call.
        progress: Told the jobs done.

    Yields:
        Jobs ``(n,)``, what was kept ``(n, *spatial)``, scores ``(n,)``.
    """
    for jobs in torch.split(torch.arange(len(rows)), batch_size):
        row = rows[jobs].to(x.device)
        kept = keep(jobs)
        yield jobs, kept, score(model(fill(row, kept)), row).detach()
        progress(int(jobs[-1]) + 1, len(rows))


def looks(total: int, tolerance: float, least: int, step: int = 1) -> list[int]:
    """Return after how many samples an image's error is looked at: ``least``, each time a third more, and at the end.

    Args:
        total: The whole budget.
        tolerance: 0 looks at the end only.
        least: Samples before the first look.
        step: Numbers in between are ``least`` plus multiples of it.
    """
    found = []
    at = least
    while tolerance > 0 and at < total:
        found.append(at)
        at += max(1, round(at / 3 / step)) * step
    return [*found, total]


def settle(
    stops: Sequence[Sequence[int]],
    go: Callable[[list[Part]], None],
    look: Callable[[int, int], float],
    tolerance: float,
) -> tuple[list[int], list[float]]:
    """Ask until the error of each image's map is small enough twice in a row; every image decides by itself.

    Once would not do: an error that is looked at often is low by chance at some time.

    Args:
        stops: Per image, after how many samples it is looked at (:func:`looks`).
        go: Asks the given parts of the samples.
        look: Image and number of its samples asked to the error of its map.
        tolerance: Error at which an image needs no more.

    Returns:
        Per image, the samples asked and the last error.
    """
    used, errors = [0] * len(stops), [math.nan] * len(stops)
    active = list(range(len(stops)))
    for turn in range(max(map(len, stops))):
        go([(i, used[i], stops[i][turn]) for i in active])
        before = list(errors)
        for i in active:
            used[i] = stops[i][turn]
            errors[i] = look(i, used[i])
        settled = [max(errors[i], before[i]) <= tolerance if turn else False for i in range(len(stops))]
        active = [i for i in active if turn + 1 < len(stops[i]) and not settled[i]]
        if not active:
            break
    return used, errors


GROUPS = 8
"""Groups of samples that are left out in turn to estimate the error of a map."""


def jackknife_error(without: Sequence[Tensor], whole: Tensor) -> float:
    """Return the standard error of a map, of its largest value, from its estimates without each group of samples."""
    largest = float(whole.abs().max())
    parts = torch.stack(list(without))
    variance = (len(parts) - 1) * parts.var(0, correction=0).mean()
    return float(variance.sqrt()) / largest if largest > 0 else math.nan


def settled_note(used: Sequence[int], stops: Sequence[Sequence[int]], errors: Sequence[float], what: str) -> str:
    """Return the sentence about early stopping."""
    told = ", ".join(
        f"{error:.1%} after {n} of {stop[-1]} {what}" for n, stop, error in zip(used, stops, errors, strict=True)
    )
    return f"Estimated error of the map, as a share of its largest value: {told}."


def at_least(least: float, **given: float) -> None:
    """Raise a TargetError unless every named number reaches ``least``."""
    for name, number in given.items():
        if not number >= least:
            raise TargetError(f"{name} = {number}: it must be at least {least}.")


def which(image: int, images: int) -> str:
    """Return the words that name an image of a batch in a message; none when there is only one."""
    return f"image {image + 1}: " if images > 1 else ""


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's r of the rows of ``a`` and ``b`` ``(B, N)``; NaN where a row is constant."""
    a, b = (t - t.mean(1, keepdim=True) for t in (a, b))
    r: Tensor = torch.linalg.vecdot(a, b) / (torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1))
    return r


def unmoved(scores: Sequence[Tensor] | Tensor) -> tuple[str, ...]:
    """Return a caution for every image whose scores ``(n,)`` are all alike."""
    return tuple(
        f"{which(i, len(scores))}the score did not change under any perturbation, so the map is empty."
        for i, answers in enumerate(scores)
        if answers.min() == answers.max()
    )


def repeatable(generator: torch.Generator) -> Callable[[], torch.Generator]:
    """Return a source of generators that all begin alike: every image gets the draws it would get alone."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return lambda: torch.Generator().manual_seed(seed)
