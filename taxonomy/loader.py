"""Read the knowledge base: strictly, all problems at once, cached by content.

YAML is read as the YAML 1.2 core types and no more: ``yes`` is a word, a date is a word, a duplicate key, an alias or a
tag is an error. Every problem is told as ``file:line: field: what was given: what is allowed``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
import types
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union, get_args, get_origin

import pydantic
import yaml

from taxonomy import checks, schema
from taxonomy.checks import VOCABULARY, Field, Problem
from taxonomy.errors import KBError, UnknownIdError
from taxonomy.schema import (
    KINDS,
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

try:
    from yaml import CSafeLoader as _Yaml
except ImportError:  # PyYAML built without libyaml: slower, same result
    from yaml import SafeLoader as _Yaml  # type: ignore[assignment]

log = logging.getLogger(__name__)

AnyEntity: TypeAlias = Method | Modality | Challenge | Metric | Tool | Publication
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

    def find_by_name(self, text: str, kind: str | None = None) -> str:
        """The id that an id, a name, an alias or a translation means; case, spaces and hyphens do not matter.

        Args:
            text: What a person typed.
            kind: Look only among one kind, e.g. "methods".

        Raises:
            UnknownIdError: Nothing has this name, or several entities do; the message names the nearest.
        """
        names = self._ids_by_name
        hits = [i for i in names.get(_plain_name(text), ()) if kind in (None, self._kind_of[i])]
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


def _pattern(text_type: Any) -> str:
    """Return the pattern of one of the schema's annotated text types."""
    return str(text_type.__metadata__[0].pattern)


_ID = re.compile(_pattern(schema.Id))


def _files(root: Path) -> tuple[dict[str, bytes], list[Problem]]:
    """Return the content of every file by path relative to the root, and the files that should not be there.

    Names that begin with an underscore or a dot are left alone at both levels; so is Markdown at the top.
    """
    found: dict[str, bytes] = {}
    problems = []
    for entry in _listed(root):
        if entry.is_dir():
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
        elif entry.name == VOCABULARY:
            found[VOCABULARY] = _content(entry.path)
        elif not entry.name.endswith(".md"):
            problems.append(Problem(entry.name, (), entry.name, f"{VOCABULARY} and folders of <id>.yaml", 1))
    if VOCABULARY not in found:
        problems.append(Problem(VOCABULARY, (), "missing", "a file with branches, families, tasks, …", 1))
    return found, problems


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if e.name[0] not in "._"), key=lambda e: e.name)


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


# --- YAML to plain values --------------------------------------------------------------------------------------------

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)


