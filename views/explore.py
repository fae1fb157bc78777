"""Explore: the taxonomy as a picture and a tree, the evidence, and one page for every entity (``?id=grad_cam``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from taxonomy.graph import challenges_of
from taxonomy.schema import Challenge, Claim, Effect, Method, Metric, Modality, Publication, Tool
from views.common import (
    COLOURS,
    EXPLORE,
    RUN,
    branch_badge,
    cite,
    entity_link,
    entity_links,
    knowledge,
    plain,
    runnable,
    sentences,
    sourced,
    words,
)

kb = knowledge()
CHART = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}
FOR, AGAINST = ("better", "adequate"), ("worse", "inadequate")


def page() -> None:
    """Show the entity that the address names, or the overview."""
    given = st.query_params.get("id")
    if not given:
        overview()
        return
    st.page_link(EXPLORE, label="All of the atlas", icon=":material/arrow_back:")
    with sentences():
        entity = kb.get(given)
        pages: dict[type, Callable[[Any], None]] = {
            Method: method_page,
            Modality: modality_page,
            Challenge: challenge_page,
            Metric: metric_page,
            Tool: tool_page,
            Publication: publication_page,
        }
        pages[type(entity)](entity)


def open_entity(entity_id: str) -> None:
    """Go to the page of an entity."""
    st.switch_page(EXPLORE, query_params={"id": entity_id})


# --- overview ---------------------------------------------------------------------------------------------------------


def overview() -> None:
    """Show the whole: methods, evidence, modalities, publications, metrics and tools."""
    st.title("Explore")
    st.caption(
        f"{len(kb.methods)} explanation methods, {len(kb.modalities)} imaging modalities, {len(kb.challenges)} "
        f"challenges, {len(kb.metrics)} metrics, {len(kb.tools)} tools and {len(kb.publications)} publications. "
        "Every statement carries the publication it comes from."
    )
    everything = {
        entity_id: f"{entity.name} ({kind.rstrip('s') if kind != 'modalities' else 'modality'})"
        for kind in ("methods", "modalities", "challenges", "metrics", "tools")
        for entity_id, entity in getattr(kb, kind).items()
    }
    wanted = st.selectbox(
        "Open a page",
        list(everything),
        index=None,
        format_func=everything.__getitem__,
        placeholder="Type a method, modality, challenge, metric or tool …",
        label_visibility="collapsed",
    )
    if wanted:
        open_entity(wanted)
    views = {
        "Methods": methods_view,
        "Evidence": evidence_view,
        "Modalities": modalities_view,
        "Publications": publications_view,
        "Metrics and tools": tools_view,
    }
    for tab, show in zip(st.tabs(list(views), key="view", bind="query-params"), views.values(), strict=True):
        if tab.open:
            with tab:
                show()


def methods_view() -> None:
    """Show branches → families → methods as a sunburst and as a list."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        chosen = st.plotly_chart(
            sunburst(),
            on_select="rerun",
            selection_mode="points",
            key="sunburst",
            config=CHART,
            alt="Sunburst of branches, families and methods",
        )
        st.caption(
            "A click on a branch or family shows its methods beside; a click on a method opens its page. "
            "Names that do not fit appear when you click closer."
        )
    points = chosen["selection"]["points"]
    node = str(points[0].get("id", "")) if points else ""
    kind, _, name = node.partition(":")
    if kind == "method":
        open_entity(name)
    vocabulary = kb.vocabulary
    with right:
        branches = {one: word.name for one, word in vocabulary.branches.items()}
        if kind == "branch":
            families = [one for one, family in vocabulary.families.items() if family.branch == name]
        elif kind == "family":
            families = [name]
        else:
            families = list(vocabulary.families)
            st.subheader("All branches and families")
        seen = ""
        for family_id in families:
            family = vocabulary.families[family_id]
            members = [method for method in kb.methods.values() if method.family == family_id]
            if not members:
                continue
            if family.branch != seen:
                seen = family.branch
                st.markdown(
                    f"**{plain(branches[family.branch])}** :small[{plain(vocabulary.branches[seen].definition or '')}]"
                )
            with st.expander(f"{plain(family.name)} :gray[{len(members)}]", expanded=len(families) == 1):
                if family.definition:
                    st.markdown(sourced(family.definition, family.sources))
                entity_links(method.id for method in sorted(members, key=lambda one: one.name.casefold()))


