"""Read the knowledge base: strictly, all problems at once, cached by content.

Every problem is told as ``file:line: field: what was given: what is allowed``; how one file is read is in
:mod:`taxonomy.documents`, what must hold between files in :mod:`taxonomy.checks`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import pydantic

from taxonomy import checks, schema
from taxonomy.checks import ABOUT, VOCABULARY, Problem
from taxonomy.errors import KBError, UnknownIdError
from taxonomy.schema import (
    KINDS,
    About,
    Challenge,
    Method,
    Metric,
    Modality,
    Part,
    Publication,
    Tool,
    Vocabulary,
)

if TYPE_CHECKING:
    import networkx

    from taxonomy.graph import Index

log = logging.getLogger(__name__)

AnyEntity: TypeAlias = Method | Modality | Challenge | Metric | Tool | Publication
MEASURED = "measured"
DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / "kb"


class _Content(Part):
    """All files of a knowledge base as one value: what the cache holds and validates."""

    vocabulary: Vocabulary
    methods: dict[str, Method]
    modalities: dict[str, Modality]
    challenges: dict[str, Challenge]
    metrics: dict[str, Metric]
    tools: dict[str, Tool]
    publications: dict[str, Publication]
    about: About = About()


@dataclass(frozen=True, eq=False)
class KB:
    """The knowledge base: one mapping from id to entity for each kind, and the vocabulary."""

    root: Path
    vocabulary: Vocabulary
    methods: Mapping[str, Method]
    modalities: Mapping[str, Modality]
    challenges: Mapping[str, Challenge]
    metrics: Mapping[str, Metric]
    tools: Mapping[str, Tool]
    publications: Mapping[str, Publication]
    about: About = field(default_factory=About)
    digest: str = ""
    """SHA-256 over the names and contents of all files: equal digests are equal knowledge bases."""

    def kinds(self) -> dict[str, Mapping[str, AnyEntity]]:
        """The entities by kind, in the order of the schema."""
        return {kind: getattr(self, kind) for kind in KINDS}

    def words(self) -> dict[str, Mapping[str, schema.Word]]:
        """The vocabulary's lists by name: branches, families, tasks, architectures and so on."""
        return {name: getattr(self.vocabulary, name) for name in Vocabulary.model_fields}

    @cached_property
    def _kind_of(self) -> dict[str, str]:
        return {entity_id: kind for kind, entities in self.kinds().items() for entity_id in entities}

    def kind(self, entity_id: str) -> str:
        """The kind of an id, e.g. "methods".

        Raises:
            UnknownIdError: No entity has this id.
        """
        try:
            return self._kind_of[entity_id]
        except KeyError:
            raise UnknownIdError(entity_id, self._kind_of) from None

    def get(self, entity_id: str) -> AnyEntity:
        """The entity of an id, whatever its kind.

        Raises:
            UnknownIdError: No entity has this id.
        """
        entity: AnyEntity = getattr(self, self.kind(entity_id))[entity_id]
        return entity

    def branch(self, method_id: str) -> schema.Branch:
        """The branch of a method, which follows from its family.

        Raises:
            UnknownIdError: No method has this id.
        """
        if method_id not in self.methods:
            raise UnknownIdError(method_id, self.methods, "method")
        return self.vocabulary.families[self.methods[method_id].family].branch

    @cached_property
    def _ids_by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for entities in self.kinds().values():
            for entity_id, entity in entities.items():
                translations = getattr(entity, "translations", {})
                names = [entity_id, entity.name, *getattr(entity, "aliases", ()), *sum(translations.values(), [])]
                for name in dict.fromkeys(map(_plain_name, names)):
                    found[name].append(entity_id)
        return found

    def called(self, text: str) -> list[str]:
        """The ids of everything with this id, name, alias or translation; case, spaces and hyphens do not matter."""
        return list(self._ids_by_name.get(_plain_name(text), ()))

    def find_by_name(self, text: str, kind: str | None = None) -> str:
        """The id that an id, a name, an alias or a translation means; case, spaces and hyphens do not matter.

        Args:
            text: What a person typed.
            kind: Look only among one kind, e.g. "methods".

        Raises:
            UnknownIdError: Nothing has this name, or several entities do; the message names the nearest.
        """
        names = self._ids_by_name
        hits = [i for i in self.called(text) if kind in (None, self._kind_of[i])]
        if len(hits) == 1:
            return hits[0]
        if text in hits:
            return text
        near = hits or [i for i, k in self._kind_of.items() if kind in (None, k)]
        if not hits:
            close = get_close_matches(_plain_name(text), names, n=5, cutoff=0.6)
            near = [i for name in close for i in names[name] if kind in (None, self._kind_of[i])][:5] or near
        raise UnknownIdError(text, near, kind or "name")

    def problems(self) -> list[str]:
        """Every rule of :mod:`taxonomy.checks` that this knowledge base breaks, one line each."""
        return [str(p) for p in _located(self.root, checks.find_problems(self))]

    @cached_property
    def index(self) -> Index:
        """Plain look-up tables over claims and links, built once."""
        from taxonomy.graph import Index

        return Index.of(self)

    @cached_property
    def graph(self) -> networkx.MultiDiGraph[str]:
        """The knowledge base as a graph, built once; see :func:`taxonomy.graph.build`."""
        from taxonomy.graph import build

        return build(self)


