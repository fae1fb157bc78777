"""Integrity rules over a whole knowledge base: what no single file can show.

One rule is one small function that yields :class:`Problem`; :data:`RULES` holds them all. A *fatal* rule keeps the
knowledge base from loading, because code relies on it (ids resolve, trees are trees). The others are about curation
and are told by ``kb.problems()``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from taxonomy.schema import Branch, Criterion, Need, Part

if TYPE_CHECKING:
    from taxonomy.loader import KB

Field = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One broken rule at one place.

    Attributes:
        file: Path of the file, relative to the knowledge base's folder.
        field: Keys and positions that lead to the offending value; empty for the whole file.
        given: What stands there.
        allowed: What may stand there, or what to do.
        line: Line of the field, counted from 1; 0 while it has not been looked up.
    """

    file: str
    field: Field
    given: str
    allowed: str
    line: int = 0

    def __str__(self) -> str:
        """Write the problem as ``file:line: field: given: allowed``."""
        dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.field).lstrip(".")
        return f"{self.file}:{self.line}: {dotted or 'file'}: {self.given}: {self.allowed}"


@dataclass(frozen=True)
class Rule:
    """A named rule; its function's docstring says what must hold."""

    name: str
    find: Callable[[KB], Iterator[Problem]]
    fatal: bool


RULES: dict[str, Rule] = {}
"""Name to rule, in the order they run."""


def rule(*, fatal: bool = False) -> Callable[[Callable[[KB], Iterator[Problem]]], Callable[[KB], Iterator[Problem]]]:
    """Register a function as an integrity rule."""

    def register(find: Callable[[KB], Iterator[Problem]]) -> Callable[[KB], Iterator[Problem]]:
        RULES[find.__name__] = Rule(find.__name__, find, fatal)
        return find

    return register


def find_problems(kb: KB, *, fatal: bool | None = None) -> list[Problem]:
    """Run the rules over a knowledge base.

    Args:
        kb: The knowledge base.
        fatal: True for the fatal rules only, False for the others only, None for all.
    """
    chosen = (r for r in RULES.values() if fatal is None or r.fatal is fatal)
    return [problem for r in chosen for problem in r.find(kb)]


VOCABULARY = "vocabulary.yaml"
ABOUT = "about.yaml"

REFERENCES: dict[str, str] = {
    # name of an id field, in whatever entity or part it stands, to the kind it names
    "family": "families",
    "families": "families",
    "method": "methods",
    "methods": "methods",
    "versus": "methods",
    "modality": "modalities",
    "modalities": "modalities",
    "challenge": "challenges",
    "metric": "metrics",
    "tool": "tools",
    "task": "tasks",
    "tasks": "tasks",
    "architecture": "architectures",
    "source": "publications",
    "sources": "publications",
    "conflicts": "publications",
}
"""Every id field of the schema but ``parent``, which names the entity's own kind."""


def file_of(kind: str, entity_id: str) -> str:
    """The file of an entity, relative to the knowledge base's folder."""
    return f"{kind}/{entity_id}.yaml"


def references(part: Part, own_kind: str, at: Field = ()) -> Iterator[tuple[Field, str, str]]:
    """Yield ``(field, kind, id)`` for every id that an entity or part names."""
    for name in type(part).model_fields:
        value = getattr(part, name)
        kind = own_kind if name == "parent" else REFERENCES.get(name)
        if isinstance(value, Part):
            yield from references(value, own_kind, (*at, name))
        elif kind is not None and isinstance(value, str):
            yield (*at, name), kind, value
        elif isinstance(value, list):
            for position, item in enumerate(value):
                if isinstance(item, Part):
                    yield from references(item, own_kind, (*at, name, position))
                elif kind is not None:
                    yield (*at, name, position), kind, item


def _entities(kb: KB) -> Iterator[tuple[str, Field, str, Part, str]]:
    """Yield ``(kind, field of the entity in its file, id, entity, file)`` of all entities and vocabulary words."""
    for kind, entities in kb.kinds().items():
        for entity_id, entity in entities.items():
            yield kind, (), entity_id, entity, file_of(kind, entity_id)
    for kind, words in kb.words().items():
        for word_id, word in words.items():
            yield kind, (kind, word_id), word_id, word, VOCABULARY


