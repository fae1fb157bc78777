"""How well the knowledge base covers the field: what ``xai-atlas check --report`` shows.

Nothing here is a rule: a blank cell is no error. Numbers count publications with a study, not claims, and leave
retracted publications out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from taxonomy.graph import methods_of
from taxonomy.questions import Blank, Disagreement, blanks, disagreements

if TYPE_CHECKING:
    from taxonomy.loader import KB


@dataclass(frozen=True)
class Coverage:
    """The state of the evidence."""

    counts: Mapping[str, int]
    """Kind to number of entities."""
    read: Mapping[str, int]
    """What was read ("fulltext", "abstract", "title") to number of publications."""
    studies: int
    """Publications that studied a modality."""
    verified: float
    """Share of the studies of which more than the title was read."""
    with_clinicians: float
    """Share of the studies in which clinicians or other experts judged the explanations."""
    comparative: float
    """Share of the studies with a claim better, worse or equal."""
    multimodal: int
    """Studies whose model read more than images."""
    by_modality: Mapping[str, Mapping[str, float]]
    """Modality to its number of studies, and the shares verified, with clinicians, comparative."""
    by_task: Mapping[tuple[str, str], int]
    """(modality, task) to number of studies; task "" where the source names none."""
    by_family: Mapping[tuple[str, str], int]
    """(modality, family) to number of studies."""
    cells: Mapping[tuple[str, str, str], int]
    """(modality, family, task) to number of studies."""
    contradictions: tuple[Disagreement, ...]
    blanks: tuple[Blank, ...]
    """The most promising blank cells."""

    def as_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        data = asdict(self)
        data["cells"] = [
            {"modality": modality, "family": family, "task": task or None, "studies": number}
            for (modality, family, task), number in self.cells.items()
        ]
        for name, second in (("by_task", "task"), ("by_family", "family")):
            data[name] = [
                {"modality": modality, second: other or None, "studies": number}
                for (modality, other), number in getattr(self, name).items()
            ]
        data["contradictions"] = [contradiction(one) for one in self.contradictions]
        return data


def contradiction(one: Disagreement) -> dict[str, Any]:
    """Return a disagreement as plain data for JSON."""
    return {
        "method": one.method,
        "criterion": one.criterion,
        "modality": one.modality,
        "for": list(dict.fromkeys(f.publication for f in one.for_)),
        "against": list(dict.fromkeys(f.publication for f in one.against)),
        "opposed": [list(pair) for pair in one.opposed],
    }


def coverage_report(kb: KB, most: int = 20) -> Coverage:
    """Count what the knowledge base covers.

    Args:
        kb: The knowledge base.
        most: How many blank cells to name.
    """
    studies = [p for p in kb.publications.values() if p.study and not p.retracted]
    cells: Counter[tuple[str, str, str]] = Counter()
    by_task: Counter[tuple[str, str]] = Counter()
    by_family: Counter[tuple[str, str]] = Counter()
    for publication in studies:
        assert publication.study
        task = publication.study.task or ""
        families = {kb.methods[method].family for method in methods_of(publication)}
        for modality in publication.study.modalities:
            by_task[modality, task] += 1
            by_family.update((modality, family) for family in families)
            cells.update((modality, family, task) for family in families)
    by_modality = {
        modality: _shares([p for p in studies if p.study and modality in p.study.modalities])
        for modality in kb.modalities
    }
    all_shares = _shares(studies)
    return Coverage(
        counts={kind: len(entities) for kind, entities in kb.kinds().items()},
        read=dict(Counter(p.read for p in kb.publications.values()).most_common()),
        studies=len(studies),
        verified=all_shares["verified"],
        with_clinicians=all_shares["with_clinicians"],
        comparative=all_shares["comparative"],
        multimodal=sum(bool(p.study and set(p.study.inputs) - {"image", "video"}) for p in studies),
        by_modality=dict(sorted(by_modality.items(), key=lambda item: -item[1]["studies"])),
        by_task=dict(by_task.most_common()),
        by_family=dict(by_family.most_common()),
        cells=dict(sorted(cells.items(), key=lambda item: (-item[1], item[0]))),
        contradictions=tuple(disagreements(kb)),
        blanks=tuple(blanks(kb)[:most]),
    )


def _shares(studies: list[Any]) -> dict[str, float]:
    """Return the number of studies and the shares of them, 0 where there are none."""

    def share(kept: int) -> float:
        return round(kept / len(studies), 3) if studies else 0.0

    return {
        "studies": len(studies),
        "verified": share(sum(p.read != "title" for p in studies)),
        "with_clinicians": share(sum(bool(p.clinicians) for p in studies)),
        "comparative": share(sum(any(c.outcome in ("better", "worse", "equal") for c in p.claims) for p in studies)),
    }
