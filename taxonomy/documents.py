"""One YAML file into one entity: strict reading, and messages that say where, what was given and what is allowed.

YAML is read as the YAML 1.2 core types and no more: ``yes`` is a word, a date is a word; a duplicate key, an alias or a
tag is an error. Apart from the loader, so that a load from the cache imports no YAML parser.
"""

from __future__ import annotations

import math
import re
import types
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

import pydantic
import yaml

from taxonomy import schema
from taxonomy.checks import ABOUT, VOCABULARY, Field, Problem
from taxonomy.schema import KINDS, About, Part, Vocabulary

try:
    from yaml import CSafeLoader as _Yaml
except ImportError:  # PyYAML built without libyaml: slower, same result
    from yaml import SafeLoader as _Yaml  # type: ignore[assignment]

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
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


class Document:
    """One YAML file: its value, and the line and node of every field for messages."""

    def __init__(self, file: str, content: bytes) -> None:
        """Read the file; what is wrong with its YAML stands in ``problems``."""
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
}
_PATTERNS = {
    get_args(schema.Text)[1].pattern: "text that is not empty",
    get_args(schema.Id)[1].pattern: "an id: lower-case letters, digits and single underscores, first a letter",
    get_args(schema.Doi)[1].pattern: "a DOI as 10.1234/abc, without https://doi.org/",
    get_args(schema.Arxiv)[1].pattern: 'an arXiv id in quotes as "1807.06420", without a version',
    get_args(schema.Url)[1].pattern: "an address that begins with http:// or https://",
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


def _translated(document: Document, error: pydantic.ValidationError, model: type[Part]) -> list[Problem]:
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


def read_entity(file: str, content: bytes) -> tuple[dict[str, Any], Part | None, list[Problem]]:
    """Read one file.

    Args:
        file: Its path relative to the knowledge base's folder, ``<kind>/<id>.yaml``, ``vocabulary.yaml``
            or ``about.yaml``.
        content: Its bytes.

    Returns:
        Its plain value with the id, its entity (None where there are problems), and the problems.
    """
    document = Document(file, content)
    if document.value is None:
        return {}, None, document.problems
    singles: dict[str, type[Part]] = {VOCABULARY: Vocabulary, ABOUT: About}
    if file in singles:
        model = singles[file]
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
        told = {problem.field for problem in document.problems}  # one problem a field: what YAML shows comes first
        document.problems += [p for p in _translated(document, error, model) if p.field not in told]
    return document.value, None if document.problems else entity, document.problems
