"""What exists: the knowledge base of explanation methods for biomedical images, and its graph.

``load_kb()`` reads and checks the YAML files; the schema is in :mod:`taxonomy.schema`. Neither torch nor networkx is
imported here; the graph imports networkx when it is first asked for.
"""

from __future__ import annotations

from taxonomy import measured, trust
from taxonomy.errors import (
    AtlasError,
    ImageError,
    KBError,
    ModelError,
    RequirementError,
    TargetError,
    UnknownIdError,
)
from taxonomy.loader import KB, load_kb
from taxonomy.requirements import Gap, Profile, conditions, gaps


def check(kb: KB) -> list[str]:
    """Return every rule that a loaded knowledge base breaks, as ``file:line: field: given: allowed``.

    What was measured is checked too, by its file and what is wrong.
    """
    return [*kb.problems(), *measured.check(kb), *trust.check(kb)]


__all__ = [
    "KB",
    "AtlasError",
    "Gap",
    "ImageError",
    "KBError",
    "ModelError",
    "Profile",
    "RequirementError",
    "TargetError",
    "UnknownIdError",
    "check",
    "conditions",
    "gaps",
    "load_kb",
]
