"""How far metrics can be trusted: ``kb/measured/metrics.json``, written by ``xai-atlas trust``, read without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import Field, ValidationError

from taxonomy.errors import AtlasError
from taxonomy.loader import KB
from taxonomy.measured import folder
from taxonomy.schema import Part

FILE = "metrics.json"
Share = Annotated[float, Field(ge=0, le=1)]


class Trust(Part):
    """How far a metric can be trusted: what it made of maps whose order is known (:mod:`runners.trust`)."""

    order: Share | None = None
    """Share of the pairs of maps that it put into the right order; half for a tie or an undefined score."""
    low: Share | None = None
    high: Share | None = None
    """95 % interval of ``order``, bootstrap over images."""
    images: int = 0
    pairs: dict[str, Share] = Field(default_factory=dict)
    """Pair, the better one first, to the share of images in which it was told so."""
    undefined: Share = 0.0
    """Share of the scores that were not defined."""
    noise: Annotated[float, Field(ge=0)] | None = None
    """Standard deviation over seeds, in units of that over the maps; None where nothing is drawn."""
    seeds: Share | None = None
    """Share of the pairs that two seeds order alike; None where nothing is drawn."""
    infill: Share | None = None
    """Share of the pairs that two infills order alike; None where nothing is filled in."""
    infills: dict[str, Share] = Field(default_factory=dict)
    """Infill to the share of the pairs in the right order."""
    weight: Share | None = None
    """What its scores count: 0 at chance or below, 1 for always right, whatever the seed and the infill."""
    why: str | None = None
    """Why it was not judged."""

    @property
    def phrase(self) -> str:
        """Say it in one phrase."""
        if self.weight is None or self.order is None:
            return f"trust not measured: {self.why}"
        parts = [f"trust {self.weight:.2f}: orders {self.order:.0%} of planted pairs rightly"]
        if self.seeds is not None:
            parts.append(f"{self.seeds:.0%} alike with another seed")
        if self.infill is not None:
            parts.append(f"{self.infill:.0%} with another infill")
        return ", ".join(parts)

    @property
    def sentence(self) -> str:
        """Say it in one sentence."""
        return f"{self.phrase[:1].upper()}{self.phrase[1:].rstrip('.')}."


class _File(Part):
    about: dict[str, str]
    metrics: dict[str, Trust]


def trust(kb: KB) -> Mapping[str, Trust]:
    """Return metric id to how far it can be trusted; nothing where no file is there.

    Raises:
        AtlasError: the file cannot be read, its form is wrong, or it names a metric that the knowledge base does not
            have; every problem is told.
    """
    path = folder(kb) / FILE
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return MappingProxyType({})
    found = _read(path, changed)
    if unknown := [name for name in found if name not in kb.metrics]:
        raise AtlasError("\n".join(f"{path}: metrics.{one}: no metric of the knowledge base" for one in unknown))
    return found


def check(kb: KB) -> list[str]:
    """Return what is wrong with the file of a knowledge base."""
    try:
        trust(kb)
    except AtlasError as error:
        return str(error).splitlines()
    return []


def weights(kb: KB) -> dict[str, float]:
    """Return metric id to the weight of its scores, of those that were judged."""
    return {name: one.weight for name, one in trust(kb).items() if one.weight is not None}


def trust_in_words(kb: KB, metrics: Iterable[str]) -> str:
    """Say in one sentence how far some metrics can be trusted; empty where none was judged."""
    known = weights(kb)
    parts = [f"{kb.metrics[one].name} {known[one]:.2f}" for one in dict.fromkeys(metrics) if one in known]
    return f"Trust, 0 to 1, measured on planted truth: {', '.join(parts)}." if parts else ""


def write_trust(found: Mapping[str, Trust], about: Mapping[str, str], kb: KB) -> Path:
    """Write the file, metrics in order of their ids, and return its path.

    Args:
        found: metric id to how far it can be trusted.
        about: how it was measured, in words.
        kb: where it is written to.

    Raises:
        AtlasError: the file cannot be written.
    """
    path = folder(kb) / FILE
    whole = _File(about=dict(about), metrics=dict(sorted(found.items())))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(whole.model_dump_json(indent=1, exclude_defaults=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise AtlasError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


@cache
def _read(path: Path, changed: int) -> Mapping[str, Trust]:  # noqa: ARG001 - the file is read again when it changed
    try:
        return MappingProxyType(_File.model_validate_json(path.read_bytes()).metrics)
    except OSError as error:
        raise AtlasError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors()[:20]]
        raise AtlasError("\n".join(lines)) from error
