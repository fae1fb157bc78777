"""Explore: search, the taxonomy as a picture, the evidence, disagreements and gaps; ``?id=grad_cam`` opens a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from taxonomy.graph import methods_of
from taxonomy.questions import blanks, disagreements, side
from taxonomy.schema import Publication
from taxonomy.search import FACETS, Hit, search
from views.common import (
    COLOURS,
    EXPLORE,
    entity_link,
    entity_links,
    knowledge,
    plain,
    sentences,
    sourced,
    words,
)
from views.entities import blank_table, compare_view, disagreement_list, entity_page
from views.pieces import CHART, cite_menu, dims, open_entity, publication_table

kb = knowledge()
PER_PAGE = 20


def page() -> None:
    """Show the entity that the address names, or the overview."""
    given = st.query_params.get("id")
    if not given:
        overview()
        return
    st.page_link(EXPLORE, label="All of the atlas", icon=":material/arrow_back:")
    with sentences():
        entity_page(given)


# --- overview ---------------------------------------------------------------------------------------------------------


def overview() -> None:
    """Show the whole, one view at a time."""
    st.title("Explore")
    st.caption(
        f"{len(kb.methods)} explanation methods, {len(kb.modalities)} imaging modalities, {len(kb.challenges)} "
        f"challenges, {len(kb.metrics)} metrics, {len(kb.tools)} tools and {len(kb.publications)} publications. "
        "Every statement carries the publication it comes from."
    )
    views: dict[str, Callable[[], None]] = {
        "Search": search_view,
        "Taxonomy": methods_view,
        "Evidence": evidence_view,
        "Modalities": modalities_view,
        "Compare": compare_view,
        "Disagreements": disagreements_view,
        "Not tried": blanks_view,
        "Metrics and tools": tools_view,
    }
    for tab, show in zip(st.tabs(list(views), key="view", bind="query-params"), views.values(), strict=True):
        if tab.open:
            with tab:
                show()


# --- search -----------------------------------------------------------------------------------------------------------

FACET_NAMES = {
    "kind": "What",
    "modality": "Modality",
    "task": "Task",
    "branch": "Branch",
    "family": "Family",
    "architecture": "Architecture",
    "criterion": "Judged by",
    "outcome": "Outcome",
    "year": "Year",
    "read": "We read",
    "clinicians": "Judged by clinicians",
    "dims": "Dimensions",
    "input": "Model reads",
}
MAIN_FACETS = ("kind", "modality", "task", "family")


def one_of(kind: str) -> str:
    """Return a kind's name for one of it."""
    return {"modalities": "modality"}.get(kind, kind.rstrip("s"))


def counted(number: int, kind: str) -> str:
    """Return a number of entities of a kind in words."""
    return f"{number} {one_of(kind) if number == 1 else kind}"


def facet_name(facet: str, value: str) -> str:
    """Return a facet's value as people say it."""
    vocabulary = kb.vocabulary
    lists: dict[str, Any] = {
        "modality": kb.modalities,
        "task": vocabulary.tasks,
        "branch": vocabulary.branches,
        "family": vocabulary.families,
        "architecture": vocabulary.architectures,
        "criterion": vocabulary.criteria,
    }
    named = lists.get(facet, {}).get(value)
    return str(named.name) if named else value.replace("_", " ")


