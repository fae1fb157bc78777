"""Forms of explanations that are not a map: concepts, cases, counterfactuals, projections, rules, sentences, shares.

Every form is plain data: tensors, words and numbers, so that one pair of functions stores them all. Images and maps are
on the grid of the model's input, as the model sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

Measures: TypeAlias = Mapping[str, float]
"""Name of a number to the number, as it is shown: what was measured of the explanation itself."""


@dataclass(frozen=True, eq=False)
class Concepts:
    """How much each concept counts.

    Attributes:
        names: of the K concepts.
        scores: ``(K,)``.
        what: what a score is, as a phrase.
        low: ``(K,)`` lower end of the confidence interval. high: its upper end.
        p_values: ``(K,)``, against what is said in the notes.
        neutral: the score of a concept that does not count.
        patches: examples of each concept, ``(K, P, C, *spatial)``.
        maps: where each concept lies in the image, ``(K, *spatial)``.
        measures: of the explanation as a whole.
    """

    names: tuple[str, ...]
    scores: Tensor
    what: str
    low: Tensor | None = None
    high: Tensor | None = None
    p_values: Tensor | None = None
    neutral: float | None = None
    patches: Tensor | None = None
    maps: Tensor | None = None
    measures: Measures = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Cases:
    """Cases of the cohort that explain this one.

    Attributes:
        index: ``(N,)`` int64, their numbers in the cohort, in the order to show.
        scores: ``(N,)``.
        what: what a score is, as a phrase.
        roles: of each, why it is shown ("most alike", "of another class", "supports", "opposes", "prototype" …).
        labels: what each is known to be; empty when the cohort has no labels.
        names: as the cohort calls them; empty when it does not.
        images: ``(N, C, *spatial)``.
        maps: where in the explained image it is like the case, ``(N, *spatial)``.
        case_maps: where in the case it is like the image, ``(N, *spatial)``.
        measures: of the explanation as a whole.
    """

    index: Tensor
    scores: Tensor
    what: str
    roles: tuple[str, ...]
    labels: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    images: Tensor | None = None
    maps: Tensor | None = None
    case_maps: Tensor | None = None
    measures: Measures = field(default_factory=dict)

    def name(self, at: int) -> str:
        """Return what to call a case: as the cohort does, or its number there."""
        return self.names[at] if self.names else f"case {int(self.index[at]) + 1} of the cohort"


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """What would have to look different, as a series of images.

    Attributes:
        images: ``(F, C, *spatial)``, from one end to the other.
        scores: ``(F,)`` of the model on each.
        start: the image that stands for the unchanged one (its reconstruction, where there is a generator).
        chosen: the counterfactual.
        original: ``(C, *spatial)``.
        measures: validity, proximity, sparsity, plausibility.
    """

    images: Tensor
    scores: Tensor
    start: int
    chosen: int
    original: Tensor
    measures: Measures = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Changes:
    """Which values of a table would have to be different: one or more ways.

    Attributes:
        names: of the V variables.
        before: ``(V,)``.
        after: ``(N, V)``.
        scores: ``(N,)`` of the model on each way.
        measures: validity, proximity, sparsity, diversity.
    """

    names: tuple[str, ...]
    before: Tensor
    after: Tensor
    scores: Tensor
    measures: Measures = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Projection:
    """Where the case lies among the cohort.

    Attributes:
        points: ``(N, 2)`` of the cohort. here: ``(2,)`` of the case.
        axes: names of the two axes.
        labels: of the cohort's cases (known label or cluster); empty when there are none.
        names: as the cohort calls them; empty when it does not.
        images: ``(N, C, *spatial)``, small.
        measures: how far the picture can be trusted.
    """

    points: Tensor
    here: Tensor
    axes: tuple[str, str]
    labels: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    images: Tensor | None = None
    measures: Measures = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Rules:
    """Rules that stand for the model.

    Attributes:
        rules: one sentence each, the one that holds for this case first.
        precision: ``(R,)``, how often the model answers as the rule says where it applies.
        coverage: ``(R,)``, how often it applies.
        maps: bool ``(R, *spatial)``, what a rule speaks of.
        measures: fidelity of all rules together, and the like.
    """

    rules: tuple[str, ...]
    precision: Tensor | None = None
    coverage: Tensor | None = None
    maps: Tensor | None = None
    measures: Measures = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Rationale:
    """Sentences, each tied to a quantity that was measured.

    Attributes:
        sentences: the text.
        quantities: what each rests on, as a phrase with its unit.
        values: ``(S,)`` of these quantities.
        maps: bool ``(S, *spatial)``, the region each speaks of; all False where it speaks of none.
        drops: ``(S,)``, how far the score falls when the region is removed; NaN without a region.
        holds: of each, whether its check was passed.
        measures: of the text as a whole.
    """

    sentences: tuple[str, ...]
    quantities: tuple[str, ...]
    values: Tensor
    maps: Tensor | None = None
    drops: Tensor | None = None
    holds: tuple[bool, ...] = ()
    measures: Measures = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each part of the input adds: modalities, sequences, clinical variables, radiomic features.

    Attributes:
        names: of the parts.
        values: ``(P,)``.
        what: what a value is, as a phrase.
        low: ``(P,)`` lower end of the confidence interval. high: its upper end.
        inputs: what the case has of each, as words; empty where that makes no sense.
        map: the image's own map beside it, ``(*spatial)``.
        grid: values of each part at which its curve is known, ``(P, Q)``, in rising order.
        curves: the mean answer there, ``(P, Q)``.
        measures: total, completeness and the like.
    """

    names: tuple[str, ...]
    values: Tensor
    what: str
    low: Tensor | None = None
    high: Tensor | None = None
    inputs: tuple[str, ...] = ()
    map: Tensor | None = None
    grid: Tensor | None = None
    curves: Tensor | None = None
    measures: Measures = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Units:
    """What units inside the model respond to.

    Attributes:
        names: of the U units or features.
        activations: ``(U,)`` on this image, or on what was made for them.
        what: what an activation is, as a phrase.
        images: made to excite each, ``(U, C, *spatial)``.
        patches: of the cohort that excite each most, ``(U, P, C, *spatial)``.
        maps: where each responds in the image, ``(U, *spatial)``.
        measures: of the explanation as a whole.
    """

    names: tuple[str, ...]
    activations: Tensor
    what: str
    images: Tensor | None = None
    patches: Tensor | None = None
    maps: Tensor | None = None
    measures: Measures = field(default_factory=dict)


