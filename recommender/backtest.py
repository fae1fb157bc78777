"""Whether the ranking would have helped: every study is hidden in turn, and its question is asked without it.

What a publication found is the answer key. The asker knows what any author knew before the first experiment (modality,
task, architecture, dimensions, organ) and nothing else; a method that the hidden publication introduced did not exist
for the asker and is left out for all contenders alike.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple

from recommender.query import Dimension, Query
from recommender.rank import CRITERIA, Criterion, Recommendation, recommend
from taxonomy import KB
from taxonomy.graph import methods_of, relatives
from taxonomy.schema import Part, Publication

GOOD: Final = frozenset({"better", "adequate"})
NO_QUALITY: Final = frozenset({"feasibility", "diagnosis_gain"})
"""Criteria that say nothing about the quality of an explanation."""

Groups = list[list[str]]
"""A ranking, best first; methods of one group are tied."""


# --- hiding ----------------------------------------------------------------------------------------------------------


class Hider:
    """Makes knowledge bases in which publications were never read."""

    def __init__(self, kb: KB) -> None:
        self.kb = kb
        self.citing: dict[str, set[tuple[str, str]]] = defaultdict(set)
        """Publication to the (kind, id) of the entities and families that name it."""
        for kind, entities in {**kb.kinds(), "families": kb.vocabulary.families}.items():
            for entity_id, entity in entities.items():
                for cited in _cited(entity):
                    self.citing[cited].add((kind, entity_id))

    def without(self, hidden: Iterable[str]) -> KB:
        """Return the knowledge base without some publications and without everything that rests on them alone.

        A sentence that has another source stays, with that source; one that has none goes, and so does a challenge.
        Nothing is shared with the whole knowledge base that could be changed: tables are built anew.
        """
        gone = frozenset(hidden)
        changed: dict[str, dict[str, Any]] = defaultdict(dict)
        for kind, entity_id in set().union(*(self.citing.get(one, ()) for one in gone)):
            entities = self.kb.vocabulary.families if kind == "families" else getattr(self.kb, kind)
            changed[kind][entity_id] = _stripped(entities[entity_id], gone)
        kinds: dict[str, Any] = {kind: {**entities, **changed[kind]} for kind, entities in self.kb.kinds().items()}
        kinds["publications"] = {i: p for i, p in kinds["publications"].items() if i not in gone}
        baseless = {i for i, c in changed["challenges"].items() if not c.sources}
        if baseless:
            kinds["challenges"] = {i: c for i, c in kinds["challenges"].items() if i not in baseless}
            kinds["modalities"] = {
                i: m.model_copy(update={"challenges": [d for d in m.challenges if d.challenge not in baseless]})
                for i, m in kinds["modalities"].items()
            }
        families = {**self.kb.vocabulary.families, **changed["families"]}
        return KB(
            root=self.kb.root,
            vocabulary=self.kb.vocabulary.model_copy(update={"families": families}),
            about=self.kb.about,
            **kinds,
        )


_CITING: Final = frozenset({"source", "sources", "conflicts"})
"""Fields that hold ids of publications."""


@lru_cache(maxsize=None)
def _fields(kind: type[Part]) -> tuple[str, ...]:
    return tuple(kind.model_fields)


def _cited(part: Part) -> Iterable[str]:
    for name in _fields(type(part)):
        value = getattr(part, name)
        if name in _CITING:
            yield from [value] if isinstance(value, str) else value or ()
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, Part):
                    yield from _cited(item)


def _stripped(part: Part, gone: frozenset[str]) -> Part:
    """A part without the publications; parts inside that rest on them alone are left out."""
    update: dict[str, Any] = {}
    for name in _fields(type(part)):
        value = getattr(part, name)
        if name in _CITING:
            if isinstance(value, str):
                update[name] = None if value in gone else value
            else:
                update[name] = [one for one in value or () if one not in gone]
        elif isinstance(value, list) and value and isinstance(value[0], Part):
            inside = [(one, _stripped(one, gone)) for one in value]
            update[name] = [new for old, new in inside if getattr(new, "sources", True) or not getattr(old, "sources", ())]
    return part.model_copy(update=update)


# --- questions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """What the authors of one publication could have asked, and what they then found.

    Attributes:
        publication: The publication to hide.
        query: Modality, task, architecture, dimensions and organ of its study.
        held_up: Methods that held up in it and that it did not itself introduce; umbrellas left out.
        used: All methods it used or spoke of, likewise.
        year: When the study was published.
        test: It belongs to the third that is looked at only at the end.
    """

    publication: str
    query: Query
    held_up: frozenset[str]
    used: frozenset[str]
    year: int | None
    test: bool


def held_up(publication: Publication) -> set[str]:
    """Methods that a publication found better than others or adequate in a quality of the explanation."""
    claims = (c for c in publication.claims if c.outcome in GOOD and c.criterion not in NO_QUALITY)
    return {method for claim in claims for method in claim.methods}


def in_test(publication: str) -> bool:
    """Whether a publication belongs to the test third, by a hash of its id."""
    return int(hashlib.sha256(publication.encode()).hexdigest(), 16) % 3 == 0


_PARTS: Final = re.compile(r"[;,()/]|\band\b")
"""Between the organs of a study, as the parser of questions splits them."""


def questions(kb: KB) -> list[Question]:
    """Return the question of every publication with a study that used a method which existed before, by id."""
    found = []
    for pub_id, publication in sorted(kb.publications.items()):
        if publication.study is None or publication.retracted:
            continue

        def known(methods: Iterable[str], own: str = pub_id) -> frozenset[str]:
            return frozenset(m for m in methods if not kb.methods[m].umbrella and kb.methods[m].source != own)

        used = known(methods_of(publication))
        if used:
            held = known(held_up(publication))
            found.append(Question(pub_id, query_of(publication), held, used, publication.year, in_test(pub_id)))
    return found


def query_of(publication: Publication) -> Query:
    """What the authors of a study knew before they explained anything."""
    study = publication.study
    if study is None:
        return Query()
    dimension: Dimension | None = None
    if study.dims and len(study.dims) == 1:
        dimension = "2d" if study.dims == [2] else "3d"
    return Query(
        modality=tuple(study.modalities),
        task=study.task,
        architecture=study.architecture,
        dimension=dimension,
        anatomy=tuple(part.strip().lower() for part in _PARTS.split(study.anatomy or "") if part.strip()),
    )


# --- contenders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One question with what every contender may look at.

    Attributes:
        query: The question.
        kb: The knowledge base without the hidden publication.
        serving: Our recommendations without methods that did not exist yet, best first; the set of methods that can
            serve is the same for all contenders.
    """

    query: Query
    kb: KB
    serving: tuple[Recommendation, ...]


