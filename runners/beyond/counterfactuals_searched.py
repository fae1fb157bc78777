"""Counterfactuals searched in the image itself, held to what a generator can draw: pertinent parts, prototypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from runners.asking import at_least
from runners.baselines import baseline as make_baseline
from runners.beyond.counterfactuals_drawn import codes_of
from runners.beyond.drawing import Asked, Drawn, ask_for, drawn, drawn_notes, told
from runners.models import Wired, upsample
from runners.owned import Autoencoder, Cohort
from runners.registry import Progress, Score, Told, insight
from taxonomy.errors import TargetError

THERE: Final = 0.02
"""Standard deviations of the image from which on something is there."""


@insight("cem_pertinent")
def cem_pertinent(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    absent: str = "black",
    cells: int = 20,
    beta: float = 0.1,
    gamma: float = 10.0,
    steps: int = 60,
    rounds: int = 5,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    autoencoder: Autoencoder,
    cohort: Cohort | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Find what of the image suffices for the answer, and what must not be added to it (arXiv 1802.07623).

    Pertinent positive: the least of the image, beyond "nothing", that keeps the answer. Pertinent negative: the least
    addition, away from "nothing", that changes it. Both are sparse (elastic net) and held to what the generator draws.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        absent: What "nothing" is: black (additions are bright), white, mean, organ, blur or zero.
        cells: Cells per axis that are added or kept together; single pixels would make an adversarial pattern.
        beta: Weight of the mean absolute change.
        gamma: Weight of what the generator cannot draw of the change.
        steps: Steps of each round.
        rounds: Rounds, each with ten times the weight of the answer until it is reached.
        batch_size: Images per call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        autoencoder: The generator.
        cohort: Images to judge the drawn ones by, where there are some.
        generator: Draws the noise of some kinds of "nothing".
        progress: Told the steps done.

    Returns:
        Three images: the pertinent positive, the image, the image with the pertinent negative added.
    """
    at_least(1, steps=steps, rounds=rounds)
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=None, batch_size=batch_size
    )
    one = drawn(autoencoder, x, True, batch_size)
    nothing = make_baseline(x, absent, generator)
    room, width = x - nothing, float(x.std()) or 1.0
    away = torch.where(room >= 0, width, -width)
    seen = x if cohort is None else torch.cat([x, cohort.stack.to(x)])
    low, high = seen.amin(), seen.amax()
    grid = [min(cells, side) for side in x.shape[2:]]

    def more(amount: Tensor) -> Tensor:
        return (x + upsample(amount, tuple(x.shape[2:])) * away).clamp(low, high)

    def part(amount: Tensor) -> Tensor:
        return nothing + upsample(amount, tuple(x.shape[2:])) * room

    none = x.new_zeros(1, *grid)
    weights = (beta, gamma, steps, rounds)
    negative, _ = _elastic(asked, one, x, more, none, (0.0, torch.inf), weights, _half(progress, 0))
    positive, kept = _elastic(_Keeps(asked), one, nothing, part, none + 1, (0.0, 1.0), weights, _half(progress, 1))
    images = torch.stack([positive[0], x[0], negative[0]])
    share = float(((positive - nothing).abs() > THERE * width).any(1).double().mean())
    notes = (
        f"First image: what of it suffices for the answer, on {absent}; last: what must not be there as well.",
        f"The part that suffices takes {share:.1%} of the positions." if kept else "No part of it suffices.",
        *drawn_notes(one),
    )
    measures = {"validity of the part that suffices": float(kept), "share of positions that suffice": share}
    cautions = ["A part on an empty image is no image of this kind: the model may answer it for other reasons."]
    if bool(_Keeps(asked).look(nothing)[1][0]):
        cautions.insert(0, f"The model answers an image of nothing ({absent}) the same: choose another kind (absent).")
    return told(asked, images, 1, 2, one, cohort, notes, cautions, measures)


