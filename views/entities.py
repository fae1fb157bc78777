"""One page for every entity of the knowledge base, and methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from taxonomy.card import card
from taxonomy.graph import evidence
from taxonomy.questions import Bearing, Finding, bearings, blanks, disagreements, explains, findings, neighbours, why
from taxonomy.schema import Challenge, Effect, Method, Metric, Modality, Publication, Tool
from taxonomy.trust import Trust, trust
from views.common import (
    COLOURS,
    EXPLORE,
    RUN,
    branch_badge,
    cite,
    entity_link,
    entity_links,
    executable,
    knowledge,
    plain,
    sourced,
    words,
)
from views.pieces import (
    CHART,
    READ,
    cite_menu,
    claim_line,
    dims,
    implementations,
    network,
    open_entity,
    publication_table,
    statements,
)

kb = knowledge()
LEAST, MOST = 2, 4
"""How many methods stand side by side."""
FINDINGS = 20
"""Findings on the page of a modality, for and against."""


def entity_page(entity_id: str) -> None:
    """Show the page of an entity.

    Raises:
        UnknownIdError: There is no such entity.
    """
    entity = kb.get(entity_id)
    pages: dict[type, Callable[[Any], None]] = {
        Method: method_page,
        Modality: modality_page,
        Challenge: challenge_page,
        Metric: metric_page,
        Tool: tool_page,
        Publication: publication_page,
    }
    pages[type(entity)](entity)
    with st.expander(
        "Around it in the graph", icon=":material/hub:", key=f"around-{entity_id}", on_change="rerun"
    ) as at:
        if at.open:
            network(entity_id, key=f"network-{entity_id}")


# --- methods ----------------------------------------------------------------------------------------------------------


def method_page(method: Method) -> None:
    """Show all that is known about a method."""
    st.title(plain(method.name))
    st.markdown(
        f"{branch_badge(method.id)} :gray-badge[gives a {plain(words([method.output]))}] "
        f":gray-badge[{method.scope}] :gray-badge[{plain(method.stage.replace('_', '-'))}]"
    )
    if method.umbrella:
        st.info("Publications use this name without saying which variant they mean; it stands for the group.")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        if method.id in executable():
            st.page_link(RUN, label="Run it", icon=":material/play_circle:", query_params={"methods": method.id})
        st.page_link(EXPLORE, label="Compare", icon=":material/compare:", query_params=_beside(method.id))
        st.download_button(
            "Card to print",
            card(kb, method.id),
            file_name=f"{method.id}.html",
            mime="text/html",
            icon=":material/print:",
            type="tertiary",
            on_click="ignore",
        )
        if used := kb.index.by_method.get(method.id, ()):
            cite_menu(used, key=f"cite-{method.id}")
    left, right = st.columns([2, 1], gap="large")
    with left:
        if method.definition:
            st.markdown(plain(method.definition))
        if method.strengths or method.limitations:
            good, bad = st.columns(2, gap="medium")
            statements(good, "Strengths", ":material/add_circle:", method.strengths)
            statements(bad, "Limitations", ":material/do_not_disturb_on:", method.limitations)
        st.subheader("In one modality")
        in_modality(method.id)
        st.subheader("What studies found")
        claims_of(method.id)
        untried(method.id)
    with right:
        facts(method)


def _beside(method_id: str) -> dict[str, Any]:
    near = [one.method for one in neighbours(kb, method_id) if kb.index.by_method.get(one.method)]
    # a bound widget reads the words it shows from the address
    return {"view": "Compare", "methods": [kb.methods[one].name for one in (method_id, *near[:2])]}


def facts(method: Method) -> None:
    """Show the column of facts of a method."""
    vocabulary = kb.vocabulary
    with st.container(border=True):
        st.markdown("**Needs**")
        st.markdown(
            "\n".join(f"- {plain(vocabulary.needs[need].name)}" for need in method.requires.needs)
            or "Only the model's answer: any model will do."
        )
        tasks = ", ".join(vocabulary.tasks[one].name.lower() for one in method.requires.tasks)
        st.markdown(f"**Explains** {plain(tasks)}, on {dims(method.requires.dims)} images")
        if method.class_discriminative is not None:
            st.markdown("**Class-discriminative** " + ("yes" if method.class_discriminative else "no"))
        st.markdown(f"**Cost** {plain(cost(method))}")
        if method.source:
            st.markdown(f"**Original paper** {cite([method.source])}")
        if method.aliases:
            st.markdown(f"**Also called** {plain(', '.join(method.aliases))}")
    variants = kb.index.children.get(method.id, ())
    if method.parent:
        st.markdown("**Variant of**")
        entity_links([method.parent])
    if variants:
        st.markdown("**Variants**")
        entity_links(variants)
    st.markdown("**Nearest relatives**")
    rows = [
        f"- {plain(kb.methods[n.method].name)} :small[:gray[{plain('; '.join(n.why))}]]"
        for n in neighbours(kb, method.id, 5)
    ]
    st.markdown("\n".join(rows))
    if method.hyperparameters:
        st.markdown("**Hyperparameters**")
        st.dataframe(
            pd.DataFrame(
                [
                    {
                        "name": one.name,
                        "default": "" if one.default is None else str(one.default),
                        "note": one.note or "",
                    }
                    for one in method.hyperparameters
                ]
            ),
            hide_index=True,
        )
    implementations(method.implementations)
    if effects := bearings(kb, method.id):
        st.markdown("**Challenges**")
        st.markdown("\n".join(f"- {bearing_text(one)}" for one in effects))


def cost(method: Method) -> str:
    """Return the cost of a method in words."""
    passes = "unknown" if method.cost.passes is None else f"{method.cost.passes:,} model passes per image"
    return passes + (f" ({method.cost.text})" if method.cost.text else "")


def claims_of(method_id: str) -> None:
    """Show the publications on a method: findings for it, against it, neither, where they disagree, and mere uses."""
    told = [f for f in findings(kb, method_id) if f.side or f.claim.outcome in ("equal", "mixed")]
    groups = {
        "For": [f for f in told if f.side > 0],
        "Against": [f for f in told if f.side < 0],
        "Mixed or equal": [f for f in told if not f.side],
    }
    used = [one for one in kb.index.by_method.get(method_id, ()) if one not in {f.publication for f in told}]
    if not told:
        st.markdown("No publication in the knowledge base compares or judges it.")
    else:
        split = disagreements(kb, method_id)
        labels = [f"{name} ({len(found)})" for name, found in groups.items()]
        tabs = st.tabs([*labels, *([f"Disagreements ({len(split)})"] if split else [])])
        for tab, group in zip(tabs, groups.values(), strict=False):
            with tab:
                finding_lines(group)
        if split:
            with tabs[-1]:
                disagreement_list(split, name=False)
    if used:
        with st.expander(f"{len(used)} more publications only used it"):
            publication_table(used, key=f"used-{method_id}", empty="")


def finding_lines(group: Iterable[Finding]) -> None:
    """Show findings, or that there are none."""
    listed = list(group)
    if not listed:
        st.markdown("None.")
    for finding in listed:
        claim_line(finding.claim, kb.publications[finding.publication])


def disagreement_list(found: Iterable[Any], *, name: bool = True) -> None:
    """Show where publications disagree, both sides beside each other."""
    for one in found:
        what = [kb.vocabulary.criteria[one.criterion].name, kb.modalities[one.modality].name]
        title = " · ".join(([kb.methods[one.method].name] if name else []) + what)
        with st.container(border=True):
            opposed = " :orange-badge[they rank the same methods in opposite order]" if one.opposed else ""
            st.markdown(f"**{plain(title)}**{opposed}")
            left, right = st.columns(2, gap="medium")
            with left:
                st.markdown(":green[For]")
                finding_lines(one.for_)
            with right:
                st.markdown(":red[Against]")
                finding_lines(one.against)


def in_modality(method_id: str) -> None:
    """Show what speaks for and against a method in a modality: studies, challenges, and the ways through the graph."""
    modality = st.selectbox(
        "Modality",
        list(kb.modalities),
        index=None,
        format_func=lambda one: kb.modalities[one].name,
        placeholder="Choose a modality",
        label_visibility="collapsed",
        key="in",
        bind="query-params",
    )
    if modality is None:
        return
    found = evidence(kb, method_id, modality)
    if not found:
        st.markdown("No publication tried it there: a gap.")
    for one in found:
        for claim in one.claims:
            claim_line(claim, one.publication)
    if used := [one.publication.id for one in found if not one.claims]:
        st.markdown(f"Used, with nothing found about it: {cite(used)}")
    st.markdown("\n".join(f"- {bearing_text(one)}" for one in bearings(kb, method_id, modality)))
    for number, steps in enumerate(why(kb, method_id, modality), 1):
        st.markdown(f"**Way {number}** through the graph\n" + "\n".join(f"1. {plain(step.text)}" for step in steps))


def bearing_text(bearing: Bearing) -> str:
    """Return what a method does to a challenge, as Markdown."""
    verb = "eases" if bearing.eases else "suffers from"
    name = plain(kb.challenges[bearing.challenge].name)
    return f"{verb} *{name}*: {sourced(bearing.effect.text, bearing.effect.sources)}"


def untried(method_id: str) -> None:
    """Show on which modalities nobody tried a method, the most promising first."""
    found = [one for one in blanks(kb, methods=[method_id]) if one.promise > 0][:6]
    if found:
        names = ", ".join(kb.modalities[one.modality].name for one in found)
        st.caption(f"Not tried yet, most suggested by its neighbours first: {plain(names)}.")


def compare_view() -> None:
    """Show two to four methods side by side, and what publications found when they compared them."""
    chosen = st.multiselect(
        f"Two to {MOST} methods",
        list(kb.methods),
        default=["grad_cam", "integrated_gradients"],
        format_func=lambda one: kb.methods[one].name,
        max_selections=MOST,
        key="methods",
        bind="query-params",
    )
    if len(chosen) < LEAST:
        st.info("Choose at least two methods to see them side by side.")
        return
    methods = [kb.methods[one] for one in chosen]
    rows: dict[str, list[str]] = {
        "": [branch_badge(one.id) for one in methods],
        "What it does": [plain(one.definition or "no definition") for one in methods],
        "Gives": [plain(f"{words([one.output])}, {one.scope}, {one.stage.replace('_', '-')}") for one in methods],
        "Needs": [
            plain(", ".join(kb.vocabulary.needs[n].name.lower() for n in one.requires.needs) or "the model's answer")
            for one in methods
        ],
        "Explains": [plain(f"{words(one.requires.tasks)}; {dims(one.requires.dims)}") for one in methods],
        "Cost": [plain(cost(one)) for one in methods],
        "Class-discriminative": [
            {True: "yes", False: "no", None: "not said"}[one.class_discriminative] for one in methods
        ],
        "Publications": [_studies(one) for one in methods],
        "Strengths": [_bullets(one.strengths) for one in methods],
        "Limitations": [_bullets(one.limitations) for one in methods],
        "Eases": [_challenges(one.id, eases=True) for one in methods],
        "Suffers from": [_challenges(one.id, eases=False) for one in methods],
        "Runs here": ["yes" if one.id in executable() else "no" for one in methods],
        "Implemented in": [
            plain(", ".join(dict.fromkeys(kb.tools[i.tool].name for i in one.implementations)) or "no tool known")
            for one in methods
        ],
    }
    columns = [plain(one.name) for one in methods]
    st.table(
        pd.DataFrame(list(rows.values()), index=[f"**{name}**" if name else " " for name in rows], columns=columns)
    )
    with st.container(horizontal=True):
        entity_links(chosen)
        publications = {p for one in chosen for p in kb.index.by_method.get(one, ())}
        if publications:
            cite_menu(sorted(publications), key="cite-compared")
    head_to_head(chosen)


def _studies(method: Method) -> str:
    told = findings(kb, method.id)
    pro, con = (sum(f.side == wanted for f in told) for wanted in (1, -1))
    return f"{len(kb.index.by_method.get(method.id, ()))}; {pro} findings for it, {con} against"


def _bullets(found: Sequence[Any]) -> str:
    return "\n".join(f"- {sourced(one.text, one.sources)}" for one in found) or "none recorded"


def _challenges(method_id: str, *, eases: bool) -> str:
    found = dict.fromkeys(kb.challenges[b.challenge].name for b in bearings(kb, method_id) if b.eases == eases)
    return plain(", ".join(found) or "none recorded")


def head_to_head(chosen: Sequence[str]) -> None:
    """Show the claims that set methods against each other."""
    st.subheader("Where publications compared them")
    any_found = False
    for one, other in combinations(chosen, 2):
        direct = [
            f
            for f in findings(kb, one)
            if (one in f.claim.methods and other in f.claim.versus)
            or (other in f.claim.methods and one in f.claim.versus)
        ]
        if direct:
            any_found = True
            st.markdown(f"**{plain(kb.methods[one].name)} and {plain(kb.methods[other].name)}**")
            finding_lines(direct)
    if not any_found:
        st.markdown("No publication in the knowledge base set them against each other.")


# --- modalities -------------------------------------------------------------------------------------------------------


def modality_page(modality: Modality) -> None:
    """Show a modality: what makes explaining hard, what was tried, what held up, what did not, what to measure."""
    st.title(plain(modality.name))
    st.markdown(sourced(modality.definition, modality.sources))
    st.caption(f"{dims(modality.dims)} · {plain(', '.join(modality.formats))}")
    related = [modality.parent] if modality.parent else []
    related += [one.id for one in kb.modalities.values() if one.parent == modality.id]
    entity_links(related, icon=":material/account_tree:")
    tasks = sorted({p.study.task for p in _studied(modality) if p.study and p.study.task})
    task = st.pills(
        "Task",
        tasks,
        format_func=lambda one: kb.vocabulary.tasks[one].name,
        key=f"task-{modality.id}",
        help="Only studies of this task",
    )
    tried = explains(kb, modality.id, task)
    left, right = st.columns([1, 1], gap="large")
    with left:
        st.subheader("What makes explaining hard here")
        if not modality.challenges:
            st.markdown("No challenge is recorded.")
        for one in modality.challenges:
            challenge = kb.challenges[one.challenge]
            with st.expander(plain(challenge.name), expanded=len(modality.challenges) <= 3):
                if one.text:
                    st.markdown(sourced(one.text, one.sources))
                challenge_body(challenge)
        st.subheader("What to measure")
        for line in _to_measure(modality):
            st.markdown(line)
    with right:
        st.subheader("What was tried")
        tried_chart(modality, tried)
    if modality.no_study_found:
        st.info("Publications were looked for, and none was found.")
    good, bad = st.columns(2, gap="large")
    with good:
        st.subheader("What held up")
        told_of((one.method, f) for one in tried for f in one.for_)
    with bad:
        st.subheader("What did not")
        told_of((one.method, f) for one in tried for f in one.against)
    split = disagreements(kb, modality=modality.id)
    if split:
        with st.expander(f"Where publications disagree ({len(split)})"):
            disagreement_list(split)
    with st.expander("What nobody has tried here, the most promising first"):
        blank_table(blanks(kb, modality=modality.id)[:15])
    st.subheader("Publications")
    publication_table(
        [p.id for p in _studied(modality) if task is None or (p.study and p.study.task == task)],
        key=f"in-{modality.id}",
        empty="No publication is recorded.",
    )


def _studied(modality: Modality) -> list[Publication]:
    return [kb.publications[one] for one in kb.index.by_modality.get(modality.id, ())]


def told_of(found: Iterable[tuple[str, Finding]]) -> None:
    """Show findings, each once after the methods it speaks of: a method may have won or lost on either side."""
    methods: dict[int, list[str]] = {}
    claims: dict[int, Finding] = {}
    for method, finding in found:
        claims[id(finding.claim)] = finding
        methods.setdefault(id(finding.claim), []).append(method)
    if not claims:
        st.markdown("None.")
    for key, finding in list(claims.items())[:FINDINGS]:
        claim_line(finding.claim, kb.publications[finding.publication], methods[key])
    if len(claims) > FINDINGS:
        st.caption(f"{len(claims) - FINDINGS} more are on the pages of the methods.")


def _to_measure(modality: Modality) -> list[str]:
    lines: dict[str, str] = {}
    for difficulty in modality.challenges:
        challenge = kb.challenges[difficulty.challenge]
        for shown in challenge.shown_by:
            metric = kb.metrics[shown.metric]
            text = shown.text or metric.definition
            line = f"- **{plain(metric.name)}** for *{plain(challenge.name)}*: {sourced(text, shown.sources)}"
            lines.setdefault(metric.id, line)
    return list(lines.values()) or ["No metric is tied to the challenges of this modality."]


def tried_chart(modality: Modality, tried: Sequence[Any]) -> None:
    """Show the methods that were tried as bars; a click opens the method."""
    shown = sorted(tried, key=lambda one: (len(one.publications), one.balance))[-22:]
    if not shown:
        st.markdown("No publication is recorded.")
        return
    most = len(shown[-1].publications)
    figure = go.Figure(
        go.Bar(
            x=[len(one.publications) for one in shown],
            y=[kb.methods[one.method].name for one in shown],
            orientation="h",
            marker_color=[COLOURS[kb.branch(one.method)] for one in shown],
            customdata=[one.method for one in shown],
            text=[f"+{len(one.for_)} −{len(one.against)}" if one.for_ or one.against else "" for one in shown],
            hovertemplate="%{y}: %{x} publications, %{text}<extra></extra>",
        )
    )
    figure.update_layout(height=90 + 24 * len(shown), margin={"t": 10, "l": 10, "r": 10, "b": 40}, dragmode=False)
    figure.update_xaxes(title="publications", dtick=1 if most < 10 else None)  # noqa: PLR2004
    chosen = st.plotly_chart(
        figure,
        on_select="rerun",
        selection_mode="points",
        key=f"bars-{modality.id}",
        config=CHART,
        alt=f"Publications by method in {modality.name}",
    )
    st.caption("On the bars: findings for (+) and against (−). A click opens the method; colours are the branches.")
    if points := chosen["selection"]["points"]:
        open_entity(str(points[0]["customdata"]))


def blank_table(found: Sequence[Any]) -> None:
    """Show blank cells as a table."""
    if not found:
        st.info("Nothing here is untried.")
        return
    st.dataframe(
        pd.DataFrame(
            {
                "method": [kb.methods[one.method].name for one in found],
                "never on": [kb.modalities[one.modality].name for one in found],
                "promise": [one.promise for one in found],
                "tried on (publications)": [
                    ", ".join(f"{kb.modalities[m].name} ({n})" for m, _, n in one.elsewhere[:4]) for one in found
                ],
                "would ease": [", ".join(kb.challenges[c].name for c in one.eases) for one in found],
                "relatives tried here": [", ".join(kb.methods[m].name for m in one.relatives[:4]) for one in found],
            }
        ),
        hide_index=True,
        column_config={
            "promise": st.column_config.ProgressColumn(
                format="%.1f", min_value=0, max_value=max(max(one.promise for one in found), 1)
            )
        },
    )


# --- challenges, metrics, tools, publications -------------------------------------------------------------------------


def challenge_page(challenge: Challenge) -> None:
    """Show a challenge."""
    st.title(plain(challenge.name))
    challenge_body(challenge)
    st.subheader("Where it is met")
    if challenge.general:
        st.markdown("In every modality.")
    for modality in kb.modalities.values():
        for one in modality.challenges:
            if one.challenge == challenge.id:
                entity_link(modality.id, modality.name)
                st.markdown(sourced(one.text or "", one.sources))


def challenge_body(challenge: Challenge) -> None:
    """Show what a challenge is, what eases or worsens it and what measures it."""

    def lines(title: str, effects: Iterable[Effect]) -> None:
        rows = []
        for effect in effects:
            if effect.family:
                who = kb.vocabulary.families[effect.family].name
            else:
                who = kb.get(effect.method or str(effect.metric)).name
            rows.append(f"- **{plain(who)}** {sourced(effect.text, effect.sources)}")
        if rows:
            st.markdown(f"*{title}*\n" + "\n".join(rows))

    st.markdown(sourced(challenge.definition, challenge.sources))
    lines("What helps", challenge.eased_by)
    lines("What suffers", challenge.worsened_by)
    if challenge.shown_by:
        rows = [
            f"- **{plain(kb.metrics[one.metric].name)}** {sourced(one.text or '', one.sources)}"
            for one in challenge.shown_by
        ]
        st.markdown("*Metrics that show whether it bites*\n" + "\n".join(rows))


def trust_of(judged: Trust) -> None:
    """Show how far a metric can be trusted, and where it failed."""
    st.markdown(plain(judged.phrase[0].upper() + judged.phrase[1:]) + ".")
    if judged.weight is None:
        return
    with st.expander("How it was judged", icon=":material/balance:"):
        st.markdown(
            "On models whose decision is known exactly, in 2D and 3D, the metric had to tell the better of two maps "
            f"(or explainers). {judged.images} images; 95 % interval {judged.low:.0%} to {judged.high:.0%}; half for a "
            f"tie; {judged.undefined:.0%} of the scores were not defined."
        )
        shares = {"pair, the better one first": judged.pairs, "infill": judged.infills}
        for name, found in shares.items():
            if found:
                rows = [{name: one, "in the right order": share} for one, share in found.items()]
                percent = {"in the right order": st.column_config.NumberColumn(format="percent")}
                st.dataframe(rows, hide_index=True, column_config=percent)
        if judged.noise is not None:
            st.markdown(f"Another seed moves a score by {judged.noise:.1%} of what lies between the maps.")


def metric_page(metric: Metric) -> None:
    """Show a metric."""
    st.title(plain(metric.name))
    st.markdown(f":blue-badge[{plain(metric.property.replace('_', ' '))}]")
    st.markdown(sourced(metric.definition, [metric.source] if metric.source else []))
    better = {"higher": "Higher is better.", "lower": "Lower is better.", None: "Neither direction is better."}
    st.markdown(
        f"{better[metric.direction]} Range: {plain(metric.range or 'not stated')}. "
        f"Needs: {plain(words(metric.needs) or 'the explanation only')}."
    )
    if metric.cost:
        st.markdown(f"Cost: {plain(metric.cost)}")
    if (judged := trust(kb).get(metric.id)) is not None:
        trust_of(judged)
    statements(st.container(), "Weaknesses", ":material/do_not_disturb_on:", metric.weaknesses)
    shows = [one.id for one in kb.challenges.values() if any(s.metric == metric.id for s in one.shown_by)]
    if shows:
        st.markdown("**Shows**")
        entity_links(shows)
    implementations(metric.implementations)


def tool_page(tool: Tool) -> None:
    """Show a tool with what it covers and its traps."""
    st.title(plain(tool.name))
    st.markdown(f":blue-badge[{plain(tool.category)}]")
    known = {True: "yes", False: "no", None: "unknown"}
    rows = {
        "Repository": tool.repository or "not public",
        "Package": plain(tool.package or "none"),
        "Version": plain(" · ".join(filter(None, (tool.version, tool.last_release))) or "unknown"),
        "Licence": plain(tool.licence or "unknown"),
        "Frameworks": plain(", ".join(tool.frameworks) or "unknown"),
        "3D": known[tool.supports_3d],
        "Segmentation": known[tool.supports_segmentation],
        "Vision transformers": known[tool.supports_vit],
    }
    st.markdown("\n".join(f"- **{name}:** {value}" for name, value in rows.items()))
    if tool.source:
        st.markdown(f"Described in {cite([tool.source])}")
    for title, group in (("Methods", kb.methods), ("Metrics", kb.metrics)):
        covered = [one for one, entity in group.items() if any(i.tool == tool.id for i in entity.implementations)]
        if covered:
            st.markdown(f"**{title}**")
            entity_links(covered)
    if tool.traps:
        st.subheader("Traps its users met")
        for trap in tool.traps:
            link = f" [thread]({trap.url})" if trap.url else ""
            st.markdown(f"- {plain(trap.text)}{link} :small[:gray[({plain(trap.basis)})]]")


def publication_page(publication: Publication) -> None:
    """Show a publication with its claims."""
    st.title(plain(publication.title))
    about = [publication.first_author, publication.venue, str(publication.year or "year unknown")]
    st.markdown(plain(" · ".join(part for part in about if part)))
    st.markdown(f"[{plain(publication.link)}]({publication.link})")
    if publication.retracted:
        st.error(f"Retracted: [notice]({publication.retracted}). Its findings count no longer.")
    st.caption(f"Read for this atlas: {READ[publication.read]}.")
    if publication.clinicians:
        readers = f" ({publication.readers})" if publication.readers else ""
        st.markdown(f":green-badge[judged by clinicians or other experts{readers}]")
    cite_menu([publication.id], key="cite-one")
    if study := publication.study:
        parts = {
            "Anatomy": study.anatomy,
            "Task": kb.vocabulary.tasks[study.task].name if study.task else None,
            "Architecture": kb.vocabulary.architectures[study.architecture].name if study.architecture else None,
            "Model": study.model,
            "Images": dims(study.dims) if study.dims else None,
            "Model reads": words(study.inputs),
            "Cases": f"{study.cases:,}" if study.cases else None,
            "Setting": study.setting,
        }
        st.markdown("\n".join(f"- **{name}:** {plain(value)}" for name, value in parts.items() if value))
        entity_links(study.modalities)
    if publication.claims:
        st.subheader("What it found")
        for claim in publication.claims:
            claim_line(claim)
    if publication.counts:
        st.subheader("What it counted")
        st.caption("A review's counts say how much was done, not how well it works.")
        st.dataframe(
            pd.DataFrame(
                [
                    {
                        "modality": kb.modalities[one.modality].name if one.modality else "",
                        "family": kb.vocabulary.families[one.family].name if one.family else "",
                        "method": kb.methods[one.method].name if one.method else "",
                        "task": kb.vocabulary.tasks[one.task].name if one.task else "",
                        "studies": one.studies,
                        "of": one.of,
                        "what": one.text,
                        "coded by": {"authors": "its authors", "ours": "us"}[one.coding],
                    }
                    for one in publication.counts
                ]
            ),
            hide_index=True,
        )
    if publication.methods:
        st.subheader("Methods it used")
        entity_links(publication.methods)
    introduced = [one.id for one in kb.methods.values() if one.source == publication.id]
    introduced += [one.id for one in kb.metrics.values() if one.source == publication.id]
    if introduced:
        st.subheader("What it introduced")
        entity_links(introduced)
    if publication.conflicts:
        st.subheader("Publications that found otherwise")
        for one in publication.conflicts:
            entity_link(one, kb.publications[one].title)
