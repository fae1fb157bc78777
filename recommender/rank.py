"""Rank the methods for a question: every point comes with its sentence and its citations.

A criterion is a function that yields reasons for one method; a reason holds the points and the words from the same
lines, so number and sentence cannot disagree. The score is the sum of the points. All weights stand in :class:`Points`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import Any, Final, Literal, NamedTuple
from weakref import WeakKeyDictionary

from recommender.query import Query
from taxonomy import KB, Gap, Profile, UnknownIdError, conditions, gaps
from taxonomy.graph import relatives
from taxonomy.requirements import sane_below
from taxonomy.schema import Challenge, Claim, Effect, Method, Need, Output, Publication, Statement


class Points:
    """All weights of the ranking, in points; a strong body of evidence is worth about 6.

    What was asked for decides, then what was found; what a method takes is told as a condition and only tells methods
    apart that are about as well supported. Set by reasoning, checked on the development part of the back-test.
    """

    # what the question asks for
    NAMED: Final = 12.0
    """The method, or an umbrella it belongs to, is named."""
    FAMILY: Final = 6.0
    """Its family is named."""
    GOAL: Final = 6.0
    """It gives what the goal asks for; the family of the goal counts in full, its kind of output alone by half."""
    OFF_GOAL: Final = -8.0
    MAP: Final = 0.2
    """No goal is said: most people want to see where."""
    MADE_FOR_TASK: Final = 2.0
    """It was made for this task, and only for it."""
    MADE_FOR_ARCHITECTURE: Final = 2.5
    """It reads what only such a model has, e.g. attention weights."""
    # evidence
    EVIDENCE: Final = 2.0
    """All that speaks for it, for each doubling of 1 + the weight of the findings and uses: the first close finding
    says most, the hundredth use next to nothing."""
    AGAINST: Final = -1.0
    """The same for what speaks against it, but half, since a method that is compared often also loses often."""
    SHRINK: Final = 0.3
    """Weight to add in thought before a share of the weight counts: little evidence says less than its weight."""
    USED: Final = 0.4
    """Weight of a study that used it, beside what it found, where a comparison won counts 1: that others chose it says
    something, but less than any finding."""
    SELF_REPORTED: Final = 0.4
    """Factor for findings of authors about their own method."""
    CLINICIANS: Final = 1.3
    """Factor for findings of studies in which clinicians or other experts judged the explanations."""
    CRITERIA: Final[Mapping[str, float]] = {"faithfulness": 1.3, "sanity": 1.3, "complexity": 0.7, "speed": 0.3}
    """Factor by what was judged, else 1: whether a map is true of the model comes before whether it looks right."""
    SMALL_STUDY: Final = 0.7
    """Factor for a study of fewer than 30 cases, where their number is known."""
    HALF_LIFE: Final = 20.0
    """Years after which a finding counts half, where the year is known: models and maps change."""
    SHRINK_AUDIENCE: Final = 3.0
    """Findings to add in thought before a share of them counts."""
    READ: Final[Mapping[str, float]] = {"fulltext": 1.0, "abstract": 0.8, "title": 0.4}
    """Factor by what was read of the paper."""
    ASKED_CRITERION: Final = 1.6
    """Factor for findings on a quality that the goal, the audience or the question cares about."""
    IDLE_RIVAL: Final = 0.3
    """Factor for comparisons with methods that cannot serve here anyway."""
    UMBRELLA: Final = 0.2
    """Factor for studies that name only the umbrella ("SHAP"), not the variant."""
    ANATOMY: Final = 0.5
    DIMENSION: Final = 0.3
    ARCHITECTURE: Final = 0.5
    """How much more a study counts that shares the organ, the dimension, the architecture."""
    OTHER_KIND: Final = 0.3
    """Factor for a study of a convolutional network where a transformer is asked about, and the other way round."""
    # the modality
    CHALLENGE: Final = 0.25
    """One challenge eased or worsened; each further one counts half of the one before."""
    # what it takes
    PASSES: Final = -0.1
    """Per factor of ten in model passes, when no budget is given."""
    WITHIN_BUDGET: Final = 0.5
    OVER_BUDGET: Final = -4.0
    INTRINSIC: Final = -15.0
    """It must be built into the model, which is finished."""
    MAYBE_INTRINSIC: Final = -0.3
    """It must be built into the model, and nobody said whether there is one already: a condition like any other."""
    INTRINSIC_AIMED: Final = -5.0
    """The same where the family or the goal is asked for, but not a new model."""
    BUILT_IN: Final = 4.0
    """The asker wants the explanation built in, and it is."""
    ADDED_ON: Final = -4.0
    """The asker wants it built in, and it is not."""
    NO_TOOL: Final = -0.4
    """It is to be added to a model, and nobody is known to have put it into a tool."""
    NEEDS: Final[Mapping[str, float]] = {
        # most models meet it
        "gradients": -0.02,
        "spatial_features": -0.05,
        "embedding": -0.05,
        "elementwise_activations": -0.15,
        # some do
        "relu_only": -0.2,
        "linear_head": -0.2,
        "attention_weights": -0.2,
        "tokens": -0.2,
        "dropout": -0.2,
        "text_encoder": -0.5,
    }
    """A need of which nobody knows whether the model meets it."""
    EFFORT: Final[Mapping[str, float]] = {
        "training_data": -0.2,
        "labelled_concepts": -0.4,
        "reference_images": -0.15,
        "generator": -0.5,
        "mask": -0.15,
        "clinical_features": -0.5,
        "retraining": -0.4,
    }
    """What the owner has to bring."""
    WANTED_EFFORT: Final = 0.2
    """Factor for that when the asker wants just such a method."""
    NOT_DISCRIMINATIVE: Final = -0.2
    """The map does not depend on the class or region that is asked about."""
    GLOBAL: Final = -0.8
    """It describes the model as a whole, not this image."""
    # here
    RUNNABLE: Final = 1.0
    MEASURED: Final = 8.0
    """The best of many methods on many images by a trusted property: as much as a strong body of evidence. The worst
    gets as much less."""
    TRUST: Final[Mapping[str, float]] = {"faithfulness": 1.0, "robustness": 0.5, "localisation": 0.5, "complexity": 0.2}
    """Factor by the property of a metric; its metrics share it. A sharp or stable map may still be wrong about the
    model, and a mask says what a person looks at."""
    OTHER_TRUST: Final = 0.3
    SHRINK_MEASURED: Final = 1.0
    """Images to add in thought: one image says half of what many do."""
    INSANE: Final = -24.0
    """Its map stays the same when the model forgets what it learned: whatever else it scores, it cannot explain it.
    Half of that where the map changes just too little."""
    SANE: Final = 0.5
    """It does change; noise does so too, so it is worth little."""
    ALIKE: Final = 0.02
    """Values that differ by less than this share of the larger one are a tie."""


SECONDS_PER_PASS: Final[Mapping[int | None, float]] = {None: 0.05, 2: 0.05, 3: 0.5}
"""What one forward or backward pass is taken to cost on an ordinary machine, by dimensions, until it was measured."""

CLOSENESS: Final[Mapping[tuple[str, bool], float]] = {
    ("same", True): 1.0,
    ("same", False): 0.4,
    ("near", True): 0.5,
    ("near", False): 0.2,
    ("far", True): 0.2,
    ("far", False): 0.08,
}
"""How much a study counts by (modality, same task): near is a relative in the tree of modalities; another task counts
two fifths, for segmenters and classifiers are explained by different methods."""

_MODEL_NEEDS: Final[tuple[Need, ...]] = (
    "gradients",
    "spatial_features",
    "attention_weights",
    "tokens",
    "relu_only",
    "elementwise_activations",
    "linear_head",
    "embedding",
    "dropout",
    "text_encoder",
    "retraining",
)
"""What a black box lacks."""

_NO_ATTENTION = {
    "attention_weights": "a convolutional network has no self-attention",
    "tokens": "a convolutional network has no tokens",
}
_TRANSFORMER = {
    "relu_only": "a transformer uses GELU and attention",
    "elementwise_activations": "self-attention multiplies features",
    "linear_head": "a transformer reads tokens, not averaged feature maps",
}
ARCHITECTURES: Final[Mapping[str, tuple[frozenset[str], Mapping[str, str]]]] = {
    "cnn": (frozenset({"gradients", "spatial_features", "embedding"}), _NO_ATTENTION),
    "unet": (
        frozenset({"gradients", "spatial_features"}),
        {**_NO_ATTENTION, "linear_head": "a segmenter gives one output per pixel"},
    ),
    "vit": (frozenset({"gradients", "attention_weights", "tokens", "embedding"}), _TRANSFORMER),
    "swin": (frozenset({"gradients", "spatial_features", "embedding"}), _TRANSFORMER),
    "detector": (
        frozenset({"gradients", "spatial_features"}),
        {"linear_head": "a detector has several outputs per place"},
    ),
    "gnn": (
        frozenset({"gradients", "embedding"}),
        {"spatial_features": "a graph has no image layout", "tokens": "a graph has no tokens"},
    ),
    "gan": (frozenset({"gradients", "generator"}), {}),
    "vae": (frozenset({"gradients", "generator", "embedding"}), {}),
    "diffusion": (frozenset({"gradients", "generator"}), {}),
    "mil": (frozenset({"gradients", "embedding"}), {"relu_only": "its attention pooling multiplies features"}),
    "rnn": (
        frozenset({"gradients"}),
        {"relu_only": "its gates are not ReLU", "elementwise_activations": "its gates multiply features"},
    ),
    "vlm": (frozenset({"gradients", "text_encoder", "embedding"}), {"relu_only": "a language tower uses attention"}),
}
"""What a named architecture has and lacks, until the real model was profiled; what is in neither is unknown."""

_KIND: Final = {"cnn": "conv", "unet": "conv", "vit": "attention", "swin": "attention"}

NATIVE: Final[Mapping[str, frozenset[str]]] = {
    "mil": frozenset({"mil_map"}),
    "vlm": frozenset({"cross_modal_map", "rationale", "grounded_report", "language_concepts"}),
}
"""Families that read what only such an architecture has."""

_HYBRID = re.compile(r"trans|unetr|swin|former", re.IGNORECASE)
"""Segmenters that hold a transformer: nothing is known of their attention from the name."""

_PROPERTIES: Final[Mapping[Output, tuple[tuple[str, int], ...]]] = {
    "map": (("faithfulness", 2), ("randomisation", 1), ("robustness", 1), ("localisation", 2), ("complexity", 1)),
    "concepts": (("concept", 3), ("human", 1)),
    "examples": (("human", 2), ("concept", 1)),
    "counterfactual": (("counterfactual", 4), ("human", 1)),
    "text": (("text", 4), ("human", 1)),
    "embedding": (("human", 1),),
    "scores": (("modality_importance", 2), ("human", 1)),
    "rules": (("human", 2),),
}
"""Properties that say something about an output, and how many metrics of each to name."""

_DEAR = {"retraining", "generator", "human"}
"""What a first check of an explanation should not need."""

_FEW = 30
"""Cases below which a study is small."""

_PLACES = 2
"""Places whose studies get a sentence of their own; the nearest first."""

_CITED = 8
"""Citations that one reason names at most; the sentence tells the whole number."""


Strength = Literal["strong", "moderate", "weak", "none"]


class Measured(NamedTuple):
    """A score that was measured on the asker's own model and image; only values of one image are compared."""

    method: str
    metric: str
    value: float
    image: str = ""


