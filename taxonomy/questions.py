"""What people ask the graph: what explains this, who disagrees, what eases that, what has nobody tried, and why.

Each question is one function that returns plain data in the order to show it. Evidence is what the publications of the
knowledge base found; a publication that only applied a method counts as use, not as praise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from taxonomy.errors import UnknownIdError
from taxonomy.graph import RELATIONS, Step, ancestors, challenges_of, evidence, name, step
from taxonomy.schema import Claim, Effect, Method
from taxonomy.trust import trust

if TYPE_CHECKING:
    import networkx

    from taxonomy.loader import KB

FOR, AGAINST = frozenset({"better", "adequate"}), frozenset({"worse", "inadequate"})
"""Outcomes that speak for the methods of a claim, and against them."""

USE_ONLY = "feasibility"
"""The criterion of a claim that says no more than that a method was applied."""


class Finding(NamedTuple):
    """A claim, the publication that makes it, and what it says about one method: for 1, against -1, neither 0."""

    publication: str
    claim: Claim
    side: Literal[-1, 0, 1]


def side(claim: Claim, method: str) -> Literal[-1, 0, 1]:
    """Return whether a claim speaks for a method (1), against it (-1) or neither (0), on whichever side it stands."""
    towards = claim.outcome in FOR, claim.outcome in AGAINST
    if claim.criterion == USE_ONLY and claim.outcome == "adequate":
        return 0
    if method not in claim.methods:  # it is what others are compared with
        towards = claim.outcome == "worse", claim.outcome == "better"
    return 1 if towards[0] else -1 if towards[1] else 0


def findings(kb: KB, method: str) -> list[Finding]:
    """Return every claim about a method, the newest publication first.

    Raises:
        UnknownIdError: There is no such method.
    """
    _known(method, kb.methods, "method")
    index = kb.index
    both = [*index.claims.get(method, ()), *index.versus.get(method, ())]
    order = {pub: number for number, pub in enumerate(index.by_method.get(method, ()))}
    return [Finding(pub, claim, side(claim, method)) for pub, claim in sorted(both, key=lambda one: order[one[0]])]


# --- what explains modality M for task T -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """A method that publications tried on a modality, and what came of it."""

    method: str
    publications: tuple[str, ...]
    """Newest first."""
    for_: tuple[Finding, ...]
    against: tuple[Finding, ...]
    open: tuple[Finding, ...]
    """Claims that found it equal or mixed."""
    clinicians: int
    """How many of the publications had clinicians judge the explanations."""

    @property
    def balance(self) -> int:
        """Findings for it less findings against it."""
        return len(self.for_) - len(self.against)


def explains(kb: KB, modality: str, task: str | None = None) -> list[Tried]:
    """Return the methods that publications tried on a modality, the best supported first.

    Only the modality itself counts, not its relatives; the recommender borrows from those.

    Args:
        kb: The knowledge base.
        modality: A modality id.
        task: Only studies of this task.

    Raises:
        UnknownIdError: A modality or task that does not exist.
    """
    _known(modality, kb.modalities, "modality")
    if task is not None:
        _known(task, kb.vocabulary.tasks, "task")
    found = []
    for method, where in kb.index.coverage:
        if where != modality:
            continue
        rows = evidence(kb, method, modality, task)
        if rows:
            told = [Finding(r.publication.id, claim, side(claim, method)) for r in rows for claim in r.claims]
            found.append(
                Tried(
                    method=method,
                    publications=tuple(r.publication.id for r in rows),
                    for_=tuple(f for f in told if f.side > 0),
                    against=tuple(f for f in told if f.side < 0),
                    open=tuple(f for f in told if f.claim.outcome in ("equal", "mixed")),
                    clinicians=sum(bool(r.publication.clinicians) for r in rows),
                )
            )
    return sorted(found, key=lambda one: (-one.balance, -len(one.publications), one.method))


# --- who disagrees ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disagreement:
    """Findings of different publications for and against a method by one criterion in one modality."""

    method: str
    criterion: str
    modality: str
    for_: tuple[Finding, ...]
    against: tuple[Finding, ...]
    opposed: tuple[tuple[str, str], ...]
    """Pairs of publications of which one ranks the method above another method, and the other below the same."""


def disagreements(kb: KB, method: str | None = None, modality: str | None = None) -> list[Disagreement]:
    """Return where publications disagree about methods, direct contradictions first, then the most argued.

    Two findings are set against each other when they come from different publications, judge the same method by the
    same criterion in the same modality, and point in opposite directions. Often the data, the network or the metric
    differ: a disagreement is a thing to read up, not an error.

    Args:
        kb: The knowledge base.
        method: Only about this method.
        modality: Only in this modality.

    Raises:
        UnknownIdError: A method or modality that does not exist.
    """
    if modality is not None:
        _known(modality, kb.modalities, "modality")
    cells: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for one in [method] if method is not None else kb.index.by_method:
        for finding in findings(kb, one):
            study = kb.publications[finding.publication].study
            if finding.side and study:
                for where in study.modalities:
                    if modality in (None, where):
                        cells[one, finding.claim.criterion, where].append(finding)
    found = []
    for (one, criterion, where), told in cells.items():
        pro, con = (tuple(f for f in told if f.side == wanted) for wanted in (1, -1))
        split = {f.publication for f in pro} ^ {f.publication for f in con}
        if pro and con and len(split) > 1:
            found.append(Disagreement(one, criterion, where, pro, con, tuple(_opposed(one, pro, con))))
    return sorted(
        found, key=lambda d: (not d.opposed, -len(d.for_) * len(d.against), d.method, d.criterion, d.modality)
    )


def _opposed(method: str, pro: Iterable[Finding], con: Iterable[Finding]) -> Iterator[tuple[str, str]]:
    """Yield (publication for, publication against) that rank a method and the same other one in opposite order."""
    seen = set()
    for up in pro:
        for down in con:
            pair = up.publication, down.publication
            if pair not in seen and pair[0] != pair[1] and _rivals(method, up.claim) & _rivals(method, down.claim):
                seen.add(pair)
                yield pair


def _rivals(method: str, claim: Claim) -> set[str]:
    if claim.outcome not in ("better", "worse"):
        return set()
    return set(claim.versus if method in claim.methods else claim.methods)


# --- which challenges a method eases ---------------------------------------------------------------------------------


class Bearing(NamedTuple):
    """What a method does to a challenge."""

    challenge: str
    eases: bool
    effect: Effect
    modalities: tuple[str, ...]
    """Modalities that name the challenge; empty for a general one that none names."""


def bearings(kb: KB, method: str, modality: str | None = None) -> list[Bearing]:
    """Return the challenges that a method, its parents or its families ease or suffer from, the eased ones first.

    Args:
        kb: The knowledge base.
        method: A method id.
        modality: Only the challenges of this modality, of what it is a kind of, and the general ones.

    Raises:
        UnknownIdError: A method or modality that does not exist.
    """
    _known(method, kb.methods, "method")
    above = ancestors(kb, method)
    methods = {method, *(one for one in above if one in kb.methods)}
    families = {one.partition(":")[2] for one in above if one.startswith("family:")}
    where: Mapping[str, tuple[str, ...]] = _named_by(kb)
    wanted: set[str] | None = None
    if modality is not None:
        _known(modality, kb.modalities, "modality")
        wanted = {c for one in (modality, *ancestors(kb, modality)) for c in challenges_of(kb.modalities[one])}
    found = [
        Bearing(challenge_id, eases, effect, where.get(challenge_id, ()))
        for challenge_id, challenge in kb.challenges.items()
        if wanted is None or challenge.general or challenge_id in wanted
        for eases, effects in ((True, challenge.eased_by), (False, challenge.worsened_by))
        for effect in effects
        if effect.method in methods or effect.family in families
    ]
    return sorted(found, key=lambda one: (not one.eases, not one.modalities, one.challenge))


def _named_by(kb: KB) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = defaultdict(list)
    for modality_id, modality in kb.modalities.items():
        for difficulty in modality.challenges:
            found[difficulty.challenge].append(modality_id)
    return {challenge: tuple(modalities) for challenge, modalities in found.items()}


# --- what has nobody tried -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blank:
    """A method that no publication of the knowledge base tried on a modality, and why it might matter."""

    method: str
    modality: str
    promise: float
    """What neighbours suggest: 0 is nothing; see :func:`blanks`."""
    elsewhere: tuple[tuple[str, int, int], ...]
    """(modality, publications for it less those against it there, publications there), the nearest modality first."""
    relatives: tuple[str, ...]
    """Methods of its own line (variants of one another) that were tried on the modality."""
    eases: tuple[str, ...]
    """Challenges of the modality that it, its parents or its families ease."""


NEAR = {1: 1.0, 2: 0.6, 3: 0.4, 4: 0.25, 5: 0.1}
"""Distance of modalities to how much of the other one's evidence counts."""


