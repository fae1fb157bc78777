"""Diverse changes of clinical or radiomic values that go along with another answer of a stand-in for the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from torch import Tensor, nn

from runners.asking import at_least
from runners.beyond.inside import asked as asked_anywhere
from runners.beyond.inside import enough, seed_of
from runners.beyond.radiomic import measured_alike
from runners.forms import Changes
from runners.models import Wired
from runners.owned import Cohort
from runners.registry import Progress, Score, Told, insight
from taxonomy.errors import TargetError

FOLDS: Final = 5
"""Parts of the cohort that are held out in turn."""
TREES: Final = 100
"""Trees of the stand-in."""
LEAST: Final = 20
"""Cases with known values that a stand-in is fitted to at least."""


@insight("dice", sizes=True)
def dice(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    ways: int = 4,
    fixed: str = "",
    most: int = 3,
    candidates: int = 4000,
    diversity: float = 1.0,
    runs: int = 100,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    features: Mapping[str, float],
    mask: Tensor | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Find several, different changes of table values under which the answer would be another (arXiv 1905.07697).

    The values are clinical ones, or radiomic measures where none are given. An image model does not read either. So a
    forest is fitted to its answers on the cohort, from the values alone; what is changed are the answers of that
    stand-in. Its fidelity on held-out cases is tested against shuffled
    answers. Candidates take values that the cohort has; from those that reach the other answer, near ones are chosen
    that differ from each other (log-determinant of their similarities), and values that need not change go back.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        ways: Changes to give.
        fixed: Names of values that stay as they are, with commas between, such as age, sex.
        most: Values that a candidate changes at most.
        candidates: Candidates drawn.
        diversity: Weight of the difference between the ways against their nearness to the case.
        runs: Shuffles of the test of the stand-in.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images, with clinical values where there are some.
        features: Clinical values of this case; without them radiomic measures are changed.
        mask: Region of interest to measure in, bool ``(*spatial)``, where the cohort has them too.
        generator: Draws.
        progress: Told what is done.

    Returns:
        The ways, with the chance that the stand-in gives to the explained answer (for a regression: its score).
    """
    at_least(1, ways=ways, most=most, candidates=candidates, runs=runs)
    before, every, names, source = _values(x, cohort, features, mask)
    stay = [one.strip() for one in fixed.split(",") if one.strip()]
    if unknown := [one for one in stay if one not in names]:
        raise TargetError(f"fixed names {', '.join(unknown)}; the cohort has {', '.join(names)}")
    free = [at for at, name in enumerate(names) if name not in stay]
    known = ~every.isnan().any(1)
    enough(Cohort(cohort.x[known]), LEAST, "dice")
    anywhere = asked_anywhere(model, x, score, profile, batch_size)
    scores, own, _ = anywhere.look(cohort.x[known], progress)
    table = every[known]
    deciding = profile.task == "classification"
    y = own.double() if deciding else scores.double()
    if deciding and min(int(own.sum()), int((~own).sum())) < FOLDS:
        raise TargetError(
            f"the model answers {int(own.sum())} of {len(own)} cases of the cohort as explained here; at least {FOLDS} "
            "on either side are needed to fit a stand-in"
        )
    seed = seed_of(generator)
    stand = _Stand(table, y, deciding, seed)
    fidelity, p = stand.tested(generator, runs, progress)
    here = float(stand.answer(before[None])[0])
    border = 0.5 if deciding else float(y.median())
    up = here <= border
    drawn = _candidates(table, before, free, min(most, len(free)), candidates, generator)
    answers = stand.answer(drawn)
    there = (answers > border) if up else (answers < border)
    scale = _scale(table)
    notes = [
        f"Stand-in: a forest of {TREES} trees from {len(names)} values to the model's "
        f"{'answer' if deciding else 'score'} on {len(table)} cases; an image model does not read these values.",
        source,
        f"Wanted: a {'chance of the explained answer' if deciding else 'score'} of the stand-in "
        f"{'above' if up else 'below'} {border:.3g} instead of {here:.3g}. p: against {runs} shuffles.",
    ]
    cautions = [
        "These changes go along with another answer in the cohort; they do not cause it, and no treatment follows.",
    ]
    what = "balanced accuracy" if deciding else "R²"
    if p > 0.05:
        cautions.insert(
            0,
            f"These values do not tell what the model answers ({what} {fidelity:.2f} on held-out cases, p "
            f"{p:.2f}): these changes say nothing about it.",
        )
    measures = {f"fidelity of the stand-in ({what} on held-out cases)": fidelity, "p of the fidelity": p}
    why = "" if there.any() else "no candidate reaches the other answer."
    if deciding and bool(anywhere.look(x)[1][0]) == up:
        why = "the stand-in answers this very case otherwise than the model, so its changes would not be those wanted."
    if why:
        cautions.insert(0, f"No counterfactual was found: {why}")
        form = Changes(names, before, before[None], torch.tensor([here]), {"cf_validity": 0.0} | measures)
        return Told(form, tuple(notes), tuple(cautions))
    chosen = _diverse(drawn[there], before, scale, ways, diversity)
    after = torch.stack([_sparse(one, before, stand, border, up, scale) for one in chosen])
    after = torch.unique(after, dim=0)
    after = after[_distance(after, before, scale).argsort(stable=True)]
    final = stand.answer(after)
    valid = (final > border) if up else (final < border)
    changed = ~torch.isclose(after, before)
    apart = _distance(after[:, None], after[None], scale)
    pairs = max(1, len(after) * (len(after) - 1))
    measures = {
        "cf_validity": float(valid.double().mean()),
        "cf_proximity": float(_distance(after, before, scale).mean()),
        "cf_sparsity": 1 - float(changed.double().mean()),
        "cf_diversity": float(torch.linalg.det(1 / (1 + apart))) if len(after) > 1 else 0.0,
        "mean distance between the ways": float(apart.sum()) / pairs,
    } | measures
    return Told(Changes(names, before, after, final, measures), tuple(notes), tuple(cautions))


