"""The report: one self-contained HTML page that somebody who did not run the model can read, print and file.

Everything it says comes from the case, the results and the knowledge base; whatever a user could have typed is escaped.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from PIL import Image as Pillow

from runners import executable
from runners.case import Answered, Case, Measured, Result
from runners.discovery import Insight
from runners.gate import Explanation
from runners.panels import READING, measured_words, panel
from runners.pictures import MARKED, REFERENCE, Rgb, figure
from taxonomy.loader import KB
from taxonomy.trust import trust_in_words

NOT_CLINICAL = (
    "For research and quality control. Not for clinical use: a map shows what the model reacts to, not disease."
)

STYLE = """
:root { --ink: #1d2b33; --soft: #5b7083; --line: #d9e2e7; --accent: #0f6b7a; --warn: #8a4b00; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
       max-width: 1080px; margin: 0 auto; padding: 1.2rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 1.6rem 0 .5rem; color: var(--accent); }
h3 { font-size: 1.02rem; margin: 0 0 .4rem; } p { margin: .35rem 0; } .soft { color: var(--soft); font-size: .88rem; }
.banner { border: 1px solid #e6c27a; background: #fff8e8; color: var(--warn); border-radius: 6px; padding: .45rem .8rem;
          margin: .8rem 0; font-weight: 600; }
