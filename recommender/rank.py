"""Rank the methods for a question: every point comes with its sentence and its citations.

A criterion is a function that yields reasons for one method; a reason holds the points and the words from the same
lines, so number and sentence cannot disagree. The score is the sum of the points; all weights stand in
:class:`recommender.points.Points`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import Any, Final, Literal, NamedTuple

from recommender.bench import measured_by_us
from recommender.case import (
    CITED,
    SIDES,
    Case,
    Finding,
    Measured,
    Standing,
    bare,
    by_experts,
    case_of,
    counted,
    lower,
    tests_sanity,
)
from recommender.points import CLOSENESS, SECONDS_PER_PASS, Points
from recommender.query import Query
from taxonomy import KB, Profile, conditions
from taxonomy.requirements import sane_below
from taxonomy.schema import Effect, Method, Publication, Statement

_PROPERTIES: Final[Mapping[str, tuple[tuple[str, int], ...]]] = {
    "map": (("faithfulness", 2), ("randomisation", 1), ("robustness", 1), ("localisation", 2), ("complexity", 1)),
    "concepts": (("concept", 3), ("human", 1)),
    "examples": (("human", 2), ("concept", 1)),
    "counterfactual": (("counterfactual", 4), ("human", 1)),
    "text": (("text", 4), ("human", 1)),
    "embedding": (("human", 1),),
    "scores": (("modality_importance", 2), ("human", 1)),
    "rules": (("human", 2),),
    "uncertainty": (("segmentation", 1), ("human", 1)),
}
"""Properties that say something about an output, and how many metrics of each to name. How sure a model is does not
show where it looks: calibration and overlap with its errors, "segmentation" in the knowledge base, check that."""

_DEAR = {"retraining", "generator", "human"}
"""What a first check of an explanation should not need."""

_PLACES = 2
"""Places whose studies get a sentence of their own; the nearest first."""


Strength = Literal["strong", "moderate", "weak", "none"]


class Words(NamedTuple):
    """A sentence with the publications it rests on."""

    text: str
    cites: tuple[str, ...] = ()


@dataclass(eq=False, repr=False)  # not frozen: an answer makes thousands, and freezing takes most of that time
class Reason:
    """Why a method stands where it stands; equal to one that says the same."""

    criterion: str
    points: float
    words: str | Callable[[], Words]
    """The sentence where it cites nothing, or how to find both: few of the many reasons of an answer are ever read."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reason) and self.as_json() == other.as_json()

    def __hash__(self) -> int:
        return hash((self.criterion, self.points))

    def __repr__(self) -> str:
        return f"Reason({self.as_json()})"

    @cached_property
    def _told(self) -> Words:
        return Words(self.words) if isinstance(self.words, str) else self.words()

    @property
    def text(self) -> str:
        """The sentence."""
        return self._told.text

    @property
    def cites(self) -> tuple[str, ...]:
        """The publications it rests on."""
        return self._told.cites

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        return {"criterion": self.criterion, "points": self.points, "text": self.text, "cites": list(self.cites)}


@dataclass(frozen=True)
class Evidence:
    """What the confidence in a recommendation rests on; studies that name only an umbrella of the method do not count.

    Attributes:
        studies: Publications with a study that used the method.
        here: Those of them on the modality and for the task that were asked about.
        findings: Publications that found something about the quality of its explanations.
        comparative: Those of them that compared it with another method.
        clinicians: Those of them in which clinicians or other experts judged.
        independent: Those of them whose authors did not judge a method of their own.
        agreement: Share of the weight of the findings, of 1, that speaks for it; None without any for or against.
        nearest: Where the nearest of the findings for it is from, in words ("on MRI for classification").
        word: "strong", "moderate", "weak" or "none"; see :func:`strength`.
    """

    studies: int = 0
    here: int = 0
    findings: int = 0
    comparative: int = 0
    clinicians: int = 0
    independent: int = 0
    agreement: float | None = None
    nearest: str = ""
    word: Strength = "none"

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        return asdict(self)


