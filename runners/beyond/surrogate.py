"""A simple model of clinical values that stands for the image model's answers over a cohort, and how far it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from runners.beyond.inside import asked, enough, seed_of
from runners.joint import Fused, fused
from runners.models import Wired, run
from runners.owned import Cohort
from runners.registry import Progress, Score
from taxonomy.errors import TargetError

Array = NDArray[np.float64]
KINDS: Final = ("auto", "linear", "boosted")
ITSELF: Final = "the model itself"
"""The kind of a surrogate that is none."""
SECOND: Final = (
    "The values speak of the surrogate, a second model that stands for the image model.",
    "A value that goes with what the image shows counts, even though the model never sees it.",
)
LEAST: Final = 30
"""Cases of a cohort below which nothing is fitted."""
WEAK: Final = 0.5
"""R² on cases left out below which most of the model's answer is not in the values."""


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A model of values that stands for the image model, and what it was fitted to.

    Attributes:
        names: of the V values.
        predict: values ``(n, V)``, none of them NaN, to scores ``(n,)``.
        values: ``(R, V)`` of the cohort; what was unknown is the cohort's median.
        own: ``(V,)`` of the case, likewise.
        answers: ``(R,)`` of the image model on the cohort, the explained score.
        kind: linear, boosted, or :data:`ITSELF`.
        slopes: ``(V,)``, by how much the score rises per unit of each value; None unless linear.
        fidelity: R² on cases left out (five folds). low, high: 95 % interval of it, from bootstrap samples of cases.
        auc: how well its answers on cases left out tell whether the image model answers as it does here, 0.5 by
            chance; NaN where it answers alike on all.
        notes: what was fitted to what.
        cautions: where it stands for the model badly.
    """

    names: tuple[str, ...]
    predict: Callable[[Array], Array]
    values: Array
    own: Array
    answers: Array
    kind: str
    slopes: Array | None
    fidelity: float
    low: float
    high: float
    auc: float
    notes: tuple[str, ...]
    cautions: tuple[str, ...]
    again: Callable[[NDArray[np.int64]], Callable[[Array], Array]]
    """Numbers of cases to ``predict`` of a surrogate of the same kind that was fitted to these alone."""

    @property
    def measures(self) -> dict[str, float]:
        """Return the numbers that say how far it stands for the model."""
        if self.kind == ITSELF:
            return {}
        found = {
            "fidelity of the surrogate (R² on cases left out)": self.fidelity,
            "its lower end (95 %)": self.low,
            "its upper end (95 %)": self.high,
        }
        return found if np.isnan(self.auc) else found | {"AUC of its answers on cases left out": self.auc}


def table(cohort: Cohort, features: Mapping[str, float], method: str) -> tuple[Array, Array, tuple[str, ...]]:
    """Return the clinical values of the cohort ``(R, V)`` and of the case ``(V,)``, and the names of the V.

    What is unknown becomes the cohort's median; what is the same in all cases is left out.

    Raises:
        TargetError: the cohort has no values, too few cases, or no value that differs.
    """
    enough(cohort, LEAST, method)
    if cohort.features is None:
        raise TargetError(
            f"the cohort has no clinical values; {method} needs a table with one row per image, columns named like "
            "the values of the case"
        )
    values: Array = cohort.features.double().cpu().numpy().copy()
    own: Array = np.array([float(features[name]) for name in cohort.feature_names])
    known = ~np.isnan(values)
    middle = np.array([np.median(v[k]) if k.any() else 0.0 for v, k in zip(values.T, known.T, strict=True)])
    values, own = np.where(known, values, middle), np.where(np.isnan(own), middle, own)
    kept = np.nonzero(np.ptp(values, axis=0) > 0)[0]
    if len(kept) == 0:
        raise TargetError("every clinical value is the same in all cases of the cohort; give values that differ")
    return values[:, kept], own[kept], tuple(cohort.feature_names[k] for k in kept)


def stand_in(
    model: nn.Module,
    x: Tensor,
    score: Score,
    profile: Wired,
    cohort: Cohort,
    features: Mapping[str, float],
    *,
    method: str,
    kind: str = "auto",
    batch_size: int,
    generator: torch.Generator,
    progress: Progress,
) -> Surrogate:
    """Fit a model of clinical values to the image model's score over a cohort.

    A model that reads such values beside the image needs none to stand for it: it is asked itself, the image as it is.

    Args:
        model: Network in eval mode.
        x: The image that is explained, ``(1, C, *spatial)``.
        score: What is explained.
        profile: What is known of the model.
        cohort: Images with their clinical values.
        features: Clinical values of the case.
        method: What it is for, for messages.
        kind: linear, boosted, or auto for the one that does better on cases left out.
        batch_size: Images per model call.
        generator: Draws of folds and bootstrap samples.
        progress: Told the images done.

    Raises:
        TargetError: see :func:`table`; or an unknown kind.
        RequirementError: the model is a detector.
    """
    values, own, names = table(cohort, features, method)
    if (reads := fused(model)) is not None:
        return _itself(model, x, score, reads, values, own, names, batch_size, progress)
    question = asked(model, x, score, profile, batch_size)
    scores, alike, _ = question.look(cohort.x, progress)
    found = fitted(
        values, own, names, scores.double().numpy(), alike.numpy().astype(bool), kind=kind, generator=generator
    )
    return replace(found, notes=(*question.notes, *found.notes))


def _itself(
    model: nn.Module,
    x: Tensor,
    score: Score,
    reads: Fused,
    values: Array,
    own: Array,
    names: tuple[str, ...],
    batch_size: int,
    progress: Progress,
) -> Surrogate:
    """Return the model itself as what stands for it; values that are the same in all cases stay the case's own."""
    columns = [reads.names.index(name) for name in names if name in reads.names]
    taken = [number for number, name in enumerate(names) if name in reads.names]

    @torch.no_grad()
    def predict(rows: Array) -> Array:
        found = []
        for part in torch.split(torch.from_numpy(rows[:, taken]), batch_size):
            table_ = reads.table.repeat(len(part), 1)
            table_[:, columns] = part.to(table_)
            with reads.reading(table_):
                outputs = run(model, x.expand(len(part), *x.shape[1:]).clone())
            found.append(score(outputs, torch.zeros(len(part), dtype=torch.long)).double().cpu())
        answers: Array = torch.cat(found).numpy()
        return answers

    answers = predict(values)
    progress(1, 1)
    return Surrogate(
        names=names,
        predict=predict,
        values=values,
        own=own,
        answers=answers,
        kind=ITSELF,
        slopes=None,
        fidelity=1.0,
        low=1.0,
        high=1.0,
        auc=float("nan"),
        notes=("The model reads the values itself: it was asked, with the image as it is.",),
        cautions=(),
        again=lambda _rows: predict,
    )


