"""The verdict of the sanity laboratory as one HTML page, for somebody who decides whether a map may be believed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from runners.pictures import figure
from runners.report import NOT_CLINICAL, STYLE, Sources, img
from runners.sanity import QUESTIONS, Finding, Sanity

WORDS = {"passes": "✓ passes", "fails": "✗ fails", "cannot say": "? cannot say"}
"""Verdict to its words; the sign says it to those who do not see the colour."""
INTRO = (
    "A map shows where a model looks only if the map depends on the model. These tests change the model or the image "
    "in ways whose effect is known, and look whether the map follows. They judge the maps of this model on this image, "
    "not whether the model is right."
)
_COLOURS = {"passes": "#1c7a4a", "fails": "#b3261e", "cannot say": "#5b7083"}
_LINES = ("#0f6b7a", "#c0752b", "#6b5aa8", "#3f8f5b", "#a94a62", "#5b7083", "#8a6d1f", "#2f5fa1")
_OWN = """
.verdict { font-weight: 650; white-space: nowrap; } table.verdicts td { padding: .35rem .6rem .35rem 0; }
.overall { border-left: 4px solid var(--line); padding: .1rem .8rem; margin: .5rem 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: .8rem; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .85rem; } svg { max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: #1d2b33; }
"""


def page(found: Sanity, *, created: datetime | None = None) -> str:
    """Return the verdict as a whole HTML page without references to other files.

    Args:
        found: what the laboratory found.
        created: time to print, default now.
    """
    kb, case = found.kb, found.subject.case
    sources = Sources(kb)
    when = (created or datetime.now(UTC)).strftime("%d %B %Y, %H:%M UTC")
    ended = f" {escape(found.ended[0].upper() + found.ended[1:])}." if found.ended else ""
    overall = "".join(
        f'<p class="overall" style="border-color: {_COLOURS[verdict]}">{_badge(verdict)} {escape(text)}</p>'
        for verdict, text in map(found.overall, found.methods)
    )
    heads = "".join(f"<th>{escape(kb.methods[one].name)}</th>" for one in found.methods)
    rows = "".join(
        f"<tr><td>{escape(QUESTIONS[test].asks)}</td>"
        + "".join(f"<td>{_badge(one.verdict) if (one := found.of(name, test)) else '…'}</td>" for name in found.methods)
        + "</tr>"
        for test in found.planned
        if test != "agreement"
    )
    errors = "".join(
        f"<p class='caution'>{escape(kb.methods[one.method].name)}: {escape(one.error)}</p>"
        for one in found.results
        if one.error
    )
    sections = "".join(_section(found, test, sources) for test in found.planned)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sanity of explanations: {escape(str(case.model["name"]))}</title><style>{STYLE}{_OWN}</style></head><body>
<h1>May these maps be believed?</h1>
<p class="soft">Sanity laboratory of XAI Atlas, {when}</p>
<p class="banner">{NOT_CLINICAL}</p>
<div class="case"><div>{img(figure(case, None, side=300), "the image that was explained")}</div>
<div><p><b>{escape(str(case.model["name"]))}</b>; explained: {escape(found.target)}.</p><p>{INTRO}</p></div></div>
<h2>Verdict</h2>{overall}{errors}
<table class="verdicts"><tr><th>Test</th>{heads}</tr>{rows}</table>
<p class="soft">“Cannot say” is a verdict too: the test came to no clear result here, or could not be done.{ended}</p>
{sections}{sources.html()}
<p class="soft"><code>Image SHA-256 {escape(case.image.sha256)}; seed {found.seed}; {found.seconds:.1f} seconds of
{found.budget:g}.</code></p></body></html>
"""


def _badge(verdict: str) -> str:
    return f'<span class="verdict" style="color: {_COLOURS[verdict]}">{WORDS[verdict]}</span>'


def _section(found: Sanity, test: str, sources: Sources) -> str:
    about = QUESTIONS[test]
    own = [one for one in found.findings if one.test == test]
    if not own:
        return ""
    lines = "".join(
        f"<tr><td>{escape(found.kb.methods[one.method].name) if one.method else ''}</td><td>{_badge(one.verdict)}</td>"
        f"<td>{escape(one.why)}</td></tr>"
        for one in own
    )
    pictures = "".join(
        f"<figure>{img(one.picture[0], one.picture[1])}<figcaption>{escape(found.kb.methods[one.method].name)}: "
        f"{escape(one.picture[1])}</figcaption></figure>"
        for one in own
        if one.picture and one.method
    )
    notes = dict.fromkeys(escape(note) for one in own for note in one.notes)
    told = "".join(f"<li>{note}</li>" for note in notes)
    folded = f"<details><summary>How it was done here</summary><ul>{told}</ul></details>" if told else ""
    return f"""<h2>{escape(about.asks)}</h2><p class="soft">{escape(about.how)}{sources.cite(about.sources)}
{escape(about.trusted(found.kb))}</p>
<table>{lines}</table>{_curves(found, test, own)}<div class="pictures">{pictures}</div>{folded}"""


def _curves(found: Sanity, test: str, own: Sequence[Finding]) -> str:
    names = found.kb.methods
    if test == "cascade":
        lines = {names[one.method].name: one.curves["similarity"] for one in own if one.method and one.curves}
        limit = next((one.numbers["limit"] for one in own if "limit" in one.numbers), None)
        return _chart(lines, "likeness to the first map", "share of the layers with random weights", limit)
    if test == "labels":
        first = next((one for one in own if one.curves), None)
        lines = {} if first is None else dict(first.curves)
        limit = None if first is None else first.numbers["chance"]
        return _chart(lines, "right answers on the training images", "training steps", limit)
    return ""


def _chart(lines: dict[str, tuple[float, ...]], up: str, along: str, limit: float | None) -> str:
    """Draw lines between 0 and 1 (below, if they go there) as SVG, with their names beside their ends."""
    if not lines:
        return ""
    low = min(0.0, *(min(values) for values in lines.values()))
    wide, tall, left, top = 420, 200, 40, 24

    def place(share: float, value: float) -> str:
        return f"{left + share * wide:.1f},{top + (1 - value) / (1 - low) * tall:.1f}"

    drawn = [f'<text x="{left}" y="14">{escape(up)}</text>']
    drawn.append(f'<text x="{left + wide}" y="{top + tall + 32}" text-anchor="end">{escape(along)} →</text>')
    for value in sorted({low, 0.0, 0.5, 1.0}):
        a, b = place(0, value), place(1, value)
        (x1, y1), (x2, y2) = a.split(","), b.split(",")
        drawn.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#d9e2e7"/>')
        drawn.append(f'<text x="{left - 6}" y="{float(y1) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    if limit is not None:
        (x1, y1), (x2, y2) = place(0, limit).split(","), place(1, limit).split(",")
        drawn.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#b3261e" stroke-dasharray="5 4"/>')
    for number, (name, values) in enumerate(lines.items()):
        colour = _LINES[number % len(_LINES)]
        points = " ".join(place(i / max(1, len(values) - 1), value) for i, value in enumerate(values))
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = top + 14 + 18 * number
        drawn.append(f'<rect x="{left + wide + 16}" y="{y - 9}" width="12" height="4" fill="{colour}"/>')
        drawn.append(f'<text x="{left + wide + 34}" y="{y - 3}">{escape(name)}</text>')
    tall_all = max(top + tall + 40, top + 18 * len(lines) + 20)
    return f'<svg viewBox="0 0 {left + wide + 240} {tall_all}" width="700" role="img">{"".join(drawn)}</svg>'