@dataclass(frozen=True)
class Recommendation:
    """A method with its reasons.

    Attributes:
        method: Method id.
        name: Its name.
        branch: Branch id.
        family: Family id.
        score: Sum of the points of the reasons.
        runnable: It can be run here.
        found: The reasons by criterion.
        case: The question.
    """

    method: str
    name: str
    branch: str
    family: str
    score: float
    runnable: bool
    found: tuple[Reason, ...]
    case: Case = field(repr=False, compare=False)
    """The question; what is read only of the methods that are shown is found when it is read."""

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """The reasons, strongest first."""
        return tuple(sorted(self.found, key=lambda r: -abs(r.points)))

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """What must hold, as clauses ("if ...")."""
        kb = self.case.kb
        return tuple(conditions(kb.methods[self.method].requires, self.case.profile, kb.vocabulary.needs))

    @cached_property
    def cautions(self) -> tuple[Statement, ...]:
        """Known limits, with their sources."""
        return (*_mind(self.case, self.method), *self.case.kb.methods[self.method].limitations)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that can check its explanation, the most fitting first."""
        return _metrics(self.case, self.method)

    @property
    def mask_metrics(self) -> tuple[str, ...]:
        """Those of the metrics that need a mask of the finding."""
        return tuple(m for m in self.metrics if "mask" in self.case.kb.metrics[m].needs)

    @cached_property
    def tools(self) -> tuple[str, ...]:
        """Tools that implement it, those that fit the question first."""
        return _tools(self.case, self.method)

    @cached_property
    def evidence(self) -> Evidence:
        """What the confidence in it rests on."""
        return _evidence(self.case, self.method)

    def as_json(self) -> dict[str, Any]:
        """Return the public form; a caution is its sentence with its sources in brackets."""
        return {
            "method": self.method,
            "name": self.name,
            "branch": self.branch,
            "family": self.family,
            "score": self.score,
            "runnable": self.runnable,
            "reasons": [reason.as_json() for reason in self.reasons],
            "conditions": list(self.conditions),
            "cautions": [f"{c.text} [{', '.join(c.sources)}]" for c in self.cautions],
            "metrics": list(self.metrics),
            "tools": list(self.tools),
            "evidence": self.evidence.as_json(),
        }


@dataclass(frozen=True)
class RuledOut:
    """A method that cannot serve, with the sentence that says why."""

    method: str
    gap: str


# --- criteria ---------------------------------------------------------------------------------------------------------

Criterion = Callable[[Case, Method], Iterator[Reason]]


def named(case: Case, method: Method) -> Iterator[Reason]:
    """The question names the method, an umbrella of it, or its family."""
    wanted = set(case.query.methods)
    if method.id in wanted:
        yield Reason("named", Points.NAMED, f"You asked about {method.name}.")
    else:
        for umbrella in case.umbrellas(method.id):
            if umbrella in wanted:
                yield Reason(
                    "named",
                    Points.NAMED - 1,
                    f"You asked about {bare(case.kb.methods[umbrella].name)}; {method.name} is a variant of it.",
                )
                return
    for family in case.families(method):
        if family in case.query.families:
            yield Reason(
                "named", Points.FAMILY, f"You asked for the family “{case.kb.vocabulary.families[family].name}”."
            )
            return


def used(case: Case, method: Method) -> Iterator[Reason]:
    """Studies that used the method, from this modality and task outwards."""
    by_place = case.use(method.id)
    rate = case.rate(method.id).pro
    if by_place and ("same", True) not in by_place and (case.query.modality or case.profile.task):
        yield Reason("evidence", 0.0, partial(_no_use, case, method))
    rest = 0.0
    for number, (place, weight) in enumerate(by_place.items()):
        if number < _PLACES:
            yield Reason("evidence", round(rate * weight, 3), partial(_used, case, method, place))
        else:
            rest += weight
    if rest:
        yield Reason("evidence", round(rate * rest, 3), partial(_used_farther, case, method))
    told = bool(by_place)
    for umbrella in case.umbrellas(method.id):
        if by_place := case.use(umbrella):
            points = rate * Points.UMBRELLA * sum(by_place.values())
            yield Reason("evidence", round(points, 3), partial(_used_by_name, case, umbrella))
            told = True
    if not told:
        text = f"No study in the knowledge base that used {method.name} on biomedical images was found."
        yield Reason("evidence", 0.0, text)


def _no_use(case: Case, method: Method) -> Words:
    return Words(f"No study {case.where(('same', True))} that used {method.name} was found.")


def _used(case: Case, method: Method, place: tuple[str, bool]) -> Words:
    """The studies of one place."""
    studies = case.uses(method.id)[place]
    where = case.where(place)
    text = f"{counted(len(studies), 'study')}{' ' + where if where else ''} used it"
    anatomy = [p for p in studies if case.on_the_organ(p.id)]
    if anatomy:
        share = f"{len(anatomy)} of them " if len(anatomy) < len(studies) else ""
        text += f", {share}on the {' or '.join(case.query.anatomy)}"
    if any(p.id == method.source for p in studies):
        text += ", counting the one that introduced it"
    if len(studies) < 3:
        text += " (few, so they count little)"
    return Words(text + ".", _newest(studies, case))


def _used_farther(case: Case, method: Method) -> Words:
    rest = [p for studies in list(case.uses(method.id).values())[_PLACES:] for p in studies]
    where = case.spread(p.id for p in rest)
    little = "each of which counts little" if len(rest) > 1 else "which counts little"
    text = f"Farther from your question, {counted(len(rest), 'study')} used it ({where}), {little}."
    return Words(text, tuple(p.id for p in rest[:CITED]))


def _used_by_name(case: Case, umbrella: str) -> Words:
    studies = [p for found in case.uses(umbrella).values() for p in found]
    text = f"{counted(len(studies), 'study')} used {bare(case.kb.methods[umbrella].name)} without saying which variant"
    where = case.spread(p.id for p in studies)
    return Words(f"{text}: {where}." if where else f"{text}.", _newest(studies, case))


def _newest(studies: Sequence[Publication], case: Case) -> tuple[str, ...]:
    """The closest and newest of some studies, to cite."""
    ordered = sorted(studies, key=lambda p: (-case.close[p.id], -(p.year or 0), p.id))
    return tuple(p.id for p in ordered[:CITED])


def findings(case: Case, method: Method) -> Iterator[Reason]:
    """What studies found: comparisons, experts' judgement and other findings, each for and against."""
    pro, contra, sums = case.rate(method.id)
    for group, weight in sums.items():
        points = (pro if group[1] > 0 else contra) * weight
        yield Reason(group[0], round(points, 3), partial(_told, case, method.id, group))


