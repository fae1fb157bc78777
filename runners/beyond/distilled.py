"""Simple models of values that clinicians know, fitted to the image model's answers: local, averaged, or as a tree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

from runners.asking import at_least
from runners.beyond.inside import asked, enough, seed_of
from runners.beyond.radiomic import MEASURES, measured_alike
from runners.beyond.surrogate import Array, fitted, stand_in, table
from runners.forms import Contributions, Rules
from runners.models import Wired
from runners.owned import Cohort
from runners.registry import Progress, Score, Told, insight
from taxonomy.errors import TargetError


@insight("lime_tabular", sizes=True)
def lime_tabular(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    samples: int = 2000,
    kernel_width: float = 0.75,
    ridge: float = 1.0,
    surrogate: str = "auto",
    runs: int = 100,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    features: Mapping[str, float],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Fit a linear model to clinical values near those of the case (LIME, arXiv 1602.04938).

    Most image models take no clinical values: a surrogate that learned the answers over the cohort is asked instead; a
    model that reads them beside the image is asked itself.
    Samples are drawn around the case with the cohort's spread (around the cohort's mean, as the authors do, a case far
    from it would stand alone), whole numbers staying whole, and weigh less the farther they are from the case.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        samples: Drawn sets of values.
        kernel_width: Width of the weights, in spreads, times the root of the number of values.
        ridge: Strength of the penalty.
        surrogate: Model of the values — linear, boosted, or auto for the better on cases left out.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images with clinical values.
        features: Clinical values of the case.
        generator: Draws.
        progress: Told the images done.

    Returns:
        By how much the score changes near the case, per spread of each value.
    """
    at_least(50, samples=samples)
    at_least(2, runs=runs)
    if not (kernel_width > 0 and ridge > 0):
        raise TargetError(f"kernel_width = {kernel_width} and ridge = {ridge}: both must be above 0.")
    one = stand_in(model, x, score, profile, cohort, features, method="lime_tabular", kind=surrogate,
                   batch_size=batch_size, generator=generator, progress=progress)  # fmt: skip
    middle, spread = one.values.mean(0), one.values.std(0)
    drawn = torch.randn(samples, len(one.names), generator=generator, dtype=torch.float64).numpy() * spread + one.own
    whole = (one.values == np.round(one.values)).all(0)
    low, high = np.minimum(one.values.min(0), one.own), np.maximum(one.values.max(0), one.own)
    drawn = np.where(whole, np.round(drawn), drawn).clip(low, high)
    drawn[0] = one.own
    z = (drawn - one.own) / spread
    weights = np.exp(-(z**2).sum(1) / (kernel_width**2 * len(one.names)) / 2)
    answers = one.predict(drawn)
    slopes, fit = _near(z, answers, weights, ridge)
    draws = []
    for _ in range(runs):
        rows = torch.randint(samples, (samples,), generator=generator).numpy()
        draws.append(_near(z[rows], answers[rows], weights[rows], ridge)[0])
    form = Contributions(
        names=one.names,
        values=torch.from_numpy(slopes),
        what="change of the score near the case, per spread (standard deviation) of the value in the cohort",
        low=torch.from_numpy(np.minimum(np.quantile(draws, 0.025, axis=0), slopes)),
        high=torch.from_numpy(np.maximum(np.quantile(draws, 0.975, axis=0), slopes)),
        inputs=tuple(
            f"{own:.3g} (cohort {usual:.3g} ± {wide:.2g})"
            for own, usual, wide in zip(one.own, middle, spread, strict=True)
        ),
        measures={
            **one.measures,
            "fit of the linear model to the surrogate near the case (weighted R²)": fit,
            "answer of the surrogate": float(answers[0]),
        },
    )
    return Told(form, one.notes, (*one.cautions, "The interval is of the draws alone, not of the surrogate."))


