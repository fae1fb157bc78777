"""What an experiment found, as plain data, and as a page and a table for whoever wants to check or cite it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from runners.pictures import Rgb
from runners.report import NOT_CLINICAL, STYLE, img
from taxonomy.errors import AtlasError


@dataclass(frozen=True, eq=False)
class Section:
    """One part of what was found.

    Attributes:
        title: what it is about.
        lines: sentences.
        head: of the columns of a table.
        rows: of the table; a cell for each column.
        pictures: pictures with what they show.
    """

    title: str
    lines: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    pictures: tuple[tuple[Rgb, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Experiment:
    """What an experiment found.

    Attributes:
        title: its name.
        question: what it asks.
        done: what was done, in sentences.
        answer: what came out, in sentences that the numbers give.
        sections: the parts.
        limits: what it cannot say.
        numbers: every number, one row each; all rows have the same keys.
        seconds: it took.
        seed: of all randomness.
    """

    title: str
    question: str
    done: tuple[str, ...]
    answer: tuple[str, ...]
    sections: tuple[Section, ...]
    limits: tuple[str, ...]
    numbers: tuple[Mapping[str, str | float | None], ...]
    seconds: float
    seed: int


def html(found: Experiment, *, created: datetime | None = None) -> str:
    """Return the experiment as a whole HTML page without references to other files."""
    when = (created or datetime.now(UTC)).strftime("%d %B %Y, %H:%M UTC")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(found.title)}</title><style>{STYLE}
figure {{ margin: 0 0 .8rem; }} figcaption {{ color: var(--soft); font-size: .88rem; }}</style></head><body>
<h1>{escape(found.question)}</h1>
<p class="soft">{escape(found.title)}: an experiment of XAI Atlas, {when}</p>
<p class="banner">{NOT_CLINICAL}</p>
<h2>What came out</h2>{_list(found.answer)}
<h2>What was done</h2>{"".join(f"<p>{escape(line)}</p>" for line in found.done)}
{"".join(map(_section, found.sections))}
<h2>What this cannot say</h2>{_list(found.limits)}
<p class="soft"><code>seed {found.seed}; {found.seconds:.0f} seconds</code></p></body></html>
"""


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _section(one: Section) -> str:
    table = ""
    if one.rows:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in one.head)
        rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in one.rows)
        table = f"<table><tr>{head}</tr>{rows}</table>"
    pictures = "".join(
        f"<figure>{img(picture, words)}<figcaption>{escape(words)}</figcaption></figure>"
        for picture, words in one.pictures
    )
    lines = "".join(f"<p>{escape(line)}</p>" for line in one.lines)
    return f"<h2>{escape(one.title)}</h2>{lines}{table}{pictures}"


def table(found: Experiment) -> str:
    """Return every number as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found.numbers[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.numbers)
    return text.getvalue()


def save(folder: Path, found: Experiment, *, force: bool = False) -> tuple[Path, ...]:
    """Write ``report.html`` and ``numbers.csv``; return their paths.

    Raises:
        AtlasError: the folder holds an earlier result and ``force`` is not set.
    """
    files = (folder / "report.html", folder / "numbers.csv")
    if not force and any(file.exists() for file in files):
        raise AtlasError(f"{folder} holds an earlier result; give another folder with --out, or --force to replace it")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in zip(files, (html(found), table(found)), strict=True):
        file.write_text(text, encoding="utf-8")
    return files
