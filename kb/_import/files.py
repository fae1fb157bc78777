"""Read the entities that have a file already; writing is :mod:`taxonomy.writing`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from taxonomy.writing import dump, write

__all__ = ["dump", "existing", "read", "write"]


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file."""
    return dict(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))


def existing(kb: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Return the entities of one kind that have a file already, by id."""
    return {path.stem: read(path) for path in sorted((kb / kind).glob("*.yaml"))}
