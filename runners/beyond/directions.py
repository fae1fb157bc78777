"""Directions in the space of features that stand for a concept, and tests of what a score does along them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from scipy.stats import false_discovery_control, ttest_ind
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from runners.beyond.inside import interval
from runners.registry import Progress
from taxonomy.errors import TargetError

KINDS: Final = ("logistic", "pattern")
CORRECTIONS: Final = ("bonferroni", "bh")
COUNTER: Final = 200
"""Most counter-examples of one direction; more hardly change it."""


def direction(positive: Tensor, negative: Tensor, kind: str) -> Tensor:
    """Return the unit vector ``(D,)`` from negative ``(n, D)`` to positive ``(m, D)`` features.

    ``logistic`` is the normal of a balanced logistic regression with a unit penalty, the features divided by their
    overall spread (arXiv 1711.11279); ``pattern`` the difference of the means, which other signals in the data disturb
    less (arXiv 2202.03482).
    """
    if kind == "pattern":
        found = positive.mean(0) - negative.mean(0)
    else:
        x = torch.cat([positive, negative])
        # the same in the span of the features as in their whole space
        spread = (x.var(0, correction=0).sum() / min(len(x) - 1, x.shape[1])).sqrt().clamp(min=1e-12)
        y = [1] * len(positive) + [0] * len(negative)
        fit = LogisticRegression(class_weight="balanced", max_iter=500)
        found = torch.from_numpy(fit.fit(((x - x.mean(0)) / spread).numpy(), y).coef_[0]).to(x)
    unit: Tensor = found / found.norm().clamp(min=1e-12)
    return unit


def basis(*groups: Tensor) -> Tensor:
    """Return orthonormal rows ``(r, D)`` that span the features; directions fitted to them lie in their span."""
    x = torch.cat(groups)
    if x.shape[1] <= len(x):
        return torch.eye(x.shape[1], dtype=x.dtype)
    _, values, rows = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    found: Tensor = rows[values > 1e-10 * values[0]]
    return found


def others(pool: Tensor, examples: Tensor) -> Tensor:
    """Return the rows of ``pool`` ``(N, D)`` that are none of the examples ``(n, D)``; all where too few would stay.

    Concepts measured in a cohort are images of it: they must not be their own counter-examples.
    """
    same = torch.cdist(pool, examples, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    kept = same > 1e-6 * pool.norm(dim=1).mean()
    return pool[kept] if int(kept.sum()) >= max(4, len(pool) // 10) else pool


@dataclass(frozen=True, eq=False)
class Tested:
    """What a score does along the directions of K concepts.

    Attributes:
        shares: ``(K,)`` of the images whose score rises. low, high: 95 % interval from bootstrap samples.
        effects: ``(K,)`` mean change of the score, to first order, when an image's features move along the direction
            from where the counter-examples are to where the concept is.
        p: ``(K,)`` how often random sets of images have as large an effect, corrected.
        t_test: ``(K,)`` p of the two-sided t-test of the shares of repeated directions against those of random sets.
        accuracy: ``(K,)`` balanced, with which the direction tells held-out examples from counter-examples.
        directions: ``(K, D)``.
        randoms: random sets that were drawn.
    """

    shares: Tensor
    low: Tensor
    high: Tensor
    effects: Tensor
    p: Tensor
    t_test: Tensor
    accuracy: Tensor
    directions: Tensor
    randoms: int


def compared(
    concepts: Sequence[Tensor],
    pool: Tensor,
    slopes: Tensor,
    *,
    kind: str,
    correction: str,
    randoms: int,
    runs: int,
    generator: torch.Generator,
    progress: Progress,
) -> Tested:
    """Test concepts against random sets of examples.

    A random set is drawn from the pool, as many examples as the concept has, and treated exactly as the concept is:
    under the hypothesis that the concept is such a set, its p is right whatever the network.

    Args:
        concepts: Features of each concept's examples, ``(n, D)``.
        pool: Features of the examples to draw counter-examples and random sets from, ``(N, D)``.
        slopes: Gradients of the score, ``(M, D)``.
        kind: one of :data:`KINDS`.
        correction: one of :data:`CORRECTIONS`.
        randoms: Random sets per size of concept.
        runs: Bootstrap samples.
        generator: Draws.
        progress: Told the directions fitted.
    """
    if kind not in KINDS or correction not in CORRECTIONS:
        raise TargetError(
            f"direction={kind!r} and correction={correction!r} were given; {' or '.join(KINDS)} and "
            f"{' or '.join(CORRECTIONS)} are allowed"
        )
    concepts, pool, slopes = [one.double() for one in concepts], pool.double(), slopes.double()
    axes = basis(pool, *concepts)
    concepts, pool, slopes = [one @ axes.T for one in concepts], pool @ axes.T, slopes @ axes.T
    sizes = [min(len(one), len(pool) // 2) for one in concepts]
    total, done = len(concepts) * runs + len(set(sizes)) * randoms, 0
    nulls = {}
    for size in sorted(set(sizes)):
        drawn = []
        for _ in range(randoms):
            order = torch.randperm(len(pool), generator=generator)
            drawn.append(_along(pool[order[:size]], pool[order[size:][:COUNTER]], slopes, kind)[:2])
            done += 1
        nulls[size] = torch.stack([torch.stack(one) for one in drawn])
        progress(done, total)
    found, lows, highs, p, t_test, accuracy = [], [], [], [], [], []
    for one, size in zip(concepts, sizes, strict=True):
        counter = others(pool, one)
        most = min(COUNTER, len(counter), len(pool) - size)
        share, effect, way = _along(
            one, counter[torch.randperm(len(counter), generator=generator)[:most]], slopes, kind
        )
        draws, repeated = [], []
        for _ in range(runs):
            some = one[torch.randint(len(one), (len(one),), generator=generator)]
            order = torch.randperm(len(counter), generator=generator)[:most]
            again = _along(some, counter[order], slopes, kind)
            rows = torch.randint(len(slopes), (len(slopes),), generator=generator)
            draws.append(((slopes[rows] @ again[2]) > 0).double().mean())
            repeated.append(again[0])
            done += 1
        progress(done, total)
        low, high = interval(torch.stack(draws)[:, None])
        null = nulls[size]
        found.append((share, effect, way))
        lows.append(torch.minimum(low[0], share))
        highs.append(torch.maximum(high[0], share))
        p.append(float((null[:, 1].abs() >= effect.abs()).double().sum() + 1) / (randoms + 1))
        t_test.append(_t_test(torch.stack(repeated), null[:, 0]))
        accuracy.append(_accuracy(one, counter, kind, generator))
    corrected = [min(1.0, one * len(p)) for one in p] if correction == "bonferroni" else false_discovery_control(p)
    return Tested(
        shares=torch.stack([share for share, _, _ in found]),
        low=torch.stack(lows),
        high=torch.stack(highs),
        effects=torch.stack([effect for _, effect, _ in found]),
        p=torch.as_tensor(corrected, dtype=torch.float64),
        t_test=torch.tensor(t_test, dtype=torch.float64),
        accuracy=torch.tensor(accuracy, dtype=torch.float64),
        directions=torch.stack([way for _, _, way in found]) @ axes,
        randoms=randoms,
    )


def _along(positive: Tensor, negative: Tensor, slopes: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return share, effect and direction of one set."""
    way = direction(positive, negative, kind)
    rise = slopes @ way
    gap = (positive.mean(0) - negative.mean(0)) @ way
    return (rise > 0).double().mean(), rise.mean() * gap, way