def sunburst() -> go.Figure:
    """Draw branches, families and methods; a slice is as wide as its number of methods."""
    rows: list[tuple[str, str, str, int, str]] = []
    per_family = Counter(method.family for method in kb.methods.values())
    used = kb.index.by_method
    for branch, word in kb.vocabulary.branches.items():
        families = [(one, f) for one, f in kb.vocabulary.families.items() if f.branch == branch and per_family[one]]
        rows.append((f"branch:{branch}", word.name, "", sum(per_family[one] for one, _ in families), COLOURS[branch]))
        rows += [(f"family:{one}", f.name, f"branch:{branch}", per_family[one], COLOURS[branch]) for one, f in families]
    for method in kb.methods.values():
        rows.append((f"method:{method.id}", method.name, f"family:{method.family}", 1, COLOURS[kb.branch(method.id)]))
    ids, labels, parents, values, colours = (list(column) for column in zip(*rows, strict=True))
    hover = [
        f"{len(used.get(one.removeprefix('method:'), ()))} publications"
        if one.startswith("method:")
        else f"{value} methods"
        for one, value in zip(ids, values, strict=True)
    ]
    figure = go.Figure(
        go.Sunburst(
            ids=ids,
            labels=labels,
            parents=parents,
            values=values,
            branchvalues="total",
            marker={"colors": colours, "line": {"color": "white", "width": 1}},
            customdata=hover,
            hovertemplate="<b>%{label}</b><br>%{customdata}<extra></extra>",
            insidetextorientation="radial",
            insidetextfont={"color": "white"},
            leaf={"opacity": 0.75},
            sort=False,
        )
    )
    figure.update_layout(
        margin={"t": 0, "l": 0, "r": 0, "b": 0}, height=680, uniformtext={"minsize": 9, "mode": "hide"}
    )
    return figure


def evidence_view() -> None:
    """Show how many publications there are of each method in each modality; a cell opens its publications."""
    cells, per_method = kb.index.coverage, kb.index.by_method
    least = st.slider("Show methods with at least this many publications", 1, 10, 2)
    shown = sorted((one for one, ids in per_method.items() if len(ids) >= least), key=lambda one: len(per_method[one]))
    if not shown:
        st.info("No method has that many publications: move the slider to the left.")
        return
    per_modality = kb.index.by_modality
    modalities = sorted(per_modality, key=lambda one: -len(per_modality[one]))
    drawn = [cell for cell in cells if cell[0] in set(shown)]
    sizes = [len(cells[cell]) for cell in drawn]
    figure = go.Figure(
        go.Scatter(
            x=[kb.modalities[modality].name for _, modality in drawn],
            y=[kb.methods[method].name for method, _ in drawn],
            mode="markers+text",
            text=[str(size) for size in sizes],
            textfont={"size": 11, "color": ["white" if size > max(sizes) / 3 else "#1d2b33" for size in sizes]},
            marker={
                "symbol": "square",
                "size": 24,
                "color": sizes,
                "colorscale": [[0, "#e3f0f2"], [0.3, "#7fb9c2"], [1, "#0b4f5a"]],
                "cmin": 0,
                "cmax": max(sizes),
            },
            customdata=[f"{method}|{modality}" for method, modality in drawn],
            hovertemplate="%{y} · %{x}<br>%{text} publications<extra></extra>",
            unselected={"marker": {"opacity": 0.5}},
        )
    )
    figure.update_xaxes(
        categoryorder="array",
        categoryarray=[kb.modalities[one].name for one in modalities],
        side="top",
        tickangle=-40,
        showgrid=False,
        range=[-0.7, len(modalities) - 0.3],
    )
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=[kb.methods[one].name for one in shown],
        gridcolor="#edf2f4",
        range=[-0.7, len(shown) - 0.3],
    )
    figure.update_layout(height=150 + 28 * len(shown), margin={"t": 110, "l": 10, "r": 10, "b": 10}, dragmode=False)
    cell = st.container()
    chosen = st.plotly_chart(
        figure,
        on_select="rerun",
        selection_mode="points",
        key="evidence",
        config=CHART,
        alt="Number of publications for each method and modality",
    )
    points = chosen["selection"]["points"]
    clicked = str(points[0]["customdata"]).split("|") if points else [None, None]
    with cell:
        publications_of(*clicked)