def blanks(kb: KB, modality: str | None = None, methods: Iterable[str] | None = None) -> list[Blank]:
    """Return the pairs of method and modality that nobody tried, the most promising first.

    Promise adds up, over the modalities where the method was tried, ``near * (balance + n / 2) / sqrt(n)`` (n
    publications, balance of those for it and against it, never below 0; near from :data:`NEAR`), half a point for each
    challenge of the modality that it eases, and 0.2 for each relative tried there, at most 3. Umbrellas, methods that
    cannot work in the modality's dimensions, and modalities with a part on which it was tried are left out.

    Args:
        kb: The knowledge base.
        modality: Only blanks of this modality.
        methods: Only these methods.

    Raises:
        UnknownIdError: A modality or method that does not exist.
    """
    if modality is not None:
        _known(modality, kb.modalities, "modality")
    tried = kb.index.coverage
    line = _lines(kb)
    parts = {one: [one] for one in kb.modalities}
    for one in kb.modalities:
        for above in ancestors(kb, one):
            parts[above].append(one)
    found = []
    for method_id in kb.methods if methods is None else methods:
        _known(method_id, kb.methods, "method")
        method = kb.methods[method_id]
        if method.umbrella:
            continue
        worth = _worth(kb, method_id)
        eased = {b.challenge: b.modalities for b in bearings(kb, method_id) if b.eases}
        for where in [modality] if modality is not None else kb.modalities:
            if not set(method.requires.dims) & set(kb.modalities[where].dims):
                continue
            if any((method_id, part) in tried for part in parts[where]):
                continue
            distance = dict(kb.index.relatives[where])
            elsewhere = sorted(
                ((other, *worth[other]) for other in worth if other in distance),
                key=lambda one: (distance[one[0]], -one[2], one[0]),
            )
            kin = tuple(other for other in line[method_id] if (other, where) in tried)
            eases = tuple(c for c, places in eased.items() if where in places)
            borrowed = sum(NEAR[distance[m]] * max(b + n / 2, 0) / n**0.5 for m, b, n in elsewhere)
            promise = borrowed + 0.5 * len(eases) + 0.2 * min(len(kin), 3)
            found.append(Blank(method_id, where, round(promise, 3), tuple(elsewhere), kin, eases))
    return sorted(found, key=lambda one: (-one.promise, one.method, one.modality))


