"""Changed copies of images, explained in batches, and whether the model still decides the same about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least, which
from runners.measures.common import ExplainAgain
from runners.models import Place, captured, run
from runners.registry import Progress, Score
from runners.targets import marked, primary, resolve
from taxonomy.errors import ModelError, TargetError

SAME_MARKED = 0.9
"""From this Dice on two segmentations are the same decision."""
SAME_SCORE = 0.1
"""Up to this relative change a score is the same, where the model decides nothing (regression, boxes)."""

Make = Callable[[int], Tensor]
"""Number of a copy to that copy of all images ``(B, C, *spatial)``; asked in order."""


@dataclass(frozen=True)
class Seen:
    """Images with their maps and what the model says of them.

    Attributes:
        x: ``(N, C, *spatial)``.
        maps: ``(N, pixels)``, float64.
        outputs: ``(N, K)``, all outputs in a row; the explained score alone where the model returns boxes.
        decision: label ``(N,)``, label map ``(N, *spatial)`` or, where nothing is decided, the score ``(N,)``.
        features: ``(N, F)`` at the place that was asked for.
    """

    x: Tensor
    maps: Tensor
    outputs: Tensor
    decision: Tensor
    features: Tensor | None = None

    def of(self, rows: Tensor) -> Seen:
        """Return the images that ``rows`` ``(N,)`` name."""
        features = None if self.features is None else self.features[rows]
        return Seen(self.x[rows], self.maps[rows], self.outputs[rows], self.decision[rows], features)


def owned(score: Score, owners: Tensor) -> Score:
    """Return the score of copies, whose images are ``owners`` ``(N,)``."""
    return lambda outputs, rows: score(outputs, owners[rows.to(owners.device)])


@torch.no_grad()
def ask(model: nn.Module, x: Tensor, score: Score, task: str | None, place: Place | None = None) -> Seen:
    """Return what the model says of the images ``(B, C, *spatial)``, with its features at a place; without maps."""
    return _ask(model, x, score, torch.arange(len(x)), task, place)[0]


def _ask(
    model: nn.Module, x: Tensor, score: Score, rows: Tensor, task: str | None, place: Place | None
) -> tuple[Seen, Any]:
    features = None
    if place is None:
        outputs = run(model, x.clone())
    else:
        with captured(model, place) as kept:
            outputs = run(model, x.clone())
        features = place.fold(kept[-1]).flatten(1).double()
    scores = score(outputs, rows)
    flat = scores[:, None] if task == "detection" else primary(outputs).flatten(1)
    return Seen(x, x.new_zeros(len(x), 0), flat.double(), decided(outputs, scores, task, x), features), outputs


def decided(outputs: Any, scores: Tensor, task: str | None, x: Tensor) -> Tensor:
    """Return what the model decides on ``x``: a label, a label map, or, where it decides nothing, its score."""
    if task not in ("classification", "segmentation"):
        return scores
    try:
        output = primary(outputs)
    except ModelError:  # only a function of the user's can read them
        return scores
    if task == "segmentation":
        return F.interpolate(marked(output)[:, None].float(), size=x.shape[2:], mode="nearest-exact")[:, 0].long()
    one = output.flatten(1).shape[1] == 1
    return (output.flatten(1)[:, 0] > 0).long() if one else output.argmax(1)


def same(decision: Tensor, other: Tensor) -> Tensor:
    """Say of decisions ``(N, ...)`` whether they are the same, bool ``(N,)``.

    Labels must be equal; label maps overlap with a Dice of at least :data:`SAME_MARKED` over all structures; scores
    differ by at most :data:`SAME_SCORE` of the first.
    """
    if decision.is_floating_point():
        return (decision - other).abs() <= SAME_SCORE * decision.abs()
    if decision.ndim == 1:
        return decision == other
    a, b = decision.flatten(1), other.flatten(1)
    common, total = ((a == b) & (a > 0)).sum(1), (a > 0).sum(1) + (b > 0).sum(1)
    return 2 * common >= SAME_MARKED * total


def explained(
    model: nn.Module,
    x: Tensor,
    score: Score,
    make: Make,
    count: int,
    *,
    own: Tensor,
    task: str | None,
    explain_again: ExplainAgain,
    batch_size: int,
    progress: Progress,
    place: Place | None = None,
    undo: Callable[[int, Tensor], Tensor] | None = None,
    about_decision: bool = False,
) -> Iterator[tuple[Tensor, Seen, Tensor]]:
    """Explain copies of images, several at a time.

    Args:
        model: Network in eval mode.
        x: Images ``(B, C, *spatial)``.
        score: One number per output row.
        make: Makes the copies.
        count: Number of copies of every image.
        own: What the model decides on the images, see :func:`ask`.
        task: The model's task.
        explain_again: Repeats the explanation.
        batch_size: Copies per explanation, at least one of every image.
        progress: Told the copies explained.
        place: Where features are read.
        undo: Number of a copy and its label maps ``(B, *spatial)`` to those without what the copy did to the places.
        about_decision: Where the model decides otherwise on a copy, explain what it decides there.

    Yields:
        Owners ``(k * B,)``, what was seen of these copies, and whether the decision held ``(k, B)``.
    """
    at_least(1, batch_size=batch_size)
    images = len(x)
    step = max(1, batch_size // images)
    for start in range(0, count, step):
        numbers = range(start, min(start + step, count))
        copies = torch.cat([make(number) for number in numbers])
        owners = torch.arange(images, device=x.device).repeat(len(numbers))
        with torch.no_grad():
            seen, outputs = _ask(model, copies, score, owners, task, place)

        def back(found: Tensor, numbers: range = numbers) -> Tensor:
            if undo is None or found.ndim == 1:
                return found
            return torch.cat([undo(n, part) for n, part in zip(numbers, torch.split(found, images), strict=True)])

        held = same(own[owners.to(own.device)], back(seen.decision)).to(x.device)
        about = owned(score, owners)
        if about_decision and task in ("classification", "segmentation"):
            about = _mixed(about, resolve(None, outputs, copies, task).score, held)
        maps = explain_again(copies, score=about).to(x.device).flatten(1).double()
        yield owners, Seen(copies, maps, seen.outputs, seen.decision, seen.features), held.view(-1, images)
        progress(numbers[-1] + 1, count)


def _mixed(usual: Score, new: Score, held: Tensor) -> Score:
    """Return the usual score where the decision held, the score of the new decision elsewhere."""

    def score(outputs: Any, rows: Tensor) -> Tensor:
        kept = held[rows.to(held.device)]
        return torch.where(kept, usual(outputs, rows), new(outputs, rows))

    return score


def noisy(x: Tensor, radius: float, generator: torch.Generator) -> Make:
    """Return what makes copies under uniform noise.

    Args:
        x: Images ``(B, C, *spatial)``.
        radius: Half-width of the noise as a share of each channel's range (largest minus smallest value).
        generator: Draws the noise; all images get the same draw, scaled by their own range.

    Raises:
        TargetError: ``radius`` is not above 0.
    """
    above_zero(radius=radius)
    reach = radius * spread(x)
    return lambda _number: x + reach * (torch.rand(x.shape[1:], generator=generator) * 2 - 1).to(x)


def above_zero(**given: float) -> None:
    """Raise a TargetError unless every named number is above 0."""
    for name, number in given.items():
        if not number > 0:
            raise TargetError(f"{name} = {number}: it must be above 0.")


def spread(x: Tensor) -> Tensor:
    """Return the range of every channel, ``(B, C, 1, ...)``."""
    axes = tuple(range(2, x.ndim))
    return x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True)


def moved(x: Tensor, by: int, axis: int, beyond: Tensor) -> Tensor:
    """Return ``x`` shifted along an axis by ``by`` pixels; what comes in is taken from ``beyond``, like ``x``."""
    length = x.shape[axis]
    by = max(-length, min(by, length))
    if by == 0:
        return x
    kept = x.narrow(axis, 0 if by > 0 else -by, length - abs(by))
    new = beyond.narrow(axis, 0 if by > 0 else length + by, abs(by))
    return torch.cat([new, kept] if by > 0 else [kept, new], axis)


def otherwise(held: Tensor) -> tuple[str, ...]:
    """Return a note for every image on some of whose copies ``(count, B)`` the model decides otherwise."""
    changed = (~held).sum(0).tolist()
    return tuple(
        f"{which(i, len(changed))}the model decides otherwise on {n} of {len(held)} copies."
        for i, n in enumerate(changed)
        if n
    )
