"""Runs: what was run on this machine, newest first; open, compare, delete."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from views.common import RUN, knowledge, named, plain, sentences

with st.spinner("Opening the store …"):
    from runners.store import Run as Row
    from views import results

kb = knowledge()
PAGE = 50  # runs on one page


def page() -> None:
    """Show the history."""
    st.title("Runs")
    st.caption(
        "Kept on this machine: an 8-bit preview of the image, the maps and the scores; no names, no patient data."
    )
    with sentences():
        start = PAGE * (int(st.session_state.get("runs-page", 1)) - 1)
        cases = results.store().list_cases(PAGE + 1, start)
        if not cases and not start:
            st.info("Nothing was run yet.", icon=":material/info:")
            st.page_link(RUN, label="Run something", icon=":material/play_circle:")
            return
        history(cases[:PAGE])
        if start or len(cases) > PAGE:
            st.number_input("Page", 1, start // PAGE + (2 if len(cases) > PAGE else 1), key="runs-page")


def history(cases: Sequence[Sequence[Row]]) -> None:
    """Show the runs as a table, and what can be done with the chosen ones."""
    table = pd.DataFrame(
        {
            "when": [rows[0].created for rows in cases],
            "image": [rows[0].source.replace("_", " ") for rows in cases],
            "modality": [named(rows[0].modality) if rows[0].modality else "" for rows in cases],
            "model": [rows[0].facts["model"]["name"] for rows in cases],
            "methods": [", ".join(kb.methods[row.method].name for row in rows) for rows in cases],
            "failed": [sum(row.error is not None for row in rows) for rows in cases],
            "seconds": [sum(row.seconds or 0.0 for row in rows) for rows in cases],
        }
    )
    st.caption("Tick one run to open it, two or three to compare them.")
    chosen = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key=f"history-{st.session_state.get('deleted', 0)}",
        column_config={
            "when": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
            "seconds": st.column_config.NumberColumn(format="%.1f"),
            "methods": st.column_config.TextColumn(width="large"),
        },
    )
    keys = [cases[row][0].case for row in chosen["selection"]["rows"]]
    if not keys:
        return
    with st.container(horizontal=True):
        if len(keys) == 1 and st.button("Open", type="primary", icon=":material/open_in_full:"):
            st.switch_page(RUN, query_params={"run": keys[0]})
        if st.button(f"Delete {len(keys)}", icon=":material/delete:"):
            confirm(keys)
    if len(keys) > 3:
        st.info("Compare two or three runs at a time.", icon=":material/info:")
    elif len(keys) > 1:
        for column, key in zip(st.columns(len(keys), gap="large"), keys, strict=True):
            with column:
                results.show(key, columns=1)


@st.dialog("Delete for good?")
def confirm(keys: Sequence[str]) -> None:
    """Ask before runs are deleted."""
    st.markdown(plain(f"{len(keys)} run{'s' if len(keys) > 1 else ''} with maps, scores and ratings will be gone."))
    if st.button("Delete", type="primary"):
        with sentences():
            for key in keys:
                results.store().delete_case(key)
            results.stored.clear()
            st.session_state["deleted"] = st.session_state.get("deleted", 0) + 1
            st.rerun()


page()
