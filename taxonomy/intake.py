"""A reference becomes a file of the knowledge base: read, look for doubles, propose, check, write.

A proposal is not an entity yet: what a person has to find out stands as :data:`TODO` in it and keeps it from passing
the check. The abstract helps to find words and is never stored.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from taxonomy.checks import Problem, file_of, find_problems, plain_title
from taxonomy.documents import read_entity
from taxonomy.errors import AtlasError, KBError
from taxonomy.schema import Id, Publication
from taxonomy.writing import dump, dump_fields

if TYPE_CHECKING:
    from taxonomy.loader import KB

TODO = "TODO"
"""Stands where a person must write; no field of the schema takes it."""

ALIKE = 0.86
"""Titles at least this alike (0 to 1) may be one paper."""

LONG = 30
"""Letters of a title that says enough to be looked for inside another."""

_DOI = re.compile(r"10\.\d{4,9}/[^\s\"<>{}|\\^`]+")
_ARXIV = re.compile(
    r"(?:arxiv[:./\s]*(?:org/)?(?:abs/|pdf/|html/)?)(\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})", re.IGNORECASE
)
_BARE_ARXIV = re.compile(r"^\s*(\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?:v\d+)?\s*$")
_URL = re.compile(r"https?://[^\s<>\"]+")
_YEAR = re.compile(r"\b(19[5-9]\d|20\d\d)\b")
_ID = re.compile(get_args(Id)[1].pattern)
_WORD = r"[A-ZÀ-Þ][\w'’-]+"
_INITIALS = r"(?:[A-ZÀ-Þ]\.?[ -]?){1,4}(?![\w'’])"
_NAME = (
    rf"(?:(?:[a-z]+ ){{0,3}}{_WORD}(?: {_WORD})?,? {_INITIALS}"  # Selvaraju RR; Selvaraju, R. R.
    rf"|{_WORD}, {_WORD}(?: {_INITIALS})?"  # Selvaraju, Ramprasaath R.
    rf"|(?:[A-ZÀ-Þ]\.[ -]?){{1,4}}(?:[a-z]+ )*{_WORD})"  # R. R. Selvaraju
)
_AUTHORS = re.compile(
    rf"(?P<first>{_NAME})(?:\s*(?:[,;]|,?\s*(?:and|&))\s+{_NAME})*(?:\s*[,;&]?\s*(?:…|\.\.\.)\s*{_NAME})?"
    r"(?:,?\s+et al\.?)?[.,:]?\s*(?:\((?:19|20)\d\d[^)]*\)[.,:]?|(?:19|20)\d\d[.,:;])?\s*"
)
"""Names before a title, as the styles APA, Vancouver, Chicago and IEEE write them, with the year where it follows."""
_TITLE = re.compile(r"(.{15,}?)(?<!\s[A-Z])(?:[.?!](?=\s|$)|$)")
_IN_BRACES = re.compile(r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}\s*(?:and\s|$)")
_TEX_MARK = re.compile(r"[{}]|\\(?=[&%$#_])")
_SMALL = {"a", "an", "the", "of", "for", "on", "in", "and", "to", "with", "from", "by", "using", "via", "is", "are"}


@dataclass(frozen=True)
class Reference:
    """What a citation says of a paper; what it does not say is None."""

    title: str | None = None
    year: int | None = None
    first_author: str | None = None
    """As "Surname, Given"."""
    venue: str | None = None
    doi: str | None = None
    arxiv: str | None = None
    url: str | None = None
    abstract: str | None = None


@dataclass(frozen=True)
class Understood:
    """Words of the knowledge base that a title and abstract name; see ``recommender.intake``."""

    modalities: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    task: str | None = None
    architecture: str | None = None
    anatomy: str | None = None


class Double(NamedTuple):
    """A publication that may be the same paper."""

    publication: str
    why: str
    certain: bool


@dataclass(frozen=True)
class Proposal:
    """A file that a person completes."""

    id: str
    yaml: str
    doubles: tuple[Double, ...]
    open: tuple[str, ...]
    """What the person has to find out, as sentences."""


# --- reading references ----------------------------------------------------------------------------------------------


def read_references(text: str) -> list[Reference]:
    """Read references in BibTeX, RIS or CSL-JSON, or one pasted as text, DOI, arXiv id or address.

    Raises:
        AtlasError: Nothing that names a paper is in the text.
    """
    stripped = text.removeprefix("\ufeff").strip()
    if not stripped:
        raise AtlasError("no reference was given: paste BibTeX, RIS, CSL-JSON, a DOI, an arXiv id or a citation")
    if stripped[0] in "[{" and (found := _csl(stripped)) is not None:
        return found
    if re.search(r"^\s*@\w+\s*[{(]", stripped, re.MULTILINE):
        return _bibtex(stripped)
    if re.search(r"^TY  - ", stripped, re.MULTILINE):
        return _ris(stripped)
    return [_pasted(stripped)]


def _bibtex(text: str) -> list[Reference]:
    import bibtexparser
    from bibtexparser.middlewares import LatexDecodingMiddleware

    library = bibtexparser.parse_string(  # type: ignore[attr-defined]
        text, append_middleware=[LatexDecodingMiddleware()]
    )
    if library.failed_blocks:
        block = library.failed_blocks[0]
        line = (block.start_line or 0) + 1
        raise AtlasError(
            f"line {line} is not BibTeX ({block.error}); write each entry as @article{{key, title = {{…}}}}"
        )
    found = []
    # decoding drops braces, and these tell the name of a group from that of a person
    raw = bibtexparser.parse_string(text)  # type: ignore[attr-defined]
    for entry, undecoded in zip(library.entries, raw.entries, strict=True):
        given = {field.key.lower(): _one_line(str(field.value)) for field in entry.fields}
        eprint = (
            given.get("eprint")
            if "arxiv" in (given.get("eprinttype", "") + given.get("archiveprefix", "")).lower()
            else None
        )
        found.append(
            _reference(
                title=given.get("title"),
                year=given.get("year") or given.get("date"),
                author=_bibtex_author(given.get("author"), undecoded.get("author")),
                venue=given.get("journal")
                or given.get("journaltitle")
                or given.get("booktitle")
                or (None if _URL.search(given.get("howpublished", "")) else given.get("howpublished")),
                doi=given.get("doi"),
                arxiv=eprint,
                url=given.get("url"),
                abstract=given.get("abstract"),
                rest=" ".join((given.get("note", ""), given.get("howpublished", ""), given.get("journal", ""))),
            )
        )
    if not found:
        raise AtlasError("the BibTeX has no entry: write at least one as @article{key, title = {…}}")
    return found


def _bibtex_author(authors: str | None, undecoded: Any) -> str | None:
    """Return the first author of BibTeX as "Surname, Given"; what stands in braces is one surname."""
    if not authors:
        return None
    first = _one_line(re.split(r"\s+and\s+", authors)[0])
    if undecoded is not None and (whole := _IN_BRACES.match(str(undecoded.value))):
        return first if first.count(" ") == whole[1].count(" ") else _one_line(_TEX_MARK.sub("", whole[1]))
    return _surname_first(first)


def _surname_first(name: str) -> str | None:
    """Write "Ludwig van der Berg" as "van der Berg, Ludwig"; small words belong to the surname."""
    if name.casefold() in ("", "others", "et al."):
        return None
    words = name.split()
    if "," in name or len(words) == 1:
        return name
    start = next((i for i, word in enumerate(words[:-1]) if word[0].islower()), len(words) - 1)
    surname, given = " ".join(words[start:]), " ".join(words[:start])
    return f"{surname}, {given}" if given else surname


def _ris(text: str) -> list[Reference]:
    import rispy

    try:
        entries = rispy.loads(text)
    except (OSError, ValueError, KeyError) as error:
        raise AtlasError(f"this RIS cannot be read ({error}); each entry begins with TY and ends with ER") from error
    found = []
    for given in entries:
        authors = given.get("authors") or given.get("first_authors") or [None]
        found.append(
            _reference(
                title=given.get("title") or given.get("primary_title"),
                year=given.get("year") or given.get("publication_year"),
                author=authors[0],
                venue=given.get("secondary_title") or given.get("journal_name") or given.get("alternate_title3"),
                doi=given.get("doi"),
                url=next(iter(given.get("urls", [])), None),
                abstract=given.get("abstract"),
                rest=" ".join(map(str, (given.get("note", ""), given.get("notes", "")))),
            )
        )
    if not found:
        raise AtlasError("the RIS has no entry: each begins with TY and ends with ER")
    return found


def _csl(text: str) -> list[Reference] | None:
    """Read CSL-JSON; None when the text is no JSON at all."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        return None
    rows = data if isinstance(data, list) else [data]
    found = []
    for given in rows:
        if not isinstance(given, dict) or not (given.get("title") or given.get("DOI")):
            raise AtlasError("this JSON is no CSL-JSON: a list of objects with title, author, issued and DOI is read")
        author = _first(given.get("author"))
        if isinstance(author, dict):
            author = author.get("literal") or ", ".join(filter(None, (author.get("family"), author.get("given"))))
        found.append(
            _reference(
                title=_word(given.get("title")),
                year=json.dumps(given.get("issued")),
                author=_word(author),
                venue=_word(given.get("container-title")),
                doi=_word(given.get("DOI")),
                url=_word(given.get("URL")),
                abstract=_word(given.get("abstract")),
                rest=str(given.get("note", "")),
            )
        )
    return found