Form: TypeAlias = Concepts | Cases | Counterfactual | Changes | Projection | Rules | Rationale | Contributions | Units
FORMS: Final[Mapping[str, type[Form]]] = {
    one.__name__.lower(): one
    for one in (Concepts, Cases, Counterfactual, Changes, Projection, Rules, Rationale, Contributions, Units)
}
"""Name of a form to its type."""


def name_of(form: Form) -> str:
    """Return the name of a form, as the store and the exports have it."""
    return type(form).__name__.lower()


def packed(form: Form) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Take a form apart into plain facts, fit for JSON, and tensors by name."""
    facts: dict[str, Any] = {}
    arrays: dict[str, Tensor] = {}
    for one in fields(form):
        value = getattr(form, one.name)
        if isinstance(value, Tensor):
            arrays[one.name] = value
        elif isinstance(value, Mapping):
            facts[one.name] = {key: number if number == number else None for key, number in value.items()}
        elif value is not None:
            facts[one.name] = list(value) if isinstance(value, tuple) else value
    return facts, arrays


def unpacked(name: str, facts: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> Form:
    """Put a form together again; a measure that was not a number is NaN."""
    kind: Any = FORMS[name]
    plain: dict[str, Any] = {
        key: tuple(value)
        if isinstance(value, list)
        else {k: float("nan") if v is None else v for k, v in value.items()}
        if isinstance(value, Mapping)
        else value
        for key, value in facts.items()
    }
    form: Form = kind(**plain, **arrays)
    return form


def checked(form: Form) -> None:
    """Hold a form to its promises: finite where it must be, parts of one number.

    Raises:
        ValueError: it breaks one; the message says which.
    """
    facts, arrays = packed(form)
    for name, array in arrays.items():
        may_be_nan = name in ("p_values", "drops", "low", "high")
        if not may_be_nan and array.is_floating_point() and not torch.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite numbers")
    counted = [(n, len(facts[n])) for n in ("names", "roles", "rules", "sentences", "quantities") if facts.get(n)]
    first = {"scores", "values", "index", "precision", "coverage", "low", "high", "p_values", "drops", "activations"}
    parts = {"patches", "maps", "case_maps"} if not isinstance(form, Projection) else {"points", "images"}
    first |= {"grid", "curves"}
    own = {"images"} if isinstance(form, Cases | Units | Counterfactual) else set()
    if not isinstance(form, Changes):
        counted += [(n, len(a)) for n, a in arrays.items() if n in first | parts | own]
    if len({count for _, count in counted}) > 1:
        raise ValueError("its parts differ in number: " + ", ".join(f"{name} {count}" for name, count in counted))


MOST: Final = 10
"""Lines that a form gives in words at most."""


def in_words(form: Form) -> tuple[str, ...]:
    """Return what a form says, a line each, the strongest first; what is left out is counted."""
    lines = list(_WORDS[type(form)](form))
    more = len(lines) - MOST
    return (*lines[:MOST], *((f"and {more} more",) if more > 0 else ()))


def _ranged(value: Tensor, low: Tensor | None, high: Tensor | None, at: int) -> str:
    interval = "" if low is None or high is None else f" ({float(low[at]):.3g} to {float(high[at]):.3g})"
    return f"{float(value[at]):.3g}{interval}"


def _order(values: Tensor, neutral: float = 0.0) -> list[int]:
    order: list[int] = (values - neutral).abs().argsort(descending=True, stable=True).tolist()
    return order


def _say_concepts(form: Concepts) -> Iterator[str]:
    for at in _order(form.scores, form.neutral or 0.0):
        p = "" if form.p_values is None or form.p_values[at].isnan() else f", p {float(form.p_values[at]):.2g}"
        yield f"{form.names[at]}: {form.what} {_ranged(form.scores, form.low, form.high, at)}{p}"


def _say_cases(form: Cases) -> Iterator[str]:
    for at in range(len(form.index)):
        label = f", {form.labels[at]}" if form.labels and form.labels[at] else ""
        yield f"{form.roles[at]}: {form.name(at)}{label}; {form.what} {float(form.scores[at]):.3g}"


def _say_counterfactual(form: Counterfactual) -> Iterator[str]:
    before, after = float(form.scores[form.start]), float(form.scores[form.chosen])
    yield f"the score goes from {before:.3g} to {after:.3g} in {len(form.scores)} images"


def _say_changes(form: Changes) -> Iterator[str]:
    for at, after in enumerate(form.after):
        changed = [
            f"{name} {float(old):.4g} → {float(new):.4g}"
            for name, old, new in zip(form.names, form.before, after, strict=True)
            if not torch.isclose(old, new)
        ]
        yield f"{', '.join(changed) or 'nothing changed'}: score {float(form.scores[at]):.3g}"


def _say_projection(form: Projection) -> Iterator[str]:
    near = torch.linalg.vector_norm(form.points - form.here, dim=1).argsort()[:5].tolist()
    around = [form.labels[at] for at in near if form.labels]
    yield f"among {len(form.points)} cases" + (f"; nearest in the picture: {', '.join(around)}" if around else "")


def rules_in_words(form: Rules) -> Iterator[str]:
    """Yield each rule with its precision and coverage, where they are known."""
    for at, rule in enumerate(form.rules):
        known = (("precision", form.precision), ("coverage", form.coverage))
        told = ", ".join(f"{name} {float(values[at]):.0%}" for name, values in known if values is not None)
        yield f"{rule} ({told})" if told else rule


def _say_rationale(form: Rationale) -> Iterator[str]:
    for at, sentence in enumerate(form.sentences):
        failed = "; not confirmed by its check" if form.holds and not form.holds[at] else ""
        yield f"{sentence} [{form.quantities[at]}: {float(form.values[at]):.3g}{failed}]"


def _say_contributions(form: Contributions) -> Iterator[str]:
    for at in _order(form.values):
        given = f" = {form.inputs[at]}" if form.inputs else ""
        yield f"{form.names[at]}{given}: {form.what} {_ranged(form.values, form.low, form.high, at)}"


def _say_units(form: Units) -> Iterator[str]:
    for at in _order(form.activations):
        yield f"{form.names[at]}: {form.what} {float(form.activations[at]):.3g}"


_WORDS: Final[Mapping[type, Callable[[Any], Iterator[str]]]] = {
    Concepts: _say_concepts,
    Cases: _say_cases,
    Counterfactual: _say_counterfactual,
    Changes: _say_changes,
    Projection: _say_projection,
    Rules: rules_in_words,
    Rationale: _say_rationale,
    Contributions: _say_contributions,
    Units: _say_units,
}