class Standing(NamedTuple):
    """Where a method stands among all that were measured by a metric."""

    value: float
    """Mean over the images, as the place."""
    place: float
    of: int
    """Methods compared, on the image with the most."""
    images: int
    share: float
    """From -1 (behind all) to 1 (ahead of all), shrunk: the best of two is not the best of ten."""


def standings(measured: Iterable[Measured], kb: KB) -> Mapping[str, Mapping[str, Standing]]:
    """Return method to metric to its standing, compared image by image; values that are not finite do not count."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for row in measured:
        if math.isfinite(row.value):
            values.setdefault((row.metric, row.image), {})[row.method] = row.value
    places: dict[tuple[str, str], list[Standing]] = {}
    for (metric, _), rows in values.items():
        sign = -1 if kb.metrics[metric].direction == "lower" else 1
        for method, value in rows.items():
            others = [other for rival, other in rows.items() if rival != method]
            tied = [math.isclose(value, o, rel_tol=Points.ALIKE, abs_tol=1e-9) for o in others]
            behind = sum(sign * o > sign * value and not t for o, t in zip(others, tied, strict=True))
            ahead = len(others) - behind - sum(tied)
            found = Standing(value, 1 + behind + sum(tied) / 2, len(rows), 1, (ahead - behind) / len(rows))
            places.setdefault((method, metric), []).append(found)
    means: dict[str, dict[str, Standing]] = {}
    for (method, metric), each in places.items():
        value, place, _, _, share = (sum(column) / len(each) for column in zip(*each, strict=True))
        means.setdefault(method, {})[metric] = Standing(value, place, max(s.of for s in each), len(each), share)
    return means


def failed(found: Mapping[str, Mapping[str, Standing]], kb: KB, task: str | None) -> dict[str, tuple[str, ...]]:
    """Return the methods that fail the randomisation test, each with the metrics that say so."""
    limit = sane_below(task)
    bad = {
        method: tuple(m for m, one in own.items() if _tests_sanity(kb, m) and one.value > limit)
        for method, own in found.items()
    }
    return {method: metrics for method, metrics in bad.items() if metrics}


def _tests_sanity(kb: KB, metric: str) -> bool:
    """Whether a metric compares the map with that of a randomised model."""
    return kb.metrics[metric].property == "randomisation" and kb.metrics[metric].direction == "lower"


@dataclass(frozen=True, eq=False, repr=False)
class Reason:
    """Why a method stands where it stands; equal to one that says the same."""

    criterion: str
    points: float
    words: str | Callable[[], str]
    """The sentence, or how to write it: few of the many reasons of an answer are ever read."""
    cites: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reason) and self.as_json() == other.as_json()

    def __hash__(self) -> int:
        return hash((self.criterion, self.points, self.cites))

    def __repr__(self) -> str:
        return f"Reason({self.as_json()})"

    @cached_property
    def text(self) -> str:
        """The sentence."""
        return self.words if isinstance(self.words, str) else self.words()

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
        reasons: Strongest first.
        conditions: What must hold, as clauses ("if ...").
        cautions: Known limits, with their sources.
        metrics: Metrics that can check its explanation, the most fitting first.
        mask_metrics: Those of them that need a mask of the finding.
        tools: Tools that implement it, those that fit the question first.
        evidence: What the confidence in it rests on.
    """

    method: str
    name: str
    branch: str
    family: str
    score: float
    runnable: bool
    reasons: tuple[Reason, ...]
    conditions: tuple[str, ...]
    cautions: tuple[Statement, ...]
    metrics: tuple[str, ...]
    mask_metrics: tuple[str, ...]
    tools: tuple[str, ...]
    weigh: Callable[[], Evidence] = field(default=Evidence, repr=False, compare=False)
    """Counts the evidence; done for what is shown."""

    @cached_property
    def evidence(self) -> Evidence:
        """What the confidence rests on."""
        return self.weigh()

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


