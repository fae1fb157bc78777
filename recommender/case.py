"""What a question means for the methods: what is known of the model, how close each study is, what was found."""

from __future__ import annotations

import gc
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import mul
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from recommender.points import AGAINST, CLOSENESS, FOR, Points
from recommender.query import Query
from taxonomy import KB, Gap, Profile, UnknownIdError, gaps
from taxonomy.graph import relatives
from taxonomy.requirements import sane_below
from taxonomy.schema import Challenge, Claim, Effect, Method, Need, Publication

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
    "text_decoder",
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

KIND: Final = {"cnn": "conv", "unet": "conv", "vit": "attention", "swin": "attention"}
"""What an architecture is built of: explanations of the one kind say little about the other."""

NATIVE: Final[Mapping[str, frozenset[str]]] = {
    "mil": frozenset({"mil_map"}),
    "vlm": frozenset({"cross_modal_map", "rationale", "grounded_report", "language_concepts"}),
}
"""Families that read what only such an architecture has."""

_HYBRID = re.compile(r"trans|unetr|swin|former", re.IGNORECASE)
"""Segmenters that hold a transformer: nothing is known of their attention from the name."""
_FEW = 30
"""Cases below which a study is small."""

CITED = 8
"""Citations that one reason names at most; the sentence tells the whole number."""


class Measured(NamedTuple):
    """A score that was measured on the asker's own model and image; only values of one image are compared."""

    method: str
    metric: str
    value: float
    image: str = ""
    weight: float = 1.0
    """How far the metric is trusted, 0 to 1: what its scores count."""


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
    weight: float = 1.0
    """How far the metric is trusted."""