def publications_of(method: str | None, modality: str | None) -> None:
    """Show the publications of a cell, which can be chosen too."""
    index = kb.index
    methods = sorted(index.by_method, key=lambda one: kb.methods[one].name.casefold())
    modalities = sorted(index.by_modality, key=lambda one: kb.modalities[one].name.casefold())
    left, right = st.columns(2)
    method = left.selectbox(
        "Method",
        methods,
        index=methods.index(method) if method else None,
        format_func=lambda one: kb.methods[one].name,
        placeholder="click a number below, or choose",
    )
    modality = right.selectbox(
        "Modality",
        modalities,
        index=modalities.index(modality) if modality else None,
        format_func=lambda one: kb.modalities[one].name,
        placeholder="any modality" if method else "click a number below, or choose",
    )
    if method and modality:
        found = index.coverage.get((method, modality), ())
    elif method or modality:
        found = index.by_method[method] if method else index.by_modality[str(modality)]
    else:
        return
    publication_table(
        found, key="cell", empty="No publication on this method in this modality is in the knowledge base: a gap."
    )


def modalities_view() -> None:
    """Show the modalities with their publication counts."""
    used = {one: len(kb.index.by_modality.get(one, ())) for one in kb.modalities}
    for modality in sorted(kb.modalities.values(), key=lambda one: -used[one.id]):
        with st.container(border=True):
            entity_link(modality.id, modality.name)
            st.markdown(plain(modality.definition))
            st.caption(
                f"{used[modality.id]} publications · {dims(modality.dims)} · {plain(', '.join(modality.formats))} · "
                f"{len(modality.challenges)} challenges"
            )


def publications_view() -> None:
    """Show all publications with filters."""
    text = st.text_input("Search", placeholder="Title, author, venue or anatomy", key="find", bind="query-params")
    left, middle, right = st.columns(3)
    methods = left.multiselect("Methods", list(kb.methods), format_func=lambda one: kb.methods[one].name)
    modalities = middle.multiselect("Modalities", list(kb.modalities), format_func=lambda one: kb.modalities[one].name)
    tasks = right.multiselect("Tasks", list(kb.vocabulary.tasks), format_func=lambda one: kb.vocabulary.tasks[one].name)

    def wanted(publication: Publication) -> bool:
        study = publication.study
        haystack = " ".join(
            str(part)
            for part in (publication.title, publication.first_author, publication.venue, study and study.anatomy)
            if part
        )
        return (
            all(word in haystack.casefold() for word in (text or "").casefold().split())
            and (not methods or bool(set(methods) & set(publication.methods)))
            and (not modalities or bool(study and set(modalities) & set(study.modalities)))
            and (not tasks or bool(study and study.task in tasks))
        )

    publication_table(
        [p.id for p in kb.publications.values() if wanted(p)],
        key="publications",
        empty="No publication fits these filters: remove one.",
    )


def tools_view() -> None:
    """Show metrics by property, and tools."""
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Metrics")
        for prop in dict.fromkeys(metric.property for metric in kb.metrics.values()):
            st.markdown(f"**{prop.replace('_', ' ').capitalize()}**")
            entity_links(metric.id for metric in kb.metrics.values() if metric.property == prop)
    with right:
        st.subheader("Tools")
        for category in dict.fromkeys(tool.category for tool in kb.tools.values()):
            st.markdown(f"**{plain(category[:1].upper() + category[1:])}**")
            entity_links(tool.id for tool in kb.tools.values() if tool.category == category)


# --- one page per kind ------------------------------------------------------------------------------------------------