@rule(fatal=True)
def references_resolve(kb: KB) -> Iterator[Problem]:
    """Every id that stands in a file is the id of an entity or word of the right kind."""
    known: Mapping[str, Mapping[str, Any]] = {**kb.kinds(), **kb.words()}
    for own_kind, at, _, entity, file in _entities(kb):
        for field, kind, given in references(entity, own_kind, at):
            if given not in known[kind]:
                near = get_close_matches(given, known[kind], n=1, cutoff=0.6)
                where = (
                    f"an entry of {kind} in {VOCABULARY}" if kind in kb.words() else f"a file {file_of(kind, given)}"
                )
                hint = f"; did you mean {near[0]}?" if near else ""
                yield Problem(file, field, given, where + hint)


@rule(fatal=True)
def ids_unique(kb: KB) -> Iterator[Problem]:
    """An id names one entity only, over all kinds."""
    first: dict[str, str] = {}
    for kind, entities in kb.kinds().items():
        for entity_id in entities:
            if entity_id in first:
                yield Problem(
                    file_of(kind, entity_id),
                    (),
                    entity_id,
                    f"an id used once; {file_of(first[entity_id], entity_id)} has it",
                )
            first.setdefault(entity_id, kind)


def _cycles(parents: Mapping[str, str | None]) -> Iterator[tuple[str, list[str]]]:
    """Yield the smallest id of each cycle of a parent relation, with the cycle."""
    done: set[str] = set()
    for start in parents:
        chain: list[str] = []
        at: str | None = start
        while at is not None and at not in done and at not in chain:
            chain.append(at)
            at = parents.get(at)
        if at in chain:
            cycle = chain[chain.index(at) :]
            turn = cycle.index(min(cycle))
            yield cycle[turn], cycle[turn:] + cycle[:turn]
        done.update(chain)


@rule(fatal=True)
def parents_acyclic(kb: KB) -> Iterator[Problem]:
    """No method, modality or family is its own ancestor."""
    for kind, entities in (("methods", kb.methods), ("modalities", kb.modalities)):
        for entity_id, cycle in _cycles({i: e.parent for i, e in entities.items()}):
            yield Problem(
                file_of(kind, entity_id), ("parent",), " -> ".join([*cycle, entity_id]), "parents without a circle"
            )
    for family, cycle in _cycles({i: f.parent for i, f in kb.vocabulary.families.items()}):
        field = ("families", family, "parent")
        yield Problem(VOCABULARY, field, " -> ".join([*cycle, family]), "parents without a circle")


@rule(fatal=True)
def families_keep_branch(kb: KB) -> Iterator[Problem]:
    """A family is in the branch of its parent family, so a method's branch is unambiguous."""
    families = kb.vocabulary.families
    for family_id, family in families.items():
        parent = families.get(family.parent) if family.parent else None
        if parent and parent.branch != family.branch:
            yield Problem(
                VOCABULARY,
                ("families", family_id, "branch"),
                family.branch,
                f"{parent.branch}, as its parent {family.parent}",
            )


@rule(fatal=True)
def vocabulary_complete(kb: KB) -> Iterator[Problem]:
    """Every branch, criterion and need of the schema has its words."""
    for section, values in (("branches", Branch), ("criteria", Criterion), ("needs", Need)):
        words = kb.words()[section]
        for value in get_args(values):
            if value not in words:
                yield Problem(VOCABULARY, (section,), f"{value} is missing", "an entry for every value of the schema")


def plain_title(title: str) -> str:
    """Return a title without case, accents and punctuation, as titles are compared."""
    letters = (c for c in unicodedata.normalize("NFKD", title).casefold() if not unicodedata.combining(c))
    return re.sub(r"[\W_]+", " ", "".join(letters)).strip()


