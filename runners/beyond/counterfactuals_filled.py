"""The image without the finding: a region filled from its surroundings until the answer changes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from runners.asking import at_least
from runners.baselines import Fill, filling
from runners.beyond.drawing import NONE, Asked, ask_for, judged
from runners.checks import background
from runners.forms import Counterfactual
from runners.models import Wired
from runners.regions import placements
from runners.registry import Progress, Score, Told, insight
from runners.superpixels import superpixels


@insight("inpainting_counterfactual")
def inpainting_counterfactual(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    fill: str = "impute",
    segments: int = 80,
    most: float = 0.3,
    blend: int = 5,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    mask: Tensor | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Fill a region from its surroundings and ask the model again (arXiv 2004.01610).

    With a mask the region is the mask, faded out in steps. Without one, superpixels are filled one after the other,
    the one that helps most and touches the others, until the answer changes; those that need not be filled are given
    back. The same region is then filled at random other places: where that changes the answer as easily, nothing is
    special about the place.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        fill: How a region is filled: impute (smoothly continued, with the image's grain), inpaint (without it), blur,
            organ or mean.
        segments: Superpixels, where there is no mask.
        most: Largest share of the image that may be filled without a mask.
        blend: Steps in which a given mask fades out.
        batch_size: Images per model call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        mask: Region of interest, bool ``(*spatial)``, where there is one.
        generator: Draws grain and places.
        progress: Told what is done.

    Returns:
        The series from the image to the one without the region.
    """
    at_least(2, segments=segments, blend=blend)
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=None, batch_size=batch_size
    )
    put = filling(x, fill, generator)
    if mask is None:
        steps, note = _grown(asked, put, x, segments, most, progress)
        images = torch.cat([x, _filled(put, torch.stack(steps))])
        region = steps[-1]
    else:
        region = mask.to(x.device)
        note = f"Region: the given mask, {float(mask.double().mean()):.1%} of the image."
        places = torch.linspace(0, 1, blend + 1, device=x.device).view(-1, *[1] * (x.ndim - 1))
        images = torch.lerp(x, _filled(put, region[None]), places)
    scores, there = asked.look(images)
    valid = bool(there[-1])
    elsewhere, short = placements(region.cpu(), ~background(x)[0], generator)
    there_too, same = asked.look(_filled(put, elsewhere.to(x.device)))
    p = (int((there_too * asked.sign >= scores[-1] * asked.sign).sum()) + 1) / (len(elsewhere) + 1)
    measures = judged(x[0], images[-1], valid) | {
        "share of the image that was filled": float(region.double().mean()),
        "share of random places where it changes the answer too": float(same.double().mean()),
        "p of the change of the score against random places": p,
    }
    said = [
        "A filling is a guess from the surroundings, not what lies under the finding; its own look can move a model."
    ]
    if mask is None:
        said.append("The place was searched for, the random ones were not: a small p is to be expected.")
    if not valid:
        said.insert(0, NONE)
    if float(same.double().mean()) > 0.25:
        said.insert(0, "Filling other places changes the answer as well: the model may react to the filling itself.")
    notes = (asked.wanted(), note, f"Filled by {fill}; compared with {len(elsewhere)} random places.", *short)
    return Told(Counterfactual(images, scores, 0, len(images) - 1, x[0], measures), notes, tuple(said))


def _filled(put: Fill, regions: Tensor) -> Tensor:
    """Return the image with each region, bool ``(n, *spatial)``, filled, ``(n, C, *spatial)``."""
    return put(torch.zeros(len(regions), dtype=torch.long, device=regions.device), ~regions)


def _grown(
    asked: Asked, put: Fill, x: Tensor, segments: int, most: float, progress: Progress
) -> tuple[list[Tensor], str]:
    """Return the growing region, bool ``(*spatial)`` each, and a note."""
    labels = superpixels(x, segments)[0]
    count = int(labels.max()) + 1
    touching = _touching(labels.cpu().numpy(), count)
    taken: list[int] = []
    steps: list[Tensor] = []
    region = torch.zeros_like(labels, dtype=torch.bool)
    largest = most * labels.numel()
    reached = False
    while not reached:
        near = {b for a in taken for b in touching[a]} if taken else set(range(count))
        choices = [one for one in sorted(near - set(taken)) if int((region | (labels == one)).sum()) <= largest]
        if not choices:
            break
        tried = torch.stack([region | (labels == one) for one in choices])
        with torch.no_grad():
            far = [asked.towards(_filled(put, part)) for part in torch.split(tried, asked.batch_size)]
        best = int(torch.cat(far).argmin())
        taken.append(choices[best])
        region = tried[best]
        steps.append(region)
        reached = bool(asked.look(_filled(put, region[None]))[1][0])
        progress(int(region.sum()), int(largest) + 1)
    if reached:
        for one in list(taken):
            without = region & (labels != one)
            if without.any() and bool(asked.look(_filled(put, without[None]))[1][0]):
                region = without
                taken.remove(one)
        if not torch.equal(region, steps[-1]):
            steps.append(region)
    progress(int(largest) + 1, int(largest) + 1)
    return steps, f"Region: {len(taken)} of {count} superpixels, found by the model's answer."


def _touching(grid: NDArray[np.int64], count: int) -> list[set[int]]:
    """Return which labels touch each."""
    found: list[set[int]] = [set() for _ in range(count)]
    for axis in range(grid.ndim):
        a, b = np.delete(grid, -1, axis), np.delete(grid, 0, axis)
        for one, other in np.unique(np.stack([a[a != b], b[a != b]]), axis=1).T.tolist():
            found[one].add(other)
            found[other].add(one)
    return found