def _values(
    x: Tensor, cohort: Cohort, features: Mapping[str, float], mask: Tensor | None
) -> tuple[Tensor, Tensor, tuple[str, ...], str]:
    """Return values of the case ``(V,)`` and of the cohort ``(N, V)``, their names, and where they come from."""
    if features and cohort.features is not None:
        names = cohort.feature_names
        before = torch.tensor([features[name] for name in names], dtype=torch.float64)
        if before.isnan().any():
            raise TargetError("a clinical value of this case is unknown; give all that the cohort has")
        return before, cohort.features.double(), names, "Values: the clinical ones that were given."
    enough(cohort, LEAST, "dice")
    every, before, names, where = measured_alike(x, cohort, mask)
    return (
        before,
        every,
        names,
        f"Values: radiomic measures, as the case, the cohort or both have no clinical ones. {where}",
    )


class _Stand:
    """A forest that stands for the model's answers, from clinical values ``(N, V)``."""

    def __init__(self, table: Tensor, y: Tensor, deciding: bool, seed: int) -> None:
        self.table, self.y, self.deciding, self.seed = table, y, deciding, seed
        self.forest = self._fit(torch.arange(len(y)), y)

    def _fit(self, rows: Tensor, y: Tensor) -> RandomForestClassifier | RandomForestRegressor:
        kind = RandomForestClassifier if self.deciding else RandomForestRegressor
        more = {"class_weight": "balanced"} if self.deciding else {}
        forest = kind(TREES, min_samples_leaf=3, random_state=self.seed, n_jobs=1, **more)
        target = y[rows].numpy()
        return forest.fit(self.table[rows].numpy(), target > 0.5 if self.deciding else target)

    def _say(self, forest: RandomForestClassifier | RandomForestRegressor, table: Tensor) -> Tensor:
        if not self.deciding:
            return torch.from_numpy(forest.predict(table.numpy())).double()
        chances = torch.from_numpy(forest.predict_proba(table.numpy())).double()
        own: Tensor = chances[:, list(forest.classes_).index(True)] if True in forest.classes_ else 0 * chances[:, 0]
        return own

    def answer(self, table: Tensor) -> Tensor:
        """Return chances of the explained answer, or scores, ``(N,)``."""
        return self._say(self.forest, table)

    def tested(self, generator: torch.Generator, runs: int, progress: Progress) -> tuple[float, float]:
        """Return fidelity on held-out cases, and how often shuffled answers reach it.

        The shuffles are of the answers against what the folds say, so that no forest is fitted again.
        """
        order = torch.randperm(len(self.y), generator=generator)
        held = torch.zeros(len(self.y), dtype=torch.float64)
        for fold in range(FOLDS):
            out = order[fold::FOLDS]
            inside = torch.ones(len(self.y), dtype=torch.bool)
            inside[out] = False
            held[out] = self._say(self._fit(inside.nonzero()[:, 0], self.y), self.table[out])
            progress(fold + 1, FOLDS)
        found = self._quality(held, self.y)
        chance = [self._quality(held, self.y[torch.randperm(len(self.y), generator=generator)]) for _ in range(runs)]
        return found, (sum(one >= found for one in chance) + 1) / (runs + 1)

    def _quality(self, held: Tensor, y: Tensor) -> float:
        if not self.deciding:
            left = (held - y).square().sum() / (y - y.mean()).square().sum().clamp(min=1e-12)
            return float(1 - left)
        own = y > 0.5
        right = (held > 0.5) == own
        return float((right[own].double().mean() + right[~own].double().mean()) / 2)