# --- what a question means for the methods ---------------------------------------------------------------------------


class _Finding(NamedTuple):
    """One claim about one method, seen from the question."""

    publication: Publication
    claim: Claim
    value: float
    """From -1 (against) to 1 (for); 0 is mixed or equal."""
    weight: float
    via: str | None
    """The umbrella that the claim names instead of the method."""


NO_QUALITY: Final = frozenset({"feasibility", "diagnosis_gain"})
"""Criteria that say nothing about the quality of an explanation."""
_FOR = {"better": 1.0, "adequate": 0.7, "equal": 0.0, "mixed": 0.0, "inadequate": -0.8, "worse": -1.0}
_AGAINST = {"better": -0.8, "worse": 0.8}
"""Value for the method that others are compared with."""


class _Said(NamedTuple):
    """One claim that bears on a method or umbrella, with what no question changes."""

    publication: str
    claim: Claim
    value: float
    weight: float
    rivals: frozenset[str]


class _Facts:
    """What the ranking needs of a knowledge base whatever the question, found once."""

    def __init__(self, kb: KB) -> None:
        self.families: dict[str, list[str]] = {}
        for family in kb.vocabulary.families:
            self.families[family] = above = [family]
            while (parent := kb.vocabulary.families[above[-1]].parent) is not None:
                above.append(parent)
        self.members: dict[str, list[str]] = {}
        for method_id, method in kb.methods.items():
            for family in self.families[method.family]:
                self.members.setdefault(family, []).append(method_id)
        self.umbrellas = {method: self._umbrellas(kb, method) for method in kb.methods}
        self.effects = {c: self._effects(challenge) for c, challenge in kb.challenges.items()}
        self.trust = self._trust(kb)
        introduced: dict[str, set[str]] = {}
        for method_id, method in kb.methods.items():
            introduced.setdefault(method.source or "", set()).add(method_id)
        self.own = {
            id(claim)
            for pub_id, publication in kb.publications.items()
            for claim in publication.claims
            if claim.self_reported or introduced.get(pub_id, set()) & set(claim.methods)
        }
        """Claims of authors about a method of their own: the claim says so, or the publication introduced it."""
        index = kb.index
        self.said = {
            source: [
                said
                for claims, values in ((index.claims.get(source, ()), _FOR), (index.versus.get(source, ()), _AGAINST))
                for pub_id, claim in claims
                if (said := self._said(pub_id, claim, values))
            ]
            for source in kb.methods
        }

    @staticmethod
    def _umbrellas(kb: KB, method: str) -> list[str]:
        found, above = [], kb.methods[method].parent
        while above:
            if kb.methods[above].umbrella:
                found.append(above)
            above = kb.methods[above].parent
        return found

    def _effects(self, challenge: Challenge) -> dict[str, list[tuple[Effect, bool]]]:
        """Method to what eases and what worsens the challenge for it or its family."""
        found: dict[str, list[tuple[Effect, bool]]] = {}
        for effects, eases in ((challenge.eased_by, True), (challenge.worsened_by, False)):
            for effect in effects:
                for method_id in self.members.get(effect.family or "", [effect.method or ""]):
                    found.setdefault(method_id, []).append((effect, eases))
        return found

    @staticmethod
    def _trust(kb: KB) -> dict[str, float]:
        """Publication to how much its findings count, as far as no question changes it."""
        now = max((p.year for p in kb.publications.values() if p.year), default=0)
        found = {}
        for pub_id, publication in kb.publications.items():
            weight = Points.READ[publication.read]
            if publication.year:
                weight *= 0.5 ** ((now - publication.year) / Points.HALF_LIFE)
            if publication.study and (publication.study.cases or _FEW) < _FEW:
                weight *= Points.SMALL_STUDY
            if publication.clinicians:
                weight *= Points.CLINICIANS
            found[pub_id] = weight
        return found

    def _said(self, publication: str, claim: Claim, values: Mapping[str, float]) -> _Said | None:
        if claim.criterion in NO_QUALITY or claim.outcome not in values:
            return None
        weight = self.trust[publication] * Points.CRITERIA.get(claim.criterion, 1.0)
        if id(claim) in self.own:
            weight *= Points.SELF_REPORTED
        rivals = frozenset(claim.versus if values is _FOR else claim.methods) if claim.versus else frozenset[str]()
        return _Said(publication, claim, values[claim.outcome], weight, rivals)