def _found_by(part: Iterable[Finding]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f.publication.id for f in part))[:CITED]


def _told(case: Case, method: str, group: tuple[str, int]) -> Words:
    """The two weightiest findings of a group in words, and how many more there are and where."""
    told: dict[str, str] = {}
    rest: dict[str, str] = {}
    part = case.findings(method, group)
    for finding in part:
        text = finding.claim.text
        if text not in told and len(told) < 2:
            told[text] = case.in_words(finding.publication, finding.claim, finding.via).rstrip(".")
        elif text not in told:
            rest.setdefault(text, finding.publication.id)
    where = case.spread(rest.values())
    more = f"; and {counted(len(rest), 'more finding')}" + (f" ({where})" if where else "") if rest else ""
    return Words(f"{SIDES[group[1]]}: {'; '.join(told.values())}{more}.", _found_by(part))


def goal(case: Case, method: Method) -> Iterator[Reason]:
    """Whether the explanation answers what the asker wants to know."""
    if case.query.goal is None:
        if not case.query.families and method.family in case.goal_families:
            yield Reason("goal", Points.MAP, "It shows where in the image the evidence lies.")
        return
    wanted = case.kb.vocabulary.goals[case.query.goal]
    if method.family in case.goal_families:
        points, told = Points.GOAL, "It serves your goal {aim}: its family is {family}."
    elif method.output in wanted.outputs and (method.output != "map" or not wanted.families):
        points, told = Points.GOAL / 2, "It serves your goal {aim} by its kind of output ({output})."
    elif method.output in wanted.outputs:
        points, told = Points.OFF_GOAL / 2, "It gives a map, but not of the kind your goal {aim} asks for."
    else:
        points, told = Points.OFF_GOAL, "Its output ({output}) does not answer your goal {aim}."
    yield Reason("goal", points, partial(_aimed, case, method, wanted.name, told))


def _aimed(case: Case, method: Method, aim: str, told: str) -> Words:
    family = lower(case.kb.vocabulary.families[method.family].name)
    return Words(told.format(aim=f"“{aim}”", family=family, output=method.output))


def audience(case: Case, method: Method) -> Iterator[Reason]:
    """What was found, on any modality, about the qualities that the audience cares about."""
    if case.query.audience is None:
        return
    liking = case.facts.liked[case.query.audience][method.id]
    yield Reason("audience", liking.points, partial(_liked, case, method.id, case.query.audience))


