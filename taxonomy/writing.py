"""Entities as YAML files, always written in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from taxonomy.schema import KINDS, Part

WIDTH = 100
FLOW = 60
"""A list whose values are all shorter than this stands on one line."""


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
        scalars = all(isinstance(item, str | int | float) and len(str(item)) < FLOW for item in value)
        return _Flow(value) if scalars else [_styled(item) for item in value]
    return value


def dump(entity: Part) -> str:
    """Return the YAML text of an entity: fields in schema order, defaults left out, at most 120 columns."""
    return dump_fields(entity.model_dump(exclude_defaults=True))


def dump_fields(fields: dict[str, Any]) -> str:
    """Return the YAML text of fields that need not make a whole entity yet."""
    return str(
        yaml.dump(
            _styled(fields), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH, default_flow_style=False
        )
    )


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