_FACTS: WeakKeyDictionary[KB, _Facts] = WeakKeyDictionary()


def facts_of(kb: KB) -> _Facts:
    """What no question changes."""
    if kb not in _FACTS:
        _FACTS[kb] = _Facts(kb)
    return _FACTS[kb]


@dataclass(frozen=True, eq=False)
class _Case:
    """A question, the knowledge base and what is known of the model, with what all criteria share."""

    query: Query
    kb: KB
    given: Profile | None
    measured: Sequence[Measured]
    runnable: Collection[str]
    metrics: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Output to the metrics that check it, found once."""
    found: dict[str, list[_Finding]] = field(default_factory=dict)
    """Method to its findings, found once."""
    used: dict[str, Mapping[tuple[str, bool], list[Publication]]] = field(default_factory=dict)
    """Method to its uses, found once."""
    rates: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Method to the points for a unit of weight that speaks for it, and for one that speaks against it."""

    @cached_property
    def profile(self) -> Profile:
        """What the question says of the model; what a real profile states wins."""
        query, given = self.query, self.given
        has, lacks = set(query.has), dict.fromkeys(query.lacks, "you said so")
        for need in query.lacks:
            has.discard(need)
        if query.architecture and query.architecture in ARCHITECTURES:
            own, missing = ARCHITECTURES[query.architecture]
            hybrid = query.architecture == "unet" and _HYBRID.search(query.spans.get("architecture", ""))
            has |= own - lacks.keys()
            lacks |= {n: why for n, why in missing.items() if n not in has and not (hybrid and n in _NO_ATTENTION)}
        if query.access == "black_box":
            lacks |= dict.fromkeys((n for n in _MODEL_NEEDS if n not in query.has), "")
            has -= lacks.keys()
        dims = int(query.dimension[0]) if query.dimension else self._only_dims()
        task = query.task if query.task != "other" else None
        if given is None:
            return Profile(frozenset(has), lacks, task, dims, query.architecture)
        merged = {need: why for need, why in lacks.items() if need not in given.has} | dict(given.lacks)
        return Profile(
            frozenset(given.has | (has - merged.keys())),
            merged,
            given.task or task,
            given.dims or dims,
            given.architecture or query.architecture,
            given.notes,
        )

    def _only_dims(self) -> int | None:
        """The dimensions of the named modalities when there is no choice."""
        dims = {d for m in self.query.modality for d in self.kb.modalities[m].dims}
        return dims.pop() if len(dims) == 1 else None

    @cached_property
    def modality_names(self) -> str:
        return " or ".join(_lower(self.label(m)) for m in self.query.modality)

    def label(self, modality: str) -> str:
        """The short name of a modality: "MRI" where people say so."""
        short = modality.upper()
        entity = self.kb.modalities[modality]
        return short if short in entity.aliases else entity.name

    @cached_property
    def task_name(self) -> str:
        return _lower(self.kb.vocabulary.tasks[self.profile.task].name) if self.profile.task else ""

    @cached_property
    def distances(self) -> Mapping[str, str]:
        """Modality to "same", "near" or "far"; all are the same when none is asked for."""
        if not self.query.modality:
            return dict.fromkeys(self.kb.modalities, "same")
        found = dict.fromkeys(self.kb.modalities, "far")
        for modality in self.query.modality:
            found |= {other: "near" for other, steps in relatives(self.kb, modality) if steps <= 2}
        return found | dict.fromkeys(self.query.modality, "same")

    @cached_property
    def places(self) -> Mapping[str, tuple[str, bool]]:
        """Publication to its closeness: the key of ``CLOSENESS``."""
        found = {}
        order = ("same", "near", "far")
        for pub_id, publication in self.kb.publications.items():
            study = publication.study
            if study is None:
                found[pub_id] = ("far" if self.query.modality else "same", self.profile.task is None)
                continue
            near = min((self.distances[m] for m in study.modalities), key=order.index)
            found[pub_id] = (near, self.profile.task is None or study.task == self.profile.task)
        return found

    @cached_property
    def criteria(self) -> frozenset[str]:
        """Qualities that the question, its goal or its audience cares about."""
        vocabulary, query = self.kb.vocabulary, self.query
        found = set(query.criteria)
        if query.goal:
            found |= set(vocabulary.goals[query.goal].criteria)
        if query.audience:
            found |= set(vocabulary.audiences[query.audience].criteria)
        return frozenset(found)

    @cached_property
    def challenges(self) -> tuple[str, ...]:
        """Challenges of the modality, of what it is a kind of, and those named."""
        found = dict.fromkeys(o for o in self.query.others if o in self.kb.challenges)
        for modality in self.query.modality:
            above: str | None = modality
            while above:
                found |= dict.fromkeys(d.challenge for d in self.kb.modalities[above].challenges)
                above = self.kb.modalities[above].parent
        return tuple(found)

    @cached_property
    def gaps(self) -> Mapping[str, list[Gap]]:
        """Method to every known reason why it cannot serve."""
        excluded = set(self.query.excluded)
        found = {}
        for method_id, method in self.kb.methods.items():
            found[method_id] = gaps(method.requires, self.profile, self.kb.vocabulary.needs)
            rebuilt = any(g.need == "retraining" for g in found[method_id])
            if method.stage == "intrinsic" and self.query.access == "black_box" and not rebuilt:
                gap = Gap("retraining", "it is built into a model, and a black box cannot be rebuilt.")
                found[method_id].append(gap)
            if excluded & {method_id, method.family, *self.umbrellas(method_id)}:
                found[method_id].insert(0, Gap("excluded", "you asked to leave it out."))
        return found

    @cached_property
    def out(self) -> frozenset[str]:
        """Methods that cannot serve; an umbrella always may."""
        return frozenset(m for m, problems in self.gaps.items() if problems and not self.kb.methods[m].umbrella)

    @cached_property
    def facts(self) -> _Facts:
        """What no question changes."""
        return facts_of(self.kb)

    def effect(self, challenge: str, method: str, *, eases: bool) -> Effect | None:
        """The first way in which a method, or its family, eases a challenge or suffers from it."""
        effects = self.facts.effects[challenge].get(method, ())
        return next((effect for effect, for_it in effects if for_it is eases), None)

    def umbrellas(self, method: str) -> list[str]:
        """The umbrellas above a method."""
        return self.facts.umbrellas[method]

    def families(self, method: Method) -> list[str]:
        """The family of a method and the families above it."""
        return self.facts.families[method.family]

    @property
    def finished(self) -> bool:
        """Whether there is a model already."""
        return self.given is not None or self.query.access is not None or "retraining" in self.query.lacks

    @property
    def native(self) -> frozenset[str]:
        """Families that read what only the named architecture has."""
        return NATIVE.get(self.profile.architecture or "", frozenset())

    def aims_at(self, method: Method) -> bool:
        """Whether the asker wants just such a method: named, of the family that is named, or of one the goal wants."""
        families = set(self.families(method))
        goal = self.kb.vocabulary.goals[self.query.goal].families if self.query.goal else []
        named = {method.id, *self.umbrellas(method.id)} & set(self.query.methods)
        return bool(named or families & {*self.query.families, *goal, *self.native})

    def sources(self, method: str) -> list[tuple[str, float, str | None]]:
        """Whose evidence counts for a method: (id, factor, umbrella)."""
        return [(method, 1.0, None), *((u, Points.UMBRELLA, u) for u in self.umbrellas(method))]

    @cached_property
    def standings(self) -> Mapping[str, Mapping[str, Standing]]:
        return standings(self.measured, self.kb)

    @cached_property
    def failed(self) -> Mapping[str, tuple[str, ...]]:
        return failed(self.standings, self.kb, self.profile.task)

    def on_the_organ(self, publication: Publication) -> bool:
        """Whether a study looked at the organ that is asked about."""
        if not self.query.anatomy:
            return False
        anatomy = publication.study.anatomy if publication.study else None
        return bool(anatomy) and any(word in str(anatomy).lower() for word in self.query.anatomy)

    @cached_property
    def kinship(self) -> Mapping[str, float]:
        """Publication to how much more than one it counts, for sharing organ, dimension or architecture."""
        found = dict.fromkeys(self.kb.publications, 1.0)
        for pub_id, publication in self.kb.publications.items():
            study = publication.study
            if study is None:
                continue
            if self.on_the_organ(publication):
                found[pub_id] += Points.ANATOMY
            if self.query.dimension and self.profile.dims and self.profile.dims in (study.dims or ()):
                found[pub_id] += Points.DIMENSION
            if self.profile.architecture and study.architecture == self.profile.architecture:
                found[pub_id] += Points.ARCHITECTURE
            if {_KIND.get(str(self.profile.architecture)), _KIND.get(str(study.architecture))} == {"conv", "attention"}:
                found[pub_id] *= Points.OTHER_KIND
        return found

    def where(self, place: tuple[str, bool]) -> str:
        """A place in words, as it follows "studies"."""
        modality, same_task = place
        words = []
        if self.query.modality:
            words.append(
                {"same": f"on {self.modality_names}", "near": "on related modalities", "far": "on other modalities"}[
                    modality
                ]
            )
        if self.profile.task:
            words.append(f"for {self.task_name}" if same_task else "for other tasks")
        return " ".join(words)

    def findings(self, method: str) -> list[_Finding]:
        """All findings about the quality of a method's explanations, by weight."""
        if method not in self.found:
            self.found[method] = self._findings(method)
        return self.found[method]

    def _findings(self, method: str) -> list[_Finding]:
        found: list[tuple[_Said, float, str | None]] = []
        for source, factor, via in self.sources(method):
            for said in self.facts.said[source]:
                weight = factor * self.close[said.publication] * said.weight
                if said.rivals and said.rivals <= self.out:
                    weight *= Points.IDLE_RIVAL
                if said.claim.criterion in self.criteria:
                    weight *= Points.ASKED_CRITERION
                found.append((said, weight, via))
        # one paper, one voice: its findings share its weight
        voices = Counter(said.publication for said, _, _ in found)
        own = [
            _Finding(self.kb.publications[s.publication], s.claim, s.value, weight / voices[s.publication], via)
            for s, weight, via in found
        ]
        return sorted(own, key=lambda f: (-f.weight, f.publication.id, f.claim.text))

    def own_judgement(self, claim: Claim) -> bool:
        """Whether authors judged a method of their own."""
        return id(claim) in self.facts.own

    def uses(self, method: str) -> Mapping[tuple[str, bool], list[Publication]]:
        """Studies that used a method, by place, the closest first; found once."""
        if method not in self.used:
            self.used[method] = self._uses(method)
        return self.used[method]

    def _uses(self, method: str) -> dict[tuple[str, bool], list[Publication]]:
        found: dict[tuple[str, bool], list[Publication]] = {}
        for pub_id in self.kb.index.by_method.get(method, ()):
            publication = self.kb.publications[pub_id]
            if publication.study:  # a paper without a study introduces it and applies it to nothing of ours
                found.setdefault(self.places[pub_id], []).append(publication)
        return {place: found[place] for place in CLOSENESS if place in found}

    def use(self, method: str, studies: Iterable[Publication]) -> float:
        """The weight of studies that used a method."""
        source, close = self.kb.methods[method].source, self.close
        return Points.USED * sum(close[p.id] * (Points.SELF_REPORTED if p.id == source else 1.0) for p in studies)

    @cached_property
    def close(self) -> Mapping[str, float]:
        """Publication to how close it is to the question."""
        return {p: CLOSENESS[self.places[p]] * self.kinship[p] for p in self.kb.publications}

    def rate(self, method: str) -> tuple[float, float]:
        """The points for a unit of weight that speaks for a method, and for one that speaks against it.

        The more there is, the less each unit adds; so the whole is found first and shared among the reasons.
        """
        if method not in self.rates:
            pro = contra = 0.0
            for finding in self.findings(method):
                pro += finding.weight * max(finding.value, 0.0)
                contra += finding.weight * max(-finding.value, 0.0)
            for source, factor, _ in self.sources(method):
                pro += factor * sum(self.use(source, studies) for studies in self.uses(source).values())
            self.rates[method] = (_rate(Points.EVIDENCE, pro), _rate(Points.AGAINST, contra))
        return self.rates[method]