.case { display: flex; flex-wrap: wrap; gap: 1.4rem; align-items: flex-start; } .case > div { flex: 1 1 20rem; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .8rem; break-inside: avoid; }
img { max-width: 100%; height: auto; display: block; } ul { margin: .3rem 0; padding-left: 1.2rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { background: #e8eef1; border-radius: 3px; height: .55rem; min-width: 6rem; }
.bar i { display: block; height: 100%; background: var(--accent); border-radius: 3px; }
.caution { color: var(--warn); }
summary { cursor: pointer; color: var(--accent); font-size: .92rem; margin-top: .4rem; }
.sources { columns: 2 22rem; column-gap: 2rem; } .sources li { break-inside: avoid; }
.key i { display: inline-block; width: 1.4rem; height: .28rem; vertical-align: middle; margin-right: .3rem; }
a { color: var(--accent); } code { font-size: .85rem; overflow-wrap: anywhere; }
@media print { body { padding: 0; max-width: none; font-size: 12px; }
  details::details-content { content-visibility: visible; block-size: auto; } summary { list-style: none; } }
"""


class Sources:
    """Numbers publications in the order in which they are cited.

    Args:
        kb: the knowledge base.
    """

    def __init__(self, kb: KB) -> None:
        self._kb = kb
        self._numbers: dict[str, int] = {}

    def cite(self, ids: Iterable[str]) -> str:
        """Return the numbers of publications, as links to the list."""
        numbers = [self._numbers.setdefault(one, len(self._numbers) + 1) for one in dict.fromkeys(ids)]
        return " " + "".join(f'<a href="#source-{n}">[{n}]</a>' for n in numbers) if numbers else ""

    def html(self) -> str:
        """Return the list of what was cited."""
        items = []
        for one, number in self._numbers.items():
            paper = self._kb.publications[one]
            who = f"{paper.first_author} " if paper.first_author else ""
            year = f" ({paper.year})" if paper.year else ""
            title = f'<a href="{escape(paper.link)}">{escape(paper.title)}</a>'
            items.append(f'<li id="source-{number}">{escape(who)}{title}{year}</li>')
        return f"<h2>Sources</h2><ol class='soft sources'>{''.join(items)}</ol>" if items else ""


def html(
    case: Case,
    results: Sequence[Result],
    kb: KB,
    *,
    answer: Mapping[str, Any] | None = None,
    created: datetime | None = None,
) -> str:
    """Write the report.

    Args:
        case: image, model and the model's answer.
        results: what came of each method, in the order to show.
        kb: for names, definitions, known limits and sources.
        answer: the recommender's answer as its public JSON; its reasons and what it ruled out are shown.
        created: time to print, default now.

    Returns:
        A whole HTML page without references to other files.
    """
    sources = Sources(kb)
    reasons = {one["method"]: one["reasons"] for one in (answer or {}).get("recommendations", ())}
    cards = "".join(_card(case, one, kb, sources, reasons.get(one.method, ())) for one in results if one.explanation)
    beyond = "".join(
        _insight_card(case, one.insight, kb, sources, reasons.get(one.method, ())) for one in results if one.insight
    )
    if not cards:
        cards = f"<p>No method gave a map{'' if beyond else '; the reasons are below'}.</p>"
    beyond = f"<h2>Beyond the maps</h2>{beyond}" if beyond else ""
    when = (created or datetime.now(UTC)).strftime("%d %B %Y, %H:%M UTC")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Explanation report: {escape(str(case.model["name"]))}</title><style>{STYLE}</style></head><body>
<h1>What did the model react to?</h1>
<p class="soft">Explanation report by XAI Atlas, {when}</p>
<p class="banner">{NOT_CLINICAL}</p>
<h2>The image and the model's answer</h2>
{_case(case, kb)}
<h2>The maps, side by side</h2>
<p>Each map is one method's answer to the same question: which parts of the image made the model say this? Where several
methods of different kinds agree, the finding is more trustworthy; where they differ, none should be trusted alone.</p>
{_targets(case, results)}
<div class="maps">{cards}</div>
{beyond}
{_scores(results, kb, sources)}
{_left_out(results, kb, answer)}
{sources.html()}
<p class="soft">{_fine_print(case, results)}</p>
</body></html>
"""


def _case(case: Case, kb: KB) -> str:
    image = case.image
    modality = kb.modalities[case.modality].name if case.modality else "unknown modality"
    size = " × ".join(map(str, image.shape)) + (" pixels" if image.dims == 2 else " voxels")
    spacing = "" if image.spacing is None else ", " + " × ".join(f"{mm:.3g}" for mm in image.spacing) + " mm each"
    keys = []
    if case.marked is not None:
        keys.append((MARKED, "what the model marks"))
    if case.mask is not None:
        keys.append((REFERENCE, "the reference mask"))
    legend = " &nbsp; ".join(f'<i style="background: rgb{colour}"></i>{text}' for colour, text in keys)
    return f"""<div class="case"><div>{img(figure(case, None), "the image that was explained")}
<p class="soft key">{legend}</p></div>
<div><p><b>{escape(str(case.model["name"]))}</b> ({escape(str(case.model.get("task") or "unknown task"))})</p>
<table>{"".join(_answer(one) for one in sorted(case.answer, key=lambda one: -one.value)[:8])}</table>
<p class="soft">{escape(modality)}, {escape(image.format)}, {size}{spacing}.
{escape(" ".join(image.notes))}</p></div></div>"""


def _answer(one: Answered) -> str:
    if one.unit == "probability":
        text, share = f"{one.value:.1%}", one.value
    elif one.unit == "value":
        return f'<tr><td>{escape(one.label)}</td><td class="number">{one.value:.4g}</td></tr>'
    else:
        share = one.share or 0.0
        size = f"{one.value:,.0f}" if one.value >= 100 else f"{one.value:.3g}"
        text = f"{size} {one.unit} ({share:.1%} of the image)"
    bar = f'<div class="bar"><i style="width: {100 * min(max(share, 0.0), 1.0):.1f}%"></i></div>'
    return f'<tr><td>{escape(one.label)}</td><td class="number">{text}</td><td>{bar}</td></tr>'


def _targets(case: Case, results: Sequence[Result]) -> str:
    lines: dict[str, None] = {}
    for explanation in (one.explanation for one in results if one.explanation):
        shape = tuple(explanation.values.shape[1:])
        seen = "" if shape == case.image.shape else f" The model saw the image as {' × '.join(map(str, shape))}."
        lines[f"<p><b>Explained:</b> {escape(explanation.target)}.{seen}</p>"] = None
    for insight in (one.insight for one in results if one.insight and not lines):
        lines[f"<p><b>Explained:</b> {escape(insight.target)}.</p>"] = None
    return "".join(lines)


def how_to_read(explanation: Explanation) -> str:
    """Return what the colours of a map mean, for somebody who has never seen one."""
    if explanation.signed:
        return (
            "Red places speak for the explained answer: they raise its score. Blue places speak against it. "
            "Without colour, the map is near zero."
        )
    return (
        "The stronger the colour, the more the explained answer depends on this place. "
        "The map does not say whether a place speaks for or against it."
    )


def _card(case: Case, result: Result, kb: KB, sources: Sources, reasons: Sequence[Mapping[str, Any]]) -> str:
    explanation = result.explanation
    assert explanation is not None
    method = kb.methods[result.method]
    return f"""<div class="card"><h3>{escape(method.name)}</h3>
{img(figure(case, explanation), f"{method.name} over the image")}
<p><b>How to read it.</b> {escape(how_to_read(explanation))}</p>{_told(explanation, kb, sources, reasons)}</div>"""


def _insight_card(case: Case, insight: Insight, kb: KB, sources: Sources, reasons: Sequence[Mapping[str, Any]]) -> str:
    name = kb.methods[insight.method].name
    measures = "; ".join(escape(one) for one in measured_words(insight, kb))
    return f"""<div class="card"><h3>{escape(name)}</h3>{img(panel(insight, case), f"What {name} found")}
<p><b>How to read it.</b> {escape(READING[type(insight.form)])}</p>
{f"<p><b>Measured of it.</b> {measures}.</p>" if measures else ""}{_told(insight, kb, sources, reasons)}</div>"""


def _told(found: Explanation | Insight, kb: KB, sources: Sources, reasons: Sequence[Mapping[str, Any]]) -> str:
    """Return what is said of every result: what the method is, how it can mislead, how this was made."""
    method = kb.methods[found.method]
    first = sources.cite([method.source] if method.source else [])
    definition = f"<p class='soft'>{escape(method.definition)}{first}</p>" if method.definition else ""
    cautions = "".join(f"<p class='caution'>⚠ {escape(one)}</p>" for one in found.cautions)
    why = "".join(f"<li>{escape(one['text'])}{sources.cite(one['cites'])}</li>" for one in reasons[:4])
    limits = "".join(f"<li>{escape(one.text)}{sources.cite(one.sources)}</li>" for one in method.limitations)
    notes = "".join(f"<li>{escape(one)}</li>" for one in found.notes)
    parameters = escape(json.dumps(dict(found.parameters), ensure_ascii=False))
    passes = sum(found.passes.values())
    score = found.target_score if isinstance(found, Insight) else float(found.target_scores[0])
    return f"""{definition}{cautions}
{_folded("Why this method", why)}{_folded("Known limits of this method", limits)}
<details><summary>How it was made</summary><ul>{notes}
<li>Parameters: <code>{parameters}</code>, seed {found.seed}.</li>
<li>{found.seconds:.1f} seconds, {passes:,} model passes; score of the target {score:.4g}.</li></ul></details>"""


def _folded(title: str, items: str) -> str:
    return f"<details><summary>{title}</summary><ul>{items}</ul></details>" if items else ""


def _scores(results: Sequence[Result], kb: KB, sources: Sources) -> str:
    metrics = list(dict.fromkeys(one.metric for result in results for one in result.measured))
    if not metrics:
        return ""
    rows = []
    for result in results:
        if result.explanation is None:
            continue
        by_metric = {one.metric: one for one in result.measured}
        cells = "".join(f'<td class="number">{_number(by_metric.get(metric))}</td>' for metric in metrics)
        rows.append(f"<tr><td>{escape(kb.methods[result.method].name)}</td>{cells}</tr>")
    better = {"higher": "higher is better", "lower": "lower is better", None: "no better or worse"}
    heads = "".join(
        f"<th>{escape(kb.metrics[one].name)}<br><span class='soft'>{better[kb.metrics[one].direction]}</span></th>"
        for one in metrics
    )
    meaning = "".join(
        f"<li><b>{escape(kb.metrics[one].name)}</b>: {escape(kb.metrics[one].definition)}"
        f"{sources.cite([source] if (source := kb.metrics[one].source) else [])}</li>"
        for one in metrics
    )
    told = "".join(
        f"<li>{escape(kb.methods[result.method].name)}, {escape(kb.metrics[one.metric].name)}: "
        f"{escape(' '.join(one.notes))}</li>"
        for result in results
        for one in result.measured
        if one.notes
    )
    return f"""<h2>How good are the maps?</h2><table><tr><th>Method</th>{heads}</tr>{"".join(rows)}</table>
<p class="soft">One image says little: measure on several before you prefer a method. – means that the score is not
defined for this map or was not measured. {escape(trust_in_words(kb, metrics))}</p>
{_folded("What the scores measure", meaning)}
{_folded("How they were measured, and when a score says little", told)}"""


def _number(one: Measured | None) -> str:
    return "–" if one is None or one.value is None else f"{one.value:.3f}"


def _left_out(results: Sequence[Result], kb: KB, answer: Mapping[str, Any] | None) -> str:
    said = [f"{kb.methods[one.method].name}: {one.error}" for one in results if one.error]
    said += [one["gap"] for one in could_have_run(answer)]
    lines = [f"<li>{escape(one)}</li>" for one in said]
    return _folded(f"Not shown: {len(lines)} methods, and why", "".join(lines)) if lines else ""


def could_have_run(answer: Mapping[str, Any] | None) -> list[Mapping[str, str]]:
    """Return what the recommender ruled out among the methods that have an explainer."""
    return [one for one in (answer or {}).get("ruled_out", ()) if one["method"] in executable()]


def _fine_print(case: Case, results: Sequence[Result]) -> str:
    made = next((one.found for one in results if one.found), None)
    versions = ", ".join(f"{name} {number}" for name, number in (made.versions if made else {}).items())
    parts = [f"Image SHA-256 {case.image.sha256}"]
    if case.model.get("sha256"):
        parts.append(f"model SHA-256 {case.model['sha256']}")
    if versions:
        parts.append(f"made with {versions}")
    return f"<code>{escape('; '.join(parts))}.</code> {NOT_CLINICAL}"


def img(picture: Rgb, words: str) -> str:
    """Return a picture ``(H, W, 3)`` as an element that needs no other file."""
    data = base64.b64encode(png(picture)).decode()
    height, width = picture.shape[:2]
    return f'<img src="data:image/png;base64,{data}" alt="{escape(words)}" width="{width}" height="{height}">'


def png(picture: Rgb) -> bytes:
    """Encode a picture ``(H, W, 3)``."""
    buffer = io.BytesIO()
    Pillow.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def gif(frames: Sequence[Rgb], milliseconds: int = 160) -> bytes:
    """Encode pictures of one size as an animation that runs to and fro."""
    there = [Pillow.fromarray(one) for one in frames]
    buffer = io.BytesIO()
    there[0].save(
        buffer, "GIF", save_all=True, append_images=[*there[1:], *there[-2:0:-1]], duration=milliseconds, loop=0
    )
    return buffer.getvalue()
