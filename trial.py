"""Measured on your case: which of the recommended methods hold up on one's own model and images, within a time budget.

Like the faces this module sees both the recommender and the runners; it prints and draws nothing. :func:`trial` gives
ever fuller :class:`Trial` states, so whoever stops it, or runs out of time, keeps all that is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final

import torch
from torch import Tensor

from recommender import Answer, Query, answer, parse
from recommender import Measured as Row
from recommender.case import failed, standings
from runners import Model, Wired, discoverable, explainers, metrics, runnable, unmet, unmet_by
from runners.case import Measured, Result, Subject, explained, input_spacing, scored
from runners.clock import Clock, Stop
from runners.models import preserved, run
from runners.registry import Progress, parameters
from runners.rules import composites
from taxonomy import KB, AtlasError
from taxonomy.schema import Statement
from taxonomy.trust import weights

MOST: Final = 8
"""Methods that are tried at most: more is no help in choosing one."""
PER_FAMILY: Final = 2
"""Methods of one family, unless the question names them: five kinds of CAM tell little more than two."""
LEADERS: Final = 3
"""The best of so many families are tried at least, if they fit."""
ONE_SHARE: Final = 0.3
"""Share of the budget that one of the leaders may take; a dearer one gives way to the next best that is not."""
ASKING_SHARE: Final = 0.2
"""Share that the curves of one method may take; where they would take more they get fewer steps, then are fewer."""
PLANNED_SHARE: Final = 0.5
"""Share that maps and first scores may take: the rest is for sanity and robustness."""
MOST_SHARE: Final = 0.9
"""Share that they may take where there would be fewer than the leaders otherwise, or a method is named."""
CHECKED_SHARE: Final = 0.7
"""Share at which the checks stop when there is something to tune."""
METRICS: Final = (
    "deletion",
    "insertion",
    "sparseness",
    "pointing_game",
    "relevance_mass_accuracy",
    "mprt",
    "max_sensitivity",
)
"""What is measured: a few of each property, as time is short; more of one property would only outvote the others."""
STEPS: Final = (32, 16, 8)
"""Steps of a deletion or insertion curve, the most that the budget allows."""
BACKWARD: Final = 2.0
"""What a backward pass costs, in forward passes."""
OVERHEAD: Final = 0.05
"""Seconds that any explanation costs beside its passes."""

TUNED: Final[Mapping[str, tuple[Any, ...]]] = {
    "baseline": ("black", "mean", "blur"),
    "noise": (0.05, 0.15, 0.3),
    "segments": (25, 50, 100),
    "window": (1 / 16, 1 / 4),
    "cells": (6, 12),
    "heads": ("mean", "max", "min"),
    "discard": (0.0, 0.5, 0.9),
    "composite": tuple(composites()),
    "layer": (),
}
"""Parameter to the values that are tried; a window is a share of the shortest side, a layer is one near the default.
Tuned is what a method chooses by itself, or what has its default among these: elsewhere the name means other things."""


@dataclass(frozen=True)
class Skipped:
    """What was not done, and why.

    Attributes:
        method: method id.
        metric: metric id; None for the map itself.
        why: the reason.
        seconds: what it would have taken, as far as known.
        setting: of what setting, if not of the default.
    """

    method: str
    metric: str | None
    why: str
    seconds: float | None = None
    setting: str = ""


@dataclass(frozen=True, eq=False)
class Attempt:
    """One setting of a method: mean scores over the images, and how it stood among the settings (-1 to 1)."""

    parameters: Mapping[str, Any]
    scores: Mapping[str, float]
    share: float
    results: tuple[Result, ...]


@dataclass(frozen=True, eq=False)
class Tuning:
    """Settings that were tried of one method, the default first."""

    method: str
    tried: tuple[Attempt, ...]

    @property
    def best(self) -> Attempt:
        """The setting with the best standing; the default where no other beats it."""
        return max(self.tried, key=lambda one: one.share)


@dataclass(frozen=True)
class Change:
    """A method that changed its place among those tried, and why."""

    method: str
    before: int
    after: int
    text: str


@dataclass(frozen=True)
class Cell:
    """A score in the table of a trial: the mean over the images.

    Attributes:
        text: the number.
        fails: the method fails the randomisation test by it.
        best: no other method is better by it.
    """

    text: str
    fails: bool = False
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A method in the table of a trial.

    Attributes:
        method: method id.
        here: place as measured. papers: place among these by the literature alone.
        cells: one for each of ``Trial.heads``.
        seconds: what one explanation took.
    """

    method: str
    here: int
    papers: int
    cells: tuple[Cell, ...]
    seconds: float