def _liked(case: Case, method: str, audience: str) -> Words:
    who = case.kb.vocabulary.audiences[audience]
    names = ", ".join(lower(case.kb.vocabulary.criteria[c].name) for c in who.criteria)
    _, number, good, bad = case.facts.liked[audience][method]
    if not number:
        return Words(f"Nothing was found about what {lower(who.name)} care about ({names}).")
    counts = f"{counted(good, 'finding')} for it, {bad} against, {number - good - bad} mixed"
    part = [f for f in case.findings(method) if f.claim.criterion in who.criteria and f.via is None]
    where = case.spread(f.publication.id for f in part)
    text = f"What {lower(who.name)} care about ({names}): {counts}" + (f" ({where})." if where else ".")
    return Words(text, _found_by(part))


def challenges(case: Case, method: Method) -> Iterator[Reason]:
    """Challenges of the modality that the method eases or suffers from."""
    eased = worsened = Points.CHALLENGE
    for challenge_id, effect, eases in case.effects.get(method.id, ()):
        points = round(eased if eases else -worsened, 3)
        yield Reason("challenge", points, partial(_effect, case, challenge_id, effect, eases))
        eased, worsened = (eased / 2, worsened) if eases else (eased, worsened / 2)


def _effect(case: Case, challenge: str, effect: Effect, eases: bool) -> Words:
    name = lower(case.kb.challenges[challenge].name)
    text = f"{'Eases' if eases else 'Suffers from'} “{name}”: {effect.text}"
    return Words(case.said_of(text, effect.sources), tuple(effect.sources))


def fit(case: Case, method: Method) -> Iterator[Reason]:
    """Fit to the task and to the architecture."""
    if case.profile.task and method.requires.tasks == [case.profile.task] and case.profile.task != "classification":
        yield Reason("task", Points.MADE_FOR_TASK, f"It was made for {case.task_name}.")
    if method.family in case.native:
        architecture = lower(case.kb.vocabulary.architectures[case.profile.architecture or ""].name)
        yield Reason(
            "architecture", Points.MADE_FOR_ARCHITECTURE, f"It was made for models such as yours ({architecture})."
        )
    special = {"attention_weights", "tokens"} & set(method.requires.needs)
    if special and special <= case.profile.has:
        yield Reason(
            "architecture",
            Points.MADE_FOR_ARCHITECTURE,
            "It reads the attention of a transformer, which your model has.",
        )
    if (
        method.class_discriminative is False
        and method.family != "uncertainty"
        and case.profile.task in ("classification", "segmentation", "detection")
    ):
        text = "Its map is the same whichever class or region is asked about."
        yield Reason("target", Points.NOT_DISCRIMINATIVE, text)
    if method.scope == "global" and case.query.goal not in ("debug", "evaluate_maps"):
        yield Reason("scope", Points.GLOBAL, "It describes the model as a whole, not the decision on one image.")


def effort(case: Case, method: Method) -> Iterator[Reason]:
    """What the owner has to bring, and what is unknown of the model."""
    aimed = case.aims_at(method)
    wanted = case.query.intrinsic or method.id in case.query.methods
    if method.stage == "intrinsic" and method.family in case.native:
        wanted = True  # the model is of this kind already
    if method.stage == "intrinsic" and case.query.intrinsic:
        yield Reason("stage", Points.BUILT_IN, "It is built into the model, as you want it.")
    elif case.query.intrinsic and method.id not in case.query.methods:
        text = "It is added to a finished model; you want a model that explains itself."
        yield Reason("stage", Points.ADDED_ON, text)
    elif method.stage == "intrinsic" and not wanted:
        points = Points.INTRINSIC_AIMED if aimed else Points.INTRINSIC
        if not case.finished:
            points = Points.MAYBE_INTRINSIC
        text = "It is part of a model that has to be built and trained for it; it cannot be added to a finished one."
        yield Reason("stage", points, text)
    profile = case.profile
    for need in method.requires.needs:
        if need in profile.has or need in profile.lacks:
            continue
        if need == "retraining" and (wanted or method.stage == "intrinsic"):
            continue
        if need in Points.EFFORT:
            own = aimed and need not in ("mask", "clinical_features")  # those come with few of such methods
            points = Points.EFFORT[need] * (Points.WANTED_EFFORT if own else 1.0)
        else:
            points = Points.NEEDS[need]
        yield Reason("effort", round(points, 3), case.facts.serves_only[need])