def _plain_name(text: str) -> str:
    return re.sub(r"[\s_\-]+", "", text.casefold())


# --- finding the files -----------------------------------------------------------------------------------------------


_ID = re.compile(get_args(schema.Id)[1].pattern)


def _files(root: Path) -> tuple[dict[str, bytes], list[Problem]]:
    """Return the content of every file by path relative to the root, and the files that should not be there.

    Names that begin with an underscore or a dot are left alone at both levels; so are Markdown at the top and what was
    measured, which :mod:`taxonomy.measured` reads.
    """
    found: dict[str, bytes] = {}
    problems = []
    for entry in _listed(root):
        if entry.is_dir():
            if entry.name == MEASURED:
                continue
            if entry.name not in KINDS:
                problems.append(Problem(entry.name, (), "a folder", f"a folder for a kind: {', '.join(KINDS)}", 1))
                continue
            for file in _listed(root / entry.name):
                relative = f"{entry.name}/{file.name}"
                stem, suffix = os.path.splitext(file.name)
                if suffix != ".yaml" or not _ID.fullmatch(stem) or not file.is_file():
                    allowed = "<id>.yaml, the id in lower-case letters, digits and single underscores"
                    problems.append(Problem(relative, (), file.name, allowed, 1))
                else:
                    found[relative] = _content(file.path)
        elif entry.name in (VOCABULARY, ABOUT):
            found[entry.name] = _content(entry.path)
        elif not entry.name.endswith(".md"):
            problems.append(Problem(entry.name, (), entry.name, f"{VOCABULARY}, {ABOUT} and folders of <id>.yaml", 1))
    if VOCABULARY not in found:
        problems.append(Problem(VOCABULARY, (), "missing", "a file with branches, families, tasks, …", 1))
    return found, problems


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if e.name[0] not in "._"), key=lambda e: e.name)


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _located(root: Path, problems: Sequence[Problem]) -> list[Problem]:
    """Look up the lines of problems that rules found, and sort all by place."""
    from taxonomy.documents import Document

    documents: dict[str, Document] = {}
    found = []
    for problem in problems:
        if not problem.line:
            if problem.file not in documents:
                documents[problem.file] = Document(problem.file, (root / problem.file).read_bytes())
            problem = replace(problem, line=documents[problem.file].line(problem.field))
        found.append(problem)
    return sorted(found, key=lambda p: (p.file, p.line))


