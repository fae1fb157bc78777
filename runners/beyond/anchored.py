"""Anchors: the regions of an image that hold the model's answer whatever else is hidden."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from runners.asking import at_least
from runners.baselines import FILLINGS, filling, mixed
from runners.beyond.inside import asked
from runners.forms import Rules
from runners.models import Wired, run
from runners.owned import Cohort
from runners.registry import Progress, Score, Told, insight
from runners.superpixels import superpixels
from taxonomy.errors import TargetError


@dataclass(eq=False)
class _Arm:
    """Regions that stay, with what was seen of them."""

    regions: frozenset[int]
    asked: int = 0
    kept: int = 0
    level: float = field(default=0.0)

    @property
    def precision(self) -> float:
        return self.kept / self.asked if self.asked else 0.0

    @property
    def low(self) -> float:
        return bound(self.precision, self.asked, self.level, lower=True)

    @property
    def high(self) -> float:
        return bound(self.precision, self.asked, self.level, lower=False)


def bound(share: float, count: int, level: float, *, lower: bool) -> float:
    """Return where the divergence of a share of ``count`` trials from its bound reaches ``level / count``.

    The Kullback-Leibler confidence bound of a probability: with level ``log(1 / δ)`` the true one is beyond it with a
    probability of at most δ (Chernoff).
    """
    if count == 0:
        return 0.0 if lower else 1.0
    inner, outer = share, 0.0 if lower else 1.0
    for _ in range(40):
        middle = (inner + outer) / 2
        if _divergence(share, middle) > level / count:
            outer = middle
        else:
            inner = middle
    return outer


def _divergence(p: float, q: float) -> float:
    q = min(max(q, 1e-12), 1 - 1e-12)
    first = p * math.log(p / q) if p > 0 else 0.0
    return first + ((1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0)


Draw = Callable[[frozenset[int], int], Tensor]
"""Regions that stay and a number of samples to whether the answer was kept in each, bool ``(n,)``."""


def search(
    draw: Draw,
    regions: int,
    *,
    threshold: float,
    delta: float,
    epsilon: float,
    beam: int,
    largest: int,
    batch: int,
    most: int,
) -> tuple[_Arm, bool, int]:
    """Search bottom-up for the fewest regions that keep the answer (KL-LUCB, beam search; Ribeiro et al. 2018).

    Args:
        draw: Asks the model.
        regions: How many there are.
        threshold: Precision that is wanted.
        delta: Probability of a wrong choice.
        epsilon: Difference in precision that does not matter.
        beam: Candidates that are carried on.
        largest: Most regions of an anchor.
        batch: Samples per draw.
        most: Samples in all.

    Returns:
        The anchor, or, where none was confirmed, the best that was seen; whether it was confirmed; samples used.
    """
    used = 0

    def ask(arm: _Arm) -> None:
        nonlocal used
        said = draw(arm.regions, batch)
        arm.asked += len(said)
        arm.kept += int(said.sum())
        used += len(said)

    def confirmed(arm: _Arm) -> bool:
        """Sample until it is clear on which side of the threshold an arm is."""
        arm.level = math.log(1 / delta)
        while used < most:
            if arm.asked and arm.precision >= threshold and arm.low > threshold - epsilon:
                return True
            if arm.asked and arm.precision < threshold and arm.high < threshold + epsilon:
                return False
            ask(arm)
        return arm.precision >= threshold and arm.low > threshold - epsilon

    front = [_Arm(frozenset())]
    best = front[0]
    if confirmed(best):
        return best, True, used
    for _ in range(largest):
        sets = dict.fromkeys(arm.regions | {r} for arm in front for r in range(regions) if r not in arm.regions)
        arms = [_Arm(one) for one in sets]
        if not arms:
            break
        budget, turn = used + (most - used) // 2, 0
        for arm in arms:
            ask(arm)
        while used < budget and len(arms) > beam:
            turn += 1
            level = math.log(405.5 * len(arms) * turn**1.1 / delta)
            for arm in arms:
                arm.level = level + math.log(level)
            ranked = sorted(arms, key=lambda arm: arm.precision, reverse=True)
            if ranked[0].precision >= threshold and ranked[0].low > threshold - epsilon:
                break
            weakest = min(ranked[:beam], key=lambda arm: arm.low)
            rival = max(ranked[beam:], key=lambda arm: arm.high)
            if rival.high - weakest.low <= epsilon:
                break
            ask(ranked[0])
            ask(weakest)
            ask(rival)
        front = sorted(arms, key=lambda arm: (arm.precision, arm.asked), reverse=True)[:beam]
        best = max([best, *front], key=lambda arm: arm.precision)
        for arm in front:
            if confirmed(arm):
                return arm, True, used
        if used >= most:
            break
    return best, False, used


@insight("anchors")
@torch.no_grad()
def anchors(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    segments: int = 25,
    threshold: float = 0.95,
    delta: float = 0.05,
    epsilon: float = 0.1,
    p_sample: float = 0.5,
    baseline: str = "auto",
    beam_size: int = 2,
    largest: int = 5,
    samples: int = 6000,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Find the fewest regions that keep the model's answer when others are hidden at random (anchors, AAAI 2018).

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        segments: Wanted number of regions.
        threshold: Precision that a rule must reach.
        delta: Probability with which the better of two rules, or the side of the threshold, is told wrongly.
        epsilon: Difference in precision that does not matter.
        p_sample: Probability with which a region that need not stay is shown.
        baseline: What hides a region — auto (the same place of images of the cohort, blur without one), cohort, black,
            white, mean, organ, blur, noise, zero, inpaint or impute.
        beam_size: Rules that are carried on at each size.
        largest: Most regions of a rule.
        samples: Most changed images.
        batch_size: Changed images per model call.
        profile: What is known of the model.
        cohort: Images that hide regions, or None.
        generator: Draws.
        progress: Told the samples done.

    Returns:
        The rule, with its precision on fresh samples and its coverage; and how often the answer stays with no rule.

    Raises:
        TargetError: a parameter is out of range.
    """
    at_least(2, segments=segments)
    at_least(1, beam_size=beam_size, largest=largest, batch_size=batch_size)
    at_least(200, samples=samples)
    for name, number in {"threshold": threshold, "delta": delta, "p_sample": p_sample}.items():
        if not 0 < number < 1:
            raise TargetError(f"{name} = {number}: it must be between 0 and 1.")
    if not 0 < epsilon <= 0.5:
        raise TargetError(f"epsilon = {epsilon}: it must be above 0 and at most 0.5.")
    if baseline == "auto":
        baseline = "blur" if cohort is None else "cohort"
    if baseline not in ("cohort", *FILLINGS):
        raise TargetError(f"baseline = {baseline!r} was given; auto, cohort, {', '.join(FILLINGS)} are allowed")
    if baseline == "cohort" and cohort is None:
        raise TargetError("baseline = 'cohort' hides regions by images of the cohort; give one, or another baseline")
    question = asked(model, x, score, profile, batch_size)
    own = bool(question.own(run(model, x.clone()))[0])
    labels = superpixels(x, segments)[0]
    count = int(labels.max()) + 1
    fill = None if baseline == "cohort" else filling(x, baseline, generator)

    def draw(stay: frozenset[int], number: int) -> Tensor:
        shown = torch.rand(number, count, generator=generator) < p_sample
        shown[:, sorted(stay)] = True
        return same(shown)

    def same(shown: Tensor) -> Tensor:
        kept = shown.to(x.device)[:, labels]
        if fill is None:
            assert cohort is not None
            rows = torch.randint(len(cohort), (len(shown),), generator=generator)
            images = mixed(x, cohort.stack[rows].to(x), kept)
        else:
            images = fill(torch.zeros(len(shown), dtype=torch.long, device=x.device), kept)
        return question.own(run(model, images)).cpu() == own

    done = 0

    def counting(stay: frozenset[int], number: int) -> Tensor:
        nonlocal done
        done += number
        progress(min(done, samples), samples)
        return draw(stay, number)

    arm, sure, used = search(
        counting, count, threshold=threshold, delta=delta, epsilon=epsilon, beam=beam_size, largest=largest,
        batch=batch_size, most=samples,
    )  # fmt: skip
    fresh = 320 // batch_size + 1
    shares = []
    for stay in (arm.regions, frozenset[int]()):
        shares.append(torch.cat([draw(stay, batch_size) for _ in range(fresh)]).double().mean())
    asked_again = fresh * batch_size
    low = bound(float(shares[0]), asked_again, math.log(1 / delta), lower=True)
    alone = torch.zeros(1, count, dtype=torch.bool)
    alone[:, sorted(arm.regions)] = True
    region = alone.to(x.device)[0, labels]
    answer = "the model gives the explained answer" if own else "the model does not give the explained answer"
    parts = f"{len(arm.regions)} region{'s' if len(arm.regions) > 1 else ''}"
    nothing = f"Whatever is hidden, {answer}"
    rules = (f"If the marked {parts} of {count} can be seen, {answer}, whatever else is hidden", nothing)
    keep = slice(1, 2) if not arm.regions else slice(0, 2)
    hidden = "the same place of images of the cohort" if baseline == "cohort" else f"{baseline} content"
    form = Rules(
        rules=tuple(rules[keep]),
        precision=torch.stack(shares)[keep],
        coverage=torch.tensor([p_sample ** len(arm.regions), 1.0])[keep],
        maps=torch.stack([region, torch.zeros_like(region)])[keep],
        measures={
            f"precision at least (confidence {1 - delta:.0%})": low,
            "regions that must be seen": float(len(arm.regions)),
            "share of the image that they take": float(region.float().mean()) if arm.regions else 0.0,
            "answer kept when they are seen alone": float(
                torch.cat([same(alone.expand(batch_size, -1)) for _ in range(1 if fill else 4)]).double().mean()
            ),
        },
    )
    notes = (
        *question.notes,
        f"Regions that need not stay are shown with a probability of {p_sample:.2g}, hidden ones are {hidden}; "
        f"{used} changed images chose the rule, {asked_again} others tell its precision.",
        "Coverage: how often all regions of the rule are seen when regions are hidden at random.",
    )
    cautions = [
        "The rule is about this image under hidden regions: that the same region decides elsewhere is not said."
    ]
    if baseline != "cohort":
        cautions.append("Hidden regions look like nothing the model has learned from; a cohort to hide them is better.")
    if not sure:
        cautions.append(
            f"No rule of up to {largest} regions was confirmed to reach a precision of {threshold:.0%}; shown is the "
            "best one."
        )
    if not arm.regions and sure:
        cautions.append("The answer stays whatever is hidden: no region of this image holds it.")
    return Told(form, notes, tuple(cautions))