ARROWS: Final[Mapping[str | None, str]] = {"higher": " ↑", "lower": " ↓", None: ""}


@dataclass(frozen=True, eq=False)
class Trial:
    """What was tried and measured so far.

    Attributes:
        kb: the knowledge base.
        subjects: what was explained.
        before: the answer from the literature, for this model.
        rank: gives the answer again, with measured rows.
        results: of every subject what came of each method.
        budget: seconds it might take. seconds: it took so far.
        pass_seconds: one forward pass of one image.
        planned: methods to be tried, cheap ones first.
        skipped: what was not done, and why.
        tuned: settings that were tried; they do not count in the ranking, where all methods have their defaults.
        ended: why it ended before all was done; None when all was done, or is still to do.
    """

    kb: KB
    subjects: tuple[Subject, ...]
    before: Answer
    rank: Callable[[Sequence[Row]], Answer]
    results: tuple[tuple[Result, ...], ...]
    budget: float
    seconds: float
    pass_seconds: float
    planned: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    tuned: tuple[Tuning, ...] = ()
    ended: str | None = None

    @cached_property
    def measured(self) -> tuple[Row, ...]:
        """All scores, as the recommender takes them."""
        return tuple(
            row for number, found in enumerate(self.results) for row in measured_rows(found, str(number), self.kb)
        )

    @cached_property
    def after(self) -> Answer:
        """The answer with what was measured."""
        return self.rank(self.measured)

    @cached_property
    def tried(self) -> tuple[str, ...]:
        """Methods that gave a map with something on it, best first as measured."""
        done = {one.method for found in self.results for one in found if one.explanation and not blank(one)}
        return tuple(one.method for one in self.after.recommendations if one.method in done)

    @cached_property
    def literature(self) -> tuple[str, ...]:
        """The same methods as the literature alone orders them."""
        return tuple(one.method for one in self.before.recommendations if one.method in self.tried)

    @cached_property
    def failed(self) -> Mapping[str, tuple[str, ...]]:
        """Method to the metrics by which it fails the randomisation test."""
        return failed(standings(self.measured, self.kb), self.kb, self.subjects[0].wired.task)

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """Methods whose place among those tried changed, as the new order has them, with the strongest reasons."""
        found = []
        after = {one.method: one for one in self.after.recommendations}
        for place, method in enumerate(self.tried, 1):
            was = self.literature.index(method) + 1
            if was == place:
                continue
            sign = 1 if place < was else -1
            why = [
                r.text.rstrip(".") for r in after[method].reasons if r.criterion == "measured" and r.points * sign > 0
            ]
            because = "; ".join(why[:2]) or f"others did {'worse' if sign > 0 else 'better'}"
            verb = "rose" if sign > 0 else "fell"
            found.append(
                Change(method, was, place, f"{self.kb.methods[method].name} {verb} from {was} to {place}: {because}.")
            )
        return tuple(found)

    @cached_property
    def heads(self) -> Mapping[str, str]:
        """Metrics that were measured, and their short names with the direction in which they are better."""
        found = {}
        for metric in dict.fromkeys(row.metric for row in self.measured):
            about = self.kb.metrics[metric]
            found[metric] = min((about.name.split(" (")[0], *about.aliases), key=len) + ARROWS[about.direction]
        return found

    @cached_property
    def table(self) -> tuple[Line, ...]:
        """What was measured, best first."""
        found = standings(self.measured, self.kb)

        def cell(method: str, metric: str) -> Cell:
            own = found.get(method, {}).get(metric)
            if own is None:
                return Cell("–")
            return Cell(f"{own.value:.2f}", metric in self.failed.get(method, ()), own.place < 2 and own.of > 1)

        lines = []
        for place, method in enumerate(self.tried, 1):
            took = [
                one.explanation.seconds
                for each in self.results
                for one in each
                if one.method == method and one.explanation
            ]
            papers, seconds = self.literature.index(method) + 1, sum(took) / len(took)
            lines.append(Line(method, place, papers, tuple(cell(method, one) for one in self.heads), seconds))
        return tuple(lines)

    @cached_property
    def warnings(self) -> tuple[tuple[str, Statement], ...]:
        """Cautions that come from the measurements, with the name of the method."""
        return tuple(
            (one.name, caution)
            for one in self.after.recommendations
            if one.method in self.tried
            for caution in one.cautions
            if caution not in self.kb.methods[one.method].limitations
        )

    def kept(self, number: int) -> list[Result]:
        """Results of a subject, and those of settings that beat the default."""
        better = [one.best.results[number] for one in self.tuned if one.best.parameters]
        return [*self.results[number], *better]

    def as_json(self) -> dict[str, Any]:
        """Return the public JSON."""
        return {
            "budget_s": self.budget,
            "seconds": round(self.seconds, 2),
            "forward_pass_s": round(self.pass_seconds, 5),
            "ended": self.ended,
            "images": [
                {"sha256": one.case.image.sha256, "source": one.case.source, "mask": one.region is not None}
                for one in self.subjects
            ],
            "model": dict(self.subjects[0].case.model),
            "tried": [
                {
                    "method": one,
                    "place": place,
                    "literature": self.literature.index(one) + 1,
                    "failed": list(self.failed.get(one, ())),
                }
                for place, one in enumerate(self.tried, 1)
            ],
            "changes": [vars(one) for one in self.changes],
            "scores": [
                {"image": number, "method": one.method, **vars(score)}
                for number, found in enumerate(self.results)
                for one in found
                for score in one.measured
            ],
            "errors": [
                {"image": number, "method": one.method, "error": one.error}
                for number, found in enumerate(self.results)
                for one in found
                if one.error
            ],
            "skipped": [vars(one) for one in self.skipped],
            "tuned": [
                {
                    "method": one.method,
                    "best": dict(one.best.parameters),
                    "tried": [
                        {"parameters": dict(each.parameters), "scores": dict(each.scores), "standing": each.share}
                        for each in one.tried
                    ],
                    "note": FLATTERS,
                }
                for one in self.tuned
            ],
        }


