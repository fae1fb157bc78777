"""Images that a generator draws, asked about and judged: what methods of counterfactuals share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from runners.forms import Counterfactual
from runners.models import Wired, run
from runners.owned import Autoencoder, Cohort
from runners.registry import Score, Told
from taxonomy.errors import TargetError

CHANGED: Final = 0.05
"""Share of the image's range from which on a position counts as changed."""
ODD: Final = 1.5
"""How many times the usual error of reconstruction makes an image implausible."""
REACTS: Final = (
    "It shows what this model reacts to, drawn by a generator with its own blind spots: not how a disease looks or "
    "develops."
)
NONE: Final = "No counterfactual was found: the series shows how far the search got, not what would change the answer."


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked of a model about changed versions of one image.

    Attributes:
        model: the model.
        x: the image, ``(1, C, *spatial)``.
        score: outputs to the explained score per image.
        others: the scores of the answers that compete with the explained one; none where they are not known.
        decision: outputs to the share of the explained answer that the model decides for; None where nothing is
            decided.
        before: the score of the image.
        own: the model answers the image as explained.
        goal: the score to reach; None for the other answer.
        batch_size: images per model call.
    """

    model: nn.Module
    x: Tensor
    score: Score
    others: tuple[Score, ...]
    decision: Score | None
    before: float
    own: bool
    goal: float | None
    batch_size: int

    @property
    def sign(self) -> float:
        """Whether the score has to rise, 1, or to fall, -1."""
        if self.goal is not None:
            return 1.0 if self.goal > self.before else -1.0
        return -1.0 if self.own else 1.0

    def wanted(self) -> str:
        """Say what a counterfactual has to reach."""
        if self.goal is not None:
            return f"Wanted: a score of {self.goal:.4g} instead of {self.before:.4g}."
        how = "no longer answers" if self.own else "answers"
        return f"Wanted: the model {how} as explained here."

    def towards(self, images: Tensor) -> Tensor:
        """Return how far images ``(N, C, *spatial)`` are from what is wanted, ``(N,)``, differentiable; 0 is there."""
        return self.far(*self._outputs(images))

    def far(self, outputs: Any, rows: Tensor) -> Tensor:
        """Return the same of outputs of the model."""
        score = self.score(outputs, rows)
        if self.goal is not None:
            return (self.goal - score) * self.sign
        if self.others:
            score = score - torch.stack([one(outputs, rows) for one in self.others]).amax(0)
        return -score * self.sign

    def scored(self, images: Tensor) -> Tensor:
        """Return scores ``(N,)`` of images, differentiable."""
        return self.score(*self._outputs(images))

    def _outputs(self, images: Tensor) -> tuple[Any, Tensor]:
        rows = torch.zeros(len(images), dtype=torch.long, device=self.x.device)
        return run(self.model, images.to(self.x.device)), rows

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score of images ``(N, C, *spatial)``, and whether each is what is wanted."""
        found = [self.read(*self._outputs(part.clone())) for part in torch.split(images, self.batch_size)]
        return torch.cat([scores for scores, _ in found]), torch.cat([there for _, there in found])

    def read(self, outputs: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same of outputs of the model, on the CPU."""
        score = self.score(outputs, rows).detach()
        if self.goal is not None:
            reached = (score - self.goal) * self.sign >= 0
        elif self.decision is not None:
            reached = (self.decision(outputs, rows) > 0.5) != self.own
        else:
            reached = torch.zeros(len(score), dtype=torch.bool)
        return score.float().cpu(), reached.cpu()


def ask_for(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    profile: Wired,
    others: Sequence[Score],
    decision: Score | None,
    goal: float | None,
    batch_size: int,
) -> Asked:
    """Make ready what is asked; without a goal and an answer to change, half of the score is the goal."""
    with torch.no_grad():
        outputs, rows = run(model, x.clone()), torch.zeros(1, dtype=torch.long, device=x.device)
        before = float(score(outputs, rows)[0])
        own = bool(decision(outputs, rows)[0] > 0.5) if decision is not None else True
    if goal is None and decision is None:
        goal = before / 2
    if goal == before:
        raise TargetError(f"goal = {goal}: the image has this score already; give another one")
    several = bool(getattr(getattr(model, "card", None), "multilabel", False))
    rivals = () if several or profile.task != "classification" else tuple(others)
    return Asked(model, x, score, rivals, decision, before, own, goal, batch_size)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A generator that draws versions of one image.

    Attributes:
        autoencoder: the generator.
        x: the image, ``(1, C, *spatial)``.
        code: of the image, ``(1, Z)``.
        detail: what the generator cannot draw of the image, ``(1, C, *spatial)``; zero when it is left out.
        error: mean squared error of the reconstruction.
        batch_size: images per call.
    """

    autoencoder: Autoencoder
    x: Tensor
    code: Tensor
    detail: Tensor
    error: float
    batch_size: int

    def images(self, codes: Tensor) -> Tensor:
        """Return images ``(N, C, *spatial)`` of codes ``(N, Z)``, differentiable, the image's own detail added."""
        return self.autoencoder.decode(codes) + self.detail

    @torch.no_grad()
    def series(self, codes: Tensor) -> Tensor:
        """Return the same for many codes, a chunk at a time."""
        return torch.cat([self.images(part) for part in torch.split(codes, self.batch_size)])

    def far(self, codes: Tensor) -> Tensor:
        """Return how much images change, as root mean square over the image's standard deviation, ``(N,)``."""
        start = self.series(self.code)
        spread = float(self.x.std()) or 1.0
        return (self.series(codes) - start).square().flatten(1).mean(1).sqrt() / spread


@torch.no_grad()
def drawn(autoencoder: Autoencoder, x: Tensor, detail: bool, batch_size: int) -> Drawn:
    """Draw an image again.

    Raises:
        TargetError: the generator draws other images than this one.
    """
    code = autoencoder.encode(x)
    again = autoencoder.decode(code)
    if again.shape != x.shape or code.ndim != 2 or not torch.isfinite(again).all():
        raise TargetError(
            f"the generator makes codes of shape {tuple(code.shape)} and images of shape {tuple(again.shape)}; "
            f"(1, Z) and {tuple(x.shape)}, all finite, are needed"
        )
    left = x - again
    return Drawn(autoencoder, x, code, left if detail else torch.zeros_like(x), float(left.square().mean()), batch_size)


def drawn_notes(one: Drawn) -> tuple[str, ...]:
    """Say how well the generator draws the image, and what became of the rest."""
    share = one.error / max(float(one.x.var()), 1e-12)
    kept = "what it cannot draw is added to every frame" if one.detail.any() else "what it cannot draw is missing"
    own = tuple(getattr(one.autoencoder, "notes", ()))
    return (*own, f"The generator leaves {share:.0%} of the image's variance undrawn; {kept}.")


@torch.no_grad()
def undrawn(autoencoder: Autoencoder, images: Tensor, batch_size: int) -> Tensor:
    """Return the mean squared error of the generator on images ``(N, C, *spatial)``, ``(N,)``."""
    found = []
    for part in torch.split(images, batch_size):
        found.append((autoencoder.decode(autoencoder.encode(part)) - part).square().flatten(1).mean(1))
    return torch.cat(found)


def judged(
    before: Tensor, after: Tensor, valid: bool, one: Drawn | None = None, cohort: Cohort | None = None
) -> dict[str, float]:
    """Measure a counterfactual ``(C, *spatial)`` of an image.

    Validity: 1 when it is what is wanted. Proximity: mean absolute difference, in standard deviations of the image.
    Sparsity: share of the positions that stay as they are, within :data:`CHANGED` of the image's range. The last one,
    where there is a generator: its error on the counterfactual, over that on the cohort (median), or on the image.
    """
    gap = (after - before).abs()
    width = float(before.max() - before.min()) or 1.0
    found = {
        "cf_validity": float(valid),
        "cf_proximity": float(gap.mean()) / (float(before.std()) or 1.0),
        "cf_sparsity": float((gap.amax(0) <= CHANGED * width).double().mean()),
    }
    if one is not None:
        whose = "image" if cohort is None else "cohort"
        name = f"implausibility (error of the generator, relative to the {whose}'s)"
        found[name] = implausible(after[None], one, cohort)
    return found


def implausible(image: Tensor, one: Drawn, cohort: Cohort | None) -> float:
    """Return the error of the generator on an image ``(1, C, *spatial)``, over the cohort's median, or the image's."""
    usual = one.error if cohort is None else float(undrawn(one.autoencoder, cohort.stack, one.batch_size).median())
    return min(float(undrawn(one.autoencoder, image, 1)[0]) / max(usual, 1e-12), 1e6)


def told(
    asked: Asked,
    images: Tensor,
    start: int,
    chosen: int,
    one: Drawn | None,
    cohort: Cohort | None,
    notes: Sequence[str] = (),
    cautions: Sequence[str] = (),
    more: dict[str, float] | None = None,
) -> Told:
    """Put a series of images together with its scores, measures, notes and cautions."""
    scores, there = asked.look(images)
    valid = bool(there[chosen])
    measures = judged(asked.x[0], images[chosen], valid, one, cohort) | (more or {})
    said = [REACTS, *cautions]
    if not valid:
        said.insert(0, NONE)
    if one is not None and not one.detail.any() and bool(there[start]):
        said.append("The model answers the reconstruction itself otherwise than the image: the generator loses signs.")
    odd = [value for name, value in measures.items() if name.startswith("implausibility")]
    if one is not None and odd[0] > ODD * max(1.0, implausible(asked.x, one, cohort)):
        said.append(
            f"The generator draws this image {odd[0]:.1f} times worse than usual: it may be no image of this kind."
        )
    form = Counterfactual(images, scores, start, chosen, asked.x[0], measures)
    return Told(form, (asked.wanted(), *notes), tuple(said))


STEPS: Final = 24
"""Points at which a direction is tried before the border is narrowed down."""


def walked(asked: Asked, one: Drawn, direction: Tensor, reach: float) -> tuple[float, bool]:
    """Return how far along a direction ``(Z,)`` of the code what is wanted begins, and whether it does.

    The nearest border on the way is narrowed down to a hundredth. Where there is none the end of the way is returned.

    Args:
        asked: what is asked.
        one: draws.
        direction: to go, of any length.
        reach: how much the image may change, as root mean square over its standard deviation.
    """
    length = 1e-4 * max(float(one.code.norm()), 1.0) / max(float(direction.norm()), 1e-12)
    for _ in range(48):
        if float(one.far(one.code + 2 * length * direction)) > reach:
            break
        length *= 2
    for share in (1.5, 1.25, 1.125):
        if float(one.far(one.code + share * length * direction)) <= reach:
            length *= share
    places = length * torch.linspace(0, 1, STEPS + 1, device=one.code.device)[1:].square()  # closer where it begins
    scores, there = asked.look(one.series(one.code + places[:, None] * direction))
    if not there.any():
        best = int((scores * asked.sign).argmax())
        return float(places[best if float(scores[best] * asked.sign) > asked.before * asked.sign else -1]), False
    first = int(there.nonzero()[0, 0])
    low, high = float(places[first - 1]) if first else 0.0, float(places[first])
    for _ in range(7):
        middle = (low + high) / 2
        reached = bool(asked.look(one.images(one.code + middle * direction))[1][0])
        low, high = (low, middle) if reached else (middle, high)
    return high, True


def swept(one: Drawn, direction: Tensor, end: float, frames: int) -> tuple[Tensor, int, int]:
    """Return the images from as far against a direction to its end, the place of the unchanged one, and of the end."""
    half = max(1, frames // 2)
    places = torch.linspace(-end, end, 2 * half + 1, device=one.code.device)
    places[half] = 0
    return one.series(one.code + places[:, None] * direction), half, 2 * half


def odd_frames(frames: int) -> None:
    """Raise a TargetError unless there are at least three frames."""
    if frames < 3:
        raise TargetError(f"frames = {frames}: at least 3 are needed, both ends and the image")


def unit(direction: Tensor) -> Tensor:
    """Return a direction at length 1; zero stays zero."""
    size = float(direction.norm())
    return direction / size if size > 0 and math.isfinite(size) else torch.zeros_like(direction)