def search_view() -> None:
    """Search everything by words and facets; the address keeps both."""
    text = st.text_input(
        "Search",
        placeholder="A method, modality, author, DOI, or words of a finding …",
        key="find",
        bind="query-params",
        label_visibility="collapsed",
    )
    everything = search(kb, limit=0).facets
    where: dict[str, list[str]] = {}

    def facet(name: str) -> None:
        where[name] = st.multiselect(
            FACET_NAMES[name],
            sorted(everything[name], key=lambda one: facet_name(name, one).casefold(), reverse=name == "year"),
            format_func=lambda one: facet_name(name, one),
            key=name,
            bind="query-params",
        )

    for column, name in zip(st.columns(len(MAIN_FACETS)), MAIN_FACETS, strict=True):
        with column:
            facet(name)
    with st.expander("More filters"):
        rest = [one for one in FACETS if one not in MAIN_FACETS]
        for column, name in zip(st.columns(3) * 3, rest, strict=False):
            with column:
                facet(name)
    found = search(kb, text or "", where, limit=0)
    if not found.total:
        st.info("Nothing has these words and filters. Remove one, or type only the beginning of a word.")
        return
    if found.loose:
        st.info("Nothing has all of these words; these have some of them.")
    kinds = found.facets["kind"]
    summary = ", ".join(
        counted(number, kind) for kind, number in kinds.items() if not where["kind"] or kind in where["kind"]
    )
    if where["kind"] == ["publications"]:
        ids = [hit.id for hit in search(kb, text or "", where, limit=found.total).hits]
        publication_table(ids, key="found", empty="")
        return
    publications = search(kb, text or "", where | {"kind": ["publications"]}, limit=len(kb.publications))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{found.total} found: {summary}.")
        if publications.total:
            cite_menu([hit.id for hit in publications.hits], key="cite-found")
    pages = -(-found.total // PER_PAGE)
    number = st.session_state.get("page-number", 1) if pages > 1 else 1
    number = min(number, pages)
    for hit in search(kb, text or "", where, limit=PER_PAGE, offset=(number - 1) * PER_PAGE).hits:
        show_hit(hit)
    if pages > 1:
        st.number_input(f"Page of {pages}", 1, pages, number, key="page-number", width=160)


def show_hit(hit: Hit) -> None:
    """Show one entity that was found."""
    with st.container(gap=None):
        entity_link(hit.id, hit.name)
        entity = kb.get(hit.id)
        about = one_of(hit.kind)
        if isinstance(entity, Publication):
            study = entity.study
            about = " · ".join(
                filter(
                    None, [about, str(entity.year or ""), entity.first_author, words(study.modalities) if study else ""]
                )
            )
        elif hit.kind == "methods":
            about += f" · {kb.vocabulary.families[kb.methods[hit.id].family].name}"
            about += f" · {counted(len(kb.index.by_method.get(hit.id, ())), 'publications')}"
        snippet = hit.snippet if hit.snippet.strip("[]").casefold() != hit.name.casefold() else ""
        st.markdown(f":small[:gray[{plain(about)}]] :small[{marked(snippet)}]")


def marked(snippet: str) -> str:
    """Return a snippet as Markdown, the words found in bold."""
    return plain(snippet).replace("\\[", "**").replace("\\]", "**")


# --- the taxonomy -----------------------------------------------------------------------------------------------------


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


# --- the evidence -----------------------------------------------------------------------------------------------------

COUNTS = {
    "publications": "Publications",
    "for": "Publications with a finding for it",
    "against": "Publications with a finding against it",
    "clinicians": "Publications judged by clinicians",
    "reviews": "Studies counted by reviews (largest count)",
}


def evidence_view() -> None:
    """Show how much was done on what; a cell opens its publications."""
    vocabulary = kb.vocabulary
    one, two, three, four = st.columns([1, 2, 2, 2])
    rows = one.segmented_control(
        "Rows", ["families", "methods"], default="families", required=True, key="rows", bind="query-params"
    )
    task = two.selectbox(
        "Task",
        list(vocabulary.tasks),
        index=None,
        format_func=lambda given: vocabulary.tasks[given].name,
        placeholder="all tasks",
        key="of",
        bind="query-params",
    )
    count = three.selectbox("Count", list(COUNTS), format_func=COUNTS.__getitem__, key="count", bind="query-params")
    least = four.slider("At least this many in a row", 1, 10, 1 if rows == "families" else 3, key=f"least-{rows}")
    cells = review_cells() if count == "reviews" else evidence_cells(rows, task, count)
    if count == "reviews":
        st.caption("What reviews counted by family and modality: how much was done elsewhere, read by their authors.")
    totals: Counter[str] = Counter()
    for (row, _), ids in cells.items():
        totals[row] += len(ids) if isinstance(ids, list) else ids
    drawn = {cell: ids for cell, ids in cells.items() if totals[cell[0]] >= least}
    if not drawn:
        st.info("No row has that many: move the slider to the left, or choose another task or count.")
        return
    place = st.container()
    chosen = st.plotly_chart(
        heatmap(drawn, totals, families=rows == "families" or count == "reviews"),
        on_select="rerun",
        selection_mode="points",
        key="evidence",
        config=CHART,
        alt="Counts for each row and modality",
    )
    points = chosen["selection"]["points"]
    if points and count != "reviews":
        row, modality = str(points[0]["customdata"]).split("|")
        with place.container(border=True):
            name = vocabulary.families[row].name if rows == "families" else kb.methods[row].name
            st.markdown(f"**{plain(name)} on {plain(kb.modalities[modality].name)}**")
            publication_table(cells.get((row, modality), []), key="cell", empty="This cell is empty now.")
    else:
        place.caption("A click on a cell opens its publications.")


def evidence_cells(rows: str | None, task: str | None, count: str) -> dict[tuple[str, str], list[str]]:
    """Return (family or method, modality) to the publications that count."""
    cells: dict[tuple[str, str], dict[str, None]] = {}
    for pub_id, publication in kb.publications.items():
        study = publication.study
        if not study or publication.retracted or (task and study.task != task):
            continue
        if count == "clinicians" and not publication.clinicians:
            continue
        for method in methods_of(publication):
            if count in ("for", "against"):
                wanted = 1 if count == "for" else -1
                about = (c for c in publication.claims if method in (*c.methods, *c.versus))
                if not any(side(claim, method) == wanted for claim in about):
                    continue
            row = kb.methods[method].family if rows == "families" else method
            for modality in study.modalities:
                cells.setdefault((row, modality), {})[pub_id] = None
    return {cell: list(ids) for cell, ids in cells.items()}


def review_cells() -> dict[tuple[str, str], Any]:
    """Return (family, modality) to the largest count of a review."""
    cells: dict[tuple[str, str], int] = {}
    for publication in kb.publications.values():
        for one in publication.counts:
            if one.family and one.modality:
                cell = (one.family, one.modality)
                cells[cell] = max(cells.get(cell, 0), one.studies)
    return {cell: number for cell, number in cells.items() if number}


def heatmap(cells: dict[tuple[str, str], Any], totals: Counter[str], *, families: bool) -> go.Figure:
    """Draw counts as squares, which can be clicked; rows by total, columns by total."""
    sizes = {cell: len(ids) if isinstance(ids, list) else ids for cell, ids in cells.items()}
    rows = sorted({row for row, _ in cells}, key=lambda one: totals[one])
    per_modality: Counter[str] = Counter()
    for (_, modality), size in sizes.items():
        per_modality[modality] += size
    columns = [one for one, _ in per_modality.most_common()]
    names = {one: (kb.vocabulary.families[one].name if families else kb.methods[one].name) for one in rows}
    most = max(sizes.values())
    figure = go.Figure(
        go.Scatter(
            x=[kb.modalities[modality].name for _, modality in sizes],
            y=[names[row] for row, _ in sizes],
            mode="markers+text",
            text=[str(size) for size in sizes.values()],
            textfont={"size": 11, "color": ["white" if size > most / 3 else "#1d2b33" for size in sizes.values()]},
            marker={
                "symbol": "square",
                "size": 24,
                "color": list(sizes.values()),
                "colorscale": [[0, "#e3f0f2"], [0.3, "#7fb9c2"], [1, "#0b4f5a"]],
                "cmin": 0,
                "cmax": most,
            },
            customdata=[f"{row}|{modality}" for row, modality in sizes],
            hovertemplate="%{y} · %{x}<br>%{text}<extra></extra>",
            unselected={"marker": {"opacity": 0.5}},
        )
    )
    figure.update_xaxes(
        categoryorder="array",
        categoryarray=[kb.modalities[one].name for one in columns],
        side="top",
        tickangle=-40,
        showgrid=False,
        range=[-0.7, len(columns) - 0.3],
    )
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=[names[one] for one in rows],
        gridcolor="#edf2f4",
        range=[-0.7, len(rows) - 0.3],
    )
    figure.update_layout(height=150 + 28 * len(rows), margin={"t": 110, "l": 10, "r": 10, "b": 10}, dragmode=False)
    return figure


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