def _near(z: Array, answers: Array, weights: Array, ridge: float) -> tuple[Array, float]:
    """Return slopes ``(V,)`` of a weighted ridge regression, and its weighted R²."""
    share = weights / weights.sum()
    a, y = z - share @ z, answers - share @ answers
    found: Array = np.linalg.solve((a.T * weights) @ a + ridge * np.eye(a.shape[1]), (a.T * weights) @ y)
    total = float(share @ y**2)
    return found, 1 - float(share @ (y - a @ found) ** 2) / total if total > 0 else 0.0


def _described(
    method: str,
    x: Tensor,
    cohort: Cohort,
    features: Mapping[str, float],
    mask: Tensor | None,
) -> tuple[Array, Array, tuple[str, ...], tuple[str, ...]]:
    """Return values of the cohort ``(R, V)`` and of the case ``(V,)``, their names, and notes.

    Clinical values where cohort and case have them, measures of the images else.
    """
    if cohort.features is not None and features:
        values, own, names = table(cohort, features, method)
        return values, own, names, ("From the clinical values of the cohort and of the case.",)
    enough(cohort, 30, method)
    measured, here, kinds, where = measured_alike(x, cohort, mask)
    return (
        measured.numpy(),
        here.numpy(),
        kinds,
        (f"Cohort and case have no clinical values in common: measures of the images are used instead. {where}",),
    )


