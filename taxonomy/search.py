"""Full-text search over everything in the knowledge base.

SQLite's FTS5 does the work: an index in memory, words and beginnings of words, ranked by BM25 with names before texts.
Chinese is searched by character, as it has no spaces between words.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from taxonomy.checks import REFERENCES, references
from taxonomy.graph import challenges_of, methods_of
from taxonomy.schema import Part, Publication

if TYPE_CHECKING:
    from taxonomy.loader import KB

_NOT_TEXT = frozenset(
    "id name title aliases translations doi arxiv url repository read parent retracted "
    "needs output scope stage direction property criterion outcome coding inputs".split()
)
"""Fields that are names, found otherwise, or words that the facets hold."""

FACETS = (
    "kind",
    "branch",
    "family",
    "modality",
    "task",
    "architecture",
    "criterion",
    "outcome",
    "year",
    "read",
    "clinicians",
    "dims",
    "input",
)
"""What results can be narrowed by; every value is text."""

_CHINESE = re.compile(r"([\u3400-\u9fff])")
_WORD = re.compile(r"[\w.+/-]*\w[\w+]*")


class Hit(NamedTuple):
    """An entity that was found."""

    id: str
    kind: str
    name: str
    snippet: str
    """The part of its text that fits, the words found between ``[`` and ``]``; empty without a search text."""


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    hits: tuple[Hit, ...]
    total: int
    facets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Facet to value to how many of the found entities have it, the most frequent first."""
    loose: bool = False
    """True when nothing has all words, and these have some of them."""


def search(
    kb: KB, text: str = "", where: Mapping[str, Collection[str]] | None = None, *, limit: int = 50, offset: int = 0
) -> Found:
    """Find entities by words and facets.

    Every word must occur, the last letters of each may be left out ("segm"); where nothing has them all, what has most
    of them is found and called loose. Facets are joined by "and", the values of one facet by "or". Without a text all
    entities that fit the facets are found, the most studied and the newest first.

    Args:
        kb: The knowledge base.
        text: Words in any language of the knowledge base; nothing in it is read as an operator.
        where: Facet of :data:`FACETS` to the values wanted.
        limit: How many hits to return.
        offset: How many to skip.

    Raises:
        UnknownIdError: A facet that does not exist.
    """
    from taxonomy.errors import UnknownIdError

    for facet in where or {}:
        if facet not in FACETS:
            raise UnknownIdError(facet, FACETS, "facet")
    return _engine(kb).search(text, {f: set(v) for f, v in (where or {}).items() if v}, limit, offset)


@lru_cache(maxsize=2)
def _engine(kb: KB) -> _Engine:
    return _Engine(kb)


class _Engine:
    """The index of one knowledge base."""

    def __init__(self, kb: KB) -> None:
        self._kb = kb
        self._lock = Lock()  # one connection serves all sessions of the app
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute(
            "CREATE VIRTUAL TABLE entity USING fts5"
            "(id UNINDEXED, name, aliases, body, tokenize='unicode61 remove_diacritics 2', prefix='2 3')"
        )
        self._kinds: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._facets: dict[str, dict[str, frozenset[str]]] = {}
        rows = []
        for kind, entities in kb.kinds().items():
            for entity_id, entity in entities.items():
                self._kinds[entity_id] = kind
                self._names[entity_id] = entity.name
                self._facets[entity_id] = _facets(kb, kind, entity)
                names = [entity_id.replace("_", " "), *getattr(entity, "aliases", ())]
                names += [mark for mark in (getattr(entity, "doi", None), getattr(entity, "arxiv", None)) if mark]
                names += [w for words in getattr(entity, "translations", {}).values() for w in words]
                texts = [*_texts(entity), *_linked(kb, entity)]
                rows.append((entity_id, *map(_spaced, (entity.name, " · ".join(names), " · ".join(texts)))))
        self._db.executemany("INSERT INTO entity VALUES (?, ?, ?, ?)", rows)
        years = {i: p.year or 0 for i, p in kb.publications.items()}
        kinds = list(kb.kinds())
        studied = {**kb.index.by_method, **kb.index.by_modality}
        self._order = sorted(
            self._kinds, key=lambda i: (kinds.index(self._kinds[i]), -len(studied.get(i, ())), -years.get(i, 0), i)
        )

    def search(self, text: str, where: Mapping[str, set[str]], limit: int, offset: int) -> Found:
        words = _words(text)
        query = " ".join(words)
        ids = self._ranked(text, query) if text.strip() else self._order
        if loose := len(words) > 1 and not ids:
            query = " OR ".join(words)
            ids = self._ranked(text, query)
        fitting = [i for i in ids if all(self._facets[i].get(f, frozenset()) & values for f, values in where.items())]
        page = fitting[offset : offset + limit]
        snippets: dict[str, str] = {}
        if words and page:
            marks = ",".join("?" * len(page))
            with self._lock:
                snippets = dict(
                    self._db.execute(
                        f"SELECT id, snippet(entity, -1, '[', ']', '…', 18) FROM entity "  # noqa: S608 - marks only
                        f"WHERE entity MATCH ? AND id IN ({marks})",
                        (query, *page),
                    )
                )
        hits = tuple(Hit(i, self._kinds[i], self._names[i], _joined(snippets.get(i, ""))) for i in page)
        return Found(hits, len(fitting), self._count(ids, where), loose and bool(ids))

    def _ranked(self, text: str, query: str) -> list[str]:
        """Return what fits a query: first what is called so; then names weigh most, publications least."""
        if not query:
            return []
        with self._lock:
            ranked = self._db.execute(
                "SELECT id, bm25(entity, 0, 12, 6, 1) FROM entity WHERE entity MATCH ?", (query,)
            ).fetchall()
        ranked.sort(key=lambda row: row[1] * self._weight(row[0]))
        return list(dict.fromkeys((*self._kb.called(text), *(i for i, _ in ranked))))

    def _weight(self, entity_id: str) -> float:
        return 1.0 if self._kinds[entity_id] == "publications" else 1.6

    def _count(self, ids: list[str], where: Mapping[str, set[str]]) -> dict[str, dict[str, int]]:
        """Count each facet's values among what fits all *other* facets, so that another value can be chosen."""
        counts: dict[str, Counter[str]] = {facet: Counter() for facet in FACETS}
        for i in ids:
            facets = self._facets[i]
            broken = [f for f, values in where.items() if not facets.get(f, frozenset()) & values]
            if len(broken) > 1:
                continue
            for facet in broken or FACETS:
                counts[facet].update(facets.get(facet, ()))
        return {facet: dict(found.most_common()) for facet, found in counts.items()}


