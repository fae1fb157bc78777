"""The sanity laboratory: may the map of this method be believed, for this model and this image?

Six tests, seven with the mask of a finding, each with a verdict (passes, fails, cannot say), one sentence and its
curve. They judge the map, not the model: a model may be wrong and its map right about that.

:func:`examine` gives ever fuller :class:`Sanity` states, so whoever stops it, or runs out of time, keeps all that is
done.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from skimage.filters import sobel
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import ask, correlation
from runners.baselines import blurred, filling, smoothed
from runners.case import Result, Subject, answers, explained, scored
from runners.checks import background
from runners.clock import Clock, Stop
from runners.gate import Explanation, explain
from runners.images import load_image
from runners.load import Model
from runners.measures.agreement import agreement
from runners.measures.common import ranks
from runners.models import preserved, run, twin_of
from runners.pictures import Rgb, default_colours, draw, limits, plane
from runners.regions import placements
from runners.registry import Progress, explainers, injected, seeded
from runners.targets import Resolved, primary, resolve
from taxonomy import KB
from taxonomy.errors import AtlasError
from taxonomy.requirements import sane_below
from taxonomy.trust import trust

Verdict = Literal["passes", "fails", "cannot say"]


@dataclass(frozen=True)
class Question:
    """What a test asks, and how.

    Attributes:
        name: a few words.
        asks: the question, as a clinician would put it.
        how: what is done.
        sources: publications that the test comes from, or that say what it cannot tell.
        metric: the metric that it is, or that measures the same.
    """

    name: str
    asks: str
    how: str
    sources: tuple[str, ...]
    metric: str | None = None

    def trusted(self, kb: KB) -> str:
        """Say how far the metric of the test can be trusted; empty where that is not known."""
        judged = trust(kb).get(self.metric or "")
        return f"As a metric: {kb.metrics[self.metric].name}, {judged.phrase}." if self.metric and judged else ""


QUESTIONS: Final[Mapping[str, Question]] = {
    "cascade": Question(
        "Random weights",
        "Does the map notice when the model forgets what it has learned?",
        "The layers of a copy of the model get random weights, from the last to the first, and the map is made anew "
        "after each step. A map that stays alike shows the image, not the model. To change is no proof: noise "
        "changes too.",
        (
            "sanity_checks_saliency_2018",
            "binder_2022_randomisation_shortcomings",
            "yona_2021_revisiting_sanity",
            "sanity_checks_revisited_2023",
        ),
        "mprt",
    ),
    "labels": Question(
        "Random labels",
        "Does the map notice when the model is taught nonsense?",
        "A copy of the model is trained on with shuffled labels until it has lost the right ones, another copy with "
        "the right labels for as long. The first map should change more than the second. The original test trains "
        "anew for many hours; this one only continues for some steps.",
        ("sanity_checks_saliency_2018", "yona_2021_revisiting_sanity"),
        "data_randomisation",
    ),
    "shift": Question(
        "Brightness shift",
        "Does the map stay when the image is shifted in a way the model does not see?",
        "Every pixel of the model's input is raised by the same number, and the first layer of a copy of the model "
        "takes it off again. The model computes the same, so the map should stay.",
        ("unreliability_saliency_methods_2017",),
        "input_invariance",
    ),
    "shortcut": Question(
        "Planted marker",
        "Does the map tell whether the model reacts to a mark that means nothing?",
        "A small bright tag or ruler is pasted into corners and edges of the image. If the model's score moves, the "
        "map has to show the mark; if not, it must not.",
        (
            "adebayo_2022_unknown_spurious",
            "nauta_2022_shortcut_skin",
            "degrave_2021_shortcuts",
            "sun_2023_right_wrong_reason",
        ),
    ),
    "deletion": Question(
        "Hiding the marked place",
        "Does the model need what the map marks?",
        "The place that the map marks most is filled in from its surroundings. The model's score should fall more "
        "than when a region of the same shape is filled in elsewhere; p is the share of all these places, the marked "
        "one included, where it falls at least as far.",
        ("rise_2018", "afshar_2024_ibo", "blucher_2024_srg", "tomsett_2019_saliency_metrics"),
    ),
    "finding": Question(
        "The known finding",
        "Does the model use the finding, and does the map say so?",
        "The finding of the mask is filled in from its surroundings, as in the test before, and the share of the map "
        "that lies on it is compared with its area. A map on the finding is only right if the model uses the finding.",
        ("nauta_2023_co12", "jin_2023_clinical_xai_guidelines", "saporta_2022_benchmark_cxr"),
    ),
    "agreement": Question(
        "Agreement of the methods",
        "Do the methods mark the same places?",
        "Each pair of maps is compared by rank correlation and structural similarity. Disagreement does not tell which "
        "map is wrong, only that not all of them can be right.",
        ("ad_comparative_deeplift_xgradcam", "graziani_2020_histo_visual", "yavari_2026_ophthalmic_attribution"),
    ),
}
"""Test id to its meaning, in the order of the page."""

EDGES: Final = 0.5
"""From this rank correlation on, a map is said to look like the edges of the image."""
SAME: Final = 0.95
"""Least rank correlation of a map that stayed; how far it may move is :data:`MOVED`."""
MOVED: Final = 0.1
"""Change of a map (L2 norm, relative) that still counts as staying."""
REACTS: Final = 0.1
"""Share of the score's swing (image against its blurred copy) from which on the model reacts to a marker."""
IGNORES: Final = 0.05
"""Share below which it does not."""
POINTS_AT: Final = 2.0
"""A map points at a region when its share there is so many times that of the area."""
MISLEADS: Final = 3.0
"""So many times where the region means nothing."""
HARDLY: Final = 0.02
"""Share of the score's swing below which hiding a place changes nothing."""
CHANCE: Final = 0.05
"""Largest p-value of a fall that is more than chance; above one half a map does worse than chance."""
SMOOTH: Final = 1 / 40
"""Blur of a map, as a share of the image's side, before its marked place is taken: as a reader sees it."""
TOP: Final = 0.1
"""Share of the image that is hidden."""
CLOSE: Final = 0.5
APART: Final = 0.2
"""Rank correlations from which on maps agree, and below which they contradict each other."""
MOST_IMAGES: Final = 200
"""Training images that are read."""
BATCH, STEPS, RATE, LOOK = 16, 60, 5e-4, 5
"""Of the training on random labels: images in a step, steps at most, rate of Adam, steps between looks."""
LABEL_SHARE: Final = 0.45
"""Share of the budget that is kept for the training."""