def _scale(table: Tensor) -> Tensor:
    """Return the spread of every value: its median absolute deviation, or the standard deviation where that is 0."""
    mad = (table - table.median(0).values).abs().median(0).values
    return torch.where(mad > 0, mad, table.std(0).clamp(min=1e-9))


def _distance(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Return the mean over the values of their differences, in units of their spread."""
    return ((a - b).abs() / scale).mean(-1)


def _candidates(
    table: Tensor, before: Tensor, free: Sequence[int], most: int, count: int, generator: torch.Generator
) -> Tensor:
    """Return cases like this one with one to ``most`` values of others of the cohort."""
    if not free:
        raise TargetError("every clinical value is fixed; leave at least one that may change")
    found = before.repeat(count, 1)
    many = torch.randint(1, most + 1, (count,), generator=generator)
    for row in range(count):
        for at in torch.randperm(len(free), generator=generator)[: int(many[row])].tolist():
            other = int(torch.randint(len(table), (1,), generator=generator))
            found[row, free[at]] = table[other, free[at]]
    every: Tensor = torch.unique(found, dim=0)
    return every


def _diverse(found: Tensor, before: Tensor, scale: Tensor, ways: int, weight: float) -> Tensor:
    """Choose, one after the other, what is near to the case and unlike those chosen already."""
    far = _distance(found, before, scale)
    order = far.argsort(stable=True)[:400]
    found, far = found[order], far[order]
    changed = ~torch.isclose(found, before)
    chosen = [0]
    while len(chosen) < min(ways, len(found)):
        kernel = 1 / (1 + _distance(found[:, None], found[chosen][None], scale))
        own = kernel[chosen]
        # what a candidate adds to the determinant: 1 - k^T K^-1 k
        gain = 1 - (kernel * torch.linalg.solve(own + 1e-9 * torch.eye(len(own)), kernel.T).T).sum(1)
        same = (changed[:, None] == changed[chosen][None]).all(2).any(1)
        value = weight * gain.clamp(min=1e-12).log() - far - same.double()
        value[chosen] = -torch.inf
        chosen.append(int(value.argmax()))
    return found[chosen]


def _sparse(one: Tensor, before: Tensor, stand: _Stand, border: float, up: bool, scale: Tensor) -> Tensor:
    """Put values back that need not change, the smallest change first."""
    kept = one.clone()
    for at in ((one - before).abs() / scale).argsort(stable=True).tolist():
        if torch.isclose(kept[at], before[at]):
            continue
        tried = kept.clone()
        tried[at] = before[at]
        answer = float(stand.answer(tried[None])[0])
        if (answer > border) if up else (answer < border):
            kept = tried
    return kept
