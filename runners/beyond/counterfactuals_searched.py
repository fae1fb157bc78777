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
from runners.models import Wired
from runners.owned import Autoencoder, Cohort
from runners.registry import Progress, Score, Told, insight
from taxonomy.errors import TargetError

FADES: Final = 0.02
"""Changes below this share of the image's standard deviation are taken back."""


@insight("cem_pertinent")
def cem_pertinent(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    absent: str = "black",
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
    room = x - nothing
    away = torch.where(room >= 0, 1.0, -1.0)
    seen = x if cohort is None else torch.cat([x, cohort.x.to(x)])
    low, high = seen.amin(), seen.amax()

    def more(change: Tensor) -> Tensor:
        return torch.where(change * away >= 0, change, 0.0)  # at 0 there is a gradient

    negative, found = _elastic(
        asked,
        one,
        x,
        lambda change: (x + more(change)).clamp(low, high),
        beta,
        gamma,
        steps,
        rounds,
        _half(progress, 0),
    )
    keeps = _Keeps(asked)

    def part(change: Tensor) -> Tensor:
        return nothing + torch.where(room >= 0, change.clamp(min=0).minimum(room), change.clamp(max=0).maximum(room))

    positive, kept = _elastic(keeps, one, nothing, part, beta, gamma, steps, rounds, _half(progress, 1))
    images = torch.stack([positive[0], x[0], negative[0]])
    width = float(x.std()) or 1.0
    share = float(((positive - nothing).abs() > FADES * width).any(1).double().mean())
    notes = (
        f"First image: what of it suffices for the answer, on {absent}; last: what must not be there as well.",
        f"The part that suffices takes {share:.0%} of the positions." if kept else "No part of it suffices.",
        *drawn_notes(one),
    )
    measures = {"validity of the part that suffices": float(kept), "share of positions that suffice": share}
    caution = "A part on an empty image is no image of this kind: the model may answer it for other reasons."
    return told(asked, images, 1, 2, one, cohort, notes, (caution,), measures)


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
    there = asked.look(cohort.x)[1]
    if not there.any():
        raise TargetError(f"the cohort has no case for a prototype. {asked.wanted()} Give cases that it answers so")
    one = drawn(autoencoder, x, True, batch_size)
    codes = codes_of(autoencoder, Cohort(cohort.x[there]), batch_size)
    near = (codes - one.code).norm(dim=1).argsort(stable=True)[:nearest]
    proto = codes[near].mean(0, keepdim=True)
    away = float((one.code - proto).square().sum()) or 1.0

    def pull(image: Tensor) -> Tensor:
        return theta * (autoencoder.encode(image) - proto).square().sum() / away

    made, _ = _elastic(asked, one, x, lambda change: x + change, beta, gamma, steps, rounds, progress, pull)
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
    beta: float,
    gamma: float,
    steps: int,
    rounds: int,
    progress: Progress,
    pull: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, bool]:
    """Search a small, sparse change ``(1, C, *spatial)`` of an image that is what is wanted.

    Args:
        asked: what is wanted.
        one: the generator; what it cannot draw of the change counts against it.
        start: the image that is changed.
        make: a change to the image with it, within what is allowed.
        beta: weight of the mean absolute change.
        gamma: weight of what cannot be drawn.
        steps: of a round.
        rounds: with ten times the weight each.
        progress: told the steps done.
        pull: a further term of the loss.

    Returns:
        The image, and whether it is what is wanted; else the one that comes nearest.
    """
    width = float(one.x.std()) or 1.0
    with torch.no_grad():
        first = max(float(asked.towards(start)[0].abs()), float(asked.towards(one.x)[0].abs()), 1e-6)
        undrawn = start - one.autoencoder.decode(one.autoencoder.encode(start))
    best: tuple[float, Tensor] | None = None
    nearest = (float("inf"), start)
    weight = 0.1 / first
    for turn in range(rounds):
        change = (one.x - start).clone().requires_grad_()  # all of the image, to be taken away; none of it, to be added
        adam = torch.optim.Adam([change], 0.05 * width)
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
                (change.grad,) = torch.autograd.grad(weight * gap.relu() + size, change, allow_unused=True)
            far, cost = float(gap.detach()), float(size.detach())
            if far <= 0 and bool(asked.look(image.detach())[1][0]):
                if best is None or cost < best[0]:
                    best = (cost, image.detach().clone())
            elif far < nearest[0]:
                nearest = (far, image.detach().clone())
            adam.step()
            progress(turn * steps + step + 1, rounds * steps)
        if best is not None:
            break
        weight *= 10
    progress(rounds * steps, rounds * steps)
    if best is None:
        return nearest[1], False
    return _faded(asked, start, best[1], FADES * width), True


def _faded(asked: Asked | _Keeps, start: Tensor, image: Tensor, least: float) -> Tensor:
    """Take back the smallest changes, as many as the answer allows: halves of what is left, six times."""
    change = image - start
    size = change.abs().amax(1, keepdim=True)
    kept = torch.where(size > least, image, start)
    kept = kept if bool(asked.look(kept)[1][0]) else image
    low, high = 0.0, float(size.max())
    for _ in range(6):
        middle = (low + high) / 2
        tried = torch.where(size > middle, image, start)
        if bool(asked.look(tried)[1][0]):
            low, kept = middle, tried
        else:
            high = middle
    return kept