def _worth(kb: KB, method: str) -> dict[str, tuple[int, int]]:
    """Return modality to (publications for a method less those against it there, publications there)."""
    votes: dict[str, int] = defaultdict(int)
    for finding in findings(kb, method):
        votes[finding.publication] += finding.side
    found: dict[str, tuple[int, int]] = {}
    for pub in kb.index.by_method.get(method, ()):
        study = kb.publications[pub].study
        for where in study.modalities if study else ():
            balance, number = found.get(where, (0, 0))
            vote = votes[pub]
            found[where] = (balance + (vote > 0) - (vote < 0), number + 1)
    return found


def _lines(kb: KB) -> dict[str, list[str]]:
    """Return method to the other methods of its line: all variants, direct or not, of one first method."""
    roots: dict[str, str] = {}
    for method_id in kb.methods:
        at = method_id
        while (parent := kb.methods[at].parent) is not None:
            at = parent
        roots[method_id] = at
    groups: dict[str, list[str]] = defaultdict(list)
    for method_id, root in roots.items():
        groups[root].append(method_id)
    return {method_id: [one for one in groups[root] if one != method_id] for method_id, root in roots.items()}


# --- nearest relatives of a method -----------------------------------------------------------------------------------


class Neighbour(NamedTuple):
    """A method that is like another one."""

    method: str
    likeness: float
    """From 0 (nothing shared) to 1."""
    why: tuple[str, ...]
    """What they share, in words."""


def neighbours(kb: KB, method: str, limit: int = 8) -> list[Neighbour]:
    """Return the methods most like a method.

    Likeness is a mean: the place in the tree (0.4), equal needs (0.2), equal output, scope and stage (0.2), and the
    publications that used both (0.2, as a share of those that used the rarer one).

    Args:
        kb: The knowledge base.
        method: A method id.
        limit: How many to return.

    Raises:
        UnknownIdError: There is no such method.
    """
    _known(method, kb.methods, "method")
    own = kb.methods[method]
    line = set(_lines(kb)[method])
    own_papers = set(kb.index.by_method.get(method, ()))
    found = []
    for other_id, other in kb.methods.items():
        if other_id != method:
            together = len(own_papers & set(kb.index.by_method.get(other_id, ())))
            found.append(_likeness(kb, own, other, in_line=other_id in line, together=together))
    return sorted(found, key=lambda one: (-one.likeness, one.method))[:limit]