def _rate(points: float, weight: float) -> float:
    """The points for each unit of a weight."""
    trusted = weight / (weight + Points.SHRINK)
    return points * math.log2(1 + weight * trusted) / weight if weight else 0.0


def _lower(name: str) -> str:
    """A name inside a sentence: lower case unless it is an abbreviation."""
    return name if any(map(str.isupper, name[1:])) or name[1:2] == "-" else name[:1].lower() + name[1:]


def _bare(name: str) -> str:
    """A name without the bracket that tells it from others."""
    return name.split(" (")[0]


def _count(number: int, word: str) -> str:
    plural = word[:-1] + "ies" if word.endswith("y") else word + ("es" if word.endswith("s") else "s")
    return f"{number} {word if number == 1 else plural}"


def _sentence(text: str) -> str:
    return text.rstrip(" .;") + "."


# --- criteria --------------------------------------------------------------------------------------------------------

Criterion = Callable[[_Case, Method], Iterator[Reason]]


def named(case: _Case, method: Method) -> Iterator[Reason]:
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
                    f"You asked about {_bare(case.kb.methods[umbrella].name)}; {method.name} is a variant of it.",
                )
                return
    for family in case.families(method):
        if family in case.query.families:
            yield Reason(
                "named", Points.FAMILY, f"You asked for the family “{case.kb.vocabulary.families[family].name}”."
            )
            return


