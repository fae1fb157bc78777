"""Measured on your case: the methods of an answer on one's own model and image, ranked by what they did there.

It imports torch, so the page Ask imports it only once it is wanted.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from recommender import Query
from runners.case import Subject
from runners.targets import Target
from taxonomy.trust import trust_in_words
from trial import FLATTERS, Trial, trial
from views import results
from views.choosing import Pair, choose_case, lock, subject_of
from views.common import RUN, knowledge, plain

kb = knowledge()
BUDGETS = {15.0: "15 seconds", 30.0: "30 seconds", 60.0: "1 minute", 120.0: "2 minutes", 300.0: "5 minutes"}
TRIED, RUNNING = "tried", "trying"
"""Where the session keeps the last trial with its question, and that it has not ended yet."""


def show(query: Query) -> None:
    """Show the set-up of a trial, run it when that is pressed, and show what came of it."""
    st.markdown("##### Measured on your case")
    pair, target = choose(query)
    left, middle, right = st.columns([2, 2, 1], vertical_alignment="bottom", gap="large")
    budget = left.select_slider("Time", list(BUDGETS), 30.0, format_func=BUDGETS.__getitem__, key="trial-budget")
    tune = middle.toggle("Also try other settings of the leaders", key="trial-tune")
    start = right.button(
        "Measure", type="primary", icon=":material/speed:", width="stretch", disabled=pair is None, key="trial-start"
    )
    if st.session_state.pop(RUNNING, False):  # whatever was pressed while it ran stopped it
        asked, state = st.session_state[TRIED]
        st.session_state[TRIED] = asked, replace(state, ended="you stopped it")
    if start and pair is not None:
        attempt(query, pair, target, float(budget), tune)
    asked, state = st.session_state.get(TRIED, (None, None))
    if state is not None and asked == query:
        outcome(state, state.subjects[0])


def choose(query: Query) -> tuple[Pair | None, Target]:
    """Let the user choose what it is tried on; say so when it is of another modality than was asked about."""
    pair, target = choose_case(query.modality[0] if query.modality else None, query.task, "trial-on")
    if pair and query.modality and pair.case.modality and pair.case.modality not in query.modality:
        st.warning(
            f"You asked about {plain(', '.join(kb.modalities[one].name for one in query.modality))}, and this "
            f"image is {plain(kb.modalities[pair.case.modality].name)}: what is measured tells about it alone.",
            icon=":material/warning:",
        )
    return pair, target


def attempt(query: Query, pair: Pair, target: Target, budget: float, tune: bool) -> None:
    """Run the trial; the session keeps all that is done, so that whatever is pressed meanwhile ends it without loss."""
    st.session_state.pop(TRIED, None)
    subject = subject_of(pair, target)
    place = st.empty()
    with place.container(horizontal=True, vertical_alignment="center"):
        bar = st.progress(0.0, text="Getting ready …")
        st.button("Stop", icon=":material/stop:", key="trial-stop", help="What is done is kept.")
    began, drawn = time.monotonic(), 0.0

    def report(words: str, done: int, total: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn > 0.1:
            drawn = now
            share = f" {done / total:.0%}" if total > 1 else ""
            bar.progress(min(1.0, (now - began) / budget), text=plain(words + share))

    with lock():
        for state in trial(query, kb, pair.model, [subject], budget=budget, tune=tune, progress=report):
            st.session_state[TRIED] = query, state
            st.session_state[RUNNING] = True
    st.session_state.pop(RUNNING, None)
    place.empty()


def outcome(tried: Trial, subject: Subject) -> None:
    """Show what was measured, how the order changed by it, and what was not done."""
    name = plain(str(subject.case.model["name"]))
    ended = f", {plain(tried.ended)}" if tried.ended else ""
    st.markdown(f"**{name}**, {tried.seconds:.1f} s{ended}")
    if not tried.tried:
        st.info("Nothing was measured: give it more time.", icon=":material/info:")
    else:
        st.dataframe(table(tried), hide_index=True, key="trial-table")
        st.caption(
            "↑ higher is better, ↓ lower is better; ★ best here; “fails”: the map hardly changes when the model's "
            "weights are random. Papers: the place among these by the literature alone. One image says how these "
            "methods do on it, not in general."
        )
        st.caption(plain(trust_in_words(kb, tried.heads)))
        st.markdown("**What changed**")
        st.markdown(
            "\n".join(f"- {plain(one.text)}" for one in tried.changes) or "The order stays as the literature has it."
        )
    for method, caution in tried.warnings:
        st.warning(f"{plain(method)}: {plain(caution.text)}", icon=":material/warning:")
    for tuning in tried.tuned:
        best = ", ".join(f"{key} = {value}" for key, value in tuning.best.parameters.items())
        told = f"best with {best}" if best else "no other setting was better than its default"
        st.markdown(f"- {plain(kb.methods[tuning.method].name)}: {plain(told)}, of {len(tuning.tried)} tried")
    if tried.tuned:
        st.caption(FLATTERS)
    for result in tried.results[0]:
        if result.error:
            st.error(f"**{plain(kb.methods[result.method].name)}**: {plain(result.error)}", icon=":material/error:")
    if tried.skipped:
        with st.expander(f"Not done: {len(tried.skipped)} pieces of work, and why"):
            for skip in tried.skipped:
                what = kb.metrics[skip.metric].name if skip.metric else skip.setting or "the map"
                took = f" (about {skip.seconds:.0f} s)" if skip.seconds and skip.seconds >= 0.5 else ""
                st.markdown(plain(f"{kb.methods[skip.method].name}, {what}{took}: {skip.why}."))
    if tried.tried and st.button("Keep and open the maps", icon=":material/layers:", key="trial-keep"):
        keep(tried, subject)


def table(tried: Trial) -> pd.DataFrame:
    """Return what was measured as a table, best first."""
    rows: list[dict[str, Any]] = []
    for line in tried.table:
        marks = [" fails" if cell.fails else " ★" if cell.best else "" for cell in line.cells]
        cells = (cell.text + mark for cell, mark in zip(line.cells, marks, strict=True))
        rows.append({
            "here": line.here,
            "papers": line.papers,
            "method": kb.methods[line.method].name,
            **dict(zip(tried.heads.values(), cells, strict=True)),
            "seconds": f"{line.seconds:.1f}",
        })  # fmt: skip
    return pd.DataFrame(rows)


def keep(tried: Trial, subject: Subject) -> None:
    """Store the maps with their scores as a run, and open it."""
    case = replace(subject.case, key=uuid.uuid4().hex)
    for result in tried.kept(0):
        results.store().add_run(case, result)
    st.switch_page(RUN, query_params={"run": case.key})