# --- disagreements and gaps -------------------------------------------------------------------------------------------


def chosen_pair() -> tuple[str | None, str | None]:
    """Let the reader narrow a list to a method and a modality; the address keeps both."""
    left, right = st.columns(2)
    method = left.selectbox(
        "Method",
        sorted(kb.index.by_method, key=lambda one: kb.methods[one].name.casefold()),
        index=None,
        format_func=lambda one: kb.methods[one].name,
        placeholder="all methods",
        key="method",
        bind="query-params",
    )
    modality = right.selectbox(
        "Modality",
        list(kb.modalities),
        index=None,
        format_func=lambda one: kb.modalities[one].name,
        placeholder="all modalities",
        key="on",
        bind="query-params",
    )
    return method, modality


def disagreements_view() -> None:
    """Show where publications disagree."""
    found = disagreements(kb, *chosen_pair())
    st.caption(
        f"{len(found)} places where publications found opposite things about a method, by one criterion, in one "
        "modality. Data, networks and metrics often differ: read both before you lean on either."
    )
    disagreement_list(found[:30])


def blanks_view() -> None:
    """Show what nobody has tried."""
    method, modality = chosen_pair()
    found = [one for one in blanks(kb, modality, [method] if method else None) if one.promise > 0]
    st.caption(
        f"{len(found)} pairs of method and modality that no publication here tried, though neighbours suggest it: "
        "findings on near modalities, relatives tried on this one, challenges it would ease."
    )
    blank_table(found[:100])


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


page()
