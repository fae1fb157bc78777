"""Trust in metrics: does a metric put maps into the right order where the order is known?

In the spirit of MetaQuantus (meta_evaluation_problem_explainable_2023) and LATEC (klein_2024_latec), on planted truth
(:mod:`runners.truths`). A metric of a map sees the true map, it shifted half beside the evidence, it blurred, noise,
and its opposite. A metric of an explainer sees the true one, one that only draws the edges of the image, one that
always draws the same, one that draws noise. Which order must hold follows from what the metric measures
(:data:`ORDERS`): a metric of complexity is only asked to tell focused from diffuse, and says nothing of what is right.

Three numbers come of it: the share of pairs in the right order; the share of pairs that another seed orders alike; and
the share that another infill orders alike. The weight of the metric is their product, with the first rescaled so that
chance is 0: a metric counts for what it can tell, as far as it tells the same when asked again.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from runners import measure, metrics
from runners.baselines import smoothed
from runners.gate import Explanation
from runners.registry import Progress, Score, injected, no_progress, parameters, seeded
from runners.truths import Mapper, Planted, blobs, errors, shapes, slope, sums
from taxonomy import KB
from taxonomy.errors import AtlasError
from taxonomy.schema import Metric
from taxonomy.trust import Trust

Pairs = tuple[tuple[str, str], ...]
Scores = Mapping[str, Tensor]
"""Kind of map or explainer to its scores ``(B,)``, the higher the better."""
Numbers = NDArray[np.float64]

_RIGHT: Pairs = (
    ("true", "blurred"),
    ("true", "shifted"),
    ("true", "random"),
    ("true", "wrong"),
    ("blurred", "random"),
    ("blurred", "wrong"),
    ("shifted", "random"),
    ("shifted", "wrong"),
    ("random", "wrong"),
)
_FOCUSED: Pairs = (
    ("true", "blurred"),
    ("true", "random"),
    ("true", "wrong"),
    ("shifted", "blurred"),
    ("shifted", "random"),
    ("shifted", "wrong"),
    ("blurred", "random"),
    ("blurred", "wrong"),
)
ORDERS: Mapping[str, Pairs] = {
    "faithfulness": _RIGHT,
    "localisation": _RIGHT,
    "segmentation": _RIGHT,
    "modality_importance": _RIGHT,
    "complexity": _FOCUSED,
    "randomisation": (("true", "edges"), ("true", "fixed")),
    "robustness": (("fixed", "true"), ("fixed", "fresh"), ("true", "fresh"), ("edges", "fresh")),
    # by the metric where its property says too little
    "modality_shapley": (("true", "random"), ("true", "wrong")),  # it sees sums, wherever they lie
    "completeness": (("true", "random"), ("true", "wrong")),  # a map that is moved keeps its sum
    "non_sensitivity": (("true", "blurred"), ("true", "shifted"), ("true", "random"), ("true", "wrong")),
    "input_invariance": (("slope", "true"), ("fixed", "true"), ("slope", "fresh")),  # the gradient has it, times x not
    "consistency_dasgupta": (("true", "fixed"), ("true", "fresh")),  # it asks for a map that follows the decision
    "cose": (("true", "edges"), ("true", "fixed"), ("true", "fresh")),  # so does this
    "repeatability_ssim": (("fixed", "fresh"), ("true", "fresh"), ("edges", "fresh")),
    "input_independence_rate": (("true", "edges"),),  # edges show what the model ignores; noise has no opinion of it
    "input_dependence_rate": (("true", "edges"), ("true", "fixed")),
}
"""Property, or metric, to the pairs of maps that must be told apart, the better one first."""

IMAGES = 4
"""Of each planted case."""
SEEDS = 3
INFILLS = ("black", "mean", "blur", "inpaint")
"""Infills that are compared."""
ROWS = 64
"""Images per model call: the planted ones are small."""
SAME = 1e-6
"""Scores that differ by less than this share are a tie."""
DRAWS = 2000
"""Of the bootstrap over images."""


def planted(images: int = IMAGES, seed: int = 0) -> tuple[Planted, ...]:
    """Return what metrics are tried on; the first two are those that are asked again with other seeds and infills."""
    makers = ((shapes, 2), (blobs, 3), (sums, 2), (shapes, 3), (blobs, 2), (sums, 3), (errors, 2), (errors, 3))
    return tuple(make(dims, images, seed + 100 * number) for number, (make, dims) in enumerate(makers))


def judge(metric: str, kb: KB, cases: Sequence[Planted], *, seed: int = 0, progress: Progress = no_progress) -> Trust:
    """Judge a metric.

    Args:
        metric: a metric id with a computation.
        kb: knows what it measures and which direction is better.
        cases: from :func:`planted`.
        seed: of the metric and of the noise among the maps.
        progress: told the measurements done.

    Returns:
        Its three numbers and its weight, or the sentence why there are none.
    """
    entry = kb.metrics[metric]
    order = ORDERS.get(metric, ORDERS.get(entry.property, ()))
    if entry.direction is None:
        return Trust(why="neither high nor low is better.")
    if not order:
        return Trust(why=f"no order of maps is known for a metric of {entry.property.replace('_', ' ')}.")
    sign = -1.0 if entry.direction == "lower" else 1.0
    known = parameters(metrics[metric])
    fitting = [case for case in cases if _fits(case, entry)]
    seeds = range(seed + 1, seed + SEEDS) if "generator" in injected(metrics[metric]) else ()
    infills = INFILLS if isinstance(known.get("baseline"), str) else ()
    others = [one for one in infills if one != known["baseline"]]
    total = len(fitting) + len(fitting[:2]) * (len(seeds) + len(others))
    done, reason = 0, ""

    def ask(case: Planted, number: int = seed, **options: object) -> Scores | None:
        nonlocal done, reason
        try:
            found = {kind: sign * one for kind, one in _scores(metric, entry, case, order, number, options).items()}
        except AtlasError as error:
            reason, found = str(error), None
        done += 1
        progress(done, total)
        return found

    asked = [ask(case) for case in fitting]
    first = [one for one in asked if one is not None]
    if not first:
        return Trust(why=reason or "none of the planted cases is one for it.")
    credits = np.concatenate([_credits(one, order) for one in first])
    right, low, high = _interval(credits.mean(1), seed)
    scores = torch.cat([torch.stack(list(one.values())).flatten() for one in first])
    undefined = float(scores.isnan().double().mean())
    repeated = [
        [one for one in (before, *(ask(case, number) for number in seeds)) if one is not None]
        for before, case in zip(asked[:2], fitting[:2], strict=True)
        if seeds
    ]
    usual = known.get("baseline")
    filled = [
        {i: one for i in infills if (one := before if i == usual else ask(case, baseline=i)) is not None}
        for before, case in zip(asked[:2], fitting[:2], strict=True)
    ]
    alike_seeds = _alike(repeated, order)
    alike_infills = _alike([list(one.values()) for one in filled], order)
    by_infill = {
        i: float(np.mean([_credits(one[i], order).mean() for one in filled if i in one]))
        for i in infills
        if any(i in one for one in filled)
    }
    weight = max(0.0, 2 * right - 1) * (1.0 if alike_seeds is None else alike_seeds)
    weight *= 1.0 if alike_infills is None else alike_infills
    return Trust(
        order=_r(right),
        low=_r(low),
        high=_r(high),
        images=len(credits),
        pairs={f"{a} > {b}": _r(share) for (a, b), share in zip(order, credits.mean(0), strict=True)},
        undefined=_r(undefined),
        noise=None if (found := _noise(repeated)) is None else _r(found),
        seeds=None if alike_seeds is None else _r(alike_seeds),
        infill=None if alike_infills is None else _r(alike_infills),
        infills={name: _r(share) for name, share in by_infill.items()},
        weight=_r(weight),
    )


def mappers(case: Planted, seed: int) -> dict[str, Mapper]:
    """Return the maps and explainers by kind; one of them repeats what it did when it is asked the same again.

    Only ``fresh`` does not: it draws on.
    """
    exact, drawn = case.exact, seeded(seed)

    def blurred(model: nn.Module, x: Tensor, score: Score) -> Tensor:
        return smoothed(exact(model, x, score), [case.reach / 1.5] * (x.ndim - 2))

    def wrong(model: nn.Module, x: Tensor, score: Score) -> Tensor:
        found = exact(model, x, score)
        return found.flatten(1).amax(1).view(-1, *[1] * (x.ndim - 1)) - found

    def edges(model: nn.Module, x: Tensor, score: Score) -> Tensor:  # noqa: ARG001
        steps = [x.roll(-1, axis).sub(x.roll(1, axis)).square() for axis in range(2, x.ndim)]
        return torch.stack(steps).sum(0).sqrt()

    def fixed(model: nn.Module, x: Tensor, score: Score) -> Tensor:  # noqa: ARG001
        noise = torch.randn(1, *x.shape[1:], generator=seeded(seed))
        return smoothed(noise, [1.5] * (x.ndim - 2)).expand_as(x)

    return {
        "true": exact,
        "slope": slope,
        "shifted": lambda model, x, score: exact(model, x, score).roll(case.reach, -1),
        "blurred": blurred,
        "random": lambda _model, x, _score: torch.rand(x.shape, generator=seeded(seed)),
        "wrong": wrong,
        "edges": edges,
        "fixed": fixed,
        "fresh": lambda _model, x, _score: torch.rand(x.shape, generator=drawn),
    }


def _fits(case: Planted, entry: Metric) -> bool:
    """Whether a metric can say anything on a case."""
    if entry.property == "segmentation":
        return case.doubts
    if entry.property == "modality_importance" and case.x.shape[1] == 1:
        return False
    return not case.doubts and (case.without is not None or not _compares(entry))


def _compares(entry: Metric) -> bool:
    """Whether a metric compares with the images before something that the model ignores was put in."""
    return {"mask", "reference_data"} <= set(entry.needs)


def _scores(
    metric: str, entry: Metric, case: Planted, order: Pairs, seed: int, options: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Measure every kind of map that the order speaks of, float64 ``(B,)`` each."""
    made = mappers(case, case.seed)
    given = {
        "known": case.wired,
        "task": case.task,
        "mask": case.ignored if _compares(entry) else case.mask,
        "reference": case.without if _compares(entry) else case.reference,
        "members": case.members(untrained=entry.property == "randomisation"),
        "seed": seed,
        **({"batch_size": ROWS} if "batch_size" in parameters(metrics[metric]) else {}),
        **options,
    }
    found = {}
    for kind in dict.fromkeys(kind for pair in order for kind in pair):
        maps = made[kind](case.model, case.x, case.score)
        repeat = _repeating(made[kind])
        explanation = _explanation(maps, case)
        result = measure(metric, case.model, case.x, explanation, case.target, repeat=repeat, **given)
        found[kind] = result.score.double().cpu()
    return found