def fitted(
    values: Array,
    own: Array,
    names: tuple[str, ...],
    answers: Array,
    alike: NDArray[np.bool_],
    *,
    kind: str = "auto",
    generator: torch.Generator,
) -> Surrogate:
    """Fit a surrogate to answers.

    Args:
        values: of the cases, ``(R, V)``, none NaN.
        own: of the case that is explained, ``(V,)``.
        names: of the V values.
        answers: of the model, ``(R,)``.
        alike: the model answers as on the case, ``(R,)``.
        kind: as in :func:`stand_in`.
        generator: Draws of folds and bootstrap samples.

    Raises:
        TargetError: an unknown kind.
    """
    if kind not in KINDS:
        raise TargetError(f"surrogate = {kind!r} was given; {', '.join(KINDS)} are allowed")
    makers: dict[str, Any] = {
        # one strength for all folds would have seen the cases left out: each fit chooses its own
        "linear": make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))),
        "boosted": GradientBoostingRegressor(
            n_estimators=150, learning_rate=0.06, max_depth=3, min_samples_leaf=3, subsample=0.8,
            random_state=seed_of(generator),
        ),
    }  # fmt: skip
    folds = KFold(5, shuffle=True, random_state=seed_of(generator))
    tried = {}
    for name in KINDS[1:] if kind == "auto" else (kind,):
        held = cross_val_predict(makers[name], values, answers, cv=folds)
        tried[name] = (r_squared(answers, held), held)
    best = max(tried, key=lambda name: tried[name][0])
    fidelity, held = tried[best]
    draws = torch.randint(len(answers), (500, len(answers)), generator=generator).numpy()
    spread = [r_squared(answers[rows], held[rows]) for rows in draws]
    model = clone(makers[best]).fit(values, answers)
    slopes = model[-1].coef_ / model[0].scale_ if best == "linear" else None
    what = "linear model (ridge)" if best == "linear" else "model of boosted trees"
    notes = (f"A {what} of {len(names)} clinical values was fitted to the model's score on {len(values)} cases.",)
    caution = (
        f"The surrogate explains {max(0.0, fidelity):.0%} of the model's score on cases left out: most of what the "
        "model sees is not in these values, and what is said here may not hold for it.",
    )
    return Surrogate(
        names=names,
        predict=lambda rows: np.asarray(model.predict(rows), dtype=float),
        values=values,
        own=own,
        answers=answers,
        kind=best,
        slopes=slopes,
        fidelity=fidelity,
        low=float(np.quantile(spread, 0.025)),
        high=float(np.quantile(spread, 0.975)),
        auc=float(roc_auc_score(alike, held)) if 0 < alike.sum() < len(alike) else float("nan"),
        notes=notes,
        cautions=(*(caution if fidelity < WEAK else ()), *SECOND),
        again=lambda rows: clone(makers[best]).fit(values[rows], answers[rows]).predict,
    )


def r_squared(true: Array, said: Array) -> float:
    """Return the share of the variance that is explained; 0 where there is none to explain."""
    spread = float(((true - true.mean()) ** 2).sum())
    return 1 - float(((true - said) ** 2).sum()) / spread if spread > 0 else 0.0