def cost(case: Case, method: Method) -> Iterator[Reason]:
    """Model passes, against the budget when there is one."""
    passes = method.cost.passes
    budget = case.query.budget
    if passes is None:
        if budget is not None:
            yield Reason("cost", 0.0, "How many model passes it takes is not known.")
        return
    if budget is None:
        points = round(Points.PASSES * math.log10(max(passes, 1)), 3)
    else:
        over = passes * SECONDS_PER_PASS[case.profile.dims] > budget
        points = Points.OVER_BUDGET if over else Points.WITHIN_BUDGET
    yield Reason("cost", points, partial(_takes, passes, SECONDS_PER_PASS[case.profile.dims], budget))


def _takes(passes: int, each: float, budget: float | None) -> Words:
    if budget is None:
        return Words(f"One explanation takes about {counted(passes, 'model pass')}.")
    within = "over" if passes * each > budget else "within"
    text = f"About {counted(passes, 'model pass')}, some {passes * each:.3g} s where a pass takes {each} s"
    return Words(f"{text}: {within} your budget of {budget:g} s.")


def estimate(method: Method, dims: int | None) -> float | None:
    """Return the seconds one explanation takes at :data:`SECONDS_PER_PASS`; None where the passes are not known."""
    return None if method.cost.passes is None else method.cost.passes * SECONDS_PER_PASS[dims]


def tools(case: Case, method: Method) -> Iterator[Reason]:
    """Whether a tool implements the method, and whether it is one that was named."""
    known = case.kb.index.tools.get(method.id, ())
    if not known and method.id not in case.runnable and method.stage == "post_hoc":
        yield Reason("tool", Points.NO_TOOL, "No tool of the knowledge base implements it.")
    for tool in known:
        if tool in case.query.others:
            yield Reason("tool", 1.0, f"{case.kb.tools[tool].name}, which you named, implements it.")


def here(case: Case, method: Method) -> Iterator[Reason]:
    """What can be run, and what was measured, on this machine."""
    if method.id in case.runnable:
        yield Reason("runnable", Points.RUNNABLE, "It can be run here.")
    own = case.standings.get(method.id)
    if not own:
        return
    shares: dict[str, list[tuple[float, str]]] = {}
    for metric_id, found in own.items():
        metric = case.kb.metrics[metric_id]
        if metric.direction is not None and found.of > 1 and not tests_sanity(case.kb, metric_id):
            shares.setdefault(metric.property, []).append((found.share, metric.name))
    for metric_id, found in sorted(own.items()):
        metric = case.kb.metrics[metric_id]
        weight = found.weight * found.images / (found.images + Points.SHRINK_MEASURED)
        text = f"{metric.name} {found.value:.2g} {_on_images(found.images)}"
        if tests_sanity(case.kb, metric_id):
            bad = metric_id in case.failed.get(method.id, ())
            limit = sane_below(case.profile.task)
            excess = 0.5 + 0.5 * (found.value - limit) / (1 - limit)
            points = weight * (Points.INSANE * excess if bad else Points.SANE)
            verdict = "failed" if bad else "passed"
            text = f"{metric.name} {verdict} {_on_images(found.images)} (similarity {found.value:.2f})"
            why = ": with random weights in the model the map hardly changes." if bad else "."
            yield Reason("measured", round(points, 3), text + why)
        elif metric.direction is None or found.of < 2:
            yield Reason("measured", 0.0, f"{text}; nothing to compare it with.")
        else:
            trust = Points.TRUST.get(metric.property, Points.OTHER_TRUST) / len(shares[metric.property])
            if metric.property in case.criteria:
                trust *= Points.ASKED_CRITERION
            points = Points.MEASURED * trust * weight * found.share
            why = "" if found.weight >= Points.DOUBTFUL else "; the metric is trusted little, so it counts little"
            yield Reason("measured", round(points, 3), f"{text}, {_place(found)}{why}.")
    for same in shares.values():
        if min(same)[0] < -1 / 3 and max(same)[0] > 1 / 3:
            text = f"{max(same)[1]} speaks for it here and {min(same)[1]} against it: together they count little."
            yield Reason("measured", 0.0, text)


def _on_images(number: int) -> str:
    return "on your image" if number == 1 else f"on average over your {number} images"


