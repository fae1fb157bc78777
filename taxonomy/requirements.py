"""Requirements: declared once on the method, matched by one pure function for recommender and runners alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taxonomy.schema import NeedWord, Requires


def sane_below(task: str | None) -> float:
    """Return the similarity to the map under random weights above which a map fails the randomisation test.

    Of a segmentation the region that is explained stays where it is, so even maps by occlusion, which only asks the
    model, stay as like as 0.85.
    """
    return 0.9 if task == "segmentation" else 0.5


@dataclass(frozen=True)
class Profile:
    """What a model and its owner can offer. What is in neither ``has`` nor ``lacks`` is unknown."""

    has: frozenset[str] = frozenset()
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Need to the reason it is missing, as a clause ("its activations are GELU"); "" when there is nothing to add."""
    task: str | None = None
    dims: int | None = None
    architecture: str | None = None
    notes: tuple[str, ...] = ()
    """What the detection saw and decided, one sentence each."""


@dataclass(frozen=True)
class Gap:
    """A need the profile lacks, with its sentence."""

    need: str
    sentence: str


def gaps(requires: Requires, profile: Profile, words: Mapping[Any, NeedWord]) -> list[Gap]:
    """Return every known reason why a method with these requirements cannot serve this profile.

    Args:
        requires: The method's requirements.
        profile: What is at hand.
        words: ``kb.vocabulary.needs``, for the sentences.
    """
    found = []
    for need in requires.needs:
        if need in profile.lacks:
            why = profile.lacks[need]
            found.append(Gap(need, words[need].gap + (f" ({why})" if why else "")))
    if profile.task is not None and profile.task not in requires.tasks:
        found.append(Gap("task", f"it explains {', '.join(requires.tasks)}, not {profile.task}."))
    if profile.dims is not None and profile.dims not in requires.dims:
        found.append(
            Gap("dims", f"it works on {' and '.join(f'{d}D' for d in requires.dims)} images, not on {profile.dims}D.")
        )
    return found


def conditions(requires: Requires, profile: Profile, words: Mapping[Any, NeedWord]) -> list[str]:
    """Return the sentences of the needs that are unknown for this profile."""
    return [words[need].condition for need in requires.needs if need not in profile.has and need not in profile.lacks]