def method_page(method: Method) -> None:
    """Show all that is known about a method."""
    st.title(plain(method.name))
    st.markdown(
        f"{branch_badge(method.id)} :gray-badge[gives a {plain(words([method.output]))}] "
        f":gray-badge[{method.scope}] :gray-badge[{plain(method.stage.replace('_', '-'))}]"
    )
    if method.umbrella:
        st.info("Publications use this name without saying which variant they mean; it stands for the group.")
    if method.id in runnable():
        st.page_link(RUN, label="Run it", icon=":material/play_circle:", query_params={"methods": method.id})
    left, right = st.columns([2, 1], gap="large")
    with left:
        if method.definition:
            st.markdown(plain(method.definition))
        if method.strengths or method.limitations:
            good, bad = st.columns(2, gap="medium")
            statements(good, "Strengths", ":material/add_circle:", method.strengths)
            statements(bad, "Limitations", ":material/do_not_disturb_on:", method.limitations)
        st.subheader("What studies found")
        claims_of(method.id)
    with right:
        facts(method)


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
        passes = "unknown" if method.cost.passes is None else f"{method.cost.passes:,} model passes per image"
        st.markdown(f"**Cost** {passes}" + (f" ({plain(method.cost.text)})" if method.cost.text else ""))
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
    effects = [
        (challenge, verb, effect)
        for challenge in kb.challenges.values()
        for verb, group in (("eases", challenge.eased_by), ("suffers from", challenge.worsened_by))
        for effect in group
        if method.id == effect.method or method.family == effect.family
    ]
    if effects:
        st.markdown("**Challenges**")
        for challenge, verb, effect in effects:
            st.markdown(f"- {verb} *{plain(challenge.name)}*: {sourced(effect.text, effect.sources)}")


def claims_of(method_id: str) -> None:
    """Show the publications on a method: claims for it, against it, mixed, and those that only used it."""
    groups: dict[str, list[tuple[str, Claim]]] = {"For": [], "Against": [], "Mixed or equal": []}
    for found, this_side in ((kb.index.claims, True), (kb.index.versus, False)):
        for publication_id, claim in found.get(method_id, ()):
            if claim.criterion == "feasibility" and claim.outcome == "adequate":
                continue  # it was only used
            favours = (claim.outcome in FOR) == this_side
            decided = claim.outcome in FOR + AGAINST
            groups["Mixed or equal" if not decided else "For" if favours else "Against"].append((publication_id, claim))
    judged = {publication_id for found in groups.values() for publication_id, _ in found}
    used = [one for one in kb.index.by_method.get(method_id, ()) if one not in judged]
    if not any(groups.values()):
        st.markdown("No publication in the knowledge base compares or judges it.")
    else:
        tabs = st.tabs([f"{name} ({len(found)})" for name, found in groups.items()])
        for tab, group in zip(tabs, groups.values(), strict=True):
            with tab:
                if not group:
                    st.markdown("None.")
                for publication_id, claim in group:
                    claim_line(claim, kb.publications[publication_id])
    if used:
        with st.expander(f"{len(used)} more publications only used it"):
            publication_table(used, key=f"used-{method_id}", empty="")


def claim_line(claim: Claim, publication: Publication | None = None) -> None:
    """Show one claim with its context."""
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
    st.markdown(f"{plain(claim.text)}{source}  \n:small[:gray[{plain(names + versus)} · {plain(' · '.join(context))}]]")


def modality_page(modality: Modality) -> None:
    """Show a modality: what makes explaining hard in it, and which methods have been studied on it."""
    st.title(plain(modality.name))
    st.markdown(sourced(modality.definition, modality.sources))
    st.caption(f"{dims(modality.dims)} · {plain(', '.join(modality.formats))}")
    related = [modality.parent] if modality.parent else []
    related += [one.id for one in kb.modalities.values() if one.parent == modality.id]
    entity_links(related, icon=":material/account_tree:")
    left, right = st.columns([1, 1], gap="large")
    with left:
        st.subheader("What makes explaining hard here")
        if not modality.challenges:
            st.markdown("No challenge is recorded.")
        for one in modality.challenges:
            challenge = kb.challenges[one.challenge]
            with st.expander(plain(challenge.name), expanded=len(modality.challenges) <= 5):
                challenge_body(challenge)
    with right:
        st.subheader("Evidence by method")
        counts = {method: ids for (method, one), ids in kb.index.coverage.items() if one == modality.id}
        order = sorted(counts, key=lambda one: (len(counts[one]), one))[-25:]
        if order:
            figure = go.Figure(
                go.Bar(
                    x=[len(counts[one]) for one in order],
                    y=[kb.methods[one].name for one in order],
                    orientation="h",
                    marker_color=[COLOURS[kb.branch(one)] for one in order],
                    customdata=order,
                    hovertemplate="%{y}: %{x} publications<extra></extra>",
                )
            )
            figure.update_layout(
                height=90 + 24 * len(order), margin={"t": 10, "l": 10, "r": 10, "b": 40}, dragmode=False
            )
            figure.update_xaxes(title="publications", dtick=1 if len(counts[order[-1]]) < 10 else None)
            chosen = st.plotly_chart(
                figure,
                on_select="rerun",
                selection_mode="points",
                key=f"bars-{modality.id}",
                config=CHART,
                alt=f"Publications by method in {modality.name}",
            )
            st.caption("A click on a bar opens the method; colours are the branches.")
            if points := chosen["selection"]["points"]:
                open_entity(str(points[0]["customdata"]))
        else:
            st.markdown("No publication is recorded.")
    st.subheader("Publications")
    publication_table(
        kb.index.by_modality.get(modality.id, ()),
        key=f"in-{modality.id}",
        empty="No publication is recorded.",
    )