def standings(measured: Iterable[Measured], kb: KB) -> Mapping[str, Mapping[str, Standing]]:
    """Return method to metric to its standing, compared image by image; values that are not finite do not count."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    trust: dict[str, float] = {}
    for row in measured:
        if math.isfinite(row.value):
            trust[row.metric] = row.weight
            values.setdefault((row.metric, row.image), {})[row.method] = row.value
    places: dict[tuple[str, str], list[Standing]] = {}
    for (metric, _), rows in values.items():
        sign = -1 if kb.metrics[metric].direction == "lower" else 1
        for method, value in rows.items():
            others = [other for rival, other in rows.items() if rival != method]
            tied = [math.isclose(value, o, rel_tol=Points.ALIKE, abs_tol=1e-9) for o in others]
            behind = sum(sign * o > sign * value and not t for o, t in zip(others, tied, strict=True))
            ahead = len(others) - behind - sum(tied)
            share = (ahead - behind) / len(rows)
            found = Standing(value, 1 + behind + sum(tied) / 2, len(rows), 1, share, trust[metric])
            places.setdefault((method, metric), []).append(found)
    means: dict[str, dict[str, Standing]] = {}
    for (method, metric), each in places.items():
        value, place, _, _, share, weight = (sum(column) / len(each) for column in zip(*each, strict=True))
        most = max(s.of for s in each)
        means.setdefault(method, {})[metric] = Standing(value, place, most, len(each), share, weight)
    return means


def failed(found: Mapping[str, Mapping[str, Standing]], kb: KB, task: str | None) -> dict[str, tuple[str, ...]]:
    """Return the methods that fail the randomisation test, each with the metrics that say so."""
    limit = sane_below(task)
    bad = {
        method: tuple(m for m, one in own.items() if tests_sanity(kb, m) and one.value > limit)
        for method, own in found.items()
    }
    return {method: metrics for method, metrics in bad.items() if metrics}


OTHER_RANDOM: Final = frozenset({"csc", "data_randomisation", "random_logit"})
"""Metrics of randomisation that do not put random weights into the model."""


def tests_sanity(kb: KB, metric: str) -> bool:
    """Whether a metric compares the map with that of a randomised model."""
    about = kb.metrics[metric]
    return about.property == "randomisation" and about.direction == "lower" and metric not in OTHER_RANDOM


# --- what no question changes -----------------------------------------------------------------------------------------


class Finding(NamedTuple):
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


class _Said(NamedTuple):
    """One claim that bears on a method or umbrella, with what no question changes."""

    publication: str
    claim: Claim
    value: float
    weight: float
    rivals: frozenset[str]
    group: tuple[str, int]
    """(kind of finding, side): see :data:`GROUPS` and :data:`SIDES`."""
    number: int
    """Its place among all."""


class _Heard(NamedTuple):
    """What was said of a method, or of an umbrella above it."""

    said: _Said
    factor: float
    """How much of its weight counts: little where only an umbrella is named."""
    voices: int
    """How many findings its publication has: one paper, one voice, so they share its weight."""
    via: str | None
    """The umbrella."""


class Liking(NamedTuple):
    """What was found about the qualities that an audience cares about."""

    points: float
    number: int
    good: int
    bad: int


GROUPS: Final = ("comparison", "experts", "findings")
SIDES: Final = {1: "For", -1: "Against", 0: "Mixed or equal"}


class Facts:
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
        self.branches = {family: word.branch for family, word in kb.vocabulary.families.items()}
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
        self.said: list[_Said] = []
        by_source: dict[str, list[_Said]] = {}
        for source in kb.methods:
            by_source[source] = own = []
            for claims, values in ((index.claims.get(source, ()), FOR), (index.versus.get(source, ()), AGAINST)):
                for pub_id, claim in claims:
                    if claim.criterion not in NO_QUALITY and claim.outcome in values:
                        own.append(self._said(kb.publications[pub_id], claim, values, len(self.said)))
                        self.said.append(own[-1])
        self.heard = {method: self._heard(method, by_source) for method in kb.methods}
        """Method to what was said of it, by group."""
        self.heavy = {
            method: [
                (
                    group,
                    tuple(one.said.number for one in found),
                    tuple(factor / voices * abs(s.value) for s, factor, voices, _ in found),
                )
                for group, found in groups.items()
            ]
            for method, groups in self.heard.items()
        }
        """Method to (group, numbers of the claims of its findings, how much the weight of each counts)."""
        self.contested = [one for one in self.said if one.rivals]
        """What was said in a comparison."""
        self.uses = {
            method_id: tuple(
                (p, Points.SELF_REPORTED if p == method.source else 1.0)
                for p in index.by_method.get(method_id, ())
                if kb.publications[p].study  # one without introduces the method and applies it to nothing of ours
            )
            for method_id, method in kb.methods.items()
        }
        """Method to (study that used it, how much that counts)."""
        self.alike: dict[tuple[Any, ...], list[str]] = {}
        """Methods by what decides whether they can serve."""
        for method_id, method in kb.methods.items():
            needs = method.requires
            key = (*needs.needs, None, *needs.tasks, None, *needs.dims, method.stage)
            self.alike.setdefault(key, []).append(method_id)
        self.kinds: dict[tuple[Any, ...], list[str]] = {}
        """Publications by all that tells how close they are, but for the organ."""
        for pub_id, publication in kb.publications.items():
            study = publication.study
            kind = (*study.modalities, None, study.task, study.architecture, *(study.dims or ())) if study else ()
            self.kinds.setdefault(kind, []).append(pub_id)
        self.organs = {
            pub_id: p.study.anatomy.lower() for pub_id, p in kb.publications.items() if p.study and p.study.anatomy
        }
        self.serves_only = {
            need: f"It serves only {sentence(word.condition)}" for need, word in kb.vocabulary.needs.items()
        }
        self.liked = {
            audience: {method: self._liked(method, frozenset(who.criteria)) for method in kb.methods}
            for audience, who in kb.vocabulary.audiences.items()
        }
        """Audience to method to what was found, under its own name, about the qualities it cares about."""

    def _liked(self, method: str, criteria: Collection[str]) -> Liking:
        values = [
            one.said.value
            for found in self.heard[method].values()
            for one in found
            if one.said.claim.criterion in criteria and one.via is None
        ]
        points = round(math.fsum(values) / (len(values) + Points.SHRINK_AUDIENCE), 3)
        return Liking(points, len(values), sum(v > 0 for v in values), sum(v < 0 for v in values))

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

    def _said(self, publication: Publication, claim: Claim, values: Mapping[str, float], number: int) -> _Said:
        weight = self.trust[publication.id] * Points.CRITERIA.get(claim.criterion, 1.0)
        if id(claim) in self.own:
            weight *= Points.SELF_REPORTED
        rivals = frozenset(claim.versus if values is FOR else claim.methods) if claim.versus else frozenset[str]()
        value = values[claim.outcome]
        kind = "comparison" if claim.versus else "experts" if by_experts(publication, claim) else "findings"
        return _Said(publication.id, claim, value, weight, rivals, (kind, (value > 0) - (value < 0)), number)

    def _heard(self, method: str, said: Mapping[str, list[_Said]]) -> dict[tuple[str, int], list[_Heard]]:
        """What was said of a method and of the umbrellas above it, by group."""
        sources = [(method, 1.0, None), *((u, Points.UMBRELLA, u) for u in self.umbrellas[method])]
        every = [(one, factor, via) for source, factor, via in sources for one in said[source]]
        voices = Counter(one.publication for one, _, _ in every)
        groups: dict[tuple[str, int], list[_Heard]] = {(kind, side): [] for kind in GROUPS for side in SIDES}
        for one, factor, via in every:
            groups[one.group].append(_Heard(one, factor, voices[one.publication], via))
        return {group: found for group, found in groups.items() if found}


def by_experts(publication: Publication, claim: Claim) -> bool:
    """Whether experts had a say in a finding."""
    return claim.criterion in ("agreement_with_experts", "usefulness") or bool(publication.clinicians)


_FACTS: WeakKeyDictionary[KB, Facts] = WeakKeyDictionary()


def facts_of(kb: KB) -> Facts:
    """What no question changes."""
    if kb not in _FACTS:
        _FACTS[kb] = Facts(kb)
    return _FACTS[kb]


def ready(kb: KB) -> KB:
    """Build what no question changes, and keep all there is now out of the garbage collector's rounds.

    For programs that answer many questions: walking a knowledge base takes longer than an answer, every now and then.
    """
    facts_of(kb)
    gc.freeze()
    return kb


class Rate(NamedTuple):
    """What the evidence about a method is worth."""

    pro: float
    """The points for a unit of weight that speaks for it."""
    contra: float
    """The same for one that speaks against it."""
    sums: Mapping[tuple[str, int], float]
    """Group of findings to its weight times how strongly it speaks."""


@dataclass(frozen=True, eq=False)
class Case:
    """A question, the knowledge base and what is known of the model, with what all criteria share."""

    query: Query
    kb: KB
    given: Profile | None
    measured: Sequence[Measured]
    runnable: Collection[str]
    metrics: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Output to the metrics that check it, found once."""
    used: dict[str, Mapping[tuple[str, bool], float]] = field(default_factory=dict)
    """Method to the weight of the studies that used it, found once."""
    rates: dict[str, Rate] = field(default_factory=dict)
    """Method to what its evidence is worth, found once."""

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
        """The modalities asked about, in words."""
        return " or ".join(lower(self.label(m)) for m in self.query.modality)

    def label(self, modality: str) -> str:
        """The short name of a modality: "MRI" where people say so."""
        short = modality.upper()
        entity = self.kb.modalities[modality]
        return short if short in entity.aliases else entity.name

    @cached_property
    def task_name(self) -> str:
        """The task asked about, in words."""
        return lower(self.kb.vocabulary.tasks[self.profile.task].name) if self.profile.task else ""

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
        found: dict[str, tuple[str, bool]] = {}
        order = ("same", "near", "far")
        for alike in self.facts.kinds.values():
            study = self.kb.publications[alike[0]].study
            if study is None:
                place = ("far" if self.query.modality else "same", self.profile.task is None)
            else:
                near = min((self.distances[m] for m in study.modalities), key=order.index)
                place = (near, self.profile.task is None or study.task == self.profile.task)
            found |= dict.fromkeys(alike, place)
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
        found: dict[str, list[Gap]] = {}
        for alike in self.facts.alike.values():
            method = self.kb.methods[alike[0]]
            own = gaps(method.requires, self.profile, self.kb.vocabulary.needs)
            rebuilt = any(g.need == "retraining" for g in own)
            if method.stage == "intrinsic" and self.query.access == "black_box" and not rebuilt:
                own.append(Gap("retraining", "it is built into a model, and a black box cannot be rebuilt."))
            found |= dict.fromkeys(alike, own)
        if excluded:
            unwanted = Gap("excluded", "you asked to leave it out.")
            for method_id, method in self.kb.methods.items():
                if excluded & {method_id, method.family, *self.umbrellas(method_id)}:
                    found[method_id] = [unwanted, *found[method_id]]
        return found

    @cached_property
    def out(self) -> frozenset[str]:
        """Methods that cannot serve; an umbrella always may."""
        return frozenset(m for m, problems in self.gaps.items() if problems and not self.kb.methods[m].umbrella)

    @cached_property
    def facts(self) -> Facts:
        """What no question changes."""
        return facts_of(self.kb)

    @cached_property
    def effects(self) -> Mapping[str, list[tuple[str, Effect, bool]]]:
        """Method to (challenge of the modality, effect, whether it eases it)."""
        found: dict[str, list[tuple[str, Effect, bool]]] = {}
        for challenge in self.challenges:
            for method, effects in self.facts.effects[challenge].items():
                found.setdefault(method, []).extend((challenge, effect, eases) for effect, eases in effects)
        return found

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

    @cached_property
    def native(self) -> frozenset[str]:
        """Families that read what only the named architecture has."""
        return NATIVE.get(self.profile.architecture or "", frozenset())

    @cached_property
    def goal_families(self) -> frozenset[str]:
        """Families, with those below them, that serve the goal; without a goal, those that show where."""
        goal = self.kb.vocabulary.goals.get(self.query.goal or "where")
        return self._with_those_below(goal.families) if goal else frozenset()

    @cached_property
    def aimed_families(self) -> frozenset[str]:
        """Families, with those below them, of which the asker wants a method."""
        goal = self.kb.vocabulary.goals[self.query.goal].families if self.query.goal else []
        return self._with_those_below({*self.query.families, *goal, *self.native})

    def _with_those_below(self, families: Collection[str]) -> frozenset[str]:
        return frozenset(f for f, above in self.facts.families.items() if not set(families).isdisjoint(above))

    def aims_at(self, method: Method) -> bool:
        """Whether the asker wants just such a method: named, of the family that is named, or of one the goal wants."""
        if method.family in self.aimed_families:
            return True
        named = self.query.methods
        return bool(named) and not {method.id, *self.umbrellas(method.id)}.isdisjoint(named)

    @cached_property
    def standings(self) -> Mapping[str, Mapping[str, Standing]]:
        """Where the methods stand among those that were measured."""
        return standings(self.measured, self.kb)

    @cached_property
    def failed(self) -> Mapping[str, tuple[str, ...]]:
        """The methods that fail the randomisation test."""
        return failed(self.standings, self.kb, self.profile.task)

    def on_the_organ(self, publication: str) -> bool:
        """Whether a study looked at the organ that is asked about."""
        anatomy = self.facts.organs.get(publication, "")
        return any(word in anatomy for word in self.query.anatomy)

    @cached_property
    def close(self) -> Mapping[str, float]:
        """Publication to how close it is to the question, and more where it shares organ, dimension or architecture."""
        found: dict[str, float] = {}
        profile = self.profile
        mine = KIND.get(str(profile.architecture))
        organs = set(filter(self.on_the_organ, self.facts.organs)) if self.query.anatomy else set()
        for alike in self.facts.kinds.values():
            study = self.kb.publications[alike[0]].study
            more, factor = 0.0, 1.0
            if study is not None:
                if self.query.dimension and profile.dims and profile.dims in (study.dims or ()):
                    more += Points.DIMENSION
                if profile.architecture and study.architecture == profile.architecture:
                    more += Points.ARCHITECTURE
                if {mine, KIND.get(str(study.architecture))} == {"conv", "attention"}:
                    factor = Points.OTHER_KIND
            near = CLOSENESS[self.places[alike[0]]]
            found |= dict.fromkeys(alike, near * ((1.0 + more) * factor))
            for pub_id in organs.intersection(alike) if organs else ():
                found[pub_id] = near * ((1.0 + Points.ANATOMY + more) * factor)
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

    @cached_property
    def weights(self) -> list[float]:
        """How much each claim counts here, by its number."""
        close, out, criteria = self.close, self.out, self.criteria
        found = [close[said.publication] * said.weight for said in self.facts.said]
        for said in self.facts.contested:
            if said.rivals <= out:
                found[said.number] *= Points.IDLE_RIVAL
        if criteria:
            for said in self.facts.said:
                if said.claim.criterion in criteria:
                    found[said.number] *= Points.ASKED_CRITERION
        return found

    def studied(self, publication: Publication) -> str:
        """What a publication studied, and how far that is from the question where it is not the same."""
        study = publication.study
        if study is None:
            return "no modality in particular"
        names = "/".join(map(self.label, study.modalities[:3])) + ("/…" if len(study.modalities) > 3 else "")
        near, same_task = self.places[publication.id]
        far = {"same": "", "near": ", a related modality", "far": ", another modality"}[near]
        if same_task:
            return names + far
        task = f"for {lower(self.kb.vocabulary.tasks[study.task].name)}" if study.task else "for a task not told"
        return f"{names}{far}, {task}"

    def in_words(self, publication: Publication, claim: Claim, via: str | None = None) -> str:
        """Return a finding as a sentence that says where it was made and how far that is from the question.

        Args:
            publication: Who found it.
            claim: What was found.
            via: The umbrella that the claim names instead of the method.
        """
        notes = [self.studied(publication), lower(self.kb.vocabulary.criteria[claim.criterion].name)]
        if via:
            notes.append(f"said of {bare(self.kb.methods[via].name)}")
        if claim.self_reported:
            notes.append("reported by its own authors")
        return f"{claim.text.rstrip(' .')} ({'; '.join(notes)})."

    def said_of(self, text: str, sources: Iterable[str]) -> str:
        """Return a sentence with what its sources studied, and how far that is from the question."""
        publications = (self.kb.publications[s] for s in sources)
        studied = dict.fromkeys(self.studied(p) for p in publications if p.study)
        return f"{text.rstrip(' .')} ({'; '.join(studied) or 'said of no modality in particular'})."

    def spread(self, publications: Iterable[str]) -> str:
        """Where publications are from, the nearest first, as "2 on MRI, 3 on other modalities"; "" when none is asked.

        One that stands for several findings is given, and counted, several times.
        """
        if not (self.query.modality or self.profile.task):
            return ""
        counts = Counter(
            self.where(self.places[p]) if self.kb.publications[p].study else "on no modality in particular"
            for p in sorted(publications, key=lambda p: -CLOSENESS[self.places[p]])
        )
        if len(counts) == 1:
            where, number = counts.popitem()
            return f"{'all ' if number > 1 else ''}{where}"
        return ", ".join(f"{number} {where}" for where, number in counts.items())

    def findings(self, method: str, group: tuple[str, int] | None = None) -> list[Finding]:
        """Findings about the quality of a method's explanations, all or those of a group, by weight."""
        groups = self.facts.heard[method]
        every = groups.get(group, ()) if group else [one for found in groups.values() for one in found]
        weights, publications = self.weights, self.kb.publications
        own = [
            Finding(publications[s.publication], s.claim, s.value, weights[s.number] * factor / voices, via)
            for s, factor, voices, via in every
        ]
        # rounded, for equal weights may differ by the last bit
        return sorted(own, key=lambda f: (-round(f.weight, 9), f.publication.id, f.claim.text))

    def own_judgement(self, claim: Claim) -> bool:
        """Whether authors judged a method of their own."""
        return id(claim) in self.facts.own

    def uses(self, method: str) -> Mapping[tuple[str, bool], list[Publication]]:
        """Studies that used a method, by place, the closest first."""
        found: dict[tuple[str, bool], list[Publication]] = {}
        for pub_id, _ in self.facts.uses[method]:
            found.setdefault(self.places[pub_id], []).append(self.kb.publications[pub_id])
        return {place: found[place] for place in CLOSENESS if place in found} if len(found) > 1 else found

    def use(self, method: str) -> Mapping[tuple[str, bool], float]:
        """The weight of the studies that used a method, by place, the closest first; found once."""
        if (known := self.used.get(method)) is not None:
            return known
        close, places = self.close, self.places
        found: dict[tuple[str, bool], float] = {}
        for pub_id, factor in self.facts.uses[method]:
            place = places[pub_id]
            found[place] = found.get(place, 0.0) + factor * close[pub_id]
        self.used[method] = ordered = {p: Points.USED * found[p] for p in CLOSENESS if p in found} if found else {}
        return ordered

    def rate(self, method: str) -> Rate:
        """What the evidence about a method is worth.

        The more there is, the less each unit adds; so the whole is found first and shared among the reasons.
        """
        if (known := self.rates.get(method)) is not None:
            return known
        weight_of = self.weights.__getitem__
        sums: dict[tuple[str, int], float] = {}
        pro = contra = 0.0
        for group, numbers, shares in self.facts.heavy[method]:
            sums[group] = weight = sum(map(mul, map(weight_of, numbers), shares))
            if group[1] > 0:
                pro += weight
            elif group[1] < 0:
                contra += weight
        pro += sum(self.use(method).values())
        for umbrella in self.umbrellas(method):
            pro += Points.UMBRELLA * sum(self.use(umbrella).values())
        self.rates[method] = rate = Rate(_rate(Points.EVIDENCE, pro), _rate(Points.AGAINST, contra), sums)
        return rate


