"""Runs: what was run on this machine, newest first; open, compare, delete."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from views.common import RUN, RUNS, knowledge, named, plain, sentences

with st.spinner("Opening the store …"):
    from runners.store import Run as Row
    from views import results

kb = knowledge()
PAGE, COMPARED = 20, 3  # runs on a page, and side by side at most


def page() -> None:
    """Show the history, or the runs that the address names side by side."""
    st.title("Runs")
    keys = [key for key in st.query_params.get("compare", "").split(",") if key]
    if keys:
        compare(keys[:COMPARED])
        return
    st.caption(
        "Kept on this machine: an 8-bit preview of the image, the maps and the scores; no names, no patient data."
    )
    with sentences():
        number = int(st.session_state.get("number", 1))
        cases = results.store().list_cases(PAGE + 1, PAGE * (number - 1))
        if not cases and number == 1:
            st.info("Nothing was run yet.", icon=":material/info:")
            st.page_link(RUN, label="Run something", icon=":material/play_circle:")
            return
        chosen = [rows[0].case for rows in cases[:PAGE] if line(rows)]
        with st.container(horizontal=True, vertical_alignment="bottom"):
            if st.button(
                f"Compare {len(chosen)} runs" if chosen else "Compare",
                disabled=not 2 <= len(chosen) <= COMPARED,
                help=f"Tick two or {COMPARED} runs.",
                icon=":material/compare:",
                key="compare-button",
            ):
                st.switch_page(RUNS, query_params={"compare": ",".join(chosen)})
            if number > 1 or len(cases) > PAGE:
                st.number_input("Page", 1, number + (len(cases) > PAGE), key="number", width=140)


def line(rows: Sequence[Row]) -> bool:
    """Show one run with its buttons; return True when it is ticked."""
    first = rows[0]
    with st.container(border=True):
        tick, about, buttons = st.columns([0.6, 8, 2.4], vertical_alignment="center")
        ticked = tick.checkbox("Compare", key=f"tick-{first.case}", label_visibility="collapsed")
        modality = f":blue-badge[{plain(named(first.modality))}] " if first.modality else ""
        methods = [
            f":red[{plain(named(row.method))} (failed)]" if row.error else plain(named(row.method)) for row in rows
        ]
        about.markdown(
            f"**{first.created:%-d %B %Y, %H:%M} UTC** {modality}:gray-badge[{plain(first.source.replace('_', ' '))}] "
            f":violet-badge[{plain(str(first.facts['model']['name']))}]  \n{', '.join(methods)}"
        )
        with buttons.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
            st.page_link(RUN, label="Open", icon=":material/open_in_full:", query_params={"run": first.case})
            with st.popover("Delete", icon=":material/delete:", type="tertiary"):
                st.markdown("Its maps, scores and ratings will be gone.")
                st.button("Delete for good", key=f"delete-{first.case}", on_click=delete, args=(first.case,))
    return bool(ticked)


def delete(key: str) -> None:
    """Delete a run."""
    with sentences():
        results.store().delete_case(key)
    results.stored.clear()


def compare(keys: Sequence[str]) -> None:
    """Show runs side by side."""
    st.page_link(RUNS, label="All runs", icon=":material/arrow_back:")
    for column, key in zip(st.columns(len(keys), gap="large"), keys, strict=True):
        with column:
            results.show(key, columns=1)


page()