@rule()
def one_paper_one_file(kb: KB) -> Iterator[Problem]:
    """No two publication files share a DOI, an arXiv id or a title."""
    for field, key in (
        ("doi", lambda p: p.doi and p.doi.casefold()),
        ("arxiv", lambda p: p.arxiv),
        ("title", lambda p: plain_title(p.title)),
    ):
        first: dict[str, str] = {}
        for pub_id, publication in kb.publications.items():
            value = key(publication)
            if not value:
                continue
            if value in first:
                given = getattr(publication, field)
                yield Problem(
                    file_of("publications", pub_id),
                    (field,),
                    given,
                    f"one file a paper; {file_of('publications', first[value])} has the same {field}",
                )
            first.setdefault(value, pub_id)


@rule()
def references_well_formed(kb: KB) -> Iterator[Problem]:
    """DOIs and arXiv ids are complete, stand in their own fields, and no URL hides one."""
    for pub_id, publication in kb.publications.items():
        file = file_of("publications", pub_id)
        doi, arxiv, url = publication.doi, publication.arxiv, publication.url
        if doi and doi.casefold().startswith("10.48550/arxiv."):
            yield Problem(file, ("doi",), doi, f'arxiv: "{doi[15:]}" and the DOI of the journal or null')
        elif doi and (doi[-1] in ".,;:/" or doi.count("(") != doi.count(")")):
            yield Problem(file, ("doi",), doi, "a whole DOI, without the punctuation around it")
        if arxiv and arxiv[0].isdigit() and not 1 <= int(arxiv[2:4]) <= 12:
            yield Problem(file, ("arxiv",), arxiv, "an arXiv id that begins with year and month, as 1807.06420")
        if url and re.match(r"https?://((dx\.)?doi\.org|(www\.)?arxiv\.org)/", url):
            yield Problem(file, ("url",), url, "the fields doi and arxiv for these")


@rule()
def methods_have_source(kb: KB) -> Iterator[Problem]:
    """Every method that is not an umbrella names its original paper."""
    for method_id, method in kb.methods.items():
        if method.source is None and not method.umbrella:
            yield Problem(
                file_of("methods", method_id),
                ("source",),
                "null",
                "the publication id of its original paper, or umbrella: true",
            )


@rule()
def claims_name_own_methods(kb: KB) -> Iterator[Problem]:
    """A claim speaks only of methods that its publication lists."""
    for pub_id, publication in kb.publications.items():
        for position, claim in enumerate(publication.claims):
            for field in ("methods", "versus"):
                for index, method in enumerate(getattr(claim, field)):
                    if method not in publication.methods:
                        yield Problem(
                            file_of("publications", pub_id),
                            ("claims", position, field, index),
                            method,
                            "one of the publication's methods; add it there if the study used it",
                        )


@rule()
def claims_compare(kb: KB) -> Iterator[Problem]:
    """A claim of better, worse or equal says than what, and not than itself."""
    for pub_id, publication in kb.publications.items():
        for position, claim in enumerate(publication.claims):
            both = sorted(set(claim.methods) & set(claim.versus))
            if both:
                yield Problem(
                    file_of("publications", pub_id),
                    ("claims", position, "versus"),
                    ", ".join(both),
                    "methods that do not stand on the claim's other side",
                )


@rule()
def conflicts_mutual(kb: KB) -> Iterator[Problem]:
    """Publications that found otherwise than each other name each other."""
    for pub_id, publication in kb.publications.items():
        for position, other in enumerate(publication.conflicts):
            if other == pub_id:
                yield Problem(file_of("publications", pub_id), ("conflicts", position), other, "another publication")
            elif pub_id not in kb.publications[other].conflicts:
                allowed = f"a publication that names {pub_id} in its conflicts too"
                yield Problem(file_of("publications", pub_id), ("conflicts", position), other, allowed)


