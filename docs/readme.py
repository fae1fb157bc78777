"""Write the tables of the README from the knowledge base, the explainers and the model cards, or check them.

``python docs/readme.py`` writes them; with ``--check`` it writes nothing and exits with 1 when they are out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from runners import discoverable, runnable
from taxonomy import KB, load_kb

README = Path(__file__).resolve().parent.parent / "README.md"
TASKS = ("classification", "segmentation", "regression", "detection", "retrieval")


def inside(name: str) -> str:
    """Return a name as it stands inside a sentence: "X-ray" as "x-ray", but "ReLU" as it is."""
    return name[0].lower() + name[1:] if name.split()[0][1:].islower() else name


def explainers(kb: KB) -> str:
    """What runs where: one row for each explainer."""
    rows = ["| method | family | needs of the model | tasks | images | model passes |", "|---|---|---|---|---|---|"]
    branches = list(kb.vocabulary.families)
    for one in sorted(
        runnable(), key=lambda one: (branches.index(kb.methods[one].family), kb.methods[one].name.lower())
    ):
        method = kb.methods[one]
        needs = (
            ", ".join(inside(kb.vocabulary.needs[need].name) for need in method.requires.needs) or "only its outputs"
        )
        tasks = ", ".join(task for task in TASKS if task in method.requires.tasks)
        dims = ", ".join(f"{d}D" for d in method.requires.dims)
        family = inside(kb.vocabulary.families[method.family].name)
        passes = "–" if method.cost.passes is None else f"{method.cost.passes:,}"
        rows.append(f"| {method.name} (`{one}`) | {family} | {needs} | {tasks} | {dims} | {passes} |")
    return "\n".join(rows)


def insights(kb: KB) -> str:
    """What gives another answer than a map: one row for each family."""
    rows = ["| family | methods |", "|---|---|"]
    for family, word in kb.vocabulary.families.items():
        names = sorted(
            f"{kb.methods[one].name} (`{one}`)" for one in discoverable() if kb.methods[one].family == family
        )
        if names:
            rows.append(f"| {inside(word.name)} | {', '.join(names)} |")
    return "\n".join(rows)


def models(kb: KB) -> str:
    """The bundled models with what was measured."""
    from runners.load import bundled

    rows = ["| model | task | images | measured on images it never saw |", "|---|---|---|---|"]
    for card in bundled():
        quality = "; ".join(f"{m.metric} {m.value:.3g} (n = {m.n})" for m in card.measured)
        modality = inside(kb.modalities[card.modality].name) if card.modality else "any"
        rows.append(f"| {card.name} (`{card.id}`) | {card.task} | {modality}, {card.dims}D | {quality} |")
    return "\n".join(rows)


def counts(kb: KB) -> str:
    """How much the knowledge base holds."""
    found = [f"{len(entities):,} {kind}" for kind, entities in kb.kinds().items()]
    here = f"{len(runnable())} methods give maps here, {len(discoverable())} other answers"
    return f"The knowledge base holds {', '.join(found[:-1])} and {found[-1]}; {here}."


TABLES: dict[str, Callable[[KB], str]] = {
    "counts": counts,
    "explainers": explainers,
    "insights": insights,
    "models": models,
}
"""Marker in the README to what stands between it and the end marker."""


def written(text: str, kb: KB) -> str:
    """Return the README's text with every table as it should be."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end {name} -->)"
        text, found = re.subn(pattern, lambda m, t=table: m[1] + t(kb) + m[2], text, flags=re.DOTALL)  # type: ignore[misc]
        if found != 1:
            raise SystemExit(f"{README.name} needs exactly one <!-- {name} --> … <!-- end {name} -->, it has {found}")
    return text


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description="Write the generated tables of the README.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when they are out of date")
    check = parser.parse_args().check
    before = README.read_text("utf-8")
    after = written(before, load_kb())
    if check and before != after:
        sys.exit("README.md is out of date: run python docs/readme.py")
    if not check:
        README.write_text(after, "utf-8")


if __name__ == "__main__":
    main()