def _words(text: str) -> list[str]:
    """Return the words of a text as FTS5 reads them, each a quoted beginning."""
    return [f'"{_spaced(word).strip()}"*' for word in _WORD.findall(text)]


def _spaced(text: str) -> str:
    return _CHINESE.sub(r" \1 ", text)


def _joined(text: str) -> str:
    """Undo the spaces between Chinese characters."""
    text = re.sub(r"(?<=[\u3400-\u9fff])\]\s+\[(?=[\u3400-\u9fff])", "", text)
    return re.sub(r"(?<=[\u3400-\u9fff])(\]?)\s+(\[?)(?=[\u3400-\u9fff])", r"\1\2", text).strip()


def _texts(value: Any) -> Iterator[str]:
    """Yield the sentences and words of an entity."""
    if isinstance(value, Part):
        for name in type(value).model_fields:
            if name not in _NOT_TEXT and name not in REFERENCES:
                yield from _texts(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _linked(kb: KB, entity: Part) -> Iterator[str]:
    """Yield the names of what an entity names by id, so that "ultrasound" finds the studies of it."""
    everything = {**kb.kinds(), **kb.words()}
    for _, kind, target in references(entity, ""):
        if kind and kind != "publications" and target in everything[kind]:
            yield everything[kind][target].name


def _facets(kb: KB, kind: str, entity: Any) -> dict[str, frozenset[str]]:
    """Return the facets of an entity; what it does not have is left out."""
    found: dict[str, Collection[str | None]] = {"kind": [kind]}
    if kind == "publications":
        publication: Publication = entity
        methods = methods_of(publication)
        study = publication.study
        found |= {
            "branch": {kb.branch(m) for m in methods},
            "family": {kb.methods[m].family for m in methods},
            "criterion": {c.criterion for c in publication.claims},
            "outcome": {c.outcome for c in publication.claims},
            "year": [str(publication.year) if publication.year else None],
            "read": [publication.read],
            "clinicians": ["yes" if publication.clinicians else None],
        }
        if study:
            found |= {
                "modality": study.modalities,
                "task": [study.task],
                "architecture": [study.architecture],
                "dims": [f"{d}D" for d in study.dims or ()],
                "input": study.inputs,
            }
    elif kind == "methods":
        found |= {
            "branch": [kb.branch(entity.id)],
            "family": [entity.family],
            "task": entity.requires.tasks,
            "dims": [f"{d}D" for d in entity.requires.dims],
            "modality": [m for method, m in kb.index.coverage if method == entity.id],
        }
    elif kind == "modalities":
        found |= {"modality": [entity.id], "dims": [f"{d}D" for d in entity.dims]}
    elif kind == "challenges":
        found["modality"] = [m for m, one in kb.modalities.items() if entity.id in challenges_of(one)]
    elif kind == "metrics":
        found["criterion"] = [entity.property]
    return {facet: frozenset(v for v in values if v) for facet, values in found.items()}
