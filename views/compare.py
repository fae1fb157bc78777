"""Compare: the methods of one case against each other, and what they reached on the benchmark (``?run=…``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from taxonomy import measured
from taxonomy.trust import trust
from views.common import RUN, knowledge, named, plain, sentences
from views.pieces import CHART

with st.spinner("Opening the store …"):
    from runners.store import Run as Row
    from views import comparing, results

kb = knowledge()
CASES = 50  # stored cases that are offered


def page() -> None:
    """Show the comparison of a case, and the leaderboards."""
    st.title("Compare")
    with sentences():
        cases = results.store().list_cases(CASES)
        if cases:
            one_case(choose(cases))
        else:
            st.info(
                "Nothing was run yet: run several methods on one image, and compare them here.", icon=":material/info:"
            )
            st.page_link(RUN, label="Run something", icon=":material/play_circle:")
    with sentences():
        leaderboards()


def choose(cases: Sequence[Sequence[Row]]) -> str:
    """Let the user choose a stored case, at first that of the address or else the last."""
    known = {rows[0].case: rows for rows in cases}
    wanted = st.query_params.get("run") or next(iter(known))
    keys = list(known) if wanted in known else [wanted, *known]

    def words(key: str) -> str:
        if key not in known:
            return f"run {key[:8]}"
        first = known[key][0]
        kind = f"{named(first.modality)}, " if first.modality else ""
        model = first.facts["model"]["name"]
        return f"{first.created:%-d %b %Y, %H:%M} · {kind}{model} · {len(known[key])} methods"

    chosen: str = st.selectbox("Case", keys, index=keys.index(wanted), format_func=words, key="compare-case")
    if chosen != st.query_params.get("run"):
        st.query_params["run"] = chosen
    return chosen


def one_case(key: str) -> None:
    """Compare the methods of a case."""
    case, found = results.stored(key)
    methods = comparing.Comparison(kb, case, found)
    results.heading(case, list(methods.names.values()))
    if len(methods.names) < 2:
        st.info("Only one method gave a map here; run several on this image to compare them.", icon=":material/info:")
    if not methods.names:
        return
    overlays(methods, key)
    if methods.metrics:
        figures(methods, key)
    else:
        st.info("No metrics were measured in this run: switch on “Measure the maps” in Run.", icon=":material/info:")
    downloads(methods, key)


@st.fragment
def overlays(found: comparing.Comparison, key: str) -> None:
    """Show all overlays, linked."""
    st.subheader("The same place in every map")
    view = results.controls(found.case, True, f"compare-{key}")
    dark = st.context.theme.type == "dark"
    st.iframe(comparing.linked(found, view, dark=dark), height="content", alt="All maps over the image, linked")
    st.caption(
        "Point at a place: it is marked in all maps, with how strong each map is there. The wheel zooms all, dragging "
        "moves all, a click keeps the place, a double click shows the whole."
    )


def figures(found: comparing.Comparison, key: str) -> None:
    """Show the heatmap, the radar and the curves."""
    left, right = st.columns([3, 2], gap="large")
    radar = comparing.radar(found)
    with left if radar else st.container():
        st.subheader("Scores")
        st.plotly_chart(comparing.heatmap(found), config=CHART, key=f"heatmap-{key}", alt="Methods and metrics")
        st.caption(
            "Colour: teal is ahead of the other methods by this metric, orange behind; ↑ higher is better, ↓ lower. "
            "★ best, – no number (not defined for this map, or not measured), ✗ fails: the map hardly changes when the "
            "model's weights are random. One image says little: measure on several before you decide."
        )
        st.caption(plain(found.trusted))
    if radar:
        with right:
            st.subheader("By property")
            st.plotly_chart(radar, config=CHART, key=f"radar-{key}", alt="Mean place of each method by property")
            st.caption(
                "100: ahead of all other methods here by every metric of the property; 0: behind all. Each metric "
                "counts as far as it is trusted."
            )
    lines = comparing.curves(found)
    if lines:
        st.subheader("Deletion and insertion")
        st.plotly_chart(lines, config=CHART, key=f"curves-{key}", alt="Deletion and insertion curves of all methods")
        st.caption("A click on a name hides its lines in both, a double click shows it alone.")


def downloads(found: comparing.Comparison, key: str) -> None:
    """Offer scores, record, picture and page."""
    stem = f"xai-atlas-compare-{key[:8]}"
    files: dict[str, tuple[str, str, Any]] = {
        "Scores (CSV)": ("csv", "text/csv", lambda: comparing.table(found).encode()),
        "All data (JSON)": (
            "json",
            "application/json",
            lambda: json.dumps(comparing.data(found), indent=2, ensure_ascii=False).encode(),
        ),
        "Overlays (PNG)": ("png", "image/png", lambda: comparing.picture(found)),
        "This comparison (HTML)": ("html", "text/html", lambda: comparing.page(found, results.View()).encode()),
    }
    with st.container(horizontal=True):
        for label, (suffix, mime, make) in files.items():
            st.download_button(
                label,
                make,
                file_name=f"{stem}.{suffix}",
                mime=mime,
                icon=":material/download:",
                on_click="ignore",
                key=f"compare-{suffix}-{key}",
            )


# --- leaderboards -----------------------------------------------------------------------------------------------------


def leaderboards() -> None:
    """Show what methods reached on the benchmark, by modality; filters choose the boards."""
    st.subheader("Leaderboards of the benchmark")
    bench = measured.benchmark(kb)
    if bench is None:
        st.info("No results of the benchmark came with this knowledge base.", icon=":material/info:")
        return
    boxes = st.columns(5, gap="small")
    tasks = dict(bench.tasks)

    def narrow(place: Any, label: str, attribute: str, words: Any = str) -> None:
        nonlocal tasks
        values = sorted({getattr(one, attribute) for one in tasks.values()}, key=str)
        chosen = place.selectbox(
            label, ["all", *values], format_func=lambda v: v if v == "all" else words(v), key=f"b-{label}"
        )
        if chosen != "all":
            tasks = {name: one for name, one in tasks.items() if getattr(one, attribute) == chosen}

    narrow(boxes[0], "Modality", "modality", named)
    narrow(boxes[1], "Task", "task", lambda one: kb.vocabulary.tasks[one].name)
    narrow(boxes[2], "Dimensions", "dims", lambda one: f"{one}D")
    narrow(boxes[3], "Model", "architecture", lambda one: kb.vocabulary.architectures[one].name)
    metrics = sorted({metric for one in tasks.values() for metric in one.boards})

    def called(metric: str) -> str:
        return kb.metrics[metric].name if metric in kb.metrics else measured.CONTROLS[metric].name

    metric = boxes[4].selectbox("Metric", metrics, format_func=called, key="b-metric")
    if metric in (judged := trust(kb)):
        st.caption(plain(f"{called(metric)}. {judged[metric].sentence}"))
    for name, one in tasks.items():
        if metric in one.boards:
            board(name, one, one.boards[metric], metric)
    st.caption(
        f"{plain(bench.citation)}. Bars: 95 % interval over the images. Our own measurements, not of the literature."
    )


def board(name: str, task: measured.BenchmarkTask, scores: measured.Scores, metric: str) -> None:
    """Show one board: methods with their means and intervals, the best first; references as open marks."""
    direction = kb.metrics[metric].direction if metric in kb.metrics else measured.CONTROLS[metric].direction
    lines = sorted(scores.lines, key=lambda one: one.mean if direction == "lower" else -one.mean)
    called = [
        kb.methods[one.method].name
        if one.method in kb.methods
        else f"({measured.REFERENCES.get(one.method, one.method)})"
        for one in lines
    ]
    about = f"{named(task.modality)}, {kb.vocabulary.tasks[task.task].name.lower()}, {task.dims}D, {task.images} images"
    with st.expander(f"{about} · {task.architecture} · {name.replace('_', ' ')}"):
        figure = go.Figure(
            go.Scatter(
                x=[one.mean for one in lines],
                y=called,
                mode="markers",
                marker={
                    "size": 9,
                    "symbol": ["circle" if one.rank else "circle-open" for one in lines],
                    "color": "#1f8a9c",
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [0 if one.high is None else one.high - one.mean for one in lines],
                    "arrayminus": [0 if one.low is None else one.mean - one.low for one in lines],
                },
                customdata=[[one.rank or "–", one.n] for one in lines],
                hovertemplate="%{y}: %{x:.3g}, rank %{customdata[0]}, n = %{customdata[1]}<extra></extra>",
            )
        )
        figure.update_yaxes(autorange="reversed")
        figure.update_layout(height=90 + 24 * len(lines), margin={"t": 10, "l": 10, "r": 10, "b": 30})
        st.plotly_chart(figure, config=CHART, key=f"board-{name}-{metric}")
        if scores.difference is not None:
            st.caption(f"Mean ranks that differ by less than {scores.difference:.2f} do not differ (Nemenyi, 5 %).")
        frame = pd.DataFrame([one._asdict() for one in lines]).assign(method=called)
        st.dataframe(frame, hide_index=True, key=f"board-table-{name}-{metric}")
        st.download_button(
            "CSV",
            frame.to_csv(index=False),
            f"{name}-{metric}.csv",
            key=f"board-csv-{name}-{metric}",
            on_click="ignore",
        )


page()