def used(case: _Case, method: Method) -> Iterator[Reason]:
    """Studies that used the method, from this modality and task outwards."""
    by_place = case.uses(method.id)
    rate = case.rate(method.id)[0]
    asked = bool(case.query.modality or case.profile.task)
    if asked and by_place and ("same", True) not in by_place:
        yield Reason("evidence", 0.0, f"No study {case.where(('same', True))} that used {method.name} was found.")
    for place, studies in list(by_place.items())[:_PLACES]:
        studies.sort(key=lambda p: (-case.kinship[p.id], -(p.year or 0), p.id))
        where = case.where(place)
        text = f"{_count(len(studies), 'study')}{' ' + where if where else ''} used it"
        anatomy = list(filter(case.on_the_organ, studies))
        if anatomy:
            share = f"{len(anatomy)} of them " if len(anatomy) < len(studies) else ""
            text += f", {share}on the {' or '.join(case.query.anatomy)}"
        if any(p.id == method.source for p in studies):
            text += ", counting the one that introduced it"
        if len(studies) < 3:
            text += " (few, so they count little)"
        points = rate * case.use(method.id, studies)
        yield Reason("evidence", round(points, 3), text + ".", tuple(p.id for p in studies[:_CITED]))
    if rest := [p for studies in list(by_place.values())[_PLACES:] for p in studies]:
        text = f"{_count(len(rest), 'study')} farther from your question used it too."
        yield Reason("evidence", round(rate * case.use(method.id, rest), 3), text, tuple(p.id for p in rest[:_CITED]))
    told = bool(by_place)
    for umbrella in case.umbrellas(method.id):
        if studies := [p for found in case.uses(umbrella).values() for p in found]:
            points = rate * Points.UMBRELLA * case.use(umbrella, studies)
            short = _bare(case.kb.methods[umbrella].name)
            text = f"{_count(len(studies), 'study')} used {short} without saying which variant."
            studies.sort(key=lambda p: (-CLOSENESS[case.places[p.id]], -(p.year or 0), p.id))
            yield Reason("evidence", round(points, 3), text, tuple(p.id for p in studies[:_CITED]))
            told = True
    if not told:
        yield Reason(
            "evidence", 0.0, f"No study in the knowledge base that used {method.name} on biomedical images was found."
        )


def findings(case: _Case, method: Method) -> Iterator[Reason]:
    """What studies found: comparisons, experts' judgement and other findings, each for and against."""
    groups: dict[tuple[str, int], list[_Finding]] = {(g, side): [] for g in _GROUPS for side in _SIDES}
    for finding in case.findings(method.id):
        group = "comparison" if finding.claim.versus else "experts" if _by_experts(finding) else "findings"
        groups[group, (finding.value > 0) - (finding.value < 0)].append(finding)
    pro, contra = case.rate(method.id)
    for (group, side), part in groups.items():
        if part:
            points = (pro if side > 0 else contra) * sum(f.weight * abs(f.value) for f in part)
            cites = tuple(dict.fromkeys(f.publication.id for f in part))[:_CITED]
            yield Reason(group, round(points, 3), partial(_told, case, _SIDES[side], part), cites)


_GROUPS = ("comparison", "experts", "findings")
_SIDES = {1: "For", -1: "Against", 0: "Mixed or equal"}


def _by_experts(finding: _Finding) -> bool:
    """Whether experts had a say in it."""
    experts = finding.claim.criterion in ("agreement_with_experts", "usefulness")
    return experts or bool(finding.publication.clinicians)


