"""References of publications in the formats of reference managers: BibTeX, RIS and CSL-JSON.

What the knowledge base does not know is left out. It knows the first author only, so others are written as "and
others" in BibTeX and not at all elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from taxonomy.errors import UnknownIdError
from taxonomy.schema import Publication

if TYPE_CHECKING:
    from taxonomy.loader import KB


SUFFIXES = {"bibtex": ".bib", "ris": ".ris", "csl": ".json"}
"""Style to the ending of its files."""


def cite(kb: KB, ids: Iterable[str], style: str = "bibtex") -> str:
    """Return the references of publications; a citation key is our id.

    Args:
        kb: The knowledge base.
        ids: Publication ids; one that comes again is written once.
        style: A key of :data:`SUFFIXES`.

    Raises:
        UnknownIdError: A publication or style that does not exist.
    """
    if style not in _STYLES:
        raise UnknownIdError(style, _STYLES, "citation style")
    chosen = {}
    for one in ids:
        if one not in kb.publications:
            raise UnknownIdError(one, kb.publications, "publication")
        chosen[one] = kb.publications[one]
    return _STYLES[style](chosen)


def cited(value: Any, kb: KB) -> dict[str, dict[str, Any]]:
    """Return what is needed to cite the publications that plain data names, in the order they come.

    Args:
        value: JSON-like data; every string in it that is the id of a publication counts.
        kb: The knowledge base.

    Returns:
        Publication id to its title, first author, year, DOI, arXiv id and address.
    """
    found = {}
    for one in _named(value, kb):
        paper = kb.publications[one]
        fields = paper.model_dump(include={"title", "first_author", "year", "doi", "arxiv"})
        found[one] = {**fields, "link": paper.link}
    return found


def _named(value: Any, kb: KB) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return list(dict.fromkeys(one for item in value for one in _named(item, kb)))
    return [value] if isinstance(value, str) and value in kb.publications else []


def _bibtex(chosen: Mapping[str, Publication]) -> str:
    return "\n".join(_bibtex_entry(key, publication) for key, publication in chosen.items())


def _bibtex_entry(key: str, publication: Publication) -> str:
    fields = {
        "author": f"{_bibtex_name(publication.first_author)} and others" if publication.first_author else None,
        "title": "{" + _tex(publication.title) + "}",  # braces keep the capitals
        "year": publication.year,
        ("journal" if publication.doi else "howpublished"): publication.venue and _tex(publication.venue),
        "doi": publication.doi,
        "eprint": publication.arxiv,
        "eprinttype": "arxiv" if publication.arxiv else None,
        "url": publication.link,
    }
    kind = "article" if publication.doi else "misc"
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}", ""])


def _bibtex_name(name: str) -> str:
    """Write a name so that a surname of several words without a given name stays whole."""
    return _tex(name) if "," in name or " " not in name else "{" + _tex(name) + "}"


_TEX = str.maketrans({c: f"\\{c}" for c in "&%$#_"} | {"{": "\\{", "}": "\\}", "\\": "\\textbackslash ", "~": "\\~{}"})


def _tex(text: str) -> str:
    """Escape what TeX would read as an order; letters with accents stay UTF-8."""
    return text.translate(_TEX)


def _ris(chosen: Mapping[str, Publication]) -> str:
    import rispy

    class Plain(rispy.RisWriter):  # type: ignore[misc]
        def set_header(self, count: int) -> str:  # noqa: ARG002
            """Write no number above an entry: not every manager reads it."""
            return ""

    entries = []
    for key, publication in chosen.items():
        entry: dict[str, Any] = {
            "type_of_reference": "JOUR" if publication.doi else "GEN",
            "id": key,
            "authors": [publication.first_author] if publication.first_author else None,
            "title": publication.title,
            "year": str(publication.year) if publication.year else None,
            "secondary_title": publication.venue,
            "doi": publication.doi,
            "note": f"arXiv:{publication.arxiv}" if publication.arxiv else None,
            "urls": [publication.link],
        }
        entries.append({name: value for name, value in entry.items() if value})
    return str(rispy.dumps(entries, implementation=Plain))


def _csl(chosen: Mapping[str, Publication]) -> str:
    entries = []
    for key, publication in chosen.items():
        family, _, given = (publication.first_author or "").partition(", ")
        entry: dict[str, Any] = {
            "id": key,
            "type": "article-journal" if publication.doi else "article",
            "title": publication.title,
            "author": [{"family": family} | ({"given": given} if given else {})] if family else None,
            "issued": {"date-parts": [[publication.year]]} if publication.year else None,
            "container-title": publication.venue,
            "DOI": publication.doi,
            "URL": publication.link,
            "note": f"arXiv:{publication.arxiv}" if publication.arxiv else None,
        }
        entries.append({name: value for name, value in entry.items() if value})
    return json.dumps(entries, ensure_ascii=False, indent=2) + "\n"


_STYLES: dict[str, Callable[[Mapping[str, Publication]], str]] = {"bibtex": _bibtex, "ris": _ris, "csl": _csl}