def _repeating(mapper: Mapper) -> Mapper:
    return lambda model, x, score: mapper(model, x, score).sum(1)


def _explanation(maps: Tensor, case: Planted) -> Explanation:
    return Explanation(
        values=maps.sum(1),
        method="input_x_gradient",  # what the true one is; the others are nobody's
        target=str(case.target),
        target_scores=torch.zeros(len(maps)),
        signed=True,
        notes=(),
        cautions=(),
        parameters={},
        passes={},
        seconds=0.0,
        seed=0,
        channels=maps if maps.shape[1] > 1 else None,
    )


def _told(better: Tensor, worse: Tensor) -> Tensor:
    """Return 1 where the better one has the higher score, 0 where the lower, a half where nothing is told."""
    same = torch.isclose(better, worse, rtol=SAME, atol=1e-12) | better.isnan() | worse.isnan()
    return (better > worse).double().where(~same, 0.5)


def _credits(scores: Scores, order: Pairs) -> Numbers:
    """Return what is told of every pair, ``(B, pairs)``."""
    return torch.stack([_told(scores[a], scores[b]) for a, b in order], 1).numpy()


def _alike(asked: Sequence[Sequence[Scores]], order: Pairs) -> float | None:
    """Return the share of pairs that two askings of a case order alike, over all cases, images and pairs of askings."""
    found = [_credits(a, order) == _credits(b, order) for case in asked for a, b in itertools.combinations(case, 2)]
    return float(np.concatenate(found).mean()) if found else None


def _noise(asked: Sequence[Sequence[Scores]]) -> float | None:
    """Return the standard deviation over seeds in units of that over the kinds of maps."""
    within, between = [], []
    for case in asked:
        scores = torch.stack([torch.stack(list(one.values())) for one in case])  # (seeds, kinds, B)
        within.append(scores.std(0).nanmean())
        between.append(scores.mean(0).std(0).nanmean())
    spread = float(torch.stack(between).nanmean()) if between else 0.0
    return float(torch.stack(within).nanmean()) / spread if spread > 0 else None


def _interval(shares: Numbers, seed: int) -> tuple[float, float, float]:
    """Return the mean of ``(B,)`` and its 95 % interval, by bootstrap over images."""
    draws = np.random.default_rng(seed).integers(len(shares), size=(DRAWS, len(shares)))
    low, high = np.percentile(shares[draws].mean(1), [2.5, 97.5])
    return float(shares.mean()), float(low), float(high)


def _r(share: float) -> float:
    return round(share, 3)