def _first(value: Any) -> Any:
    """Return the first of a list; services write lists where CSL-JSON has one value, and the reverse."""
    return next(iter(value), None) if isinstance(value, list) else value


def _word(value: Any) -> str | None:
    found = _first(value)
    return str(found) if found else None


def _pasted(text: str) -> Reference:
    """Read a citation as people paste it: names, a title, a year, a DOI, an arXiv id, an address."""
    doi, arxiv = _DOI.search(text), _ARXIV.search(text) or _BARE_ARXIV.match(text)
    url = _URL.search(text)
    years = _YEAR.findall(_URL.sub(" ", _DOI.sub(" ", _ARXIV.sub(" ", text))))
    line = _one_line(text)
    authors = _AUTHORS.match(line)
    title = re.search(r"[“\"]([^”\"]{15,})[”\"]", line) or (_TITLE.match(line, authors.end()) if authors else None)
    words = title[1].rstrip(" .,") if title else None
    if not (words or doi or arxiv or url):
        words = line
        if len(words.split()) < 3:  # noqa: PLR2004 - a word or two is no title
            raise AtlasError(f"no paper is named by {words!r}: paste its DOI, arXiv id, address or whole citation")
    return _reference(
        title=words,
        year=years[-1] if years else None,
        author=_comma_first(authors["first"]) if authors and title else None,
        doi=doi[0] if doi else None,
        arxiv=arxiv[1] if arxiv else None,
        url=url[0] if url else None,
    )


