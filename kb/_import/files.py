"""Write entities of the knowledge base as YAML, always in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from taxonomy.schema import KINDS, Part

WIDTH = 100


class _Flow(list[Any]):
    """A list of short scalars, written on one line."""


class _Dumper(yaml.SafeDumper):
    """Indented lists, no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


_Dumper.add_representer(
    _Flow, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)


def _styled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _styled(item) for key, item in value.items()}
    if isinstance(value, list):
        scalars = all(isinstance(item, str | int | float) and len(str(item)) < 60 for item in value)
        return _Flow(value) if scalars else [_styled(item) for item in value]
    return value


def dump(entity: Part) -> str:
    """Return the YAML text of an entity: fields in schema order, defaults left out, at most 120 columns."""
    data = entity.model_dump(exclude_defaults=True)
    return yaml.dump(
        _styled(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH, default_flow_style=False
    )


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file."""
    return dict(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))


def existing(kb: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Return the entities of one kind that have a file already, by id."""
    return {path.stem: read(path) for path in sorted((kb / kind).glob("*.yaml"))}


def write(kb: Path, kind: str, entity_id: str, fields: dict[str, Any]) -> bool:
    """Validate and write one entity unless its file exists; return True when it was written.

    Raises:
        pydantic.ValidationError: When the fields break the schema.
    """
    path = kb / kind / f"{entity_id}.yaml"
    if path.exists():
        return False
    entity = KINDS[kind].model_validate({"id": entity_id, **fields})
    path.parent.mkdir(exist_ok=True)
    path.write_text(dump(entity), encoding="utf-8")
    return True