@insight("partial_dependence", sizes=True)
def partial_dependence(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    points: int = 12,
    surrogate: str = "auto",
    runs: int = 20,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    features: Mapping[str, float],
    mask: Tensor | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Draw the mean answer as one value is varied and the others keep theirs (Friedman 2001), beside local effects.

    The image model takes no such values: a surrogate that learned its answers over the cohort is asked instead. With
    values that go together partial dependence rests on impossible cases; accumulated local effects (arXiv 1612.08468)
    do not, and are computed for comparison.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        points: Points of each curve, at quantiles of the value from the 5th to the 95th percentile.
        surrogate: Model of the values — linear, boosted, or auto for the better on cases left out.
        runs: Bootstrap samples of cases, each with a surrogate of its own, for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images, with clinical values or without.
        features: Clinical values of the case; measures of the images are used without.
        mask: Region of interest in the image, bool ``(*spatial)``, or None.
        generator: Draws.
        progress: Told the images done.

    Returns:
        Of each value how far the mean answer changes from its 5th to its 95th percentile, and the curve.
    """
    at_least(2, points=points, runs=runs)
    values, own, names, notes = _described("partial_dependence", x, cohort, features, mask)
    question = asked(model, x, score, profile, batch_size)
    answers, alike, _ = question.look(cohort.x, progress)
    one = fitted(values, own, names, answers.double().numpy(), alike.numpy().astype(bool), kind=surrogate,
                 generator=generator)  # fmt: skip
    grids = [_grid(column, points) for column in values.T]
    curves = [dependence(one.predict, values, k, grid) for k, grid in enumerate(grids)]
    local = [accumulated(one.predict, values, k, grid) for k, grid in enumerate(grids)]
    change = np.array([curve[-1] - curve[0] for curve in curves])
    other = np.array([curve[-1] - curve[0] for curve in local])
    draws = []
    for _ in range(runs):
        rows = torch.randint(len(values), (len(values),), generator=generator).numpy()
        predict = one.again(rows)
        draws.append([_ends(predict, values[rows], k, grid) for k, grid in enumerate(grids)])
    order = np.argsort(-np.abs(change), kind="stable")
    largest = max(float(np.abs(change).max()), 1e-12)
    shared = np.linspace(0.05, 0.95, points)
    low, high = np.quantile(draws, 0.025, axis=0), np.quantile(draws, 0.975, axis=0)
    form = Contributions(
        names=tuple(names[k] for k in order),
        values=torch.from_numpy(change[order].copy()),
        what="change of the mean answer from the 5th to the 95th percentile of the value",
        low=torch.from_numpy(np.minimum(low, change)[order]),
        high=torch.from_numpy(np.maximum(high, change)[order]),
        inputs=tuple(f"{own[k]:.3g} (5th to 95th percentile {grids[k][0]:.3g} to {grids[k][-1]:.3g})" for k in order),
        grid=torch.from_numpy(
            np.stack([np.interp(shared, np.linspace(0.05, 0.95, len(grids[k])), grids[k]) for k in order])
        ),
        curves=torch.from_numpy(
            np.stack([np.interp(shared, np.linspace(0.05, 0.95, len(grids[k])), curves[k]) for k in order])
        ),
        measures={
            **one.measures,
            "largest difference from accumulated local effects, as a share of the largest change": float(
                np.abs(change - other).max() / largest
            ),
        },
    )
    told = tuple(f"{names[k]}: {MEASURES[names[k]].text}" for k in order[:5] if names[k] in MEASURES)
    cautions = [*one.cautions]
    if np.abs(change - other).max() > 0.3 * largest:
        k = int(np.abs(change - other).argmax())
        cautions.append(
            f"Accumulated local effects, which avoid impossible cases, say {other[k]:+.2g} of {names[k]} instead of "
            f"{change[k]:+.2g}: values go together here."
        )
    return Told(form, (*question.notes, *notes, *one.notes, *told), tuple(cautions))


def _grid(column: Array, points: int) -> Array:
    """Return the ends of equally full intervals of a value, from its 5th to its 95th percentile; at least two."""
    found: Array = np.unique(np.quantile(column, np.linspace(0.05, 0.95, points)))
    return found if len(found) > 1 else np.array([column.min(), column.max()])


def dependence(predict: Callable[[Array], Array], values: Array, k: int, grid: Array) -> Array:
    """Return the mean answer when value ``k`` of all cases is each of the grid's."""
    rows = np.repeat(values[None], len(grid), 0)
    rows[:, :, k] = grid[:, None]
    found: Array = predict(rows.reshape(-1, values.shape[1])).reshape(len(grid), -1).mean(1)
    return found


def accumulated(predict: Callable[[Array], Array], values: Array, k: int, grid: Array) -> Array:
    """Return the accumulated local effects of value ``k`` at the ends of the grid's intervals; 0 at the first.

    In each interval the mean difference of the answers of the cases that lie in it, moved to its two ends.
    """
    inside = values[(values[:, k] >= grid[0]) & (values[:, k] <= grid[-1])]
    where = np.clip(np.searchsorted(grid, inside[:, k], side="left"), 1, len(grid) - 1)
    below, above = inside.copy(), inside.copy()
    below[:, k], above[:, k] = grid[where - 1], grid[where]
    step = predict(above) - predict(below) if len(inside) else np.zeros(0)
    means = [step[where == i].mean() if (where == i).any() else 0.0 for i in range(1, len(grid))]
    return np.concatenate([[0.0], np.cumsum(means)])


def _ends(predict: Callable[[Array], Array], values: Array, k: int, grid: Array) -> float:
    curve = dependence(predict, values, k, grid[[0, -1]])
    return float(curve[1] - curve[0])


@dataclass(frozen=True, eq=False)
class SoftTree:
    """A tree whose splits are soft: each looks at one value and sends a case to both sides, to one mostly.

    Attributes:
        where: ``(I,)`` the value that each inner node looks at.
        threshold: ``(I,)``. steepness: ``(I,)``, above 0: high values go right.
        leaf: ``(L,)`` probability of the explained answer.
        paths: ``(L, I)``: 1 where a leaf is to the right of a node, -1 to the left, 0 not under it.
    """

    where: NDArray[np.int64]
    threshold: Array
    steepness: Array
    leaf: Array
    paths: NDArray[np.int64]

    def reach(self, values: Array) -> Array:
        """Return with what probability cases ``(n, V)`` reach each leaf, ``(n, L)``."""
        right = 1 / (1 + np.exp(-self.steepness * (values[:, self.where] - self.threshold)))
        side = np.where(self.paths == 1, right[:, None], np.where(self.paths == -1, 1 - right[:, None], 1.0))
        found: Array = side.prod(2)
        return found

    def predict(self, values: Array) -> Array:
        """Return the probability of the explained answer, ``(n,)``."""
        found: Array = self.reach(values) @ self.leaf
        return found


def soft_tree(values: Array, answers: NDArray[np.bool_], depth: int, steps: int, seed: int) -> SoftTree:
    """Grow a tree on standardised values ``(R, V)`` and soften it: thresholds, steepness and leaves learn together.

    Which value a node looks at comes from a hard tree; all else minimises the cross-entropy with the answers ``(R,)``.
    """
    hard = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=max(3, len(values) // 40), random_state=seed)
    grown = hard.fit(values, answers).tree_
    nodes = [i for i in range(grown.node_count) if grown.children_left[i] >= 0]
    number = {node: at for at, node in enumerate(nodes)}
    paths: list[NDArray[np.int64]] = []

    def walk(node: int, path: NDArray[np.int64]) -> None:
        if node not in number:
            paths.append(path)
            return
        for child, side in ((grown.children_left[node], -1), (grown.children_right[node], 1)):
            new = path.copy()
            new[number[node]] = side
            walk(int(child), new)

    walk(0, np.zeros(len(nodes), dtype=np.int64))
    where = np.array([grown.feature[i] for i in nodes], dtype=np.int64)
    y = torch.from_numpy(answers.astype(np.float64))
    x = torch.from_numpy(values[:, where])
    path = torch.from_numpy(np.stack(paths))
    with torch.enable_grad():
        threshold = torch.tensor([float(grown.threshold[i]) for i in nodes], dtype=torch.float64, requires_grad=True)
        steep = torch.full((len(nodes),), math.log(8.0), dtype=torch.float64, requires_grad=True)
        right = (x > threshold.detach()).double()
        reach = torch.where(path == 1, right[:, None], torch.where(path == -1, 1 - right[:, None], 1.0)).prod(2)
        share = (reach.T @ y + 1) / (reach.sum(0) + 2)
        leaf = torch.logit(share).requires_grad_()
        adam = torch.optim.Adam([threshold, steep, leaf], 0.02)
        for _ in range(steps if len(nodes) else 0):
            right = torch.sigmoid(steep.clamp(max=4).exp() * (x - threshold))
            side = torch.where(path == 1, right[:, None], torch.where(path == -1, 1 - right[:, None], 1.0))
            said = (side.prod(2) @ torch.sigmoid(leaf)).clamp(1e-6, 1 - 1e-6)
            loss = nn.functional.binary_cross_entropy(said, y)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
    return SoftTree(
        where,
        threshold.detach().numpy(),
        steep.detach().clamp(max=4).exp().numpy(),
        torch.sigmoid(leaf).detach().numpy(),
        path.numpy(),
    )


@insight("soft_decision_tree", sizes=True)
def soft_decision_tree(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    depth: int = 2,
    steps: int = 150,
    runs: int = 500,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    features: Mapping[str, float],
    mask: Tensor | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Teach a small tree of soft splits to answer as the network does, from values that have names (arXiv 1711.09784).

    The paper's splits are filters over all pixels, which nobody reads; here each looks at one value (clinical values
    where cohort and case have them, measures of the images else), which a hard tree chooses. It imitates the network's
    answers, not their probabilities.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        depth: Splits from the root to a leaf, at most.
        steps: Steps of Adam.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to learn from.
        features: Clinical values of the case; measures of the images are used without.
        mask: Region of interest in the image, bool ``(*spatial)``, or None.
        generator: Draws.
        progress: Told the images done.

    Returns:
        The rules of the tree, that of this case first; precision on cases left out.
    """
    at_least(1, depth=depth, steps=steps, batch_size=batch_size)
    at_least(2, runs=runs)
    values, own, names, notes = _described("soft_decision_tree", x, cohort, features, mask)
    question = asked(model, x, score, profile, batch_size)
    answers = question.look(cohort.x, progress)[1].numpy().astype(bool)
    few = int(min(answers.sum(), (~answers).sum()))
    if few < 5:
        raise TargetError(
            f"the model gives the explained answer on {int(answers.sum())} of {len(answers)} images of the cohort; a "
            "tree needs at least 5 with it and 5 without"
        )
    middle, spread = values.mean(0), values.std(0)
    z, here = (values - middle) / spread, (own - middle) / spread
    seed = seed_of(generator)
    held, leaf_of = np.zeros(len(z)), np.zeros(len(z), dtype=np.int64)
    tree = soft_tree(z, answers, depth, steps, seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    for rest, some in folds.split(z, answers):
        held[some] = soft_tree(z[rest], answers[rest], depth, steps, seed).predict(z[some])
    leaf_of = tree.reach(z).argmax(1)
    right = (held > 0.5) == answers
    draws = torch.randint(len(right), (runs, len(right)), generator=generator).numpy()
    spread_ = np.quantile(right[draws].mean(1), [0.025, 0.975])
    mine = int(tree.reach(here[None]).argmax())
    order = [mine, *(k for k in np.argsort(-tree.leaf, kind="stable").tolist() if k != mine)]
    order = [k for k in order if k == mine or (leaf_of == k).any()]
    said = tree.leaf > 0.5
    rules, precision, coverage = [], [], []
    for k in order:
        inside = leaf_of == k
        rules.append(_sentence(tree, k, names, middle, spread, bool(said[k]), k == mine))
        precision.append(float((answers[inside] == said[k]).mean()) if inside.any() else 0.0)
        coverage.append(float(inside.mean()))
    base = max(float(answers.mean()), 1 - float(answers.mean()))
    fidelity = float(right.mean())
    form = Rules(
        rules=tuple(rules),
        precision=torch.tensor(precision),
        coverage=torch.tensor(coverage),
        measures={
            "fidelity: answers as the model on cases left out": fidelity,
            "its lower end (95 %)": float(spread_[0]),
            "its upper end (95 %)": float(spread_[1]),
            "by always giving the commoner answer": base,
            "agreement on this case (1 yes, 0 no)": float(bool(said[mine]) == bool(question.look(x)[1][0])),
        },
    )
    told = tuple(
        f"{names[k]}: {MEASURES[names[k]].text}" for k in dict.fromkeys(tree.where.tolist()) if names[k] in MEASURES
    )
    cautions = ["The precision of a rule is that on the cases it was learned from; the fidelity is on cases left out."]
    if spread_[0] <= base:
        cautions.append(
            "The tree answers as the model does hardly more often than always giving the commoner answer would: these "
            "values do not tell what the model does."
        )
    if not form.measures["agreement on this case (1 yes, 0 no)"]:
        cautions.append("On this very case the tree answers otherwise than the model.")
    return Told(form, (*question.notes, *notes, *told), tuple(cautions))


def _sentence(
    tree: SoftTree, leaf: int, names: tuple[str, ...], middle: Array, spread: Array, answer: bool, here: bool
) -> str:
    """Say a path in words; bounds of one value are joined to the narrower."""
    low: dict[int, float] = {}
    high: dict[int, float] = {}
    for node in np.nonzero(tree.paths[leaf])[0]:
        at = int(tree.where[node])
        bound = float(tree.threshold[node] * spread[at] + middle[at])
        if tree.paths[leaf, node] == 1:
            low[at] = max(bound, low.get(at, -math.inf))
        else:
            high[at] = min(bound, high.get(at, math.inf))
    parts = []
    for at in dict.fromkeys([*low, *high]):
        if at in low and at in high:
            parts.append(f"{names[at]} is between {low[at]:.3g} and {high[at]:.3g}")
        else:
            parts.append(f"{names[at]} is above {low[at]:.3g}" if at in low else f"{names[at]} is below {high[at]:.3g}")
    says = "gives the explained answer" if answer else "does not give the explained answer"
    lead = "This case: if" if here else "If"
    return f"{lead} {' and '.join(parts)}, the model {says}" if parts else f"In every case the model {says}"