def _told(case: _Case, label: str, part: Sequence[_Finding]) -> str:
    """The two weightiest findings in words, and how many more there are."""
    told: list[str] = []
    seen: set[str] = set()
    for finding in part:
        if finding.claim.text in seen or len(told) == 2:
            continue
        seen.add(finding.claim.text)
        study = finding.publication.study
        where = "/".join(map(case.label, study.modalities[:2])) if study else "general"
        criterion = _lower(case.kb.vocabulary.criteria[finding.claim.criterion].name)
        notes = [where, criterion]
        if finding.via:
            notes.append(f"said of {_bare(case.kb.methods[finding.via].name)}")
        if finding.claim.self_reported:
            notes.append("reported by its own authors")
        told.append(f"{finding.claim.text.rstrip(' .')} ({', '.join(notes)})")
    more = len({f.claim.text for f in part}) - len(told)
    return f"{label}: " + "; ".join(told) + (f"; and {_count(more, 'more finding')}." if more else ".")


def goal(case: _Case, method: Method) -> Iterator[Reason]:
    """Whether the explanation answers what the asker wants to know."""
    if case.query.goal is None:
        where = case.kb.vocabulary.goals.get("where")
        if where and not case.query.families and set(case.families(method)) & set(where.families):
            yield Reason("goal", Points.MAP, "It shows where in the image the evidence lies.")
        return
    wanted = case.kb.vocabulary.goals[case.query.goal]
    aim = f"“{wanted.name}”"
    if set(case.families(method)) & set(wanted.families):
        family = _lower(case.kb.vocabulary.families[method.family].name)
        yield Reason("goal", Points.GOAL, f"It serves your goal {aim}: its family is {family}.")
    elif method.output in wanted.outputs and (method.output != "map" or not wanted.families):
        yield Reason("goal", Points.GOAL / 2, f"It serves your goal {aim} by its kind of output ({method.output}).")
    elif method.output in wanted.outputs:
        yield Reason("goal", Points.OFF_GOAL / 2, f"It gives a map, but not of the kind your goal {aim} asks for.")
    else:
        yield Reason("goal", Points.OFF_GOAL, f"Its output ({method.output}) does not answer your goal {aim}.")


def audience(case: _Case, method: Method) -> Iterator[Reason]:
    """What was found, on any modality, about the qualities that the audience cares about."""
    if case.query.audience is None:
        return
    who = case.kb.vocabulary.audiences[case.query.audience]
    found = [f for f in case.findings(method.id) if f.claim.criterion in who.criteria and f.via is None]
    names = ", ".join(_lower(case.kb.vocabulary.criteria[c].name) for c in who.criteria)
    if not found:
        yield Reason("audience", 0.0, f"Nothing was found about what {_lower(who.name)} care about ({names}).")
        return
    number = len(found)
    good, bad = sum(f.value > 0 for f in found), sum(f.value < 0 for f in found)
    points = sum(f.value for f in found) / (number + Points.SHRINK_AUDIENCE)
    counts = f"{_count(good, 'finding')} for it, {bad} against, {number - good - bad} mixed"
    text = f"What {_lower(who.name)} care about ({names}): {counts}."
    yield Reason("audience", round(points, 3), text, tuple(dict.fromkeys(f.publication.id for f in found))[:_CITED])


def challenges(case: _Case, method: Method) -> Iterator[Reason]:
    """Challenges of the modality that the method eases or suffers from."""
    eased = worsened = Points.CHALLENGE
    for challenge_id in case.challenges:
        name = _lower(case.kb.challenges[challenge_id].name)
        for effect, eases in case.facts.effects[challenge_id].get(method.id, ()):
            text = f"{'Eases' if eases else 'Suffers from'} “{name}”: {_sentence(effect.text)}"
            yield Reason("challenge", round(eased if eases else -worsened, 3), text, tuple(effect.sources))
            eased, worsened = (eased / 2, worsened) if eases else (eased, worsened / 2)


def fit(case: _Case, method: Method) -> Iterator[Reason]:
    """Fit to the task and to the architecture."""
    if case.profile.task and method.requires.tasks == [case.profile.task] and case.profile.task != "classification":
        yield Reason("task", Points.MADE_FOR_TASK, f"It was made for {case.task_name}.")
    if method.family in case.native:
        architecture = _lower(case.kb.vocabulary.architectures[case.profile.architecture or ""].name)
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


def effort(case: _Case, method: Method) -> Iterator[Reason]:
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
    unknown = [n for n in method.requires.needs if n not in case.profile.has and n not in case.profile.lacks]
    words = case.kb.vocabulary.needs
    for need in unknown:
        if need == "retraining" and (wanted or method.stage == "intrinsic"):
            continue
        if need in Points.EFFORT:
            own = aimed and need not in ("mask", "clinical_features")  # those come with few of such methods
            points = Points.EFFORT[need] * (Points.WANTED_EFFORT if own else 1.0)
        else:
            points = Points.NEEDS[need]
        yield Reason("effort", round(points, 3), f"It serves only {_sentence(words[need].condition)}")


def cost(case: _Case, method: Method) -> Iterator[Reason]:
    """Model passes, against the budget when there is one."""
    passes = method.cost.passes
    budget = case.query.budget
    if passes is None:
        if budget is not None:
            yield Reason("cost", 0.0, "How many model passes it takes is not known.")
        return
    if budget is None:
        points = round(Points.PASSES * math.log10(max(passes, 1)), 3)
        yield Reason("cost", points, f"One explanation takes about {_count(passes, 'model pass')}.")
        return
    each = SECONDS_PER_PASS[case.profile.dims]
    text = f"About {_count(passes, 'model pass')}, some {passes * each:.3g} s where a pass takes {each} s"
    if passes * each > budget:
        yield Reason("cost", Points.OVER_BUDGET, f"{text}: over your budget of {budget:g} s.")
    else:
        yield Reason("cost", Points.WITHIN_BUDGET, f"{text}: within your budget of {budget:g} s.")


def estimate(method: Method, dims: int | None) -> float | None:
    """Return the seconds one explanation takes at :data:`SECONDS_PER_PASS`; None where the passes are not known."""
    return None if method.cost.passes is None else method.cost.passes * SECONDS_PER_PASS[dims]