@dataclass(frozen=True, eq=False)
class Finding:
    """The verdict of a test.

    Attributes:
        test: a key of :data:`QUESTIONS`.
        method: method id; None for what concerns all.
        verdict: passes, fails or cannot say.
        why: one sentence in plain words.
        numbers: what was measured.
        curves: names to numbers to draw.
        notes: what was assumed.
        picture: what the test looked at, ``(H, W, 3)``, with its caption.
    """

    test: str
    method: str | None
    verdict: Verdict
    why: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    picture: tuple[Rgb, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the public JSON; a number that is not defined is null."""
        return {
            "test": self.test,
            "method": self.method,
            "verdict": self.verdict,
            "why": self.why,
            "numbers": {name: _number(value) for name, value in self.numbers.items()},
            "curves": {name: [_number(value) for value in values] for name, values in self.curves.items()},
            "notes": list(self.notes),
            "sources": list(QUESTIONS[self.test].sources),
        }


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


@dataclass(frozen=True, eq=False)
class Sanity:
    """What was found so far.

    Attributes:
        kb: the knowledge base.
        subject: the image and what of it is explained.
        target: what is explained, in words.
        results: the map of each method, or the sentence why there is none.
        findings: verdicts so far.
        planned: tests that are done, in the order of :data:`QUESTIONS`.
        budget: seconds it might take. seconds: it took so far.
        seed: the seed.
        ended: why it ended before all was done; None when all was done, or is still to do.
    """

    kb: KB
    subject: Subject
    target: str
    results: tuple[Result, ...]
    findings: tuple[Finding, ...]
    planned: tuple[str, ...]
    budget: float
    seconds: float
    seed: int
    ended: str | None = None

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Methods that gave a map."""
        return tuple(one.method for one in self.results if one.explanation is not None)

    def of(self, method: str | None, test: str) -> Finding | None:
        """Return the verdict of a test on a method, if it is there yet."""
        return next((one for one in self.findings if one.method == method and one.test == test), None)

    def overall(self, method: str) -> tuple[Verdict, str]:
        """Return what the tests together say of a method, in one sentence."""
        own = [one for one in self.findings if one.method == method]
        bad = [one.test for one in own if one.verdict == "fails"]
        good = [one.test for one in own if one.verdict == "passes"]
        name = self.kb.methods[method].name
        if {"cascade", "labels"} & set(bad):
            return (
                "fails",
                f"Do not rely on {name} here: its map depends on the image more than on what the model knows.",
            )
        if bad:
            told = " and ".join(f"“{QUESTIONS[one].name}”" for one in bad)
            return "fails", f"Use {name} with caution here: it failed {told}."
        if not good:
            return "cannot say", f"Nothing can be said of {name} here: no test came to a verdict."
        told = f"{len(good)} of {len(own)} tests passed, none failed"
        if open_ := [one for one in ("cascade", "deletion") if one not in good]:
            lacking = " and ".join(f"“{QUESTIONS[one].name}”" for one in open_)
            return "cannot say", f"{name}: {told}, but {lacking} came to no verdict here."
        return "passes", f"Nothing speaks against {name} here: {told}. That is no proof that the map is complete."

    def as_json(self) -> dict[str, Any]:
        """Return the public JSON."""
        case = self.subject.case
        return {
            "schema": 1,
            "image": {"sha256": case.image.sha256, "source": case.source, "modality": case.modality},
            "model": dict(case.model),
            "target": self.target,
            "budget_s": self.budget,
            "seconds": round(self.seconds, 2),
            "seed": self.seed,
            "ended": self.ended,
            "methods": [
                {"method": one, "verdict": self.overall(one)[0], "text": self.overall(one)[1]} for one in self.methods
            ],
            "errors": [{"method": one.method, "error": one.error} for one in self.results if one.error],
            "tests": {one: vars(QUESTIONS[one]) | {"trust": QUESTIONS[one].trusted(self.kb)} for one in self.planned},
            "findings": [one.as_json() for one in self.findings],
        }


# --- training images --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Labelled:
    """Training images as the model sees them.

    Attributes:
        x: ``(N, C, *spatial)``.
        labels: ``(N,)``, indices of the model's labels.
        notes: how names became labels.
    """

    x: Tensor
    labels: Tensor
    notes: tuple[str, ...] = ()


def read_labelled(folder: Path, model: Model, seed: int = 0) -> Labelled:
    """Read labelled images: a folder with one folder per label, or with ``labels.csv`` (columns file and label).

    At most :data:`MOST_IMAGES` are read, drawn at random with equal numbers per label as far as there are.

    Args:
        folder: the folder.
        model: whose labels they are; names are matched to those of its card, in capitals or not. If none of them is
            there, and there are as many as the model has, they count in alphabetic order.
        seed: of the draw.

    Raises:
        AtlasError: there are no such images, or their labels are not the model's.
    """
    by_name = _by_label(folder)
    names = sorted(by_name)
    own = {name.casefold(): index for index, name in enumerate(model.card.labels)}
    known = [own.get(name.casefold()) for name in names]
    notes = []
    if not own or (not any(index is not None for index in known) and len(names) == len(own)):
        known = list(range(len(names)))
        notes.append("Labels in alphabetic order: " + ", ".join(f"{i} is {name}" for i, name in enumerate(names)) + ".")
    missing = [name for name, index in zip(names, known, strict=True) if index is None]
    if missing or len(names) < 2:
        raise AtlasError(
            f"{folder} has the labels {', '.join(names) or 'none'}; at least two of the model's are needed, and no "
            f"others: {', '.join(model.card.labels) or 'any'}"
        )
    generator, most = seeded(seed), max(1, MOST_IMAGES // len(names))
    images, labels = [], []
    for name, index in zip(names, known, strict=True):
        files = by_name[name]
        for at in torch.randperm(len(files), generator=generator)[:most].tolist():
            images.append(model.prepare(load_image(files[at])))
            labels.append(index)
    if len({tuple(one.shape) for one in images}) > 1:
        raise AtlasError(f"the images of {folder} have different sizes for this model; give images of one size")
    return Labelled(torch.cat(images), torch.tensor(labels), tuple(notes))


def _by_label(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise AtlasError(f"{folder} is no folder; give one with a folder of images for each label, or with labels.csv")
    listed = folder / "labels.csv"
    found: dict[str, list[Path]] = {}
    if listed.is_file():
        with listed.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if not {"file", "label"} <= set(rows.fieldnames or ()):
                raise AtlasError(
                    f"{listed} has the columns {', '.join(rows.fieldnames or ())}; file and label are needed"
                )
            for row in rows:
                found.setdefault(str(row["label"]), []).append(folder / str(row["file"]))
        return found
    for inner in sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")):
        files = sorted(one for one in inner.iterdir() if one.is_file() and not one.name.startswith("."))
        if files:
            found[inner.name] = files
    if not found:
        raise AtlasError(
            f"{folder} holds no folders with images; give a folder of images for each label, or labels.csv"
        )
    return found


# --- the laboratory ---------------------------------------------------------------------------------------------------


def examine(
    model: Model,
    subject: Subject,
    methods: Sequence[str],
    kb: KB,
    *,
    training: Labelled | None = None,
    budget: float = 60.0,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Sanity]:
    """Test the maps of some methods on one model and image.

    Args:
        model: the model; copies of it are changed, never the model itself.
        subject: the image, from :func:`runners.case.subject`.
        methods: method ids with an explainer.
        kb: the knowledge base.
        training: labelled images, for the test with random labels.
        budget: seconds from now on; what is running then is stopped and what is done is kept.
        seed: the same seed gives the same verdicts, as far as time allows the same work.
        given: ``reference`` and ``members``, as in ``runners.explain``.
        progress: called with what is being done, and ``(done, total)`` of it; whatever it raises ends the work.
        stop: asked at every progress; True ends the work.

    Yields:
        What was found so far, after every piece of work; the last is the whole. A keyboard interrupt ends it like
        ``stop``.

    Raises:
        AtlasError: there is no method or no time.
        ModelError, TargetError: the model fails on the image, or the target does not fit it.
    """
    if not methods:
        raise AtlasError("no method was given; at least one is needed")
    if not budget > 0:
        raise AtlasError(f"a budget of {budget:g} s was given; it must be above 0")
    lab = _Lab(
        model, subject, tuple(dict.fromkeys(methods)), kb, training, seed, given or {}, Clock(budget, stop), progress
    )
    yield lab.state()
    try:
        for _ in lab.work():
            yield lab.state()
    except KeyboardInterrupt:
        lab.clock.wished = True
    lab.fill()
    late = f"not all fitted into the budget of {budget:g} s" if lab.late else None
    yield lab.state("you stopped it" if lab.clock.wished else late)


class _Lab:
    """The findings so far, and how they grow."""

    def __init__(
        self,
        model: Model,
        subject: Subject,
        methods: tuple[str, ...],
        kb: KB,
        training: Labelled | None,
        seed: int,
        given: Mapping[str, Any],
        clock: Clock,
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self.model, self.subject, self.methods, self.kb, self.training = model, subject, methods, kb, training
        self.seed, self.given, self.clock, self.progress = seed, given, clock, progress
        self.x = subject.x
        self.results: dict[str, Result] = {}
        self.findings: list[Finding] = []
        self.late = False
        with preserved(model), torch.no_grad():
            outputs = run(model, self.x.clone())
        self.resolved: Resolved = resolve(subject.target, outputs, self.x, subject.wired.task, model.card.labels)
        self.decision = self.decided(outputs)
        chosen = self.decision if subject.target is None else subject.target
        self.label = chosen if type(chosen) is int and subject.wired.task == "classification" else None
        self.whole, blank = self.ask(torch.cat([self.x, blurred(self.x)])).tolist()
        self.swing = max(abs(self.whole - blank), 1e-6)
        self.tests = {
            "deletion": self.deletion,
            "cascade": self.cascade,
            "finding": self.finding,
            "shortcut": self.shortcut,
            "shift": self.shift,
            "labels": self.labels,
        }
        if subject.region is None:
            del self.tests["finding"]

    def state(self, ended: str | None = None) -> Sanity:
        order = [None, *self.methods]  # of work is that of speed
        found = sorted(self.findings, key=lambda one: (list(QUESTIONS).index(one.test), order.index(one.method)))
        return Sanity(
            kb=self.kb,
            subject=self.subject,
            target=self.resolved.text,
            results=tuple(self.results.values()),
            findings=tuple(found),
            planned=tuple(
                one for one in QUESTIONS if one in self.tests or (one == "agreement" and len(self.methods) > 1)
            ),
            budget=self.clock.budget,
            seconds=self.clock.spent,
            seed=self.seed,
            ended=ended,
        )

    def work(self) -> Iterator[None]:
        """Do everything, cheap tests first, and of each the quickest methods first."""
        for method in self.methods:
            try:
                self.results[method] = explained(
                    self.model,
                    self.x,
                    method,
                    self.subject.target,
                    known=self.subject.wired,
                    seed=self.seed,
                    progress=self.told(self.name(method)),
                    **self.given,
                )
            except Stop:
                self.late = True
                self.results[method] = Result(method, error="it was not run: " + self.why())
            yield
        if len(self.maps()) > 1:
            self.findings.append(self.agreement())
            yield
        if self.training is not None:
            self.clock.until = (1 - LABEL_SHARE) * self.clock.budget
        for test, do in self.tests.items():
            if test == "labels":
                self.clock.until = self.clock.budget
            for method in sorted(self.maps(), key=lambda one: self.maps()[one].seconds):
                try:
                    self.clock.check()
                    found = self.blank(method, test) or self.costly(method, test) or do(method)
                except Stop:
                    found = self.cannot(test, method, f"there was no verdict: {self.why()}.")
                except AtlasError as error:
                    found = self.cannot(test, method, "the test could not be done: " + str(error).rstrip(".") + ".")
                self.findings.append(found)
                yield

    def fill(self) -> None:
        """Give the tests that were not reached their sentence."""
        done = {(one.method, one.test) for one in self.findings}
        for method, test in itertools.product(self.maps(), self.tests):
            if (method, test) not in done:
                self.findings.append(self.cannot(test, method, f"the test was not reached: {self.why()}."))

    # --- what the tests share ---

    def maps(self) -> dict[str, Explanation]:
        return {name: one.explanation for name, one in self.results.items() if one.explanation is not None}

    def name(self, method: str) -> str:
        return self.kb.methods[method].name

    def told(self, words: str) -> Progress:
        def report(done: int, total: int) -> None:
            self.clock.check()
            if self.progress is not None:
                self.progress(words, done, total)

        report(0, 1)
        return report

    def why(self) -> str:
        self.late = self.late or not self.clock.wished
        return "you stopped it" if self.clock.wished else "the time was up"

    def cannot(self, test: str, method: str | None, why: str, **more: Any) -> Finding:
        return Finding(test, method, "cannot say", why[0].upper() + why[1:], **more)

    def blank(self, method: str, test: str) -> Finding | None:
        values = self.maps()[method].values
        if bool(values.amin() == values.amax()):
            return self.cannot(test, method, "the map is the same everywhere: there is nothing to judge.")
        return None

    def costly(self, method: str, test: str) -> Finding | None:
        """Say so when a test would take longer than there is time."""
        repeats = {"cascade": 5, "shortcut": 1, "shift": 1, "labels": 2}.get(test, 0)
        if test == "labels" and self.training is None:
            return None
        needed = repeats * self.maps()[method].seconds
        if needed > self.clock.left and not self.clock.wished:
            self.late = True
            return self.cannot(test, method, f"too little time was left: it takes about {needed:.0f} s.")
        return None

    def ask(self, x: Tensor) -> Tensor:
        """Return the score of changed images ``(N, C, *spatial)``, as ``(N,)``."""
        with preserved(self.model, self.seed), torch.no_grad():
            parts = [
                self.resolved.score(run(self.model, part.clone()), torch.zeros(len(part), dtype=torch.long))
                for part in torch.split(x, 8)
            ]
        return torch.cat(parts).double().cpu()

    def decided(self, outputs: Any) -> int | None:
        """Return the label a classifier decides for."""
        if self.subject.wired.task != "classification":
            return None
        row = primary(outputs).reshape(1, -1)[0]
        return int(row.argmax()) if len(row) > 1 else int(row[0] > 0)

    def again(self, method: str, x: Tensor, model: nn.Module | None = None, seed: int | None = None) -> Explanation:
        """Repeat an explanation on another image, another model or with another seed."""
        first = self.maps()[method]
        return explain(
            self.model if model is None else model,
            x,
            method,
            self.resolved.score,  # that of the original decision, not of the changed one
            layer=first.parameters.get("layer"),
            seed=self.seed if seed is None else seed,
            task=self.subject.wired.task,
            known=self.subject.wired,
            progress=self.told(self.name(method)),
            **self.given,
            **{key: value for key, value in first.parameters.items() if key != "layer"},
        )

    def alike(self, method: str, other: Explanation) -> float:
        """Return the rank correlation of the magnitudes of two maps; 0 where the other is the same everywhere."""
        return spearman(self.maps()[method].values[0].abs(), other.values[0].abs())

    def times_area(self, one: Explanation, inside: Tensor, speaking_for: bool = False) -> float:
        """Return how many times its share of the area a region ``(*spatial)`` has of a map; NaN for an empty map."""
        mass = one.values[0].clamp_min(0) if one.signed and speaking_for else one.values[0].abs()
        total = float(mass.double().sum())
        area = float(inside.double().mean())
        return float((mass * inside).double().sum()) / total / area if total > 0 else math.nan

    def shown(self, x: Tensor, inside: Tensor, one: Explanation | None = None) -> Rgb:
        """Draw the model's input ``(1, C, *spatial)``, with a map over it, and the outline of a region."""
        case = self.subject.case
        values = torch.stack(
            [case.place(channel) for channel in x[0, :3] if x.shape[1] in (1, 3)] or [case.place(x[0, 0])]
        )
        values = values.expand(3, *values.shape[1:]) if case.image.channels == 3 and len(values) == 1 else values
        image = replace(case.image, values=values, display_range=(float(values.min()), float(values.max())))
        region = case.place(inside.float(), labels=True) > 0
        drawn = replace(case, image=image, marked=None, mask=region)
        where: tuple[int | None, int | None] = (None, None)
        if image.dims == 3:
            axis = image.plane_axis
            where = axis, int(region.sum([one for one in range(3) if one != axis]).argmax())
        placed = None if one is None else case.place(one.values[0])
        signed = one is not None and one.signed
        limit = (0.0, 0.0) if placed is None else limits(placed, signed)
        cut = plane(drawn, placed, *where, side=300)
        return draw(cut, signed=signed, limit=limit, colours=default_colours(signed, len(values) == 3))

    # --- the tests ---

    def cascade(self, method: str) -> Finding:
        limit = sane_below(self.subject.wired.task)
        one = self.results[method]
        stable = math.nan
        if "generator" in injected(explainers[method]):
            stable = self.alike(method, self.again(method, self.x, seed=self.seed + 1))
        found = scored(
            "mprt",
            self.model,
            self.x,
            one,
            self.subject.target,
            None,
            self.kb,
            seed=self.seed,
            known=self.subject.wired,
            progress=self.told(f"{self.name(method)}: {QUESTIONS['cascade'].name}"),
            **self.given,
        )
        if found.value is None or found.curve is None:
            return self.cannot("cascade", method, "the test could not be done: " + " ".join(found.notes))
        edges = self.edges(method)
        numbers = {"similarity": found.value, "last": found.curve[-1], "limit": limit, "edges": edges, "repeat": stable}
        more: dict[str, Any] = {"numbers": numbers, "curves": {"similarity": found.curve}, "notes": found.notes}
        told = f"on average {found.value:.2f} on a scale where 1 is the same map"
        if found.value > limit:
            looks = "; it looks much like the edges of the image" if edges > EDGES else ""
            why = f"The map stays much the same when the model's weights become random ({told}){looks}."
            return Finding("cascade", method, "fails", why, **more)
        if found.value > sane_below(None):
            why = (
                f"the map changes little when the model's weights become random ({told}), but the region that is "
                "explained stays where it is, which alone makes the maps alike."
            )
            return self.cannot("cascade", method, why, **more)
        if stable < limit + 0.1:
            why = f"the map changes as much when it is merely made again with other random numbers ({stable:.2f})."
            return self.cannot("cascade", method, why, **more)
        why = f"The map becomes another one when the model's weights become random ({told})."
        return Finding("cascade", method, "passes", why, **more)

    def edges(self, method: str) -> float:
        """Return how much a map is like the edges of the image."""
        outlines = sobel(self.x[0].mean(0).cpu().numpy())  # type: ignore[no-untyped-call]
        return spearman(self.maps()[method].values[0].abs(), torch.from_numpy(outlines))

    def labels(self, method: str) -> Finding:
        if self.training is None:
            return self.cannot(
                "labels",
                method,
                "no training images were given; give a folder of them with one folder for each label.",
            )
        if self.subject.wired.task != "classification":
            return self.cannot("labels", method, "the test is made for classifiers, which this model is not.")
        if "gradients" in self.subject.wired.lacks:
            return self.cannot(
                "labels", method, "this model cannot be trained: " + self.subject.wired.lacks["gradients"]
            )
        nonsense, right = self.pupils
        random_map, right_map = (self.alike(method, self.again(method, self.x, one.model)) for one in (nonsense, right))
        limit = sane_below("classification")
        numbers = {
            "similarity": random_map,
            "control": right_map,
            "limit": limit,
            "accuracy_before": nonsense.curve[0],
            "accuracy_after": nonsense.curve[-1],
            "accuracy_control": right.curve[-1],
            "chance": nonsense.chance,
        }
        curves = {"random labels": nonsense.curve, "right labels": right.curve}
        notes = (*self.training.notes, *nonsense.notes, *right.notes)
        more: dict[str, Any] = {"numbers": numbers, "curves": curves, "notes": notes}
        if not nonsense.forgot:
            why = (
                f"in {nonsense.steps} steps the copy did not unlearn the right labels (it still gets "
                f"{nonsense.curve[-1]:.0%} of {len(self.training.x)} images right); give it more time."
            )
            return self.cannot("labels", method, why, **more)
        told = f"{random_map:.2f}, and {right_map:.2f} after as much training with the right labels; 1 is the same map"
        if random_map > limit:
            why = f"The map stays much the same when the model was taught nonsense ({told})."
            return Finding("labels", method, "fails", why, **more)
        if right_map < random_map + 0.1:
            why = f"any further training changes the map as much as nonsense does ({told})."
            return self.cannot("labels", method, why, **more)
        why = f"The map becomes another one when the model was taught nonsense ({told})."
        return Finding("labels", method, "passes", why, **more)

    @cached_property
    def pupils(self) -> tuple[_Pupil, _Pupil]:
        """Two trained copies of the model: with shuffled labels until it forgot, and with right ones for as long."""
        assert self.training is not None
        shuffled = self.training.labels[torch.randperm(len(self.training.labels), generator=seeded(self.seed))]
        report = self.told(QUESTIONS["labels"].name)
        half = self.clock.spent + 0.4 * self.clock.left
        nonsense = _taught(
            self.model, self.training, shuffled, STEPS, self.seed, report, lambda: self.clock.spent > half
        )
        late = self.clock.spent + 0.7 * self.clock.left
        right = _taught(
            self.model,
            self.training,
            self.training.labels,
            nonsense.steps,
            self.seed,
            report,
            lambda: self.clock.spent > late,
        )
        return nonsense, right

    @cached_property
    def shifted(self) -> tuple[nn.Module, float, tuple[str, ...]]:
        """A copy of the model that takes off a shift of its input, and the shift.

        Raises:
            AtlasError: there is none, with the reason.
        """
        shift = float(self.x.amax() - self.x.amin())
        twin, notes = absorbing(self.model, self.x, shift)
        with preserved(twin), torch.no_grad():
            other = float(self.resolved.score(run(twin, self.x + shift), torch.zeros(1, dtype=torch.long))[0])
        if abs(other - self.whole) > 1e-3 * self.swing:
            raise AtlasError(
                "the first layer cannot take the shift off again: the model uses the image in another way too, or "
                f"normalises it (the score becomes {other:.4g}, it was {self.whole:.4g})"
            )
        return twin, shift, notes

    def shift(self, method: str) -> Finding:
        twin, shift, notes = self.shifted
        again = self.again(method, self.x + shift, twin)
        before, after = self.maps()[method].values[0].double(), again.values[0].double()
        moved = float(torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before))
        alike = spearman(before, after)
        scale = self.model.card.normalise.scale
        if scale in ("zscore", "minmax", "percentile"):
            notes = (*notes, f"A shift of the file itself never reaches this model: each image is scaled by {scale}.")
        more: dict[str, Any] = {"numbers": {"similarity": alike, "moved": moved, "shift": shift}, "notes": notes}
        if alike >= SAME and moved <= MOVED:
            why = f"The map stays when every pixel is shifted and the model does not see it (likeness {alike:.2f})."
            return Finding("shift", method, "passes", why, **more)
        why = (
            f"The map changes by {moved:.0%} of its size though the model computes the same as before: it depends on "
            "how brightness is counted."
        )
        return Finding("shift", method, "fails", why, **more)

    @cached_property
    def marker(self) -> tuple[str, Tensor, Tensor, float, bool]:
        """The marker that moves the score most: its name, place, the image with it, the move, a new decision?

        One that raises the score is taken first: every map can show what speaks for the answer.
        """
        found = markers(self.x, self.subject.region)
        moves = self.ask(torch.cat([marked for _, _, marked in found])) - self.whole
        at = int(moves.argmax()) if moves.max() >= REACTS * self.swing else int(moves.abs().argmax())
        name, inside, marked = found[at]
        with preserved(self.model), torch.no_grad():
            flips = self.decided(run(self.model, marked.clone())) != self.decision
        return name, inside, marked, float(moves[at]), flips

    def shortcut(self, method: str) -> Finding:
        name, inside, marked, move, flips = self.marker
        moved = abs(move) / self.swing
        again = self.again(method, marked)
        reacts = moved >= REACTS or flips
        times = self.times_area(again, inside)
        before = self.times_area(self.maps()[method], inside)
        numbers = {"move": move, "move_share": moved, "times_area": times, "times_area_before": before}
        picture = (self.shown(marked, inside, again), f"The image with {name} (outlined), and its map.")
        more: dict[str, Any] = {"numbers": numbers, "picture": picture}
        flip = ", and its decision is another one" if flips else ""
        did = f"with {name} {self.goes(marked)}{flip}"
        if math.isnan(times):
            return self.cannot("shortcut", method, f"{did}; the map is empty then.", **more)
        puts = f"the map puts {times:.1f} times the average on the mark"
        if reacts and move < 0 and not again.signed:
            why = f"the mark speaks against the answer ({did}), and this kind of map does not tell that."
            return self.cannot("shortcut", method, why, **more)
        if reacts and times >= POINTS_AT:
            return Finding("shortcut", method, "passes", f"The model reacts ({did}), and {puts}.", **more)
        if reacts and times < 1:
            return Finding("shortcut", method, "fails", f"The model reacts ({did}), but {puts}: it hides that.", **more)
        if reacts:
            return self.cannot("shortcut", method, f"the model reacts ({did}), and {puts}: too little to tell.", **more)
        if times >= MISLEADS and moved < IGNORES:
            why = f"The model ignores the mark ({did}), yet {puts}: it shows what merely looks striking."
            return Finding("shortcut", method, "fails", why, **more)
        if times <= POINTS_AT:
            why = (
                f"The model ignores the mark ({did}), and so does the map: it puts {times:.1f} times the average there."
            )
            return Finding("shortcut", method, "passes", why, **more)
        return self.cannot(
            "shortcut", method, f"the model hardly reacts ({did}), and {puts}: too close to tell.", **more
        )

    def goes(self, x: Tensor) -> str:
        """Say what becomes of the model's answer when the image is changed."""
        return f"the {'score' if self.label is None else 'certainty'} goes from {self.says(self.x)} to {self.says(x)}"

    def says(self, x: Tensor) -> str:
        """Return how sure the model is of the explained label; where there are no probabilities, the score."""
        if self.label is not None:
            return f"{self.certainty(x):.0%}"
        score = float(self.ask(x)[0])
        return f"{score:,.0f}" if abs(score) >= 100 else f"{score:.3g}"

    def certainty(self, x: Tensor) -> float:
        """Return the probability of the explained label."""
        assert self.label is not None
        with preserved(self.model, self.seed), torch.no_grad():
            outputs = run(self.model, x.clone())
        found = answers(primary(outputs).float().cpu(), "classification", self.model.card)
        if len(found) == 1:  # one output says how sure it is of label 1
            return found[0].value if self.label else 1 - found[0].value
        return found[self.label].value

    def falls(self, inside: Tensor) -> _Falls:
        """Hide a region and others of its shape."""
        generator = seeded(self.seed)
        others, note = placements(inside, ~background(self.x)[0], generator)
        kept = ~torch.cat([inside[None], others]).to(self.x.device)
        rows = torch.zeros(len(kept), dtype=torch.long)
        fill = filling(self.x, "inpaint", generator)
        report = self.told(QUESTIONS["deletion"].name)
        with preserved(self.model, self.seed), torch.no_grad():
            asked = ask(self.model, self.x, fill, self.resolved.score, rows, lambda jobs: kept[jobs], 8, report)
            scores = torch.cat([answer.double().cpu() for *_, answer in asked])
        falls = self.whole - scores
        own = float(falls[0])
        typical = 1 + int(falls[1:].argsort()[len(falls) // 2])
        there, elsewhere = (fill(rows[:1], kept[at : at + 1]) for at in (0, typical))
        text = f"{self.goes(there)}, and to {self.says(elsewhere)} when as much is hidden elsewhere"
        p = (1 + int((falls[1:] >= own).sum())) / len(falls)
        return _Falls(own, falls[1:], p, text, note)

    def deletion(self, method: str) -> Finding:
        inside = top_region(self.maps()[method].values[0], seeded(self.seed))
        found = self.falls(inside)
        more: dict[str, Any] = {
            "numbers": found.numbers(self.swing) | {"hidden": TOP},
            "curves": found.curves(),
            "notes": (
                f"{TOP:.0%} of the image filled in, and {len(found.others)} random places of the same shape.",
                *found.notes,
            ),
            "picture": (self.shown(self.x, inside, self.maps()[method]), "The place that was hidden (outlined)."),
        }
        told = f"{found.text}; p = {found.p:.2f}"
        if max(abs(found.own), float(found.others.abs().max())) < HARDLY * self.swing:
            why = f"hiding a place of this size hardly matters to the model anywhere ({told})."
            return self.cannot("deletion", method, why, **more)
        if found.p <= CHANCE:
            why = f"The model needs what the map marks more than places taken at random ({told})."
            return Finding("deletion", method, "passes", why, **more)
        if found.p > 0.5:
            why = f"The model misses what the map marks no more than places taken at random ({told})."
            return Finding("deletion", method, "fails", why, **more)
        why = f"the model may miss what the map marks, but chance does as well now and then ({told})."
        return self.cannot("deletion", method, why, **more)

    @cached_property
    def of_the_finding(self) -> _Falls:
        assert self.subject.region is not None
        return self.falls(self.subject.region)

    def finding(self, method: str) -> Finding:
        region = self.subject.region
        assert region is not None
        found, one = self.of_the_finding, self.maps()[method]
        times = self.times_area(one, region, speaking_for=True)
        more: dict[str, Any] = {
            "numbers": found.numbers(self.swing) | {"times_area": times},
            "curves": found.curves(),
            "notes": found.notes,
            "picture": (self.shown(self.x, region, one), "The finding (outlined) and the map."),
        }
        uses = found.p <= CHANCE and found.own >= HARDLY * self.swing
        told = f"{found.text}; p = {found.p:.2f}"
        puts = f"the map puts {times:.1f} times the average on it"
        if math.isnan(times):
            return self.cannot("finding", method, "the map has nothing that speaks for the answer.", **more)
        if uses and times >= POINTS_AT:
            return Finding("finding", method, "passes", f"The model uses the finding ({told}), and {puts}.", **more)
        if uses and times < 1:
            return Finding("finding", method, "fails", f"The model uses the finding ({told}), but {puts}.", **more)
        if not uses and found.p > 0.5 and times >= MISLEADS:
            why = f"It looks right, for {puts}, but the model does not need the finding ({told})."
            return Finding("finding", method, "fails", why, **more)
        if not uses and times < 1:
            why = f"The model does not need the finding ({told}), and the map does not mark it either."
            return Finding("finding", method, "passes", why, **more)
        state = "uses" if uses else "may or may not use"
        return self.cannot("finding", method, f"the model {state} the finding ({told}), and {puts}.", **more)

    def agreement(self) -> Finding:
        maps = {
            name: smoothed(one.values[:, None], [SMOOTH * side for side in one.values.shape[1:]])[0, 0]
            for name, one in self.maps().items()
        }
        for name, one in self.maps().items():  # what speaks for the answer, as a reader compares it
            maps[name] = maps[name].clamp_min(0) if one.signed else maps[name]
        ranked, like = {}, {}
        for first, second in itertools.combinations(maps, 2):
            found = agreement(maps[first][None], maps[second][None])
            ranked[f"{first}|{second}"], like[f"{first}|{second}"] = float(found.rank), float(found.ssim)
        known = [value for value in ranked.values() if not math.isnan(value)]
        if not known:
            return self.cannot("agreement", None, "the maps are the same everywhere: there is nothing to compare.")
        middle = float(np.median(known))
        numbers = {"median": middle}
        numbers |= {f"rank:{pair}": value for pair, value in ranked.items()}
        numbers |= {f"ssim:{pair}": value for pair, value in like.items()}
        more: dict[str, Any] = {"numbers": numbers}
        told = f"median rank correlation {middle:.2f} of {len(known)} pairs; 1 is full agreement"
        if middle >= CLOSE:
            return Finding("agreement", None, "passes", f"The methods mark much the same places ({told}).", **more)
        if middle < APART:
            why = (
                f"The methods mark different places ({told}): trust none of them alone, and let the other tests decide."
            )
            return Finding("agreement", None, "fails", why, **more)
        return self.cannot("agreement", None, f"the methods agree in part ({told}).", **more)


# --- pieces of the tests ----------------------------------------------------------------------------------------------


def spearman(a: Tensor, b: Tensor) -> float:
    """Return the rank correlation of two maps ``(*spatial)``; 0 where one of them is the same everywhere."""
    first, second = (ranks(one.flatten().double().cpu()) for one in (a, b))
    if first.amin() == first.amax() or second.amin() == second.amax():
        return 0.0
    return float(correlation(first[None], second[None])[0])


def top_region(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return the place that a map ``(*spatial)`` marks most: the top :data:`TOP` of its smoothed values, bool."""
    soft = smoothed(values[None, None], [SMOOTH * side for side in values.shape])[0, 0].flatten()
    count = max(1, round(TOP * soft.numel()))
    shuffle = torch.randperm(soft.numel(), generator=generator)  # equal values in random order
    chosen = shuffle[torch.argsort(soft[shuffle], descending=True, stable=True)[:count]]
    inside = torch.zeros(soft.numel(), dtype=torch.bool)
    inside[chosen] = True
    return inside.view(values.shape)


def markers(x: Tensor, avoid: Tensor | None = None) -> list[tuple[str, Tensor, Tensor]]:
    """Paste a bright tag into every corner, and a ruler along two edges (a picture's) of an image.

    Args:
        x: ``(1, C, *spatial)``.
        avoid: the finding, bool ``(*spatial)``: no marker covers more than a tenth of itself with it, if possible.

    Returns:
        For each its name, its place, bool ``(*spatial)``, and the image with it.
    """
    spatial = x.shape[2:]
    flat = x[0].flatten(1)
    dark, bright = (extreme.view(1, -1, *[1] * len(spatial)) for extreme in (flat.amin(1), flat.amax(1)))
    found = []
    gap = [max(1, side // 32) for side in spatial]
    size = [max(3, side // 8) for side in spatial] if len(spatial) == 2 else [max(3, side // 5) for side in spatial]

    def paste(name: str, box: tuple[slice, ...], stripes: int) -> None:
        inside = torch.zeros(spatial, dtype=torch.bool)
        inside[box] = True
        across = torch.arange(spatial[-1]).expand(spatial) if stripes else torch.zeros(spatial)
        lit = torch.zeros(spatial, dtype=torch.bool)
        inner = tuple(slice(one.start + 1, one.stop - 1) for one in box)  # a dark rim, to be seen on bright ground too
        lit[inner] = True
        lit &= (across // max(1, stripes)) % 2 == 0
        found.append((name, inside, torch.where(inside, torch.where(lit, bright, dark), x)))

    for corner in itertools.product((0, 1), repeat=len(spatial)):
        box = tuple(
            slice(edge, edge + long) if low == 0 else slice(side - edge - long, side - edge)
            for low, edge, long, side in zip(corner, gap, size, spatial, strict=True)
        )
        paste("a bright tag in a corner", box, 0)
    if len(spatial) == 2:
        thick = max(3, spatial[0] // 16)
        along = slice(spatial[1] // 4, 3 * spatial[1] // 4)
        for top in (gap[0], spatial[0] - gap[0] - thick):
            paste("a ruler at an edge", (slice(top, top + thick), along), max(1, spatial[1] // 40))
    if avoid is not None:
        clear = [one for one in found if int((one[1] & avoid).sum()) <= 0.1 * int(one[1].sum())]
        found = clear or found
    return found


def absorbing(model: nn.Module, x: Tensor, shift: float) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a copy of a model whose first layer takes off what is added to every value of its input.

    The bias of the first convolution or linear layer is lowered by what the shift adds; zero padding becomes padding
    with the shift, so that borders are right too.

    Args:
        model: the model.
        x: ``(1, C, *spatial)``.
        shift: what is added.

    Returns:
        The copy, and notes.

    Raises:
        AtlasError: no such layer takes the image as it is.
    """
    twin = twin_of(model)
    first: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: Any) -> None:
            given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
            if (
                not first
                and given is not None
                and given.numel() == x.numel()
                and torch.equal(given.flatten(), x.flatten())
            ):
                first.append(name)

        return hook

    kinds = (nn.Conv2d, nn.Conv3d, nn.Linear)
    hooks = [one.register_forward_pre_hook(watch(name)) for name, one in twin.named_modules() if isinstance(one, kinds)]
    try:
        with preserved(twin), torch.no_grad():
            run(twin, x.clone())
    finally:
        for handle in hooks:
            handle.remove()
    if not first:
        raise AtlasError(
            "no convolution or linear layer takes the image as it is (the model scales or cuts it first, or shows no "
            "layers), so no bias can take a shift off again"
        )
    layer = twin.get_submodule(first[0])
    assert isinstance(layer, kinds)
    notes = [f"The layer {first[0]} takes the shift off."]
    with torch.no_grad():
        if layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(len(layer.weight)))
            notes.append("It has no bias: that of the copy was added for the test.")
        layer.bias -= shift * layer.weight.flatten(1).sum(1)
    if isinstance(layer, nn.Conv2d | nn.Conv3d) and layer.padding_mode == "zeros" and layer.padding != "valid":
        pads = _pads(layer)
        if any(pads):
            layer.padding = tuple(0 for _ in layer.kernel_size)
            pad: Any = nn.ConstantPad2d if isinstance(layer, nn.Conv2d) else nn.ConstantPad3d
            parent, _, name = first[0].rpartition(".")
            setattr(twin.get_submodule(parent), name, nn.Sequential(pad(tuple(pads), shift), layer))
    return twin, tuple(notes)


def _pads(layer: nn.Conv2d | nn.Conv3d) -> list[int]:
    """Return what a convolution pads, in the order of ``F.pad``."""
    pads: list[int] = []
    for axis in reversed(range(len(layer.kernel_size))):
        if layer.padding == "same":
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            pads += [total // 2, total - total // 2]
        else:
            assert isinstance(layer.padding, tuple)
            pads += [int(layer.padding[axis])] * 2
    return pads


@dataclass(frozen=True, eq=False)
class _Falls:
    """How far the score falls when a region is hidden, and when others ``(PLACEMENTS,)`` of its shape are.

    ``p`` is the share of places, itself included, where it falls as far; ``text`` says it in words.
    """

    own: float
    others: Tensor
    p: float
    text: str
    notes: tuple[str, ...]

    def numbers(self, swing: float) -> dict[str, float]:
        return {
            "fall": self.own,
            "fall_share": self.own / swing,
            "chance": float(self.others.median()),
            "p": self.p,
        }

    def curves(self) -> dict[str, tuple[float, ...]]:
        return {"elsewhere": tuple(self.others.tolist()), "marked": (self.own,)}


@dataclass(frozen=True, eq=False)
class _Pupil:
    """A copy of the model that was trained on: its accuracy on the right labels at each look, the steps it had."""

    model: nn.Module
    curve: tuple[float, ...]
    steps: int
    chance: float
    notes: tuple[str, ...]

    @property
    def forgot(self) -> bool:
        """Whether it lost at least nine tenths of what it knew beyond chance."""
        return self.curve[-1] - self.chance <= 0.1 * max(self.curve[0] - self.chance, 0.0)


def _taught(
    model: nn.Module,
    data: Labelled,
    labels: Tensor,
    steps: int,
    seed: int,
    progress: Progress,
    late: Callable[[], bool],
) -> _Pupil:
    """Train a copy of a classifier on with some labels, until it has forgotten the right ones.

    Normalisation layers keep their statistics, dropout stays off: only weights learn.
    """
    twin, generator = twin_of(model).eval(), seeded(seed)
    chance = float(data.labels.bincount().max()) / len(data.labels)
    weights = [one.requires_grad_(True) for one in twin.parameters() if one.is_floating_point()]
    optimiser = torch.optim.Adam(weights, RATE)
    curve = [_accuracy(twin, data)]
    done, why = 0, ""
    order: list[int] = []
    while done < steps and not why:
        if len(order) < BATCH:
            order = torch.randperm(len(data.x), generator=generator).tolist()
        rows, order = order[:BATCH], order[BATCH:]
        with torch.enable_grad():
            loss = _loss(primary(run(twin, data.x[rows].clone())), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        done += 1
        progress(done, steps)
        if done % LOOK == 0 or done == steps:
            curve.append(_accuracy(twin, data))
            if labels is not data.labels and _Pupil(twin, tuple(curve), done, chance, ()).forgot:
                why = "it had forgotten"
        if not why and late():
            why = "the time was up"
    if done % LOOK and done < steps:
        curve.append(_accuracy(twin, data))
    for one in weights:
        one.requires_grad_(False)
    kind = "right" if labels is data.labels else "shuffled"
    ended = f", then {why}" if why else ""
    note = f"{done} steps with {kind} labels, {BATCH} of {len(data.x)} images each{ended}."
    return _Pupil(twin, tuple(curve), done, chance, (note,))


@torch.no_grad()
def _accuracy(model: nn.Module, data: Labelled) -> float:
    outputs = torch.cat([primary(run(model, part.clone())).flatten(1) for part in torch.split(data.x, BATCH)])
    chosen = outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    return float((chosen == data.labels).double().mean())


def _loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of logits or probabilities ``(N, K)``; of one output, that of its sign."""
    outputs = outputs.flatten(1)
    if outputs.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(outputs))
    rows = outputs.detach().sum(1)
    if bool((outputs.detach() >= 0).all()) and bool((rows - 1).abs().max() < 1e-3):
        return F.nll_loss(outputs.clamp_min(1e-6).log(), labels)
    return F.cross_entropy(outputs, labels)