def _comma_first(name: str) -> str:
    """Write "Selvaraju RR" and "R. R. Selvaraju" as "Selvaraju, R. R."; a name that has its comma stays."""
    if "," in name:
        return name.strip()
    if name[1] == ".":
        return str(_surname_first(name.strip()))
    surname, _, initials = name.strip().rpartition(" ")
    return f"{surname}, {' '.join(f'{letter}.' for letter in initials if letter.isalpha())}"


def _reference(
    *,
    title: str | None = None,
    year: Any = None,
    author: str | None = None,
    venue: str | None = None,
    doi: str | None = None,
    arxiv: str | None = None,
    url: str | None = None,
    abstract: str | None = None,
    rest: str = "",
) -> Reference:
    """Clean the fields of a citation: bare DOI and arXiv id in their places, one author, no braces."""
    found_doi = _DOI.search(" ".join(filter(None, (doi, url))))
    clean = found_doi[0].rstrip(".,;)") if found_doi else None
    if found_doi and found_doi[0].count("(") == found_doi[0].count(")"):
        clean = found_doi[0].rstrip(".,;")
    found_arxiv = _ARXIV.search(" ".join(filter(None, (clean, url, rest))))
    identifier = re.sub(r"v\d+$", "", arxiv.strip()) if arxiv else found_arxiv[1] if found_arxiv else None
    if clean and clean.casefold().startswith("10.48550/arxiv."):
        identifier, clean = identifier or clean[15:], None
    digits = _YEAR.search(str(year or ""))
    return Reference(
        title=_one_line(title.replace("{", "").replace("}", "")).rstrip(".") if title else None,
        year=int(digits[0]) if digits else None,
        first_author=_one_line(author) if author else None,
        venue=_one_line(venue) if venue and "arxiv" not in venue.casefold() else None,
        doi=clean,
        arxiv=identifier,
        url=url if url and not (clean or identifier) else None,
        abstract=_one_line(abstract) if abstract else None,
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- doubles and proposals -------------------------------------------------------------------------------------------


def doubles(reference: Reference, kb: KB) -> list[Double]:
    """Return publications that may be the same paper: by DOI, arXiv id or whole title for certain, else as likely."""
    found = []
    title = plain_title(reference.title) if reference.title else ""
    for pub_id, publication in kb.publications.items():
        if reference.doi and publication.doi and reference.doi.casefold() == publication.doi.casefold():
            found.append(Double(pub_id, "the same DOI", certain=True))
        elif reference.arxiv and reference.arxiv == publication.arxiv:
            found.append(Double(pub_id, "the same arXiv id", certain=True))
        elif title:
            other = plain_title(publication.title)
            matcher = SequenceMatcher(None, title, other, autojunk=False)
            if title == other:
                found.append(Double(pub_id, "the same title", certain=True))
            elif len(other) >= LONG and other in title:
                found.append(Double(pub_id, "a title that stands in this one", certain=False))
            elif matcher.real_quick_ratio() >= ALIKE and matcher.quick_ratio() >= ALIKE and matcher.ratio() >= ALIKE:
                found.append(Double(pub_id, f"a title that is {matcher.ratio():.0%} alike", certain=False))
    return sorted(found, key=lambda one: (not one.certain, one.publication))


def propose(reference: Reference, kb: KB, understood: Understood | None = None) -> Proposal:
    """Return the file of a publication as far as a reference says it, for a person to complete.

    Args:
        reference: The paper.
        kb: The knowledge base it would enter.
        understood: What its title and abstract name; without it nothing is filled in.

    Returns:
        The proposal; its YAML does not pass :func:`checked` before every :data:`TODO` is replaced.
    """
    known = understood or Understood()
    fields: dict[str, Any] = {"title": reference.title or TODO, "year": reference.year}
    for name in ("first_author", "venue", "doi", "arxiv", "url"):
        if value := getattr(reference, name):
            fields[name] = value
    fields |= {
        "read": TODO,
        "study": {
            "modalities": list(known.modalities) or [TODO],
            "anatomy": known.anatomy,
            "task": known.task,
            "architecture": known.architecture,
            "dims": None,
        },
        "methods": list(known.methods) or [TODO],
        "clinicians": None,
        "claims": [{"methods": list(known.methods[:1]) or [TODO], "criterion": TODO, "outcome": TODO, "text": TODO}],
    }
    missing = ["say what you read: fulltext, abstract or title", "say what it found, in a sentence of your own"]
    if not reference.title:
        missing.insert(0, "give the title")
    if not (reference.doi or reference.arxiv or reference.url):
        missing.append("give a doi, an arxiv id or a url")
    if not known.modalities:
        missing.append(f"name the modalities: {', '.join(sorted(kb.modalities))}")
    if not known.methods:
        missing.append("name the methods it used, by their ids")
    return Proposal(_new_id(reference, kb), dump_fields(fields), tuple(doubles(reference, kb)), tuple(missing))


def _new_id(reference: Reference, kb: KB) -> str:
    """Return an id made of first author, year and a telling word, which nothing has yet."""
    words = [w for w in _ascii(plain_title(reference.title or "untitled")).split() if w not in _SMALL]
    author = _ascii(plain_title((reference.first_author or "").partition(",")[0]))
    parts = [author or None, str(reference.year) if reference.year else None, *(words[:1] if author else words[:3])]
    base = re.sub(r"[^a-z0-9]+", "_", " ".join(filter(None, parts))).strip("_") or "publication"
    base = base if base[0].isalpha() else f"p_{base}"
    taken = {entity_id for entities in kb.kinds().values() for entity_id in entities}
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name


def _ascii(text: str) -> str:
    return text.encode("ascii", "ignore").decode()


# --- checking and writing --------------------------------------------------------------------------------------------


def checked(publication_id: str, text: str, kb: KB) -> tuple[Publication | None, list[str]]:
    """Check a completed proposal as the loader and all rules would.

    Returns:
        The publication, None where it cannot be read at all, and every problem as
        ``file:line: field: given: allowed``; no problem means that it may be written.
    """
    file = file_of("publications", publication_id)
    if not _ID.fullmatch(publication_id):
        allowed = "an id: lower-case letters, digits and single underscores, first a letter"
        return None, [str(Problem(file, (), publication_id or "nothing", allowed, 1))]
    _, entity, problems = read_entity(file, text.encode())
    for number, line in enumerate(text.splitlines(), start=1):
        if re.search(rf"(?<!\w){TODO}(?!\w)", line) and not any(problem.line == number for problem in problems):
            problems.append(Problem(file, (), TODO, "what you found out, or null where a field may be null", number))
    if problems or not isinstance(entity, Publication):
        return None, [str(problem) for problem in problems]
    if publication_id in kb.publications:
        return entity, [f"{file}:1: file: {publication_id}: an id that nothing has yet"]
    with_it = replace(kb, publications={**kb.publications, publication_id: entity})
    new = find_problems(with_it, fatal=True)
    if not new:  # the other rules rely on these
        before = {(p.file, p.field, p.given) for p in find_problems(kb, fatal=False)}
        new = [p for p in find_problems(with_it, fatal=False) if (p.file, p.field, p.given) not in before]
    return entity, [str(_placed(problem, file, text)) for problem in new]


def _placed(problem: Problem, file: str, text: str) -> Problem:
    """Give a problem of our file its line."""
    from taxonomy.documents import Document

    return replace(problem, line=Document(file, text.encode()).line(problem.field)) if problem.file == file else problem


def write(publication_id: str, text: str, kb: KB, folder: Path | None = None) -> Path:
    """Write a completed proposal into a knowledge base, in the form that all its files have; remarks are not kept.

    Args:
        publication_id: Its id, the stem of the file.
        text: Its YAML.
        kb: The knowledge base it enters.
        folder: The folder of the knowledge base, by default the one it was loaded from.

    Raises:
        KBError: With every problem; nothing is written then.
        AtlasError: The file exists or cannot be written.
    """
    entity, problems = checked(publication_id, text, kb)
    if problems or entity is None:
        raise KBError(problems)
    target = (folder or kb.root) / "publications" / f"{publication_id}.yaml"
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(dump(entity))
    except FileExistsError:
        raise AtlasError(f"{target} exists: choose another id, or change that file") from None
    except OSError as error:
        raise AtlasError(f"cannot write {target}: {error.strerror}; give a folder you may write to") from error
    return target
