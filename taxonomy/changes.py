"""What changed between two knowledge bases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from taxonomy.schema import Part

if TYPE_CHECKING:
    from taxonomy.loader import KB


class Change(NamedTuple):
    """A field that has another value now."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Changes:
    """Kind (or list of the vocabulary) to what changed in it; kinds without a change are left out."""

    old: str
    """Version and the beginning of the digest."""
    new: str
    added: Mapping[str, tuple[str, ...]]
    removed: Mapping[str, tuple[str, ...]]
    changed: Mapping[str, Mapping[str, tuple[Change, ...]]]
    retracted: tuple[str, ...]
    """Publications that carry a retraction notice now and did not before."""

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.added or self.removed or self.changed)

    def as_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        data = asdict(self)
        data["changed"] = {
            kind: {entity_id: [change._asdict() for change in changes] for entity_id, changes in entities.items()}
            for kind, entities in self.changed.items()
        }
        return data


def diff(old: KB, new: KB) -> Changes:
    """Compare two knowledge bases, entity by entity and field by field."""
    before: dict[str, Mapping[str, Part]] = {**old.kinds(), **old.words()}
    after: dict[str, Mapping[str, Part]] = {**new.kinds(), **new.words()}
    added, removed, changed = {}, {}, {}
    for kind, entities in after.items():
        known = before[kind]
        if fresh := tuple(sorted(set(entities) - set(known))):
            added[kind] = fresh
        if gone := tuple(sorted(set(known) - set(entities))):
            removed[kind] = gone
        fields = {one: _fields(known[one], entities[one]) for one in sorted(set(entities) & set(known))}
        if different := {one: changes for one, changes in fields.items() if changes}:
            changed[kind] = different
    retracted = tuple(
        one
        for one, publication in new.publications.items()
        if publication.retracted and not (one in old.publications and old.publications[one].retracted)
    )
    return Changes(version(old), version(new), added, removed, changed, retracted)


def version(kb: KB) -> str:
    """Return how a knowledge base is named in reports: its version and the beginning of its digest."""
    return f"{kb.about.version} ({kb.digest[:12]})"


def _fields(old: Part, new: Part) -> tuple[Change, ...]:
    if old == new:
        return ()
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    return tuple(Change(name, before[name], after[name]) for name in after if before[name] != after[name])