FLATTERS: Final = (
    "Tuned on the very images that judge it: these scores flatter. Check the setting on other images. The ranking "
    "compares all methods at their defaults."
)


# --- what was measured ------------------------------------------------------------------------------------------------


def blank(result: Result) -> bool:
    """Whether a map is the same everywhere: its pixels have no order, and what is measured of it is chance."""
    return result.explanation is not None and bool(result.explanation.values.amin() == result.explanation.values.amax())


def measured_rows(results: Sequence[Result], image: str, kb: KB, label: str | None = None) -> Iterator[Row]:
    """Yield the scores of one image as the ranking takes them, with how far each metric is trusted.

    Args:
        results: what came of each method.
        image: name of the image; only scores of one image are compared.
        kb: the knowledge base.
        label: stands for the method.
    """
    trusted = weights(kb)
    for one in results:
        for score in one.measured:
            if score.value is not None:
                yield Row(label or one.method, score.metric, score.value, image, trusted.get(score.metric, 1.0))


# --- what is tried ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A method that could be tried; ``seconds`` for all images, None where nobody knows."""

    method: str
    family: str
    seconds: float | None
    named: bool = False


def choose(candidates: Sequence[Candidate], budget: float) -> list[Candidate]:
    """Return what is tried, cheap ones first: the best of three families, then further leaders that fit.

    Args:
        candidates: best first.
        budget: seconds.
    """
    chosen: list[Candidate] = []

    def take(share: float, wanted: Callable[[Candidate, int], bool]) -> None:
        for one in candidates:
            kin = sum(one.family == other.family for other in chosen)
            cost = sum(c.seconds or 0.0 for c in (*chosen, one))
            known = one.named or one.seconds is not None
            if one not in chosen and known and len(chosen) < MOST and cost <= share * budget and wanted(one, kin):
                chosen.append(one)

    take(MOST_SHARE, lambda one, _: one.named)
    take(
        MOST_SHARE,
        lambda one, kin: not kin and len(chosen) < LEADERS and (one.seconds or 0.0) <= ONE_SHARE * budget,
    )
    take(MOST_SHARE, lambda _, kin: not kin and len(chosen) < LEADERS)
    take(PLANNED_SHARE, lambda _, kin: kin < PER_FAMILY)
    return sorted(chosen, key=lambda one: (one.seconds is None, one.seconds or 0.0))