def tools(case: _Case, method: Method) -> Iterator[Reason]:
    """Whether a tool implements the method, and whether it is one that was named."""
    known = case.kb.index.tools.get(method.id, ())
    if not known and method.id not in case.runnable and method.stage == "post_hoc":
        yield Reason("tool", Points.NO_TOOL, "No tool of the knowledge base implements it.")
    for tool in known:
        if tool in case.query.others:
            yield Reason("tool", 1.0, f"{case.kb.tools[tool].name}, which you named, implements it.")


def here(case: _Case, method: Method) -> Iterator[Reason]:
    """What can be run, and what was measured, on this machine."""
    if method.id in case.runnable:
        yield Reason("runnable", Points.RUNNABLE, "It can be run here.")
    own = case.standings.get(method.id, {})
    shares: dict[str, list[tuple[float, str]]] = {}
    for metric_id, found in own.items():
        metric = case.kb.metrics[metric_id]
        if metric.direction is not None and found.of > 1 and not _tests_sanity(case.kb, metric_id):
            shares.setdefault(metric.property, []).append((found.share, metric.name))
    for metric_id, found in sorted(own.items()):
        metric = case.kb.metrics[metric_id]
        weight = found.images / (found.images + Points.SHRINK_MEASURED)
        text = f"{metric.name} {found.value:.2g} {_on_images(found.images)}"
        if _tests_sanity(case.kb, metric_id):
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
            yield Reason("measured", round(points, 3), f"{text}, {_place(found)}.")
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


def _mind(case: _Case, method: str) -> Iterator[Statement]:
    """What to mind of a method that fails the randomisation test here."""
    for metric_id in case.failed.get(method, ()):
        metric, found = case.kb.metrics[metric_id], case.standings[method][metric_id]
        if metric.source:
            yield Statement(
                text=f"On your model it fails the {metric.name} (similarity {found.value:.2f}): the map shows the "
                "image more than what the model learned. Do not rely on it here.",
                sources=[metric.source],
            )


CRITERIA: Final[tuple[Criterion, ...]] = (
    named, goal, used, findings, audience, challenges, fit, effort, cost, tools, here,
)  # fmt: skip
"""All criteria; the score of a method is the sum of the points of what they yield."""


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
    return _rank(_case(query, kb, profile, measured, runnable))[0]


def _case(
    query: Query, kb: KB, profile: Profile | None, measured: Iterable[Measured], runnable: Iterable[str]
) -> _Case:
    rows = tuple(measured)
    vocabulary = kb.vocabulary
    given: list[tuple[Iterable[str | None], Iterable[str], str]] = [
        (query.modality, kb.modalities, "modality"),
        (query.methods, kb.methods, "method"),
        ([query.task, profile.task if profile else None], vocabulary.tasks, "task"),
        ([query.architecture], vocabulary.architectures, "architecture"),
        ([query.audience], vocabulary.audiences, "audience"),
        ([query.goal], vocabulary.goals, "goal"),
        ((row.metric for row in rows), kb.metrics, "metric"),
    ]
    for ids, allowed, what in given:
        for entity_id in ids:
            if entity_id is not None and entity_id not in allowed:
                raise UnknownIdError(entity_id, allowed, what)
    return _Case(query, kb, profile, rows, frozenset(runnable))


def _rank(case: _Case, only: Collection[str] | None = None) -> tuple[list[Recommendation], list[RuledOut]]:
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
            close = sum(case.use(method_id, studies) for studies in case.uses(method_id).values())
            why = " Also, ".join(gap.sentence for gap in case.gaps[method_id])
            out.append((asked + close, RuledOut(method_id, f"{method.name} is out: {why}")))
        else:
            reasons = [reason for criterion in CRITERIA for reason in criterion(case, method)]
            score = round(sum(r.points for r in reasons), 3)
            found.append(_recommendation(case, method, reasons, score))
    found.sort(key=lambda r: (-r.score, r.method))
    out.sort(key=lambda o: (-o[0], o[1].method))
    return found, [o for _, o in out]


def _recommendation(case: _Case, method: Method, reasons: list[Reason], score: float) -> Recommendation:
    kb = case.kb
    reasons.sort(key=lambda r: -abs(r.points))
    if method.output not in case.metrics:
        case.metrics[method.output] = _metrics(case, method.output)
    metrics = case.metrics[method.output]
    return Recommendation(
        method=method.id,
        name=method.name,
        branch=kb.branch(method.id),
        family=method.family,
        score=score,
        runnable=method.id in case.runnable,
        reasons=tuple(reasons),
        conditions=tuple(conditions(method.requires, case.profile, kb.vocabulary.needs)),
        cautions=(*_mind(case, method.id), *method.limitations),
        metrics=metrics,
        mask_metrics=tuple(m for m in metrics if "mask" in kb.metrics[m].needs),
        tools=_tools(case, method.id),
        weigh=partial(_evidence, case, method.id),
    )


def _evidence(case: _Case, method: str) -> Evidence:
    """Count what is known of a method under its own name."""
    uses = case.uses(method)
    own = [f for f in case.findings(method) if f.via is None]
    groups: dict[str, list[_Finding]] = {}
    for finding in own:
        groups.setdefault(finding.publication.id, []).append(finding)
    pro = sum(f.weight * f.value for f in own if f.value > 0)
    contra = sum(f.weight * -f.value for f in own if f.value < 0)
    good = {p for p, found in groups.items() if sum(f.value for f in found) > 0}
    free = {p for p, found in groups.items() if not all(case.own_judgement(f.claim) for f in found)}
    compared = {p for p, found in groups.items() if any(f.claim.versus for f in found)}
    judged = {p for p, found in groups.items() if any(map(_by_experts, found))}
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


def _tools(case: _Case, method_id: str) -> tuple[str, ...]:
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


def _metrics(case: _Case, output: Output) -> tuple[str, ...]:
    """Metrics for the output and the task: the challenges' own first, then by property, the most implemented first."""
    kb = case.kb
    wanted = list(_PROPERTIES[output])
    if case.profile.task == "segmentation" and output == "map":
        wanted.insert(0, ("segmentation", 1))
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
    return tuple(found)
