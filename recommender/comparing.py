"""Answers about methods by name: what was found of them side by side, and why one is not the first choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from recommender.case import NO_QUALITY, Case, Measured, bare, case_of, counted
from recommender.query import Query
from recommender.rank import NAMES, Reason, ranked
from taxonomy import KB, Profile, UnknownIdError
from taxonomy.questions import side
from taxonomy.schema import Claim, Publication

_ENOUGH: Final = 3
"""Head-to-head findings below which nobody should speak of a winner."""

_DISTANCES: Final = ("same", "near", "far")


@dataclass(frozen=True)
class Sentence:
    """A sentence with the publications it rests on."""

    text: str
    cites: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        return {"text": self.text, "cites": list(self.cites)}


@dataclass(frozen=True)
class Told:
    """A finding of one publication about methods that are compared.

    Attributes:
        publication: Who found it.
        text: What was found, and where.
        criterion: By what.
        near: "same" for the modality that is asked about (or when none is), "near" for a relative, "far" for others.
        side: For (1), against (-1) or neither (0) the method it is listed under; 0 in a head-to-head finding.
        favours: In a head-to-head finding, the compared methods that it puts first.
        self_reported: The authors judge their own method.
    """

    publication: str
    text: str
    criterion: str
    near: str
    side: int = 0
    favours: tuple[str, ...] = ()
    self_reported: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        return {
            "text": self.text,
            "criterion": self.criterion,
            "distance": self.near,
            "side": self.side,
            "favours": list(self.favours),
            "self_reported": self.self_reported,
            "cites": [self.publication],
        }


@dataclass(frozen=True)
class Comparison:
    """What the knowledge base holds about some methods, side by side.

    Attributes:
        methods: Method ids as asked.
        head_to_head: Findings that set one of them against another, the nearest first.
        findings: Method to all other findings about it, by criterion and nearness.
        verdict: What follows, and what does not.
    """

    methods: tuple[str, ...]
    head_to_head: tuple[Told, ...]
    findings: Mapping[str, tuple[Told, ...]]
    verdict: tuple[Sentence, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        return {
            "methods": list(self.methods),
            "head_to_head": [one.as_json() for one in self.head_to_head],
            "findings": {method: [one.as_json() for one in told] for method, told in self.findings.items()},
            "verdict": [one.as_json() for one in self.verdict],
        }


def compare(methods: Sequence[str], query: Query, kb: KB) -> Comparison:
    """Put what was found about methods side by side.

    Args:
        methods: Method ids, one or more. An umbrella stands for its variants too, and a variant hears what was said of
            its umbrella, unless both are compared.
        query: The question; its modality tells what is near.
        kb: The knowledge base.

    Raises:
        UnknownIdError: An id of the query, or a method, that is not in the knowledge base.
    """
    for method in methods:
        if method not in kb.methods:
            raise UnknownIdError(method, kb.methods, "method")
    return compared(case_of(query, kb, None, (), ()), tuple(dict.fromkeys(methods)))


def compared(case: Case, methods: tuple[str, ...]) -> Comparison:
    """Compare the methods of a case; see :func:`compare`."""
    names = _names(case, methods)
    duels: dict[tuple[str, int], Told] = {}
    findings: dict[str, list[Told]] = {}
    for method in methods:
        findings[method] = []
        for publication, claim, called in _claims(case, names[method]):
            key = publication.id, id(claim)
            left = [m for m in methods if names[m] & set(claim.methods)]
            right = [m for m in methods if names[m] & set(claim.versus)]
            if any(a != b for a in left for b in right):
                if key not in duels:
                    best = {"better": left, "worse": right}.get(claim.outcome, [])
                    duels[key] = _told(case, publication, claim, favours=tuple(best))
            else:
                via = None if called == method else called
                findings[method].append(_told(case, publication, claim, side=side(claim, called), via=via))
    order = _DISTANCES
    duel = tuple(sorted(duels.values(), key=lambda t: (order.index(t.near), t.self_reported, t.publication)))
    criteria: list[str] = list(case.kb.vocabulary.criteria)
    sides = {
        method: tuple(
            sorted(found, key=lambda t: (criteria.index(t.criterion), order.index(t.near), -t.side, t.publication))
        )
        for method, found in findings.items()
    }
    return Comparison(methods, duel, sides, tuple(_verdict(case, methods, duel, sides)))


def _names(case: Case, methods: Sequence[str]) -> dict[str, set[str]]:
    """Return method to the ids under which publications speak of it; none stands for two of them."""
    kb = case.kb
    found = {}
    for method in methods:
        below = {m for m in kb.methods if method in case.umbrellas(m)} if kb.methods[method].umbrella else set()
        found[method] = {method, *below, *case.umbrellas(method)}
    often = Counter(name for names in found.values() for name in names)
    return {m: {n for n in names if n == m or (often[n] == 1 and n not in methods)} for m, names in found.items()}


def _claims(case: Case, names: Iterable[str]) -> Iterator[tuple[Publication, Claim, str]]:
    """Yield each claim about the quality of a method once, with the name that it uses."""
    seen = set()
    index = case.kb.index
    for name in sorted(names):
        for pub_id, claim in (*index.claims.get(name, ()), *index.versus.get(name, ())):
            if claim.criterion not in NO_QUALITY and id(claim) not in seen:
                seen.add(id(claim))
                yield case.kb.publications[pub_id], claim, name


def _told(
    case: Case,
    publication: Publication,
    claim: Claim,
    *,
    side: int = 0,
    favours: tuple[str, ...] = (),
    via: str | None = None,
) -> Told:
    return Told(
        publication.id,
        case.in_words(publication, claim, via),
        claim.criterion,
        case.places[publication.id][0],
        side,
        favours,
        claim.self_reported,
    )


def _verdict(
    case: Case, methods: Sequence[str], duels: Sequence[Told], sides: Mapping[str, Sequence[Told]]
) -> Iterator[Sentence]:
    name = {m: bare(case.kb.methods[m].name) for m in methods}
    here = f" on {case.modality_names}" if case.query.modality else ""
    if len(methods) > 1:
        both = f"{', '.join(name[m] for m in methods[:-1])} and {name[methods[-1]]}"
        if not duels:
            yield Sentence(f"No study of the knowledge base compares {both} with each other.")
        elif not any(d.near == "same" for d in duels):
            yield Sentence(f"No study compares {both}{here}; elsewhere some did.")
        for near, where in (("same", here), ("near", " on related modalities"), ("far", " on other modalities")):
            part = [d for d in duels if d.near == near]
            if part:
                yield _count_duels(part, name, where)
        yield _winner([d for d in duels if d.near == "same"], name, here)
    for method in methods:
        told = [t for t in sides[method] if t.near == "same"]
        where = here
        if not told and here:
            told, where = list(sides[method]), f" on other modalities, none{here}"
        if not told:
            yield Sentence(f"Nothing{' else' if duels else ''} was found about the quality of {name[method]}.")
            continue
        good, bad = sum(t.side > 0 for t in told), sum(t.side < 0 for t in told)
        text = (
            f"{name[method]}: {counted(good, 'finding')} for it, {bad} against, {len(told) - good - bad} mixed{where}"
        )
        own = sum(t.self_reported for t in told)
        text += f"; {own} reported by its own authors." if own else "."
        yield Sentence(text, _cites(told))


def _count_duels(part: Sequence[Told], name: Mapping[str, str], where: str) -> Sentence:
    """Say whom the head-to-head findings of one place favour."""
    votes = Counter(m for d in part for m in d.favours)
    open_ = sum(not d.favours for d in part)
    shares = [f"{number} favour{'s' if number == 1 else ''} {name[m]}" for m, number in votes.most_common()]
    if open_:
        shares.append(f"{open_} {'is' if open_ == 1 else 'are'} open")
    own = sum(d.self_reported for d in part)
    note = f" ({own} reported by authors about their own method)" if own else ""
    return Sentence(f"Of {counted(len(part), 'head-to-head finding')}{where}, {', '.join(shares)}{note}.", _cites(part))


def _winner(part: Sequence[Told], name: Mapping[str, str], here: str) -> Sentence:
    """Say what follows from the head-to-head findings on the modality itself."""
    papers = {d.publication for d in part if not d.self_reported}
    votes = Counter(m for d in part for m in d.favours)
    if len(part) >= _ENOUGH and len(papers) > 1 and votes:
        best, number = votes.most_common(1)[0]
        if number * 3 >= 2 * len(part):
            return Sentence(f"So the comparisons{here} favour {name[best]}.", _cites(part))
        return Sentence(f"So the comparisons{here} are divided; try both on your own images.", _cites(part))
    return Sentence(f"That is too little to say which is better{here}; measure them on your own images.")


def _cites(told: Iterable[Told]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(t.publication for t in told))


# --- why not ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setback:
    """Where a method has fewer points than the first of the ranking.

    Attributes:
        criterion: By what.
        points: Its points less those of the first.
        own: Its reasons.
        first: The reasons of the first.
    """

    criterion: str
    points: float
    own: tuple[Reason, ...]
    first: tuple[Reason, ...]

    @property
    def name(self) -> str:
        """The criterion in words."""
        return NAMES[self.criterion]

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        return {
            "criterion": self.criterion,
            "name": self.name,
            "points": self.points,
            "own": [r.as_json() for r in self.own],
            "first": [r.as_json() for r in self.first],
        }


@dataclass(frozen=True)
class WhyNot:
    """Why a method is not the first choice.

    Attributes:
        method: The method asked about; of an umbrella, the variant that ranks best.
        text: The answer in words.
        rank: Its place, from 1; None when it is ruled out or there is no ranking.
        score: Its points; None as for the rank.
        setbacks: What puts it below the first, the heaviest first; none for the first itself.
        reasons: What speaks for it, the strongest first.
    """

    method: str
    text: str
    rank: int | None = None
    score: float | None = None
    setbacks: tuple[Setback, ...] = ()
    reasons: tuple[Reason, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        return {
            "method": self.method,
            "text": self.text,
            "rank": self.rank,
            "score": self.score,
            "setbacks": [one.as_json() for one in self.setbacks],
            "reasons": [one.as_json() for one in self.reasons],
        }


def why_not(
    method: str,
    query: Query,
    kb: KB,
    *,
    profile: Profile | None = None,
    measured: Iterable[Measured] = (),
    runnable: Iterable[str] = (),
) -> WhyNot:
    """Say why a method is not the first choice for a question.

    Args:
        method: Any method id.
        query: The question.
        kb: The knowledge base.
        profile: As for :func:`recommender.recommend`.
        measured: As for :func:`recommender.recommend`.
        runnable: As for :func:`recommender.recommend`.

    Raises:
        UnknownIdError: There is no such method, or an id of the query is not in the knowledge base.
    """
    if method not in kb.methods:
        raise UnknownIdError(method, kb.methods, "method")
    case = case_of(query, kb, profile, measured, runnable)
    found, out = ranked(case)
    name, before = kb.methods[method].name, ""
    if not found and not out:
        return WhyNot(method, f"The question says nothing that {name} could be ranked by; name a modality or a task.")
    if kb.methods[method].umbrella:
        variants = {m for m in kb.methods if method in case.umbrellas(m) and not kb.methods[m].umbrella}
        chosen = next((r.method for r in found if r.method in variants), None)
        chosen = chosen or next((r.method for r in out if r.method in variants), None)
        if chosen is None:
            return WhyNot(method, f"{name} is a name for several methods; studies that use it do not say which.")
        before = f"{bare(name)} stands for several methods; {kb.methods[chosen].name} is the one that ranks best. "
        method, name = chosen, kb.methods[chosen].name
    ruled = next((r.gap for r in out if r.method == method), None)
    if ruled is not None:
        return WhyNot(method, before + ruled)
    rank = next(n for n, r in enumerate(found, 1) if r.method == method)
    own, first = found[rank - 1], found[0]
    reasons = tuple(r for r in own.reasons if r.points > 0)
    if rank == 1:
        text = f"{before}{name} is the first choice of {len(found)}, with {own.score:.1f} points."
        return WhyNot(method, text, rank, own.score, (), reasons)
    setbacks = tuple(_setbacks(own.reasons, first.reasons))
    text = (
        f"{before}{name} is number {rank} of {len(found)} with {own.score:.1f} points; "
        f"{first.name} leads with {first.score:.1f}."
    )
    if setbacks:
        worst = ", ".join(f"{s.name} ({s.points:+.1f})" for s in setbacks[:3])
        text += f" What sets it back most: {worst}."
    return WhyNot(method, text, rank, own.score, setbacks, reasons)


def _setbacks(own: Sequence[Reason], first: Sequence[Reason]) -> Iterator[Setback]:
    criteria = dict.fromkeys(r.criterion for r in (*own, *first))
    found = []
    for criterion in criteria:
        mine = tuple(r for r in own if r.criterion == criterion)
        theirs = tuple(r for r in first if r.criterion == criterion)
        points = round(sum(r.points for r in mine) - sum(r.points for r in theirs), 3)
        if points <= -0.05:  # less is not seen in points with one decimal
            found.append(Setback(criterion, points, mine, theirs))
    yield from sorted(found, key=lambda s: (s.points, s.criterion))