def ours(setting: Setting, without: str | None = None) -> Groups:
    """Rank as the recommender does, perhaps without the points of one criterion."""
    scores = {
        r.method: r.score - sum(reason.points for reason in r.reasons if reason.criterion == without)
        for r in setting.serving
    }
    return _by_score({method: round(score, 6) for method, score in scores.items()})


def popular(setting: Setting) -> Groups:
    """The method that most publications used, whatever they studied."""
    uses = setting.kb.index.by_method
    return _by_score({r.method: len(uses.get(r.method, ())) for r in setting.serving})


def popular_here(setting: Setting) -> Groups:
    """The method that most publications used on the modality; ties by its relatives, then by all."""
    kb = setting.kb
    near = {other for m in setting.query.modality for other, steps in relatives(kb, m) if steps <= 2}

    def uses(method: str) -> tuple[int, int, int]:
        here, kin = (
            {p for m in modalities for p in kb.index.coverage.get((method, m), ())}
            for modalities in (setting.query.modality, near)
        )
        return len(here), len(kin - here), len(kb.index.by_method.get(method, ()))

    return _by_score({r.method: uses(r.method) for r in setting.serving})


def anything(setting: Setting) -> Groups:
    """Any method that can serve, in any order."""
    return [[r.method for r in setting.serving]]


_PNPXAI: Final = """
    grad_cam guided_grad_cam vanilla_gradient input_x_gradient integrated_gradients kernel_shap lime lrp lrp_alpha_beta
    lrp_composite lrp_epsilon relative_attributing_propagation smoothgrad vargrad
""".split()
"""What pnpxai 0.1.4 lists for an image and a network of convolutions and linear layers; its LRPEpsilonPlus is "lrp"."""
_PNPXAI_CAMS: Final = frozenset({"grad_cam", "guided_grad_cam"})
_PNPXAI_ATTENTION: Final = ("attention_rollout", "chefer_lrp")
_ATTENTIVE: Final = frozenset({"vit", "swin", "vlm", "foundation", "diffusion"})
"""Architectures in which pnpxai detects attention layers."""


def pnpxai_rule(setting: Setting) -> Groups:
    """What pnpxai lists by the kinds of layers, whatever the task and the dimensions; unordered, so all are tied."""
    architecture = setting.query.architecture
    listed = list(_PNPXAI)
    if architecture in _ATTENTIVE:
        listed += _PNPXAI_ATTENTION
    if architecture in _ATTENTIVE or architecture == "rnn":
        listed = [m for m in listed if m not in _PNPXAI_CAMS]
    return [[m for m in listed if m in setting.kb.methods]]


def _by_score(scores: Mapping[str, Any]) -> Groups:
    groups: dict[Any, list[str]] = defaultdict(list)
    for method, score in scores.items():
        groups[score].append(method)
    return [groups[score] for score in sorted(groups, reverse=True)]


Contender = Callable[[Setting], Groups]
CONTENDERS: Final[Mapping[str, Contender]] = {
    "xai_atlas": ours,
    "popularity": popular,
    "popularity_in_modality": popular_here,
    "pnpxai_rule": pnpxai_rule,
    "random_feasible": anything,
}
POPULARITY: Final = ("popularity", "popularity_in_modality")


# --- measures --------------------------------------------------------------------------------------------------------


MEASURES: Final = ("hit@1", "hit@3", "hit@5", "mrr", "ndcg@5")


def measured(groups: Groups, wanted: Iterable[str]) -> dict[str, float]:
    """Return what a ranking scores, on average over all orders of the tied methods.

    Args:
        groups: The ranking.
        wanted: The methods that held up. One that is not ranked counts as not found.
    """
    relevant = set(wanted)
    found = dict.fromkeys(MEASURES, 0.0)
    above, first = 0, True
    for group in groups:
        size, hits = len(group), len(relevant.intersection(group))
        if hits:
            # where the first hit of this group stands: chance(place) that none is before it and one is there
            for place in range(1, size - hits + 2) if first else ():
                chance = math.comb(size - place, hits - 1) / math.comb(size, hits)
                found["mrr"] += chance / (above + place)
                for k in (1, 3, 5):
                    found[f"hit@{k}"] += chance * (above + place <= k)
            first = False
            gains = sum(1 / math.log2(above + place + 1) for place in range(1, size + 1) if above + place <= 5)
            found["ndcg@5"] += hits / size * gains
        above += size
    best = sum(1 / math.log2(place + 1) for place in range(1, min(len(relevant), 5) + 1))
    found["ndcg@5"] = found["ndcg@5"] / best if best else 0.0
    return found