def _read(root: Path, files: Mapping[str, bytes], problems: list[Problem]) -> tuple[KB, dict[str, Any]]:
    """Read all files into a knowledge base and the plain values behind it, or raise every problem."""
    from taxonomy.documents import read_entity

    plain: dict[str, Any] = {kind: {} for kind in KINDS}
    entities: dict[str, Any] = {kind: {} for kind in KINDS}
    broken = set()
    for file, content in files.items():
        value, entity, wrong = read_entity(file, content)
        problems += wrong
        if file in (VOCABULARY, ABOUT):
            name = file.removesuffix(".yaml")
            plain[name] = value
            if entity is not None:
                entities[name] = entity
            continue
        kind, stem = file.removesuffix(".yaml").split("/")
        if entity is None:
            broken.add(stem)
        else:
            plain[kind][stem], entities[kind][stem] = value, entity
    kb = None
    if entities.get("vocabulary") is not None:
        kb = KB(root=root, digest=_digest(files), **entities)
        # a file that does not read is one problem, not one more for every file that names it
        problems += [p for p in checks.find_problems(kb, fatal=True) if p.given not in broken]
    if problems or kb is None:
        raise KBError([str(p) for p in _located(root, problems)])
    return kb, plain


# --- the cache -------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """The folder for what can be made again: XAI_ATLAS_CACHE, else ``xai-atlas`` in the user's cache folder."""
    if given := os.environ.get("XAI_ATLAS_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "xai-atlas"


def _digest(files: Mapping[str, bytes]) -> str:
    """A digest of all file names and contents."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"\0{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _key(digest: str) -> bytes:
    """A digest of the content and of the code that gives it meaning."""
    code = hashlib.sha256(f"{pydantic.VERSION} {digest}".encode())
    for module in (schema.__file__, checks.__file__, __file__):
        code.update(_content(module))
    return code.hexdigest().encode()


def _cache_file(root: Path) -> Path:
    # one file a folder: a new content replaces the old, so the cache does not grow
    return cache_folder() / f"kb-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"


def _from_cache(root: Path, key: bytes, digest: str) -> KB | None:
    try:
        with open(_cache_file(root), "rb") as file:
            if file.readline().rstrip() != key:
                return None
            content = _Content.model_validate_json(file.read())
    except (OSError, RuntimeError, pydantic.ValidationError) as error:  # no cache or a damaged one: read the files
        log.debug("knowledge base not taken from the cache: %s", error)
        return None
    return KB(root=root, digest=digest, **{name: getattr(content, name) for name in _Content.model_fields})


def _to_cache(root: Path, key: bytes, plain: Mapping[str, Any]) -> None:
    try:
        target = _cache_file(root)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".kb-")
        try:
            with open(descriptor, "wb") as file:
                file.write(key + b"\n" + json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode())
            os.replace(name, target)  # whole or not at all, also with two processes
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder. A cache is a help, not a duty
        log.debug("knowledge base not cached: %s", error)


_loaded: dict[Path, tuple[bytes, KB]] = {}


def load_kb(path: str | os.PathLike[str] | None = None) -> KB:
    """Load a knowledge base.

    The files are read and compared by content at every call; only when they changed are they parsed again.

    Args:
        path: The folder; by default the one that stands beside the ``taxonomy`` package.

    Raises:
        KBError: With every problem of every file.
    """
    root = Path(path if path is not None else DEFAULT_FOLDER).resolve()
    if not root.is_dir():
        raise KBError([f"{root}: not a folder: give the folder that holds {VOCABULARY} and {', '.join(KINDS)}"])
    files, problems = _files(root)
    digest = _digest(files)
    key = _key(digest)
    if not problems:
        known = _loaded.get(root)
        if known and known[0] == key:
            return known[1]
        if kb := _from_cache(root, key, digest):
            _loaded[root] = (key, kb)
            return kb
    kb, plain = _read(root, files, problems)
    _to_cache(root, key, plain)
    _loaded[root] = (key, kb)
    return kb