@rule()
def contradictions_listed(kb: KB) -> Iterator[Problem]:
    """Where one publication ranks two methods in the opposite order of another one, both list the conflict."""
    from taxonomy.questions import disagreements  # it builds on this module

    told = set()
    for found in disagreements(kb):
        for pair in found.opposed:
            one, other = sorted(pair)
            if other not in kb.publications[one].conflicts and (one, other) not in told:
                told.add((one, other))
                allowed = f"{other} there: they rank {found.method} by {found.criterion} in opposite order"
                yield Problem(file_of("publications", one), ("conflicts",), f"{other} is missing", allowed)


@rule()
def counts_fit(kb: KB) -> Iterator[Problem]:
    """A review's count says what was counted, and is not above the number it counted among."""
    for pub_id, publication in kb.publications.items():
        for position, count in enumerate(publication.counts):
            field = ("counts", position)
            if not (count.modality or count.family or count.method or count.task):
                yield Problem(file_of("publications", pub_id), field, "a count of nothing", "a modality, family, …")
            if count.studies > count.of:
                given = f"{count.studies} of {count.of}"
                yield Problem(file_of("publications", pub_id), (*field, "studies"), given, "at most the whole")


MOST_WORDS = 40
"""Words of the longest sentence allowed."""

_OWN_WORDS = frozenset({"text", "definition", "note", "gap", "condition", "setting"})
"""Fields that hold our own sentences."""


def _sentences(part: Part, at: Field) -> Iterator[tuple[Field, str]]:
    """Yield our own texts in an entity or part, with their fields."""
    for name in type(part).model_fields:
        value = getattr(part, name)
        if name in _OWN_WORDS and isinstance(value, str):
            yield (*at, name), value
        elif isinstance(value, Part):
            yield from _sentences(value, (*at, name))
        elif isinstance(value, list):
            for position, item in enumerate(value):
                if isinstance(item, Part):
                    yield from _sentences(item, (*at, name, position))


@rule()
def sentences_short(kb: KB) -> Iterator[Problem]:
    """No sentence of ours is longer than :data:`MOST_WORDS` words."""
    for _, at, _, entity, file in _entities(kb):
        for field, text in _sentences(entity, at):
            for sentence in re.split(r"(?<=[.!?;:])\s+", text):
                if len(words := sentence.split()) > MOST_WORDS:
                    given = f"{len(words)} words ({' '.join(words[:5])} …)"
                    yield Problem(file, field, given, f"sentences of at most {MOST_WORDS} words")


_AMERICAN = {
    r"(?P<stem>[a-z]{3,})iz(?P<end>e[sdr]?|ing|ations?|ers?|able)": r"\g<stem>is\g<end>",
    r"tumor(?P<end>s|al)?": r"tumour\g<end>",
    r"color(?P<end>s|ed|ing)?": r"colour\g<end>",
    r"behavior(?P<end>s|al)?": r"behaviour\g<end>",
    r"center(?P<end>s|ed)?": "centre",
    r"gray(?P<end>scale)?": r"grey\g<end>",
    r"label(?P<end>ed|ing)": r"labell\g<end>",
    r"model(?P<end>ed|ing)": r"modell\g<end>",
    r"(?P<stem>hem|an)emi(?P<end>a|c)": r"\g<stem>aemi\g<end>",
    r"hemorrhag(?P<end>es?|ic)": r"haemorrhag\g<end>",
    r"analyz(?P<end>e[sdr]?|ing)": r"analys\g<end>",
    r"artifact(?P<end>s|ual)?": r"artefact\g<end>",
    r"fiber(?P<end>s)?": r"fibre\g<end>",
}
_AMERICAN_WORD = re.compile(
    # not a part of a name with dots or underscores
    r"(?<![\w.])(?:" + "|".join(re.sub(r"[(][?]P<[a-z]+>", "(?:", pattern) for pattern in _AMERICAN) + r")(?!\w|\.\w)"
)
_SAME_IN_BOTH = re.compile(r"(re|over|under|out|down|up)?siz|priz|seiz|capsiz")