def challenge_page(challenge: Challenge) -> None:
    """Show a challenge."""
    st.title(plain(challenge.name))
    challenge_body(challenge)
    st.subheader("Where it is met")
    if challenge.general:
        st.markdown("In every modality.")
    entity_links(one.id for one in kb.modalities.values() if challenge.id in challenges_of(one))


def challenge_body(challenge: Challenge) -> None:
    """Show what a challenge is, what eases or worsens it and what measures it."""

    def lines(title: str, effects: Iterable[Effect]) -> None:
        rows = []
        for effect in effects:
            who = kb.methods[effect.method].name if effect.method else kb.vocabulary.families[str(effect.family)].name
            rows.append(f"- **{plain(who)}** {sourced(effect.text, effect.sources)}")
        if rows:
            st.markdown(f"*{title}*\n" + "\n".join(rows))

    st.markdown(sourced(challenge.definition, challenge.sources))
    lines("What helps", challenge.eased_by)
    lines("What suffers", challenge.worsened_by)
    if challenge.shown_by:
        st.markdown("*Metrics that show whether it bites*")
        entity_links(one.metric for one in challenge.shown_by)


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
    statements(st.container(), "Weaknesses", ":material/do_not_disturb_on:", metric.weaknesses)
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
    read = {"fulltext": "the full text", "abstract": "the abstract", "title": "only the title"}[publication.read]
    st.caption(f"Read for this atlas: {read}.")
    if publication.clinicians:
        st.markdown(":green-badge[judged by clinicians or other experts]")
    if study := publication.study:
        parts = {
            "Anatomy": study.anatomy,
            "Task": kb.vocabulary.tasks[study.task].name if study.task else None,
            "Architecture": kb.vocabulary.architectures[study.architecture].name if study.architecture else None,
            "Model": study.model,
            "Images": dims(study.dims) if study.dims else None,
            "Setting": study.setting,
        }
        st.markdown("\n".join(f"- **{name}:** {plain(value)}" for name, value in parts.items() if value))
        entity_links(study.modalities)
    if publication.claims:
        st.subheader("What it found")
        for claim in publication.claims:
            claim_line(claim)
    if publication.methods:
        st.subheader("Methods it used")
        entity_links(publication.methods)
    if publication.conflicts:
        st.subheader("Publications that found otherwise")
        st.markdown(cite(publication.conflicts, limit=20))


# --- pieces -----------------------------------------------------------------------------------------------------------


def statements(place: Any, title: str, icon: str, found: Iterable[Any]) -> None:
    """Show sourced statements as a list under a title, when there are any."""
    lines = [f"- {sourced(one.text, one.sources)}" for one in found]
    if lines:
        place.markdown(f"**{icon} {title}**\n\n" + "\n".join(lines))


def implementations(found: Iterable[Any]) -> None:
    """Show where something is implemented."""
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


def publication_table(ids: Iterable[str], *, key: str, empty: str) -> None:
    """Show publications as a table; a chosen row opens its page."""
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
            "link": [one.link for one in found],
        }
    )
    chosen = st.dataframe(
        frame,
        hide_index=True,
        key=key,
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "year": st.column_config.NumberColumn(format="%d", width="small"),
            "title": st.column_config.TextColumn(width="large"),
            "link": st.column_config.LinkColumn(display_text="open", width="small"),
        },
    )
    st.caption(f"{len(found)} publications. Tick a row to open what it found.")
    if rows := chosen["selection"]["rows"]:
        open_entity(found[rows[0]].id)


page()