def settings(method: str, wired: Wired, shape: Sequence[int]) -> list[dict[str, Any]]:
    """Return the settings to try of a method beside its default, one parameter changed at a time.

    Args:
        method: a method id with an explainer.
        wired: what the model offers, for layers.
        shape: spatial shape of the input.
    """
    found: list[dict[str, Any]] = []
    for name, default in parameters(explainers[method]).items():
        values: Sequence[Any] = TUNED.get(name, ())
        if name == "layer" and default is None and wired.place is not None:
            names = list(dict.fromkeys(place.name for place in wired.places))
            at = names.index(wired.place.name)
            values = [*names[max(0, at - 2) : at], *names[at + 1 : at + 2]]
        elif name == "window":
            values = [max(2, round(share * min(shape))) for share in values]
        if default is None or default in values:
            found += [{name: value} for value in values if value != default]
    return found


class _Work:
    """The results so far, and how they grow."""

    def __init__(
        self,
        kb: KB,
        model: Model,
        subjects: Sequence[Subject],
        seed: int,
        given: Mapping[str, Any],
        clock: Clock,
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self.kb, self.model, self.subjects, self.seed, self.given = kb, model, subjects, seed, given
        self.clock, self.progress = clock, progress
        self.results: list[dict[str, Result]] = [{} for _ in subjects]
        self.skipped: list[Skipped] = []
        self.tuned: list[Tuning] = []
        self.late = False
        masks = all(one.region is not None for one in subjects)
        owned = {"reference_data": given.get("reference") is not None, "retraining": bool(given.get("members"))}
        lacking = {need for need, there in {"mask": masks, **owned}.items() if not there}
        usable = [m for m in METRICS if not lacking & set(kb.metrics[m].needs)]
        needs = {m: set(kb.metrics[m].needs) for m in usable}
        self.free = [m for m in usable if not needs[m] & {"model", "explainer"}]
        self.asking = [m for m in usable if "model" in needs[m] and "explainer" not in needs[m]]
        self.repeating = sorted(
            (m for m in usable if "explainer" in needs[m]), key=lambda m: kb.metrics[m].property != "randomisation"
        )
        self.forward = _forward_seconds(model, subjects[0].x)
        for self.steps in STEPS:
            if self.asking_seconds(self.steps) <= ASKING_SHARE * clock.budget:
                break
        else:
            self.asking = self.asking[-1:]

    def asking_seconds(self, steps: int) -> float:
        """What the metrics that ask the model cost for one method, on all images."""
        return len(self.subjects) * len(self.asking) * (steps + 1) * self.forward

    def candidate(self, method: str, named: bool) -> Candidate:
        entry = self.kb.methods[method]
        own = self.seconds(method)
        total = None if own is None else len(self.subjects) * own + self.asking_seconds(self.steps)
        return Candidate(method, entry.family, total, named)

    def seconds(self, method: str) -> float | None:
        """Estimate what one explanation takes; None where its passes are not known."""
        entry = self.kb.methods[method]
        if entry.cost.passes is None:
            return None
        each = self.forward * ((1 + BACKWARD) / 2 if "gradients" in entry.requires.needs else 1.0)
        return OVERHEAD + entry.cost.passes * each

    def told(self, words: str) -> Progress:
        """Return the progress of one piece of work; it is where the work is stopped."""

        def report(done: int, total: int) -> None:
            self.clock.check()
            if self.progress is not None:
                self.progress(words, done, total)

        self.clock.check()
        report(0, 1)
        return report

    def explain(self, method: str, number: int, **options: Any) -> Result:
        one = self.subjects[number]
        return explained(
            self.model,
            one.x,
            method,
            one.target,
            known=one.wired,
            seed=self.seed,
            progress=self.told(self.words(method, number)),
            **self.given,
            **options,
        )

    def score(self, metric: str, result: Result, number: int) -> Measured:
        one = self.subjects[number]
        options = {"steps": self.steps} if "steps" in parameters(metrics[metric]) else {}
        words = f"{self.words(result.method, number)}: {self.kb.metrics[metric].name}"
        return scored(
            metric,
            self.model,
            one.x,
            result,
            one.target,
            one.region,
            self.kb,
            seed=self.seed,
            spacing=input_spacing(one.case.image, tuple(one.x.shape[2:]), one.case.fit),
            progress=self.told(words),
            **self.given,
            **options,
        )

    def words(self, method: str, number: int) -> str:
        name = self.kb.methods[method].name
        return name if len(self.subjects) == 1 else f"{name}, image {number + 1} of {len(self.subjects)}"

    def skip(self, method: str, metric: str | None, why: str, seconds: float | None = None) -> None:
        self.skipped.append(Skipped(method, metric, why, seconds))

    def first_scores(self, methods: Sequence[str]) -> Iterator[None]:
        """Explain every image by every method and measure what is quick, image by image."""
        for number, results in enumerate(self.results):
            for method in methods:
                try:
                    results[method] = self.explain(method, number)
                except Stop:
                    self.skip(method, None, self.why())
                    continue
                yield
                if results[method].explanation is None:
                    continue
                if blank(results[method]):
                    self.skip(method, None, "it is the same everywhere, so it says nothing and nothing was measured")
                    continue
                for metric in (*self.free, *self.asking):
                    self.add(metric, method, number)
                yield

    def checks(self) -> Iterator[None]:
        """Measure what explains again, sanity before robustness, the quickest methods first, as time allows."""
        for metric in self.repeating:
            known = parameters(metrics[metric])
            repeats = next((known[name] for name in ("stages", "samples", "steps") if name in known), 1)
            for number, results in enumerate(self.results):
                done = []
                for one in results.values():
                    if (
                        one.explanation is not None
                        and not blank(one)
                        and metric not in {s.metric for s in one.measured}
                    ):
                        took = one.explanation.seconds  # the first of its kind also warms up
                        done.append((min(took, 3 * (self.seconds(one.method) or took)), one.method))
                for seconds, method in sorted(done):
                    if repeats * seconds > self.clock.left and not self.clock.wished:
                        self.late = True
                        self.skip(method, metric, "too little time was left", repeats * seconds)
                    elif self.add(metric, method, number):
                        yield

    def add(self, metric: str, method: str, number: int) -> bool:
        """Measure, and add it to the result; say whether there was time."""
        results = self.results[number]
        try:
            score = self.score(metric, results[method], number)
        except Stop:
            self.skip(method, metric, self.why())
            return False
        results[method] = replace(results[method], measured=(*results[method].measured, score))
        return True

    def why(self) -> str:
        self.late = self.late or not self.clock.wished
        return "you stopped it" if self.clock.wished else "the time was up"

    def tune(self, methods: Sequence[str]) -> Iterator[None]:
        """Try other settings of the first methods that have any, judged by the metrics that ask the model."""
        shape = self.subjects[0].x.shape[2:]
        tunable = [method for method in methods if settings(method, self.subjects[0].wired, shape)]
        for method in tunable[:LEADERS]:
            defaults = [results.get(method) for results in self.results]
            whole = [one for one in defaults if one is not None and one.explanation is not None]
            if len(whole) < len(defaults):
                continue
            tried: list[tuple[dict[str, Any], tuple[Result, ...]]] = [({}, tuple(whole))]
            for options in settings(method, self.subjects[0].wired, shape):
                try:
                    found = tuple(self.attempt(method, number, options) for number in range(len(self.subjects)))
                except Stop:
                    told = ", ".join(f"{name}={value}" for name, value in options.items())
                    self.skipped.append(Skipped(method, None, self.why(), setting=told))
                    continue
                if all(one.explanation for one in found):
                    tried.append((options, found))
                self.tuned = [one for one in self.tuned if one.method != method] + [self.tuning(method, tried)]
                yield

    def attempt(self, method: str, number: int, options: dict[str, Any]) -> Result:
        result = self.explain(method, number, **options)
        if result.explanation is None:
            return result
        return replace(result, measured=tuple(self.score(metric, result, number) for metric in self.asking))

    def tuning(self, method: str, tried: Sequence[tuple[dict[str, Any], tuple[Result, ...]]]) -> Tuning:
        rows = [
            row
            for label, (_, found) in enumerate(tried)
            for number, one in enumerate(found)
            for row in measured_rows([one], str(number), self.kb, str(label))
            if row.metric in self.asking
        ]
        places = standings(rows, self.kb)
        attempts = []
        for label, (options, found) in enumerate(tried):
            own = places.get(str(label), {})
            share = sum(one.share for one in own.values()) / len(own) if own else -1.0
            attempts.append(Attempt(options, {metric: one.value for metric, one in own.items()}, share, found))
        return Tuning(method, tuple(attempts))


def _forward_seconds(model: Model, x: Tensor) -> float:
    """Time one image in a batch of four (a volume alone), after a first pass that warms up."""
    many = x.expand(4 if x.ndim == 4 else 1, *x.shape[1:]).clone()
    with preserved(model), torch.no_grad():
        run(model, many.clone())
        start = time.perf_counter()
        run(model, many.clone())
    return (time.perf_counter() - start) / len(many)


def trial(
    question: str | Query,
    kb: KB,
    model: Model,
    subjects: Sequence[Subject],
    *,
    budget: float = 60.0,
    tune: bool = False,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Trial]:
    """Try the recommended methods on the user's own model and images, measure them, and rank again.

    Args:
        question: words, or a query; where it names no modality, that of the first image counts.
        kb: the knowledge base.
        model: the model.
        subjects: the images, from :func:`runners.case.subject`.
        budget: seconds from now on; what is running then is stopped and what is done is kept.
        tune: try other settings of the leaders in what is left of the budget.
        seed: the same seed gives the same maps.
        given: ``reference`` and ``members``, as in ``runners.explain``.
        progress: called with what is being done, and ``(done, total)`` of it; whatever it raises ends the trial.
        stop: asked at every progress; True ends the trial.

    Yields:
        The trial so far, after every piece of work; the last is the whole. A keyboard interrupt ends it like ``stop``.

    Raises:
        AtlasError: there is no image or no time, or no method that runs here fits this model.
    """
    if not subjects:
        raise AtlasError("no image was given; at least one is needed")
    if not budget > 0:
        raise AtlasError(f"a budget of {budget:g} s was given; it must be above 0")
    given = dict(given or {})
    clock = Clock(budget, stop)
    first = subjects[0]
    query = parse(question, kb) if isinstance(question, str) else question
    if not query.modality and first.case.modality:
        query = replace(query, modality=(first.case.modality,))
    able = [one for one in runnable() if not unmet(one, first.wired, first.target, **given)]
    other = [one for one in discoverable() if not unmet_by(one, first.wired, members=given.get("members", ()))]
    rank = partial(_answer, query, kb, first.wired, (*able, *other))
    before = rank(())
    named = set(query.methods)
    work = _Work(kb, model, subjects, seed, given, clock, progress)
    ranked = [work.candidate(one.method, one.method in named) for one in before.recommendations if one.method in able]
    if not ranked:
        raise AtlasError(before.message or "no method that runs here fits this model and question")
    chosen = choose(ranked, budget)
    above = ranked[: max((ranked.index(one) for one in chosen), default=len(ranked))]
    dear = [one for one in above if one not in chosen and (one.seconds or 0.0) > ONE_SHARE * budget]
    for one in dear[:MOST]:
        work.skip(one.method, None, f"too slow for {budget:g} s", one.seconds)
    work.late = not chosen

    def state(ended: str | None = None) -> Trial:
        return Trial(
            kb=kb,
            subjects=tuple(subjects),
            before=before,
            rank=rank,
            results=tuple(tuple(results.values()) for results in work.results),
            budget=budget,
            seconds=clock.spent,
            pass_seconds=work.forward,
            planned=tuple(one.method for one in chosen),
            skipped=tuple(work.skipped),
            tuned=tuple(work.tuned),
            ended=ended,
        )

    yield state()
    try:
        clock.until = MOST_SHARE * budget
        for _ in work.first_scores([one.method for one in chosen]):
            yield state()
        if tune:
            clock.until = CHECKED_SHARE * budget
            for _ in work.checks():
                yield state()
            clock.until = budget
            for _ in work.tune(state().tried):
                yield state()
            work.skipped = [one for one in work.skipped if one.metric not in work.repeating]
        clock.until = budget
        for _ in work.checks():
            yield state()
    except KeyboardInterrupt:
        clock.wished = True
    yield state(
        "you stopped it" if clock.wished else f"not all fitted into the budget of {budget:g} s" if work.late else None
    )


def _answer(query: Query, kb: KB, wired: Wired, able: Sequence[str], rows: Sequence[Row]) -> Answer:
    return answer(query, kb, profile=wired, runnable=able, measured=rows)