@rule()
def spelled_british(kb: KB) -> Iterator[Problem]:
    """Our own sentences are spelled in one way, so that a search finds them; names keep theirs by a capital."""
    for _, at, _, entity, file in _entities(kb):
        for field, text in _sentences(entity, at):
            for found in _AMERICAN_WORD.finditer(text):
                word = found[0]
                if _SAME_IN_BOTH.match(word):
                    continue
                pattern = next(p for p in _AMERICAN if re.fullmatch(p, word))
                match = re.fullmatch(pattern, word)
                assert match
                yield Problem(file, field, word, match.expand(_AMERICAN[pattern]).strip())


def _names(entity: Any) -> Iterable[tuple[Field, str]]:
    yield ("name",), entity.name
    for position, alias in enumerate(getattr(entity, "aliases", ())):
        yield ("aliases", position), alias
    for language, words in getattr(entity, "translations", {}).items():
        for position, word in enumerate(words):
            yield ("translations", language, position), word


@rule()
def names_unambiguous(kb: KB) -> Iterator[Problem]:
    """Inside a kind no name, alias or translation means two entities, and no alias stands twice."""
    kinds: dict[str, dict[str, list[tuple[str, Field, str, str]]]] = defaultdict(lambda: defaultdict(list))
    for kind, at, entity_id, entity, file in _entities(kb):
        if kind == "publications":  # titles are the matter of one_paper_one_file
            continue
        for field, word in _names(entity):
            kinds[kind][word.casefold()].append((file, (*at, *field), word, entity_id))
    for words in kinds.values():
        for uses in words.values():
            _, first_field, _, first_id = uses[0]
            for file, field, word, entity_id in uses[1:]:
                if entity_id != first_id:
                    yield Problem(file, field, word, f"a word that means one entity; {first_id} has it too")
                elif "aliases" in field and ("aliases" in first_field or "name" in first_field):
                    yield Problem(file, field, word, "each name once")


@rule()
def modalities_described(kb: KB) -> Iterator[Problem]:
    """Every modality has challenges, metrics that show them, sources, and evidence unless none was found."""
    named = {m for p in kb.publications.values() if p.study for m in p.study.modalities}
    parents = {i: m.parent for i, m in kb.modalities.items()}
    studied = set()
    for one in named:
        above: str | None = one
        while above and above not in studied:
            studied.add(above)
            above = parents[above]
    for modality_id, modality in kb.modalities.items():
        file = file_of("modalities", modality_id)
        challenges = [kb.challenges[one.challenge] for one in modality.challenges]
        if not challenges:
            yield Problem(file, ("challenges",), "none", "at least one challenge")
        elif not any(challenge.shown_by for challenge in challenges):
            yield Problem(file, ("challenges",), "no metric", "a challenge with a metric that shows it (shown_by)")
        if not modality.sources and modality_id not in studied:
            yield Problem(file, ("sources",), "none", "a source, or a publication that studied this modality")
        if (modality_id in studied) == modality.no_study_found:
            given, allowed = (
                ("true", "false: there are studies of it")
                if modality.no_study_found
                else ("false", "true, or a publication that studied this modality")
            )
            yield Problem(file, ("no_study_found",), given, allowed)


@rule()
def nothing_orphaned(kb: KB) -> Iterator[Problem]:
    """Every challenge, publication and family is used by something."""
    used: dict[str, set[str]] = defaultdict(set)
    for own_kind, _, _, entity, _ in _entities(kb):
        for _, kind, named in references(entity, own_kind):
            used[kind].add(named)
    for challenge_id, challenge in kb.challenges.items():
        if not challenge.general and challenge_id not in used["challenges"]:
            yield Problem(file_of("challenges", challenge_id), (), challenge_id, "used by a modality, or general: true")
    for pub_id, publication in kb.publications.items():
        if not (publication.methods or publication.counts or pub_id in used["publications"]):
            yield Problem(
                file_of("publications", pub_id), (), pub_id, "cited by an entity, or naming the methods it used"
            )
    for family_id in kb.vocabulary.families:
        if family_id not in used["families"]:
            yield Problem(VOCABULARY, ("families", family_id), family_id, "a family with a method or a family below it")
