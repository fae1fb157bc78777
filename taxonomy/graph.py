"""The knowledge base as a graph: derived, never stored.

An entity's node is its id. Words of the vocabulary are nodes too, under a prefix that keeps them apart from entities
("family:gradient", "branch:latent", "task:segmentation"). Questions that are asked often are answered from plain
tables (:class:`Index`); the networkx graph serves paths, exports and whoever wants to explore.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from taxonomy.checks import references
from taxonomy.errors import UnknownIdError
from taxonomy.schema import Audience, Claim, Family, Goal, Method, Modality, Part, Publication

if TYPE_CHECKING:
    import networkx

    from taxonomy.loader import KB

K = TypeVar("K")
Ids = tuple[str, ...]

PREFIXES = {
    "branches": "branch",
    "families": "family",
    "tasks": "task",
    "architectures": "architecture",
    "audiences": "audience",
    "goals": "goal",
    "criteria": "criterion",
    "needs": "need",
}
"""List of the vocabulary to the prefix of its nodes."""


class Relation(NamedTuple):
    """How an edge reads in both directions, and its length when a path is looked for."""

    forward: str
    backward: str
    length: int


RELATIONS = {
    "variant_of": Relation("is a variant of", "has the variant", 1),
    "in_family": Relation("belongs to the family", "has the method", 1),
    "part_of": Relation("is part of", "contains", 1),
    "introduced_in": Relation("was introduced in", "introduced", 1),
    "sourced_by": Relation("is described in", "describes", 2),
    "used": Relation("used", "was used in", 1),
    "judged": Relation("judged", "was judged in", 1),
    "studied": Relation("studied", "was studied in", 1),
    "contradicts": Relation("found otherwise than", "was found otherwise in", 1),
    "made_hard_by": Relation("is made hard to explain by", "makes it hard to explain", 1),
    "eased_by": Relation("is eased by", "eases", 1),
    "worsened_by": Relation("is worsened by", "suffers from", 1),
    "shown_by": Relation("is shown by", "shows", 1),
    "implemented_in": Relation("is implemented in", "implements", 2),
    "counted": Relation("counted studies of", "was counted in", 3),
    # almost everything hangs on these, so a path over them says little
    "worked_on": Relation("worked on", "was worked on in", 5),
    "explained": Relation("explained a model of the kind", "was explained in", 5),
    "explains": Relation("explains models for", "can be explained by", 5),
    "needs": Relation("needs", "is needed by", 5),
    "served_by": Relation("is served by", "serves", 5),
    "asks_for": Relation("asks for", "is asked for by", 5),
}
"""Name of a relation to its words."""

SAME_DIMS, SHARED_DIMS = 4, 5
"""Distances of modalities that are in different trees: equal dimensions, or some in common."""


class Evidence(NamedTuple):
    """A publication that used a method, and what it found about it (perhaps nothing)."""

    publication: Publication
    claims: tuple[Claim, ...]
    """Its claims that name the method, on either side."""


class Step(NamedTuple):
    """One edge of a path, in the direction it is walked, with its sentence."""

    source: str
    relation: str
    target: str
    text: str


@dataclass(frozen=True, eq=False)
class Index:
    """Look-up tables over a knowledge base; publications stand newest first. A missing key means none."""

    coverage: Mapping[tuple[str, str], Ids]
    """(method, modality) to publications that used the one on the other."""
    by_method: Mapping[str, Ids]
    """Method to publications that used it."""
    by_modality: Mapping[str, Ids]
    """Modality to publications that studied it."""
    claims: Mapping[str, tuple[tuple[str, Claim], ...]]
    """Method to (publication, claim) of the claims about it."""
    versus: Mapping[str, tuple[tuple[str, Claim], ...]]
    """Method to (publication, claim) of the claims in which it is what others are compared with."""
    parents: Mapping[str, str]
    """Node to the one node above it in the tree of branches, families and methods, and in that of modalities."""
    children: Mapping[str, Ids]
    """The same tree, downwards."""
    relatives: Mapping[str, tuple[tuple[str, int], ...]]
    """Modality to (modality, distance), nearest first."""
    tools: Mapping[str, Ids]
    """Method or metric to tools that implement it."""

    @classmethod
    def of(cls, kb: KB) -> Index:
        """Build the tables."""
        coverage: _Table[tuple[str, str]] = _Table()
        by_method: _Table[str] = _Table()
        by_modality: _Table[str] = _Table()
        claims: dict[str, list[tuple[str, Claim]]] = defaultdict(list)
        versus: dict[str, list[tuple[str, Claim]]] = defaultdict(list)
        for pub_id, publication in sorted(kb.publications.items(), key=lambda item: (-(item[1].year or 0), item[0])):
            if publication.retracted:
                continue
            for claim in publication.claims:
                for method in claim.methods:
                    claims[method].append((pub_id, claim))
                for method in claim.versus:
                    versus[method].append((pub_id, claim))
            modalities = publication.study.modalities if publication.study else []
            for modality in modalities:
                by_modality.add(modality, pub_id)
            for method in methods_of(publication):
                by_method.add(method, pub_id)
                for modality in modalities:
                    coverage.add((method, modality), pub_id)
        tools: _Table[str] = _Table()
        for entities in (kb.methods, kb.metrics):
            for entity_id, entity in entities.items():
                for implementation in entity.implementations:
                    tools.add(entity_id, implementation.tool)
        parents = dict(_tree(kb))
        children: _Table[str] = _Table()
        for child, parent in sorted(parents.items()):
            children.add(parent, child)
        return cls(
            coverage=coverage.frozen(),
            by_method=by_method.frozen(),
            by_modality=by_modality.frozen(),
            claims={method: tuple(found) for method, found in claims.items()},
            versus={method: tuple(found) for method, found in versus.items()},
            parents=parents,
            children=children.frozen(),
            relatives={modality: tuple(_relatives(kb, modality)) for modality in kb.modalities},
            tools=tools.frozen(),
        )


class _Table(defaultdict[K, dict[str, None]]):
    """Ids by key, each once, in the order they came."""

    def __init__(self) -> None:
        super().__init__(dict)

    def add(self, key: K, value: str) -> None:
        self[key][value] = None

    def frozen(self) -> dict[K, Ids]:
        return {key: tuple(values) for key, values in self.items()}


def _tree(kb: KB) -> Iterator[tuple[str, str]]:
    """Yield (node, node above it)."""
    for family_id, family in kb.vocabulary.families.items():
        yield f"family:{family_id}", f"family:{family.parent}" if family.parent else f"branch:{family.branch}"
    for method_id, method in kb.methods.items():
        # a variant that belongs to another family than its parent stands in its own family
        if method.parent and kb.methods[method.parent].family == method.family:
            yield method_id, method.parent
        else:
            yield method_id, f"family:{method.family}"
    for modality_id, modality in kb.modalities.items():
        if modality.parent:
            yield modality_id, modality.parent


def _chain(start: str, above: Mapping[str, str]) -> list[str]:
    """Return what stands above a node, nearest first."""
    found = []
    while start in above:
        start = above[start]
        found.append(start)
    return found


def _relatives(kb: KB, modality_id: str) -> list[tuple[str, int]]:
    above = {i: m.parent for i, m in kb.modalities.items() if m.parent}
    own = [modality_id, *_chain(modality_id, above)]
    modality = kb.modalities[modality_id]
    found = []
    for other_id, other in kb.modalities.items():
        if other_id == modality_id:
            continue
        line = [other_id, *_chain(other_id, above)]
        shared = next((a for a in own if a in line), None)
        if shared is not None:
            distance = min(own.index(shared) + line.index(shared), SAME_DIMS)
        elif set(modality.dims) == set(other.dims):
            distance = SAME_DIMS
        elif set(modality.dims) & set(other.dims):
            distance = SHARED_DIMS
        else:
            continue
        alike = len(challenges_of(modality) & challenges_of(other))
        found.append((distance, -alike, other_id))
    return [(other_id, distance) for distance, _, other_id in sorted(found)]


def challenges_of(modality: Modality) -> set[str]:
    """Return the challenges of a modality."""
    return {difficulty.challenge for difficulty in modality.challenges}


def methods_of(publication: Publication) -> list[str]:
    """Return the methods a publication used or spoke of, each once, in order."""
    claimed = (m for claim in publication.claims for m in (*claim.methods, *claim.versus))
    return list(dict.fromkeys((*publication.methods, *claimed)))


# --- questions -------------------------------------------------------------------------------------------------------


def name(kb: KB, node: str) -> str:
    """Return the name people know a node by.

    Raises:
        UnknownIdError: There is no such node.
    """
    prefix, colon, word = node.partition(":")
    if not colon:
        return kb.get(node).name
    sections = {own: section for section, own in PREFIXES.items()}
    if prefix not in sections:
        raise UnknownIdError(prefix, sections, "prefix of a node")
    words = kb.words()[sections[prefix]]
    _known(word, words, prefix)
    return words[word].name


def ancestors(kb: KB, node: str) -> list[str]:
    """Return what a method, modality or family is a kind of, nearest first.

    For a method: the methods it is a variant of, then its families, then its branch. Families and branches are given
    as nodes ("family:gradient", "branch:latent").

    Raises:
        UnknownIdError: There is no such node.
    """
    name(kb, node)
    if node not in kb.methods:
        return _chain(node, kb.index.parents)
    variants = _chain(node, {i: m.parent for i, m in kb.methods.items() if m.parent})
    family = f"family:{kb.methods[node].family}"
    return [*variants, family, *_chain(family, kb.index.parents)]


def children(kb: KB, node: str) -> Ids:
    """Return what stands directly below a node in the tree of branches, families and methods, or that of modalities.

    Every node has one place: a variant stands below its parent method when both are of one family, else below its
    family.

    Raises:
        UnknownIdError: There is no such node.
    """
    name(kb, node)
    return kb.index.children.get(node, ())


def relatives(kb: KB, modality: str) -> list[tuple[str, int]]:
    """Return the other modalities that evidence may be borrowed from, nearest first.

    The distance is the number of steps in the tree of modalities (parent 1, sibling 2), at most 4; 4 for a modality of
    another tree with the same dimensions and 5 with some of them. Equal distances: more shared challenges first.

    Raises:
        UnknownIdError: There is no such modality.
    """
    _known(modality, kb.modalities, "modality")
    return list(kb.index.relatives[modality])


def evidence(kb: KB, method: str, modality: str | None = None, task: str | None = None) -> list[Evidence]:
    """Return the publications that used a method, newest first, each with its claims about it.

    Args:
        kb: The knowledge base.
        method: A method id.
        modality: Only studies of this modality.
        task: Only studies of this task.

    Raises:
        UnknownIdError: A method, modality or task that does not exist.
    """
    _known(method, kb.methods, "method")
    if modality is None:
        pub_ids = kb.index.by_method.get(method, ())
    else:
        _known(modality, kb.modalities, "modality")
        pub_ids = kb.index.coverage.get((method, modality), ())
    if task is not None:
        _known(task, kb.vocabulary.tasks, "task")
    found = []
    for publication in (kb.publications[pub_id] for pub_id in pub_ids):
        if task is None or (publication.study and publication.study.task == task):
            claims = tuple(c for c in publication.claims if method in c.methods or method in c.versus)
            found.append(Evidence(publication, claims))
    return found


def coverage(kb: KB) -> Mapping[tuple[str, str], Ids]:
    """Return (method, modality) to the publications that used the one on the other, newest first."""
    return kb.index.coverage


def step(kb: KB, source: str, target: str) -> Step:
    """Return the most direct edge between two neighbours, in words."""
    options = []
    for one, other, forward in ((source, target, True), (target, source, False)):
        for edge in (kb.graph.get_edge_data(one, other) or {}).values():
            relation = RELATIONS[edge["relation"]]
            options.append((relation.length, edge["relation"], relation.forward if forward else relation.backward))
    _, relation_name, words = min(options)
    return Step(source, relation_name, target, f"{name(kb, source)} {words} {name(kb, target)}")


def _known(given: str, allowed: Iterable[str], what: str) -> None:
    if given not in allowed:
        raise UnknownIdError(given, allowed, what)


# --- the graph -------------------------------------------------------------------------------------------------------

_RELATION_OF = {
    "parent": "part_of",
    "family": "in_family",
    "families": "served_by",
    "source": "introduced_in",
    "requires.tasks": "explains",
    "implementations.tool": "implemented_in",
    "challenges.challenge": "made_hard_by",
    "eased_by.method": "eased_by",
    "eased_by.family": "eased_by",
    "eased_by.metric": "eased_by",
    "worsened_by.method": "worsened_by",
    "worsened_by.family": "worsened_by",
    "worsened_by.metric": "worsened_by",
    "shown_by.metric": "shown_by",
    "methods": "used",
    "conflicts": "contradicts",
    "study.modalities": "studied",
    "study.task": "worked_on",
    "study.architecture": "explained",
    "claims.methods": "judged",
    "claims.versus": "judged",
    "counts.modality": "counted",
    "counts.family": "counted",
    "counts.method": "counted",
    "counts.task": "counted",
}
"""Id field of the schema to the relation it states; every field called ``sources`` states "sourced_by"."""


def build(kb: KB) -> networkx.MultiDiGraph[str]:
    """Build the graph: a node for every entity and word, an edge for every statement.

    Nodes carry ``kind`` and ``name``; edges carry ``relation``, a key of :data:`RELATIONS`. Where a relation holds
    several times between two nodes there are as many edges. Edges of claims also carry ``criterion``, ``outcome``,
    ``text`` and ``side``: "methods" for what the claim is about, "versus" for what it is compared with.
    """
    import networkx

    graph: networkx.MultiDiGraph[str] = networkx.MultiDiGraph()
    for kind, entities in kb.kinds().items():
        graph.add_nodes_from((i, {"kind": kind, "name": entity.name}) for i, entity in entities.items())
    for section, words in kb.words().items():
        graph.add_nodes_from((_node(section, i), {"kind": section, "name": word.name}) for i, word in words.items())
    graph.add_edges_from((source, target, {"relation": r, **facts}) for source, target, r, facts in _edges(kb))
    return graph


def _node(kind: str, entity_id: str) -> str:
    return f"{PREFIXES[kind]}:{entity_id}" if kind in PREFIXES else entity_id


def _edges(kb: KB) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Yield (source, target, relation, facts) of every statement."""
    everything: dict[str, Mapping[str, Part]] = {**kb.kinds(), **kb.words()}
    for own_kind, entities in everything.items():
        for entity_id, entity in entities.items():
            source = _node(own_kind, entity_id)
            for field, kind, target in references(entity, own_kind):
                names = [key for key in field if isinstance(key, str)]
                relation = "sourced_by" if names[-1] == "sources" else _RELATION_OF[".".join(names)]
                if relation == "part_of" and own_kind == "methods":
                    relation = "variant_of"
                facts = {}
                if relation == "judged" and isinstance(entity, Publication) and isinstance(field[1], int):
                    claim = entity.claims[field[1]]
                    facts = {
                        "criterion": claim.criterion,
                        "outcome": claim.outcome,
                        "text": claim.text,
                        "side": names[-1],
                    }
                yield source, _node(kind, target), relation, facts
            if isinstance(entity, Family) and entity.parent is None:
                yield source, f"branch:{entity.branch}", "part_of", {}
            elif isinstance(entity, Method):
                yield from ((source, f"need:{need}", "needs", {}) for need in entity.requires.needs)
            elif isinstance(entity, (Goal, Audience)):
                yield from ((source, f"criterion:{criterion}", "asks_for", {}) for criterion in entity.criteria)