def _place(found: Standing) -> str:
    among = f"of {found.of} methods"
    if found.place == 1:
        return f"best {among}"
    if found.place == found.of:
        return f"last {among}"
    return f"{'place' if found.images == 1 else 'average place'} {found.place:.2g} {among}"


def _mind(case: Case, method: str) -> Iterator[Statement]:
    """What to mind of a method that fails the randomisation test here."""
    for metric_id in case.failed.get(method, ()):
        metric, found = case.kb.metrics[metric_id], case.standings[method][metric_id]
        if metric.source:
            yield Statement(
                text=f"On your model it fails the {metric.name} (similarity {found.value:.2f}): the map shows the "
                "image more than what the model learned. Do not rely on it here.",
                sources=[metric.source],
            )


def bench(case: Case, method: Method) -> Iterator[Reason]:
    """How it did in our own benchmark."""
    for points, told in measured_by_us(case, method):
        yield Reason("benchmark", points, partial(_measured_by_us, told))


def _measured_by_us(told: Callable[[], str]) -> Words:
    return Words(told())


CRITERIA: Final[tuple[Criterion, ...]] = (
    named, goal, used, findings, audience, challenges, fit, effort, cost, tools, bench, here,
)  # fmt: skip
"""All criteria; the score of a method is the sum of the points of what they yield."""


NAMES: Final[Mapping[str, str]] = {
    "named": "what you named",
    "goal": "what you want to know",
    "evidence": "studies that used it",
    "comparison": "comparisons with other methods",
    "experts": "judgement of experts",
    "findings": "other findings about it",
    "audience": "what your audience cares about",
    "challenge": "difficulties of the images",
    "task": "fit to the task",
    "architecture": "fit to the model",
    "target": "whether the map depends on the class",
    "scope": "one image or the whole model",
    "stage": "built in or added on",
    "effort": "what it needs",
    "cost": "computing time",
    "tool": "tools that implement it",
    "benchmark": "our own benchmark",
    "runnable": "whether it can be run here",
    "measured": "what was measured on your case",
}
"""Criterion of a reason to what people call it."""


# --- the ranking ------------------------------------------------------------------------------------------------------


def recommend(
    query: Query,
    kb: KB,
    *,
    profile: Profile | None = None,
    measured: Iterable[Measured] = (),
    runnable: Iterable[str] = (),
) -> list[Recommendation]:
    """Rank all methods that can serve a question, best first; ties go by id.

    Args:
        query: The question, from :func:`recommender.parse` or made by hand.
        kb: The knowledge base.
        profile: What the real model offers; it wins over what the question says.
        measured: Scores measured on the asker's model and images.
        runnable: Ids of methods that can be run here.

    Returns:
        One recommendation for each method without a known gap; none when the question says nothing.

    Raises:
        UnknownIdError: An id of the query or a metric of ``measured`` that is not in the knowledge base.
    """
    return ranked(case_of(query, kb, profile, measured, runnable))[0]


def ranked(case: Case, only: Collection[str] | None = None) -> tuple[list[Recommendation], list[RuledOut]]:
    """Return the ranked recommendations and what is ruled out, both best first; of some methods only when given."""
    if case.query.empty and case.given is None:
        return [], []
    found, out = [], []
    for method_id, method in case.kb.methods.items():
        if method.umbrella or (only is not None and method_id not in only):
            continue
        if case.gaps[method_id]:
            # what was asked for and how often it was used are enough for the order of these
            asked = sum(r.points for criterion in (named, goal) for r in criterion(case, method))
            why = " Also, ".join(gap.sentence for gap in case.gaps[method_id])
            out.append((asked + sum(case.use(method_id).values()), RuledOut(method_id, f"{method.name} is out: {why}")))
        else:
            reasons = [reason for criterion in CRITERIA for reason in criterion(case, method)]
            score = round(sum([r.points for r in reasons]), 3)
            branch, here = case.facts.branches[method.family], method_id in case.runnable
            found.append(
                Recommendation(method_id, method.name, branch, method.family, score, here, tuple(reasons), case)
            )
    found.sort(key=lambda r: (-r.score, r.method))
    out.sort(key=lambda o: (-o[0], o[1].method))
    return found, [o for _, o in out]


