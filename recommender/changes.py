"""Which answers a change of the knowledge base changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from recommender.argue import Answer, answer
from recommender.query import Query
from recommender.rank import Recommendation
from taxonomy import KB

TOP = 5
"""How many recommendations of an answer are compared."""


@dataclass(frozen=True)
class Moved:
    """A method whose place in an answer changed."""

    method: str
    old_rank: int | None
    """From 1; None when it was ruled out or unknown."""
    new_rank: int | None
    why: tuple[str, ...]
    """Sentences of the reasons that are new or gone, the gone ones with "no longer: " before them."""


@dataclass(frozen=True)
class ChangedAnswer:
    """A question whose answer changed."""

    modality: str
    task: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    panel_old: tuple[str, ...]
    panel_new: tuple[str, ...]
    moved: tuple[Moved, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def changed_recommendations(old: KB, new: KB, *, top: int = TOP, runnable: Iterable[str] = ()) -> list[ChangedAnswer]:
    """Ask both knowledge bases about every modality and task that one of them has a study of.

    Args:
        old: The knowledge base before.
        new: The knowledge base after.
        top: How many recommendations are compared.
        runnable: Methods that can be run here.

    Returns:
        The questions whose first recommendations or panel differ.
    """
    known = tuple(runnable)
    found = []
    for modality, task in sorted(_studied(old) | _studied(new)):
        query = Query(modality=(modality,), task=task)
        before = _ask(query, old, known) if modality in old.modalities and task in old.vocabulary.tasks else None
        after = _ask(query, new, known) if modality in new.modalities and task in new.vocabulary.tasks else None
        one, other = _ranked(before), _ranked(after)
        first, then = tuple(one)[:top], tuple(other)[:top]
        panels = (before.panel if before else ()), (after.panel if after else ())
        if first != then or panels[0] != panels[1]:
            concerned = dict.fromkeys((*then, *first, *panels[1], *panels[0]))
            moved = tuple(move for method in concerned if (move := _moved(method, one, other)))
            found.append(ChangedAnswer(modality, task, first, then, *panels, moved))
    return found


def _studied(kb: KB) -> set[tuple[str, str]]:
    studies = (p.study for p in kb.publications.values() if p.study and not p.retracted)
    return {(modality, study.task) for study in studies if study.task for modality in study.modalities}


def _ask(query: Query, kb: KB, runnable: tuple[str, ...]) -> Answer:
    return answer(query, kb, runnable=tuple(one for one in runnable if one in kb.methods))


def _ranked(found: Answer | None) -> dict[str, Recommendation]:
    return {one.method: one for one in found.recommendations} if found else {}


def _moved(method: str, old: dict[str, Recommendation], new: dict[str, Recommendation]) -> Moved | None:
    before, after = (list(listed).index(method) + 1 if method in listed else None for listed in (old, new))
    if before == after:
        return None
    said, says = ({r.text for r in listed[method].reasons} if method in listed else set() for listed in (old, new))
    gone = (f"no longer: {text}" for text in sorted(said - says))
    return Moved(method, before, after, (*sorted(says - said), *gone))