def _t_test(shares: Tensor, null: Tensor) -> float:
    if float(shares.std()) == 0 and float(null.std()) == 0:
        return 1.0 if float(shares[0]) == float(null[0]) else 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all shares of one side may be alike
        return float(ttest_ind(shares.numpy(), null.numpy(), equal_var=False).pvalue)


def _accuracy(one: Tensor, pool: Tensor, kind: str, generator: torch.Generator) -> float:
    """Return the balanced accuracy on held-out thirds, the threshold half-way between the means."""
    if len(one) < 3:
        return float("nan")
    rates = []
    for _ in range(5):
        parts = []
        for group in (one, pool):
            order = torch.randperm(len(group), generator=generator)[: COUNTER * 2]
            parts.append((group[order[len(order) // 3 :]], group[order[: len(order) // 3]]))
        (positive, own), (negative, other) = parts
        way = direction(positive, negative, kind)
        middle = (positive.mean(0) + negative.mean(0)) @ way / 2
        rates.append((((own @ way) > middle).double().mean() + ((other @ way) <= middle).double().mean()) / 2)
    return float(torch.stack(rates).mean())


def significance_note(found: Tested, correction: str, what: str) -> str:
    """Say against what the p-values were computed."""
    how = "Bonferroni" if correction == "bonferroni" else "Benjamini and Hochberg"
    return (
        f"p: how often {found.randoms} random sets of {what}, each as large as the concept, have as large an effect "
        f"on the score, corrected by {how}."
    )
