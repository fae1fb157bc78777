"""Pieces of the knowledge base that several pages show: statements, claims, publications with their references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import cos, pi, sin
from textwrap import shorten, wrap
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from recommender import Evidence
from taxonomy.citations import SUFFIXES
from taxonomy.citations import cite as references
from taxonomy.graph import RELATIONS, Step
from taxonomy.questions import neighbourhood
from taxonomy.schema import Claim, Publication
from views.common import COLOURS, EXPLORE, cite, knowledge, plain, sourced, words

CHART = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}
READ = {"fulltext": "the full text", "abstract": "the abstract", "title": "only the title"}


def open_entity(entity_id: str) -> None:
    """Go to the page of an entity."""
    st.switch_page(EXPLORE, query_params={"id": entity_id})


def statements(place: Any, title: str, icon: str, found: Iterable[Any]) -> None:
    """Show sourced statements as a list under a title, when there are any."""
    lines = [f"- {sourced(one.text, one.sources)}" for one in found]
    if lines:
        place.markdown(f"**{icon} {title}**\n\n" + "\n".join(lines))


def implementations(found: Iterable[Any]) -> None:
    """Show where something is implemented."""
    kb = knowledge()
    lines = []
    for one in found:
        tool = kb.tools[one.tool]
        name = f"[{plain(tool.name)}]({tool.repository})" if tool.repository else plain(tool.name)
        lines.append(
            f"- {name}" + (f" `{one.object}`" if one.object else "") + f" :small[:gray[{plain(tool.licence or '')}]]"
        )
    if lines:
        st.markdown("**Implemented in**\n\n" + "\n".join(lines))


def dims(found: Iterable[int]) -> str:
    """Return "2D and 3D"."""
    return " and ".join(f"{one}D" for one in found)


STRENGTHS: dict[str, str] = {"strong": "●●●", "moderate": "●●○", "weak": "●○○", "none": "○○○"}
"""Word for a body of evidence to its shape, for those who skim."""


def evidence_line(evidence: Evidence) -> str:
    """Return how strong the evidence for a method is and what that rests on, as Markdown."""
    if not evidence.studies and not evidence.findings:
        return f":gray-badge[{STRENGTHS['none']} no evidence] :small[:gray[No study of the atlas used it.]]"
    parts = [
        f"{evidence.studies} {'study' if evidence.studies == 1 else 'studies'} used it, {evidence.here} of this kind"
    ]
    if evidence.findings:
        parts.append(
            f"{evidence.findings} judged it: {evidence.comparative} compared, {evidence.clinicians} with experts, "
            f"{evidence.independent} independent"
        )
    if evidence.agreement is not None:
        parts.append(f"{evidence.agreement:.0%} of their weight speaks for it")
    if evidence.nearest:
        parts.append(f"the nearest support is {evidence.nearest}")
    word = "no" if evidence.word == "none" else evidence.word
    return f":blue-badge[{STRENGTHS[evidence.word]} {word} evidence] :small[:gray[{plain('; '.join(parts))}.]]"


def points_badge(points: float) -> str:
    """Return the points of a reason; the sign, the words and the colour say the same."""
    colour = "blue" if points > 0 else "orange" if points < 0 else "gray"
    return f":{colour}-badge[{points:+.1f}]"


def claim_line(claim: Claim, publication: Publication | None = None, about: Iterable[str] = ()) -> None:
    """Show one claim with its context, after the names of the methods that it is shown for."""
    named = ", ".join(knowledge().methods[one].name for one in about)
    st.markdown((f"**{plain(named)}:** " if named else "") + claim_text(claim, publication))


def claim_text(claim: Claim, publication: Publication | None = None) -> str:
    """Return one claim with its context, as Markdown."""
    kb = knowledge()
    names = ", ".join(kb.methods[one].name for one in claim.methods)
    versus = " versus " + ", ".join(kb.methods[one].name for one in claim.versus) if claim.versus else ""
    study = publication.study if publication else None
    context = [kb.vocabulary.criteria[claim.criterion].name.lower(), claim.outcome]
    if study:
        context.append(", ".join(kb.modalities[one].name for one in study.modalities))
        if study.task:
            context.append(kb.vocabulary.tasks[study.task].name.lower())
    if claim.self_reported:
        context.append("the authors judge their own method")
    where = f" ({plain(claim.where)})" if claim.where else ""
    source = f" {cite([publication.id])}{where}" if publication else where
    return f"{plain(claim.text)}{source}  \n:small[:gray[{plain(names + versus)} · {plain(' · '.join(context))}]]"


def publication_table(ids: Iterable[str], *, key: str, empty: str) -> None:
    """Show publications as a table; ticked rows can be opened and cited, and without a tick all can be cited."""
    kb = knowledge()
    found = sorted((kb.publications[one] for one in ids), key=lambda one: (-(one.year or 0), one.title))
    if not found:
        st.info(empty)
        return
    frame = pd.DataFrame(
        {
            "year": pd.array([one.year for one in found], dtype="Int64"),
            "title": [one.title for one in found],
            "first author": [one.first_author or "" for one in found],
            "modalities": [words(one.study.modalities) if one.study else "" for one in found],
            "task": [(one.study.task or "") if one.study else "" for one in found],
            "methods": [", ".join(kb.methods[m].name for m in one.methods) for one in found],
            "claims": [len(one.claims) for one in found],
            "clinicians": [bool(one.clinicians) for one in found],
            "link": [one.link for one in found],
        }
    )
    chosen = st.dataframe(
        frame,
        hide_index=True,
        key=key,
        on_select="rerun",
        selection_mode="multi-row",
        column_config={
            "year": st.column_config.NumberColumn(format="%d", width="small"),
            "title": st.column_config.TextColumn(width="large"),
            "clinicians": st.column_config.CheckboxColumn(width="small", help="Experts judged the explanations."),
            "link": st.column_config.LinkColumn(display_text="open", width="small"),
        },
    )
    ticked = [found[row].id for row in chosen["selection"]["rows"]]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for one in ticked[:6]:
            publication = kb.publications[one]
            label = shorten(publication.title, 60, placeholder=" …")
            st.page_link(EXPLORE, label=plain(label), icon=":material/article:", query_params={"id": one})
        cite_menu(ticked or [one.id for one in found], key=key)
    what = f"{len(ticked)} ticked" if ticked else "Tick rows to open or to cite only them."
    st.caption(f"{len(found)} publications. {what}")


def cite_menu(ids: Sequence[str], *, key: str) -> None:
    """Offer the references of publications for download."""
    kb = knowledge()
    with st.popover(f"Cite {len(ids)}", icon=":material/format_quote:"):
        for style, label in (("bibtex", "BibTeX"), ("ris", "RIS"), ("csl", "CSL-JSON")):
            st.download_button(
                label,
                references(kb, ids, style),
                file_name=f"xai-atlas-{len(ids)}{SUFFIXES[style]}",
                key=f"{key}-{style}",
                on_click="ignore",
            )


# --- the graph around a node ------------------------------------------------------------------------------------------


def network(node: str, *, key: str) -> None:
    """Show what stands around an entity in the graph; a click goes there."""
    chosen = st.plotly_chart(
        network_figure(node),
        on_select="rerun",
        selection_mode="points",
        key=key,
        config=CHART,
        alt="The entity in the middle and what it is tied to around it",
    )
    st.caption("Each line is a statement of the knowledge base; the sentence appears under the pointer. A click opens.")
    points = [point for point in chosen["selection"]["points"] if point.get("customdata")]
    if points and ":" not in str(points[0]["customdata"]):  # a word of the vocabulary has no page
        open_entity(str(points[0]["customdata"]))


KIND_COLOURS = {
    "methods": COLOURS["visualization"],
    "modalities": "#b5485d",
    "challenges": COLOURS["non_visualization"],
    "metrics": COLOURS["multimodal"],
    "tools": "#6b7a85",
    "publications": "#3b5168",
}
"""Kind of a node to its colour; words of the vocabulary are violet."""


def network_figure(node: str, limit: int = 22) -> go.Figure:
    """Draw a node and its neighbours on a ring, those of one relation side by side."""
    kb = knowledge()
    steps = sorted(neighbourhood(kb, node, limit), key=lambda one: (list(RELATIONS).index(one.relation), one.target))
    figure = go.Figure()
    places = {
        one.target: (cos(2 * pi * i / len(steps) + pi / 2), sin(2 * pi * i / len(steps) + pi / 2))
        for i, one in enumerate(steps)
    }
    for one in steps:
        x, y = places[one.target]
        figure.add_scatter(x=[0, x], y=[0, y], mode="lines", line={"color": "#c9d4da", "width": 1}, hoverinfo="skip")
    _relation_labels(figure, steps, places)
    kinds = [kb.graph.nodes[one.target]["kind"] for one in steps]
    figure.add_scatter(
        x=[places[one.target][0] for one in steps],
        y=[places[one.target][1] for one in steps],
        mode="markers",
        marker={"size": 16, "color": [KIND_COLOURS.get(kind, COLOURS["latent"]) for kind in kinds]},
        customdata=[one.target for one in steps],
        hovertext=["<br>".join(wrap(one.text, 60)) for one in steps],
        hoverinfo="text",
    )
    for one in steps:
        x, y = places[one.target]
        figure.add_annotation(
            x=x * 1.07,
            y=y * 1.07,
            text="<br>".join(wrap(shorten(kb.graph.nodes[one.target]["name"], 64, placeholder=" …"), 24)),
            showarrow=False,
            font={"size": 11},
            xanchor="left" if x > 0.15 else "right" if x < -0.15 else "center",
            yanchor="bottom" if y > 0.95 else "top" if y < -0.95 else "middle",
            align="left" if x > 0.15 else "right" if x < -0.15 else "center",
        )
    figure.add_scatter(
        x=[0], y=[0], mode="markers", marker={"size": 26, "color": "#5b7083"}, hoverinfo="skip", customdata=[None]
    )
    figure.add_annotation(
        x=0,
        y=-0.09,
        text="<b>" + "<br>".join(wrap(shorten(kb.graph.nodes[node]["name"], 60, placeholder=" …"), 26)) + "</b>",
        showarrow=False,
        yanchor="top",
        bgcolor=_ground(),
    )
    figure.update_xaxes(visible=False, range=[-2.1, 2.1])
    figure.update_yaxes(visible=False, range=[-1.35, 1.35])
    figure.update_layout(height=560, showlegend=False, margin={"t": 0, "l": 0, "r": 0, "b": 0}, dragmode=False)
    return figure


def _ground() -> str:
    """Return the colour below a label, so that lines do not cross its words."""
    return "rgba(18,25,30,0.85)" if st.context.theme.type == "dark" else "rgba(255,255,255,0.85)"


def _relation_labels(figure: go.Figure, steps: Sequence[Step], places: dict[str, tuple[float, float]]) -> None:
    """Write what a run of lines means once, half way out in its middle."""
    runs: dict[str, list[Step]] = {}
    for one in steps:
        runs.setdefault(one.text[len(_name(one.source)) : -len(_name(one.target))].strip(), []).append(one)
    for words_, run in runs.items():
        x, y = places[run[len(run) // 2].target]
        figure.add_annotation(
            x=x * 0.6,
            y=y * 0.6,
            text=words_,
            showarrow=False,
            font={"size": 10, "color": "#7d8d97"},
            bgcolor=_ground(),
        )


def _name(node: str) -> str:
    return str(knowledge().graph.nodes[node]["name"])