def _evidence(case: Case, method: str) -> Evidence:
    """Count what is known of a method under its own name."""
    uses = case.uses(method)
    own = [f for f in case.findings(method) if f.via is None]
    groups: dict[str, list[Finding]] = {}
    for finding in own:
        groups.setdefault(finding.publication.id, []).append(finding)
    pro = sum(f.weight * f.value for f in own if f.value > 0)
    contra = sum(f.weight * -f.value for f in own if f.value < 0)
    good = {p for p, found in groups.items() if sum(f.value for f in found) > 0}
    free = {p for p, found in groups.items() if not all(case.own_judgement(f.claim) for f in found)}
    compared = {p for p, found in groups.items() if any(f.claim.versus for f in found)}
    judged = {p for p, found in groups.items() if any(by_experts(f.publication, f.claim) for f in found)}
    agreement = round(pro / (pro + contra), 3) if pro + contra else None
    near = [p for p in good & free if case.places[p][0] != "far"]
    places = [place for place in CLOSENESS if any(case.places[p] == place for p in good)]
    return Evidence(
        studies=sum(map(len, uses.values())),
        here=len(uses.get(("same", True), ())),
        findings=len(groups),
        comparative=len(compared),
        clinicians=len(judged),
        independent=len(free),
        agreement=agreement,
        nearest=case.where(places[0]) if places else "",
        word=strength(
            bool(uses or own), len(good & free), len(near), bool(good & free & (compared | judged)), agreement
        ),
    )


def strength(known: bool, independent: int, near: int, tested: bool, agreement: float | None) -> Strength:
    """Return the word for a body of evidence.

    Strong: three independent publications speak for it, two of them on the modality or a relative, one of them compared
    it or let experts judge, and three quarters of the weight agree. Moderate: two independent publications speak for
    it, one of them on the modality or a relative, and half of the weight agrees. Weak: it was used or judged at all.

    Args:
        known: A study used it, or a publication found something about it.
        independent: Publications that speak for it and whose authors judged no method of their own.
        near: Those of them on the modality or a relative.
        tested: One of the independent ones compared it or let experts judge it.
        agreement: Share of the weight of the findings that speaks for it.
    """
    if independent >= 3 and near >= 2 and tested and (agreement or 0.0) >= 0.75:
        return "strong"
    if independent >= 2 and near >= 1 and (agreement or 0.0) >= 0.5:
        return "moderate"
    return "weak" if known else "none"


def _tools(case: Case, method_id: str) -> tuple[str, ...]:
    """Tools that implement a method, those that fit the dimensions, the task and the architecture first."""

    def misfit(tool_id: str) -> int:
        tool = case.kb.tools[tool_id]
        return sum((
            tool_id not in case.query.others,
            case.profile.dims == 3 and not tool.supports_3d,
            case.profile.task == "segmentation" and not tool.supports_segmentation,
            case.profile.architecture in ("vit", "swin") and not tool.supports_vit,
        ))  # fmt: skip

    return tuple(sorted(case.kb.index.tools.get(method_id, ()), key=misfit))


def _metrics(case: Case, method: str) -> tuple[str, ...]:
    """Metrics for the kind of explanation and the task; found once for each kind."""
    one = case.kb.methods[method]
    kind = "uncertainty" if "uncertainty" in case.families(one) else one.output
    if kind not in case.metrics:
        case.metrics[kind] = tuple(_checking(case, kind))
    return case.metrics[kind]


def _checking(case: Case, kind: str) -> Iterable[str]:
    """The metrics: the challenges' own first, then by property, the most implemented first."""
    kb = case.kb
    wanted = list(_PROPERTIES[kind])
    if kind == "uncertainty" and case.profile.task == "segmentation":
        wanted[0] = ("segmentation", 2)  # where it errs can be told voxel by voxel
    fitting = {name for name, _ in wanted}
    found = dict.fromkeys(
        s.metric for c in case.challenges for s in kb.challenges[c].shown_by if kb.metrics[s.metric].property in fitting
    )
    for name, number in wanted:
        easy = [
            (m_id not in case.runnable, -len(kb.index.tools.get(m_id, ())), m_id)
            for m_id, m in kb.metrics.items()
            if m.property == name and (name in ("human", "counterfactual") or not _DEAR & set(m.needs))
        ]
        have = sum(kb.metrics[m].property == name for m in found)
        found |= dict.fromkeys([m for _, _, m in sorted(easy) if m not in found][: max(number - have, 0)])
    return found