class _Composer(_Yaml):
    """Composes nodes; untagged nodes get a tag of ours, so that every explicit tag shows."""

    def resolve(self, kind: type[yaml.Node], _value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return "plain" if implicit[0] else "quoted"
        return "list" if kind is yaml.SequenceNode else "mapping"


def _typed(text: str) -> Any:
    """A plain scalar as YAML 1.2's core schema reads it, within what JSON can hold."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


class _Document:
    """One YAML file: its value, and the line and node of every field for messages."""

    def __init__(self, file: str, content: bytes) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.places: dict[Field, tuple[int, yaml.Node]] = {}
        self.value: Any = None
        self._seen: set[int] = set()
        try:
            # decoded here, as libyaml would take bytes for UTF-16 where they begin with its mark
            node = _Composer(content.decode("utf-8")).get_single_node()
            if node is None:
                self._problem((), 1, "an empty file", "a mapping of fields to values")
            elif not isinstance(node, yaml.MappingNode):
                self._problem((), 1, _shown(node), "a mapping of fields to values")
            else:
                self.value = self._construct(node, (), 1)
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            self._problem((), line, f"byte 0x{content[error.start]:02x}", "UTF-8 text")
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            what = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
            self._problem((), mark.line + 1 if mark else 1, f"not YAML ({what})", "one YAML document")
        except RecursionError:
            self._problem((), 1, "values nested too deeply", "the fields of the schema")

    def _problem(self, field: Field, line: int, given: str, allowed: str) -> None:
        self.problems.append(Problem(self.file, field, given, allowed, line))

    def _construct(self, node: yaml.Node, at: Field, line: int) -> Any:
        self.places[at] = (line, node)
        if id(node) in self._seen:
            self._problem(at, line, "an alias (*)", "the value itself, written out")
            return None
        self._seen.add(id(node))
        if node.tag == "plain":
            return _typed(node.value)
        if node.tag == "quoted":
            return node.value
        if node.tag == "list":
            return [self._construct(n, (*at, i), n.start_mark.line + 1) for i, n in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == "mapping":
            return self._mapping(node, at)
        self._problem(at, line, f"the tag {node.tag}", "a value without a tag")
        return None

    def _mapping(self, node: yaml.MappingNode, at: Field) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if key_node.tag not in ("plain", "quoted"):
                self._problem(at, line, f"{_shown(key_node)} as a key", "a word as a key")
            elif key in value:
                first = self.places[(*at, key)][0]
                self._problem((*at, key), line, "a duplicate key", f"each key once; line {first} has it")
            else:
                value[key] = self._construct(value_node, (*at, key), line)
        return value

    def line(self, field: Field) -> int:
        """The line of a field, or of the nearest thing around it."""
        return self.places[self.known(field)][0] if self.places else 1

    def known(self, field: Field) -> Field:
        """The longest beginning of a field that stands in the file."""
        while field and field not in self.places:
            field = field[:-1]
        return field


def _shown(node: yaml.Node) -> str:
    """A node as a message shows it."""
    if isinstance(node, yaml.SequenceNode):
        return "a list" if node.value else "an empty list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    text = node.value if len(node.value) <= 80 else node.value[:77] + "…"
    text = text.strip().replace("\n", " ")
    if node.tag != "plain":
        return f'"{text}"'
    value = _typed(node.value)
    if value is None:
        return "null"
    kind = "true or false" if isinstance(value, bool) else "a number" if isinstance(value, (int, float)) else ""
    return f"{text} ({kind})" if kind else text


# --- plain values to entities ----------------------------------------------------------------------------------------

_TYPES = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of fields to values",
    "string_too_short": "text that is not empty",
}
_PATTERNS = {
    _pattern(schema.Id): "an id: lower-case letters, digits and single underscores, first a letter",
    _pattern(schema.Doi): "a DOI as 10.1234/abc, without https://doi.org/",
    _pattern(schema.Arxiv): 'an arXiv id in quotes as "1807.06420", without a version',
    _pattern(schema.Url): "an address that begins with http:// or https://",
}


def _allowed(error: Any, node: yaml.Node) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_type" and node.tag == "plain" and node.value and _typed(node.value) is not None:
        return f'text; if it is meant as text, put it in quotes: "{node.value}"'
    if kind in _TYPES:
        return _TYPES[kind]
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    if kind == "string_pattern_mismatch":
        return _PATTERNS[context["pattern"]]
    if kind == "too_short":
        return f"at least {context['min_length']} {'entry' if context['min_length'] == 1 else 'entries'}"
    if kind == "value_error":
        return str(context["error"])
    return str(error["msg"])


def _fields_at(model: Any, field: Field) -> list[str]:
    """The names of the fields that may stand in the mapping at ``field`` of a model."""
    for key in field:
        origin = get_origin(model)
        if origin in (Union, types.UnionType):  # the only unions with a mapping inside are "or null"
            model = next(a for a in get_args(model) if a is not type(None))
            origin = get_origin(model)
        model = model.model_fields[key].annotation if origin is None else get_args(model)[-1]
    return list(getattr(model, "model_fields", ()))


def _translated(document: _Document, error: pydantic.ValidationError, model: type[Part]) -> list[Problem]:
    """Say pydantic's errors in our form, one problem a field."""
    found: dict[tuple[Field, str], list[str]] = {}
    for item in error.errors(include_url=False):
        loc: Field = item["loc"]
        near = document.known(loc)
        node = document.places[near][1]
        if item["type"] == "missing":
            found[(loc, "missing")] = ["this field is required; write null where it is not known and may be"]
        elif item["type"] == "extra_forbidden":
            names = [n for n in _fields_at(model, loc[:-1]) if n != "id"]
            close = get_close_matches(str(loc[-1]), names, n=1)
            allowed = f"did you mean {close[0]}?" if close else f"one of {', '.join(names)}"
            found[(loc, "an unknown key")] = [allowed]
        else:  # a union reports each of its arms; together they say what is allowed
            found.setdefault((near, _shown(node)), []).append(_allowed(item, node))
    return [
        Problem(document.file, field, given, " or ".join(dict.fromkeys(allowed)), document.line(field))
        for (field, given), allowed in found.items()
    ]


def _entity(file: str, content: bytes) -> tuple[dict[str, Any], Part | None, list[Problem]]:
    """Read one file into its plain value and its entity; None where it has problems."""
    document = _Document(file, content)
    if document.value is None:
        return {}, None, document.problems
    if file == VOCABULARY:
        model: type[Part] = Vocabulary
    else:
        kind, stem = file.removesuffix(".yaml").split("/")
        model = KINDS[kind]
        if "id" in document.value:
            place = document.line(("id",))
            document.problems.append(Problem(file, ("id",), "an id", "no id line: the file's name is the id", place))
        document.value["id"] = stem
    entity = None
    try:
        entity = model.model_validate(document.value)
    except pydantic.ValidationError as error:
        document.problems += _translated(document, error, model)
    return document.value, None if document.problems else entity, document.problems


def _located(root: Path, problems: Sequence[Problem]) -> list[Problem]:
    """Look up the lines of problems that rules found, and sort all by place."""
    documents: dict[str, _Document] = {}
    found = []
    for problem in problems:
        if not problem.line:
            if problem.file not in documents:
                documents[problem.file] = _Document(problem.file, (root / problem.file).read_bytes())
            problem = replace(problem, line=documents[problem.file].line(problem.field))
        found.append(problem)
    return sorted(found, key=lambda p: (p.file, p.line))


def _read(root: Path, files: Mapping[str, bytes], problems: list[Problem]) -> tuple[KB, dict[str, Any]]:
    """Read all files into a knowledge base and the plain values behind it, or raise every problem."""
    plain: dict[str, Any] = {kind: {} for kind in KINDS}
    entities: dict[str, Any] = {kind: {} for kind in KINDS}
    broken = set()
    for file, content in files.items():
        value, entity, wrong = _entity(file, content)
        problems += wrong
        if file == VOCABULARY:
            plain["vocabulary"], entities["vocabulary"] = value, entity
            continue
        kind, stem = file.removesuffix(".yaml").split("/")
        if entity is None:
            broken.add(stem)
        else:
            plain[kind][stem], entities[kind][stem] = value, entity
    kb = None
    if entities.get("vocabulary") is not None:
        kb = KB(root=root, **entities)
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


def _key(files: Mapping[str, bytes]) -> bytes:
    """A digest of all file names and contents and of the code that gives them meaning."""
    digest = hashlib.sha256(pydantic.VERSION.encode())
    for module in (schema.__file__, checks.__file__, __file__):
        digest.update(_content(module))
    for name, content in files.items():
        digest.update(f"\0{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest().encode()


def _cache_file(root: Path) -> Path:
    # one file a folder: a new content replaces the old, so the cache does not grow
    return cache_folder() / f"kb-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"


def _from_cache(root: Path, key: bytes) -> KB | None:
    try:
        with open(_cache_file(root), "rb") as file:
            if file.readline().rstrip() != key:
                return None
            content = _Content.model_validate_json(file.read())
    except (OSError, RuntimeError, pydantic.ValidationError) as error:  # no cache or a damaged one: read the files
        log.debug("knowledge base not taken from the cache: %s", error)
        return None
    return KB(root=root, **{name: getattr(content, name) for name in _Content.model_fields})


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
    key = _key(files)
    if not problems:
        known = _loaded.get(root)
        if known and known[0] == key:
            return known[1]
        if kb := _from_cache(root, key):
            _loaded[root] = (key, kb)
            return kb
    kb, plain = _read(root, files, problems)
    _to_cache(root, key, plain)
    _loaded[root] = (key, kb)
    return kb
