"""How insights are shown: each form has the view it needs, with what can be hovered over, slid and compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from runners import report
from runners.case import Case, Result
from runners.discovery import Insight
from runners.forms import (
    Cases,
    Changes,
    Concepts,
    Contributions,
    Counterfactual,
    Projection,
    Rationale,
    Rules,
    Units,
)
from runners.panels import (
    AGAINST,
    FOR,
    PLAIN,
    READING,
    flat,
    in_case,
    laid,
    measured_words,
    seen,
    strongest,
    sweep,
)
from runners.pictures import MARKED, Rgb, outline, overlay
from views.common import entity_link, knowledge, plain

kb = knowledge()
IN_ROW = 5
"""Pictures in a row."""
PLOT: Final = {"displaylogo": False}


def show(case: Case, one: Result, key: str) -> None:
    """Show an insight: what it is, how to read it, its view, what was measured of it and how it was made."""
    insight = one.insight
    assert insight is not None
    with st.container(border=True):
        entity_link(one.method, kb.methods[one.method].name)
        st.caption(READING[type(insight.form)])
        SHOWING[type(insight.form)](insight.form, case, f"{key}-{one.method}-{one.id}")
        if measures := measured_words(insight, kb):
            st.markdown(" · ".join(f"**{plain(words)}**" for words in measures))
        for caution in insight.cautions:
            st.markdown(f":orange[:material/warning:] {plain(caution)}")
        how_made(insight)


def how_made(insight: Insight) -> None:
    """Show time, passes, notes and parameters."""
    passes = sum(insight.passes.values())
    with st.expander(f"{insight.seconds:.2g} s, {passes:,} model passes; how it was made"):
        st.markdown("\n".join(f"- {plain(note)}" for note in insight.notes))
        if insight.parameters:
            st.json(dict(insight.parameters), expanded=1)


# --- pieces -----------------------------------------------------------------------------------------------------------


def bars(
    names: list[str], values: list[float], what: str, low: Any, high: Any, neutral: float | None, key: str
) -> None:
    """Show bars with confidence intervals, in the order given."""
    zero = neutral or 0.0
    plain_ones = neutral is None and min(values, default=0.0) >= 0
    colours = [PLAIN if plain_ones else FOR if value >= zero else AGAINST for value in values]
    error = None
    if low is not None and high is not None:
        error = {
            "type": "data",
            "symmetric": False,
            "array": [h - v for h, v in zip(high, values, strict=True)],
            "arrayminus": [v - w for v, w in zip(values, low, strict=True)],
        }
    figure = go.Figure(
        go.Bar(
            y=names,
            x=[value - zero for value in values],
            base=zero,
            orientation="h",
            marker_color=colours,
            error_x=error,
            customdata=values,
            hovertemplate="%{y}: %{customdata:.3g}<extra></extra>",
        )
    )
    figure.add_vline(x=zero, line_dash="dash", line_color="#5b7083")
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title=what)
    figure.update_layout(height=110 + 34 * len(names), margin={"t": 10, "l": 10, "r": 10, "b": 10})
    st.plotly_chart(figure, config=PLOT, key=key)


def pixels(shown: Any) -> Rgb:
    """Return an image in 0..1 as uint8, small ones enlarged so that they are not blurred on the screen."""
    values = (np.asarray(shown) * 255).round().astype(np.uint8)
    times = max(1, 192 // min(values.shape[:2]))
    return values.repeat(times, 0).repeat(times, 1)


def gallery(pictures: list[tuple[Rgb, str]]) -> None:
    """Show pictures with their captions, some in a row."""
    for first in range(0, len(pictures), IN_ROW):
        for column, (picture, caption) in zip(st.columns(IN_ROW), pictures[first : first + IN_ROW], strict=False):
            column.image(picture, caption=caption, width="stretch")


def over(case: Case, values: Any) -> Rgb:
    """Return a map laid over the image."""
    shown = laid(values, case)
    return overlay(case.image.display(), shown, signed=bool((shown < 0).any()))


def marked(case: Case, region: Any) -> Rgb:
    """Return the image with the edge of a region."""
    base = case.image.display()
    grey = base if base.ndim == 3 else base[..., None].expand(*base.shape, 3)
    width = 1 + max(base.shape[:2]) // 250
    return outline((np.asarray(grey) * 255).round().astype(np.uint8), laid(region, case) > 0, MARKED, width)


# --- each form --------------------------------------------------------------------------------------------------------


def concepts(form: Concepts, case: Case, key: str) -> None:
    """Show bars, and for a chosen concept its examples and where it lies."""
    order = strongest(form.scores - (form.neutral or 0.0), 20)
    low, high = (None if one is None else [float(one[at]) for at in order] for one in (form.low, form.high))
    names = [form.names[at] for at in order]
    bars(names, [float(form.scores[at]) for at in order], form.what, low, high, form.neutral, f"bars-{key}")
    if form.p_values is not None:
        told = {form.names[at]: float(form.p_values[at]) for at in order}
        st.caption("p: " + ", ".join(f"{plain(name)} {p:.2g}" for name, p in told.items() if p == p))
    if form.patches is None and form.maps is None:
        return
    chosen = st.pills("Look at", names, default=names[0], key=f"concept-{key}") or names[0]
    at = form.names.index(chosen)
    pictures = [] if form.maps is None else [(over(case, form.maps[at]), "where it lies in this image")]
    if form.patches is not None:
        pictures += [(pixels(seen(one, case)), "example") for one in form.patches[at]]
    gallery(pictures)


def cases(form: Cases, case: Case, _key: str) -> None:
    """Show this case and the others beside it."""
    pictures = [(pixels(case.image.display()), "this case")]
    lines = []
    for at, score in enumerate(form.scores.tolist()):
        name = form.name(at)
        words = [form.roles[at], *form.labels[at : at + 1], name, f"{score:.3g}"]
        lines.append(
            {"why": form.roles[at], "case": name, "label": (form.labels or ("",) * (at + 1))[at], "score": score}
        )
        if form.images is not None:
            pictures.append((pixels(in_case(form, at, case)), " · ".join(word for word in words if word)))
    gallery(pictures)
    if form.maps is not None:
        gallery([(over(case, one), f"like {lines[at]['case']}") for at, one in enumerate(form.maps)])
    st.caption(f"Score: {plain(form.what)}")
    if form.images is None:
        st.dataframe(pd.DataFrame(lines), hide_index=True)


def counterfactual(form: Counterfactual, case: Case, key: str) -> None:
    """Show a slider over the series beside the start, and the animation."""
    frames = sweep(form, case)
    at = st.slider("Frame", 0, len(frames) - 1, form.chosen, key=f"frame-{key}") if len(frames) > 1 else 0
    change = flat(form.images[at] - form.images[form.start], case).sum(0)
    size = float(change.abs().max()) or 1.0
    difference = overlay(seen(form.images[form.start], case), change, signed=True, limit=(-size, size))
    gallery(
        [
            (pixels(seen(form.original, case)), "the image"),
            (frames[form.start], f"start, score {float(form.scores[form.start]):.3g}"),
            (frames[at], f"frame {at}, score {float(form.scores[at]):.3g}"),
            (pixels(difference / 255), "what changed: red brighter, blue darker"),
        ]
    )
    figure = go.Figure(go.Scatter(y=form.scores.tolist(), mode="lines+markers", line_color=PLAIN))
    figure.add_vline(x=form.start, line_dash="dash", line_color="#5b7083")
    figure.add_vline(x=at, line_color=FOR)
    figure.update_layout(height=220, margin={"t": 10, "l": 10, "r": 10, "b": 10})
    figure.update_xaxes(title="frame")
    figure.update_yaxes(title="score of the model")
    st.plotly_chart(figure, config=PLOT, key=f"scores-{key}")
    st.download_button(
        "Download the animation",
        lambda: report.gif(frames),
        file_name="counterfactual.gif",
        mime="image/gif",
        on_click="ignore",
        icon=":material/animation:",
        key=f"gif-{key}",
    )


def changes(form: Changes, _case: Case, _key: str) -> None:
    """Show a table of the ways."""
    table = {"this case": form.before.tolist()}
    for number, (after, score) in enumerate(zip(form.after, form.scores.tolist(), strict=True), 1):
        table[f"way {number} (score {score:.3g})"] = after.tolist()
    frame = pd.DataFrame(table, index=list(form.names))
    st.dataframe(
        frame.style.format("{:.4g}").apply(
            lambda column: ["font-weight: bold" if not same else "" for same in np.isclose(column, frame["this case"])]
        )
    )


def projection(form: Projection, case: Case, key: str) -> None:
    """Show a scatter; a chosen dot shows its image."""
    figure = go.Figure()
    kinds = list(dict.fromkeys(form.labels)) or [""]
    for kind in kinds:
        members = [i for i in range(len(form.points)) if not form.labels or form.labels[i] == kind]
        names = [form.names[i] if form.names else f"case {i + 1}" for i in members]
        x, y = form.points[members].T.tolist() if members else ([], [])
        figure.add_scatter(
            x=x, y=y, mode="markers", name=kind or "cohort", text=names, customdata=members,
            hovertemplate="%{text}<extra>%{fullData.name}</extra>", marker={"size": 7, "opacity": 0.75},
        )  # fmt: skip
    across, up = form.here.tolist()
    figure.add_scatter(
        x=[across], y=[up], mode="markers", name="this case", hovertemplate="this case<extra></extra>",
        marker={"symbol": "star", "size": 18, "color": "#ffd600", "line": {"width": 1, "color": "black"}},
    )  # fmt: skip
    figure.update_layout(height=460, margin={"t": 10, "l": 10, "r": 10, "b": 10}, dragmode="select")
    figure.update_xaxes(title=form.axes[0])
    figure.update_yaxes(title=form.axes[1])
    picked: Any = st.plotly_chart(figure, config=PLOT, key=f"scatter-{key}", on_select="rerun")
    if form.images is None:
        return
    points = picked.selection.points if picked else []
    chosen = [int(one["customdata"]) for one in points if one.get("customdata") is not None][:10]
    if not chosen:
        distance = np.linalg.norm(form.points.numpy() - form.here.numpy(), axis=1)
        chosen = distance.argsort()[: IN_ROW - 1].tolist()
        st.caption("The nearest in the picture; choose dots with the mouse to see others.")
    pictures = [(pixels(case.image.display()), "this case")]
    for i in chosen:
        words = [form.names[i] if form.names else f"case {i + 1}", form.labels[i] if form.labels else ""]
        pictures.append((pixels(seen(form.images[i], case)), " · ".join(word for word in words if word)))
    gallery(pictures)


def rules(form: Rules, case: Case, _key: str) -> None:
    """Show the rules as a list, the first with its region."""
    lines: dict[str, Any] = {"rule": list(form.rules)}
    for name, values in (("precision", form.precision), ("coverage", form.coverage)):
        if values is not None:
            lines[name] = values.tolist()
    percent = {name: st.column_config.ProgressColumn(min_value=0, max_value=1) for name in lines if name != "rule"}
    st.dataframe(pd.DataFrame(lines), hide_index=True, width="stretch", column_config=percent)
    if form.maps is not None:
        gallery([(marked(case, one), f"rule {i}") for i, one in enumerate(form.maps, 1) if bool(one.any())])


def rationale(form: Rationale, case: Case, key: str) -> None:
    """Show the sentences, each with its quantity, and the region of a chosen one."""
    for at, sentence in enumerate(form.sentences):
        held = not form.holds or form.holds[at]
        sign = ":green[:material/check:]" if held else ":red[:material/close: not confirmed]"
        drop = "" if form.drops is None or form.drops[at].isnan() else f"; without it {-float(form.drops[at]):+.2g}"
        st.markdown(
            f"{sign} {plain(sentence)}  \n:gray[{plain(form.quantities[at])}: {float(form.values[at]):.3g}{drop}]"
        )
    if form.maps is None or not bool(form.maps.any()):
        return
    able = [at for at, one in enumerate(form.maps) if bool(one.any())]
    chosen = st.pills("Where", able, default=able[0], format_func=lambda at: f"sentence {at + 1}", key=f"where-{key}")
    at = able[0] if chosen is None else chosen
    gallery([(marked(case, form.maps[at]), form.sentences[at])])


def contributions(form: Contributions, case: Case, key: str) -> None:
    """Show bars, and the image's map beside them."""
    order = strongest(form.values, 20)
    low, high = (None if one is None else [float(one[at]) for at in order] for one in (form.low, form.high))
    names = [form.names[at] + (f" = {form.inputs[at]}" if form.inputs else "") for at in order]
    left, right = st.columns([3, 1]) if form.map is not None else (st.container(), None)
    with left:
        bars(names, [float(form.values[at]) for at in order], form.what, low, high, None, f"bars-{key}")
    if right is not None:
        right.image(over(case, form.map), caption="within the image", width="stretch")


def units(form: Units, case: Case, _key: str) -> None:
    """Show for each unit what was made to excite it, where it responds and its strongest examples."""
    for at in strongest(form.activations, 12):
        st.markdown(f"**{plain(form.names[at])}** {plain(form.what)} {float(form.activations[at]):.3g}")
        pictures = [] if form.images is None else [(pixels(seen(form.images[at], case)), "made to excite it")]
        if form.maps is not None:
            pictures.append((over(case, form.maps[at]), "where it responds"))
        if form.patches is not None:
            pictures += [(pixels(seen(one, case)), "excites it") for one in form.patches[at]]
        gallery(pictures)


SHOWING: Final[dict[type, Callable[[Any, Case, str], None]]] = {
    Concepts: concepts,
    Cases: cases,
    Counterfactual: counterfactual,
    Changes: changes,
    Projection: projection,
    Rules: rules,
    Rationale: rationale,
    Contributions: contributions,
    Units: units,
}
"""Form to its view."""
