"""An answer as a page to print or to file, with its bibliography: HTML without scripts or outside resources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from recommender import Answer
from taxonomy import KB
from taxonomy.card import STYLE, link, short

TOP, REASONS = 5, 4
"""Recommendations on the page, and reasons of each."""

Line = tuple[str, Iterable[str]]
"""Words of a line, and the publications it rests on."""


def printed(found: Answer, kb: KB) -> tuple[str, list[str]]:
    """Return an answer as HTML, and the publications it cites in the order of their numbers."""
    cited: dict[str, int] = {}

    def marks(ids: Iterable[str]) -> str:
        numbers = [str(cited.setdefault(one, len(cited) + 1)) for one in list(ids)[:3]]
        return f" <small>[{', '.join(numbers)}]</small>" if numbers else ""

    body = []
    for title, lines in _sections(found, kb):
        items = "".join(f"<li>{escape(text)}{marks(ids)}</li>" for text, ids in lines)
        if items:
            body.append(f"<h2>{escape(title)}</h2><ul>{items}</ul>")
    sources = "".join(f"<li>{escape(short(kb, one))} {link(kb.publications[one].link)}</li>" for one in cited)
    message = f"<p>{escape(found.message)}</p>" if found.message else ""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Answer of XAI Atlas</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(found.query.text)}</h1>{message}{''.join(body)}"
        f"<h2>Sources</h2><ol>{sources}</ol><p><small>XAI Atlas. For research; not for clinical use.</small></p>"
        "</body></html>"
    )
    return page, list(cited)


def _sections(found: Answer, kb: KB) -> Iterator[tuple[str, list[Line]]]:
    """Yield the parts of the page, in its order."""
    if found.comparison:
        yield "What was found", [(one.text, one.cites) for one in found.comparison.verdict]
        yield "Head to head", [(one.text, [one.publication]) for one in found.comparison.head_to_head]
    yield "Suggested panel", [(f"{kb.methods[role.method].name}: {role.text}", role.cites) for role in found.roles]
    for rank, one in enumerate(found.recommendations[:TOP], 1):
        lines: list[Line] = [(f"{r.points:+.1f} {r.text}", r.cites) for r in one.reasons[:REASONS]]
        lines += [(f"Serves only {text}", ()) for text in one.conditions]
        lines += [(f"Mind: {each.text}", each.sources) for each in one.cautions[:1]]
        yield f"{rank}. {one.name}, {one.evidence.word} evidence, {one.score:.1f} points", lines
    yield (
        "How to check",
        [
            line
            for step in found.protocol
            for line in (
                (f"{step.text} {step.accept or ''}".strip(), step.cites),
                *((n.text, n.cites) for n in step.notes),
            )
        ],
    )
    yield "What makes explaining hard here", [(one.text, one.sources) for one in found.cautions]
    yield "What nobody has studied", [(one.text, one.cites) for one in found.unstudied]
