"""One page on a method, to print or to file: a web page without scripts or outside resources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from textwrap import shorten
from typing import TYPE_CHECKING

from taxonomy.errors import UnknownIdError
from taxonomy.questions import Bearing, bearings, explains, findings
from taxonomy.schema import Statement

if TYPE_CHECKING:
    from taxonomy.loader import KB

MOST = 4
"""Rows of a list at most, so that the card stays on one page; what is left out is counted."""

LONGEST = 44
"""Letters of an address that is shown."""

STYLE = """
@page { size: A4; margin: 12mm }
body { font: 8pt/1.22 system-ui, "Helvetica Neue", Arial, sans-serif; color: #1d2b33; max-width: 186mm; margin: auto }
h1 { font-size: 17pt; margin: 0 0 1mm } h2 { font-size: 10pt; margin: 2.5mm 0 .5mm; color: #0b4f5a }
p, ul { margin: 0 0 1mm } ul { padding-left: 4mm } small { color: #5b6b75 }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 6mm } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3mm 2mm .3mm 0; border-bottom: .2mm solid #dde5e9 }
th { white-space: nowrap }
ol { padding-left: 5mm; margin: 0; columns: 3; column-gap: 6mm; font-size: 6pt; color: #3c4a52 }
ol li { break-inside: avoid; overflow-wrap: anywhere } a { color: inherit; text-decoration: none }
"""


Row = tuple[str, Sequence[str]]
"""HTML of a line, and the publications it rests on."""


def card(kb: KB, method_id: str) -> str:
    """Return the card of a method as HTML, made for one A4 page.

    Raises:
        UnknownIdError: There is no such method.
    """
    if method_id not in kb.methods:
        raise UnknownIdError(method_id, kb.methods, "method")
    method = kb.methods[method_id]
    cited: dict[str, int] = {}

    def marks(ids: Iterable[str]) -> str:
        numbers = [str(cited.setdefault(one, len(cited) + 1)) for one in list(ids)[:3]]
        return f" <small>[{', '.join(numbers)}]</small>" if numbers else ""

    def section(title: str, rows: Iterable[Row]) -> str:
        listed = list(rows)
        if not listed:
            return ""
        lines = "".join(f"<li>{text}{marks(ids)}</li>" for text, ids in listed[:MOST])  # what is left out cites nothing
        more = f"<li><small>and {len(listed) - MOST} more</small></li>" if len(listed) > MOST else ""
        return f"<h2>{title}</h2><ul>{lines}{more}</ul>"

    def told(statements: Iterable[Statement]) -> list[Row]:
        return [(escape(one.text), one.sources) for one in statements]

    def claimed(wanted: int) -> list[Row]:
        return [(escape(f.claim.text), [f.publication]) for f in rows if f.side == wanted]

    def borne(eases: bool) -> list[Row]:
        once = {b.challenge: b for b in reversed(effects) if b.eases == eases}  # the first of each challenge
        return [(_effect(kb, b), b.effect.sources) for b in reversed(once.values())]

    vocabulary = kb.vocabulary
    needs = ", ".join(vocabulary.needs[n].name.lower() for n in method.requires.needs) or "the model's answer only"
    tasks = ", ".join(vocabulary.tasks[t].name.lower() for t in method.requires.tasks)
    passes = "not known" if method.cost.passes is None else f"{method.cost.passes:,} model passes per image"
    facts = {
        "Family": f"{vocabulary.branches[kb.branch(method_id)].name}: {vocabulary.families[method.family].name}",
        "Gives": f"{method.output.replace('_', ' ')}; {method.scope}; {method.stage.replace('_', '-')}",
        "Needs": needs,
        "Explains": f"{tasks}; {' and '.join(f'{d}D' for d in method.requires.dims)}",
        "Cost": passes + (f" ({method.cost.text})" if method.cost.text else ""),
        "Class-discriminative": {True: "yes", False: "no", None: "not known"}[method.class_discriminative],
        "Parameters": ", ".join(
            h.name + ("" if h.default is None else f" = {h.default}") for h in method.hyperparameters[:8]
        ),
        "Implemented in": ", ".join(dict.fromkeys(kb.tools[i.tool].name for i in method.implementations)),
    }
    table = "".join(f"<tr><th>{k}</th><td>{escape(v)}</td></tr>" for k, v in facts.items() if v)
    original = f" Original paper:{marks([method.source])}" if method.source else ""
    rows = findings(kb, method_id)
    effects = bearings(kb, method_id)
    tried = sorted(
        ((m, t) for m in kb.modalities for t in explains(kb, m) if t.method == method_id),
        key=lambda one: -len(one[1].publications),
    )
    where = ", ".join(
        f"{kb.modalities[m].name} {len(t.publications)} (+{len(t.for_)} −{len(t.against)})" for m, t in tried
    )
    body = [
        f"<h1>{escape(method.name)}</h1><p>{escape(method.definition or '')}{original}</p><table>{table}</table>",
        '<div class="two"><div>',
        section("Strengths", told(method.strengths)),
        section("Eases", borne(True)),
        section("Found for it", claimed(1)),
        "</div><div>",
        section("Limitations", told(method.limitations)),
        section("Suffers from", borne(False)),
        section("Found against it", claimed(-1)),
        "</div></div>",
        f"<h2>Publications by modality (findings for and against)</h2><p>{escape(where) or 'none'}</p>",
    ]
    sources = "".join(f"<li>{escape(short(kb, one))} {link(kb.publications[one].link)}</li>" for one in cited)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(method.name)}, XAI Atlas</title><style>{STYLE}</style></head><body>{''.join(body)}"
        f"<h2>Sources</h2><ol>{sources}</ol><p><small>XAI Atlas. For research; not for clinical use.</small></p>"
        "</body></html>"
    )


def _effect(kb: KB, bearing: Bearing) -> str:
    challenge = kb.challenges[bearing.challenge].name
    return f"<b>{escape(challenge)}</b>: {escape(bearing.effect.text)}"


def link(address: str) -> str:
    """Return a link whose words stay short; a DOI or an arXiv id is whole, so that it can be typed."""
    words = address.split("://", 1)[-1]
    if len(words) > LONGEST and not words.startswith(("doi.org/", "arxiv.org/")):
        words = words[: LONGEST - 1] + "…"
    return f'<a href="{escape(address)}">{escape(words)}</a>'


def short(kb: KB, publication_id: str) -> str:
    """Return how a publication is named in a list of sources."""
    publication = kb.publications[publication_id]
    who = f"{publication.first_author.split(',')[0]}: " if publication.first_author else ""
    title = shorten(publication.title, 48, placeholder=" …")
    return f"{who}{title} ({publication.year or 'n.d.'})"