@insight("cf_proto")
def cf_proto(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    nearest: int = 5,
    beta: float = 0.1,
    gamma: float = 10.0,
    theta: float = 1.0,
    steps: int = 60,
    rounds: int = 5,
    frames: int = 7,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    autoencoder: Autoencoder,
    cohort: Cohort,
    progress: Progress,
) -> Told:
    """Search a near image with another answer, drawn to the prototype of cases with that answer (arXiv 1907.02584).

    The prototype is the mean code of the nearest cases of the cohort with the wanted answer.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        nearest: Cases that make the prototype.
        beta: Weight of the mean absolute change.
        gamma: Weight of what the generator cannot draw of the change.
        theta: Weight of the distance between code and prototype, 1 at the start.
        steps: Steps of each round.
        rounds: Rounds, each with ten times the weight of the answer until it is reached.
        frames: Images of the series from the image to the counterfactual.
        batch_size: Images per call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        autoencoder: The generator.
        cohort: Images like those the model learned from.
        progress: Told the steps done.

    Returns:
        The series from the image to the counterfactual.
    """
    at_least(1, steps=steps, rounds=rounds, nearest=nearest)
    at_least(2, frames=frames)
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=None, batch_size=batch_size
    )
    there = asked.look(cohort.stack)[1]
    if not there.any():
        raise TargetError(f"the cohort has no case for a prototype. {asked.wanted()} Give cases that it answers so")
    one = drawn(autoencoder, x, True, batch_size)
    codes = codes_of(autoencoder, Cohort(cohort.stack[there]), batch_size)
    near = (codes - one.code).norm(dim=1).argsort(stable=True)[:nearest]
    proto = codes[near].mean(0, keepdim=True)
    away = float((one.code - proto).square().sum()) or 1.0

    def pull(image: Tensor) -> Tensor:
        return theta * (autoencoder.encode(image) - proto).square().sum() / away

    width = float(x.std()) or 1.0
    made, _ = _elastic(
        asked,
        one,
        x,
        lambda change: x + change * width,
        torch.zeros_like(x),
        (-torch.inf, torch.inf),
        (beta, gamma, steps, rounds),
        progress,
        pull,
    )
    places = torch.linspace(0, 1, frames, device=x.device).view(-1, *[1] * (x.ndim - 1))
    images = torch.lerp(x, made, places)
    with torch.no_grad():
        left = float((autoencoder.encode(made) - proto).square().sum()) / away
    notes = (
        f"Prototype: of the {len(near)} nearest of {int(there.sum())} cases with the wanted answer.",
        *drawn_notes(one),
    )
    more = {"squared distance to the prototype, relative to the image's": left}
    return told(asked, images, 0, frames - 1, one, cohort, notes, (), more)


class _Keeps:
    """What is asked when the answer has to stay as it is."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def towards(self, images: Tensor) -> Tensor:
        """Return how far images are from the answer of the image itself."""
        return -self._asked.towards(images)

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores, and whether the answer is that of the image."""
        scores, there = self._asked.look(images)
        return scores, ~there


def _half(progress: Progress, part: int) -> Progress:
    return lambda done, total: progress(part * total + done, 2 * total)


def _elastic(
    asked: Asked | _Keeps,
    one: Drawn,
    start: Tensor,
    make: Callable[[Tensor], Tensor],
    first: Tensor,
    within: tuple[float, float],
    weights: tuple[float, float, int, int],
    progress: Progress,
    pull: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, bool]:
    """Search a small, sparse change of an image that is what is wanted.

    Args:
        asked: what is wanted.
        one: the generator; what it cannot draw of the change counts against it.
        start: the image that is changed; no change leaves it as it is.
        make: a change, of any shape, to the image with it.
        first: the change to begin with.
        within: lowest and highest value of a change.
        weights: beta, of the mean absolute change; gamma, of what cannot be drawn; steps of a round; rounds.
        progress: told the steps done.
        pull: a further term of the loss.

    Returns:
        The image, and whether it is what is wanted; else the one that comes nearest.
    """
    beta, gamma, steps, rounds = weights
    width = float(one.x.std()) or 1.0
    with torch.no_grad():
        scale = max(float(asked.towards(start)[0].abs()), float(asked.towards(one.x)[0].abs()), 1e-6)
        undrawn = start - one.autoencoder.decode(one.autoencoder.encode(start))
    best: tuple[float, Tensor] | None = None
    nearest = (float("inf"), start)
    weight = 0.1 / scale
    for turn in range(rounds):
        held = False
        change = first.clone().requires_grad_()
        adam = torch.optim.Adam([change], 0.05)
        for step in range(steps):
            with torch.enable_grad():
                image = make(change)
                gap = asked.towards(image)[0]
                moved = (image - start) / width
                again = one.autoencoder.decode(one.autoencoder.encode(image))
                left = ((image - again - undrawn) / width).square().mean()
                size = beta * moved.abs().mean() + moved.square().mean() + gamma * left
                if pull is not None:
                    size = size + pull(image)
                (change.grad,) = torch.autograd.grad(weight * gap.relu() + size, change)
            far, cost = float(gap.detach()), float(size.detach())
            if far <= 0 and bool(asked.look(image.detach())[1][0]):
                held |= 2 * step >= steps  # not only where the search began
                if best is None or cost < best[0]:
                    best = (cost, change.detach().clone())
            elif far < nearest[0]:
                nearest = (far, image.detach().clone())
            adam.step()
            with torch.no_grad():
                change.clamp_(*within)
            progress(turn * steps + step + 1, rounds * steps)
        if held:
            break
        weight *= 10
    progress(rounds * steps, rounds * steps)
    if best is None:
        return nearest[1], False
    return _faded(asked, make, best[1]), True


def _faded(asked: Asked | _Keeps, make: Callable[[Tensor], Tensor], change: Tensor) -> Tensor:
    """Take back the smallest changes, as many as the answer allows; halves of the range are tried."""
    kept, low, high = make(change).detach(), 0.0, float(change.abs().max())
    for _ in range(6):
        middle = (low + high) / 2
        image = make(torch.where(change.abs() > middle, change, 0.0)).detach()
        if bool(asked.look(image)[1][0]):
            low, kept = middle, image
        else:
            high = middle
    return kept