def _rate(points: float, weight: float) -> float:
    """The points for each unit of a weight."""
    trusted = weight / (weight + Points.SHRINK)
    return points * math.log2(1 + weight * trusted) / weight if weight else 0.0


def case_of(
    query: Query, kb: KB, profile: Profile | None, measured: Iterable[Measured], runnable: Iterable[str]
) -> Case:
    """Return the case of a question; ``runnable`` are ids of methods and metrics that can be run here.

    Raises:
        UnknownIdError: An id of the query or a metric of ``measured`` that is not in the knowledge base.
    """
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
    return Case(query, kb, profile, rows, frozenset(runnable))


# --- words ------------------------------------------------------------------------------------------------------------


def lower(name: str) -> str:
    """A name inside a sentence: lower case unless it is an abbreviation."""
    return name if any(map(str.isupper, name[1:])) or name[1:2] == "-" else name[:1].lower() + name[1:]


def bare(name: str) -> str:
    """A name without the bracket that tells it from others."""
    return name.split(" (")[0]


def counted(number: int, word: str) -> str:
    """A number with its noun."""
    plural = word[:-1] + "ies" if word.endswith("y") else word + ("es" if word.endswith("s") else "s")
    return f"{number} {word if number == 1 else plural}"


def sentence(text: str) -> str:
    """A text with one full stop."""
    return text.rstrip(" .;") + "."