def _likeness(kb: KB, own: Method, other: Method, *, in_line: bool, together: int) -> Neighbour:
    why = []
    if other.id == own.parent:
        place = 1.0
        why.append(f"{own.name} is a variant of it")
    elif other.parent == own.id:
        place = 1.0
        why.append(f"it is a variant of {own.name}")
    elif in_line:
        place = 0.9
        why.append("both are variants of one method")
    elif own.family == other.family:
        place = 0.6
        why.append(f"both belong to {kb.vocabulary.families[own.family].name.lower()}")
    else:
        place = 0.3 if kb.branch(own.id) == kb.branch(other.id) else 0.0
    mine, theirs = set(own.requires.needs), set(other.requires.needs)
    needs = len(mine & theirs) / len(mine | theirs) if mine | theirs else 1.0
    if needs == 1:
        why.append("both ask for the same")
    form = [own.output == other.output, own.scope == other.scope, own.stage == other.stage]
    rarer = min(len(kb.index.by_method.get(one, ())) for one in (own.id, other.id))
    if together:
        why.append(f"{together} publication{'s' if together > 1 else ''} used both")
    likeness = 0.4 * place + 0.2 * needs + 0.2 * sum(form) / 3 + 0.2 * (together / rarer if rarer else 0)
    return Neighbour(other.id, round(likeness, 3), tuple(why))


# --- why: the ways through the graph ---------------------------------------------------------------------------------


def why(kb: KB, start: str, end: str, limit: int = 3) -> list[list[Step]]:
    """Return the shortest ways between two nodes, edge by edge with words; several, so that one may check another.

    For a method and a modality these are the ways that explain a recommendation: over a publication that tried the
    one on the other, over a challenge that it eases, over a relative of either. Direct statements are preferred to
    what almost everything shares, such as a task.

    Args:
        kb: The knowledge base.
        start: An entity's id, or a word as "family:gradient".
        end: The same.
        limit: How many ways to return at most; each after the first has a node that none before it has.

    Raises:
        UnknownIdError: There is no such node.
    """
    import networkx

    for node in (start, end):
        name(kb, node)
    if start == end:
        return []
    found: list[list[Step]] = []
    seen: set[str] = {start, end}
    try:
        ways = networkx.shortest_simple_paths(_ways(kb), start, end, weight="length")
        for nodes in islice(ways, 40):
            if not found or not set(nodes) <= seen:
                seen.update(nodes)
                found.append([step(kb, one, other) for one, other in pairwise(nodes)])
            if len(found) == limit:
                break
    except networkx.NetworkXNoPath:
        return []
    return found


@lru_cache(maxsize=2)
def _ways(kb: KB) -> networkx.Graph[str]:
    """Return the graph without directions and with lengths."""
    import networkx

    # a plain graph of our own: networkx's undirected views walk neighbours in the order of a set, new in each process
    ways: networkx.Graph[str] = networkx.Graph()
    ways.add_nodes_from(kb.graph)
    for source, target, edge in kb.graph.edges(data=True):
        length = RELATIONS[edge["relation"]].length
        known = ways.get_edge_data(source, target, {"length": length})["length"]
        ways.add_edge(source, target, length=min(length, known))
    return ways


def neighbourhood(kb: KB, node: str, limit: int = 24) -> list[Step]:
    """Return the statements around a node, at most ``limit`` of them, the most telling kinds first.

    Each kind of relation gets its turn, so that a method used by a hundred publications still shows its family, its
    variants and the challenges it eases.

    Raises:
        UnknownIdError: There is no such node.
    """
    name(kb, node)
    by_relation: dict[str, list[str]] = defaultdict(list)
    for other in dict.fromkeys([*kb.graph.successors(node), *kb.graph.predecessors(node)]):
        if other != node:
            by_relation[step(kb, node, other).relation].append(other)
    queues = [
        sorted(others, key=lambda one: (-kb.graph.degree(one), one))
        for relation, others in sorted(by_relation.items(), key=lambda item: (RELATIONS[item[0]].length, len(item[1])))
    ]
    chosen: list[str] = []
    while any(queues) and len(chosen) < limit:
        for queue in queues:
            if queue and len(chosen) < limit:
                chosen.append(queue.pop(0))
    return [step(kb, node, other) for other in chosen]


def about(kb: KB, entity_id: str) -> dict[str, Any]:
    """Return all that is known of an entity as plain data: its fields and, for a method, what the graph says of it.

    Raises:
        UnknownIdError: There is no such entity.
    """
    fields = {"id": entity_id, "kind": kb.kind(entity_id), **kb.get(entity_id).model_dump(mode="json")}
    if entity_id in kb.methods:
        fields |= {
            "branch": kb.branch(entity_id),
            "publications": list(kb.index.by_method.get(entity_id, ())),
            "relatives": [n.method for n in neighbours(kb, entity_id)],
            "eases": [b.challenge for b in bearings(kb, entity_id) if b.eases],
            "suffers_from": [b.challenge for b in bearings(kb, entity_id) if not b.eases],
        }
    if (judged := trust(kb).get(entity_id)) is not None:
        fields["trust"] = {"in_words": judged.phrase, **judged.model_dump(mode="json", exclude_defaults=True)}
    return fields


def _known(given: str, allowed: Iterable[str], what: str) -> None:
    if given not in allowed:
        raise UnknownIdError(given, allowed, what)
