"""How finished explanations are shown: overlays side by side, the model's answer, scores, cautions and downloads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from runners import export, pictures, report
from runners.case import Case, Result
from runners.gate import Explanation
from runners.store import Store, open_store
from taxonomy.trust import trust, trust_in_words
from trial import ARROWS
from views import forms
from views.common import entity_link, knowledge, plain, sentences

kb = knowledge()
SIDE = 520
"""Longest side of a shown picture in pixels; exports keep every pixel."""
OWN = "automatic"
PLANES = ("Sagittal", "Coronal", "Axial")


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """Return the store of this machine, opened once per server.

    Raises:
        AtlasError: it cannot be opened.
    """
    return open_store()


@st.cache_resource(max_entries=6, show_spinner="Reading the run …")
def stored(key: str) -> tuple[Case, list[Result]]:
    """Return a case of the store with its results.

    Raises:
        UnknownIdError: there is no such case.
        AtlasError: its files are gone or damaged.
    """
    return store().load(key)


class Cut(NamedTuple):
    """Which slice of a volume is shown; None for pictures."""

    axis: int | None = None
    at: int | None = None


class View(NamedTuple):
    """How maps are shown."""

    cut: Cut = Cut()
    opacity: float = 0.7
    colours: str = OWN
    outlines: bool = True


@st.fragment
def show(key: str, *, columns: int = 3) -> None:
    """Show a stored case: controls, model's answer, a card for each method, scores and downloads.

    Args:
        key: key of the case.
        columns: pictures in a row.
    """
    with sentences():
        case, results = stored(key)
        found = [one for one in results if one.explanation is not None]
        heading(case, results)
        view = controls(case, bool(found), key)
        cards: list[Result | None] = [None, *found]
        for first in range(0, len(cards), columns):
            row = cards[first : first + columns]
            for place, one in zip(st.columns(columns, gap="medium"), row, strict=False):
                with place:
                    if one is None:
                        answer_card(case, view.cut)
                    else:
                        card(case, one, view)
        for one in results:
            if one.insight is not None:
                forms.show(case, one, key)
        for one in results:
            if one.error is not None:
                st.error(f"**{plain(kb.methods[one.method].name)}**: {plain(one.error)}", icon=":material/error:")
        if any(one.found for one in results):
            scores(found, key)
            downloads(case, results, key)


def heading(case: Case, results: Sequence[Result]) -> None:
    """Show what was explained."""
    modality = kb.modalities[case.modality].name if case.modality and case.modality in kb.modalities else "image"
    size = " × ".join(map(str, case.image.shape))
    st.markdown(
        f":blue-badge[{plain(modality)}] :gray-badge[{plain(case.source.replace('_', ' '))}] "
        f":gray-badge[{size}] :violet-badge[{plain(str(case.model['name']))}]"
    )
    for target in dict.fromkeys(one.found.target for one in results if one.found is not None):
        st.markdown(f"Explained: **{plain(target)}**")


def controls(case: Case, maps: bool, key: str) -> View:
    """Show the controls of the pictures; return slice, opacity, colour map and outlines."""
    image = case.image
    boxes = st.columns([3, 3, 2, 5] if image.dims == 3 else [3, 3, 2, 2], gap="medium")
    opacity = boxes[0].slider(
        "Opacity of the maps", 0, 100, 60, 5, format="%d%%", key=f"opacity-{key}", disabled=not maps
    )
    colours = boxes[1].selectbox("Colour map", [OWN, *pictures.COLOUR_MAPS], key=f"colours-{key}", disabled=not maps)
    lines = case.marked is not None or case.mask is not None
    outlines = boxes[2].toggle("Outlines", value=lines, key=f"outlines-{key}", disabled=not lines)
    cut = Cut()
    if image.dims == 3:
        with boxes[3]:
            axis = st.segmented_control(
                "Plane",
                [2, 1, 0],
                default=image.plane_axis,
                required=True,
                format_func=lambda one: PLANES[one] if image.affine is not None else f"across axis {one}",
                key=f"plane-{key}",
            )
            axis = image.plane_axis if axis is None else axis
            last = image.shape[axis] - 1
            index = st.slider("Slice", 0, last, first_slice(case, axis), key=f"slice-{key}-{axis}") if last else 0
            cut = Cut(axis, index)
    return View(cut, opacity / 100, colours, outlines)


def first_slice(case: Case, axis: int) -> int:
    """Return the slice that shows most of what is marked, or the middle one."""
    region = case.mask if case.mask is not None else None if case.marked is None else case.marked > 0
    if region is None or not region.any():
        return case.image.shape[axis] // 2
    return int(region.sum([one for one in range(3) if one != axis]).argmax())


def drawn(case: Case, view: View, one: Explanation | None = None, *, bar: bool = True) -> pictures.Rgb:
    """Draw the image, or an explanation over it with its colour bar, at true proportions."""
    shown = case if view.outlines else replace(case, marked=None, mask=None)
    if one is None:
        return pictures.draw(pictures.plane(shown, None, *view.cut, side=SIDE), signed=False, limit=(0.0, 0.0))
    values = case.place(one.values[0])
    limit = pictures.limits(values, one.signed)  # of the whole volume, so that slices can be compared
    fits = view.colours != OWN and pictures.COLOUR_MAPS[view.colours][0] == one.signed
    name = view.colours if fits else pictures.default_colours(one.signed, case.image.channels == 3)
    plane = pictures.plane(shown, values, *view.cut, side=SIDE)
    picture = pictures.draw(plane, signed=one.signed, limit=limit, opacity=view.opacity, colours=name)
    if not bar:
        return picture
    scale = pictures.colour_bar(max(len(picture), 140), signed=one.signed, limit=limit, colours=name)
    height = max(len(picture), len(scale))
    return np.concatenate([padded(picture, height), padded(scale, height)], axis=1)


def padded(picture: pictures.Rgb, height: int) -> pictures.Rgb:
    """Return a picture with white below it, ``height`` rows in all."""
    return np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0)), constant_values=255)


def answer_card(case: Case, cut: Cut) -> None:
    """Show the image and what the model said about it."""
    with st.container(border=True):
        st.markdown("**Image and the model's answer**")
        st.image(drawn(case, View(cut)), width="stretch", alt="the image that was explained")
        lines = []
        if case.marked is not None:
            lines.append(":orange[yellow line]: what the model marks")
        if case.mask is not None:
            lines.append(":green[green line]: the reference mask")
        if lines:
            st.caption(" · ".join(lines))
        answer_lines(case)
        if case.image.notes:
            with st.expander("How the image was read"):
                st.markdown("\n".join(f"- {plain(note)}" for note in case.image.notes))


def answer_lines(case: Case) -> None:
    """Show the model's answer in words and bars, the strongest first."""
    for one in sorted(case.answer, key=lambda one: -one.value)[:6]:
        if one.unit == "probability":
            st.progress(min(1.0, max(0.0, one.value)), text=f"{plain(one.label)} {one.value:.1%}")
        elif one.share is None:
            st.markdown(f"**{plain(one.label)}** {one.value:.4g}")
        else:
            size = f"{one.value:,.{0 if one.value >= 100 else 2}f}"
            st.markdown(f"**{plain(one.label)}** {size} {one.unit} ({one.share:.1%} of the image)")


def card(case: Case, one: Result, view: View) -> None:
    """Show one explanation."""
    explanation = one.explanation
    assert explanation is not None
    with st.container(border=True):
        entity_link(one.method, kb.methods[one.method].name)
        picture = drawn(case, view, explanation)
        st.image(picture, width="stretch", alt=f"{kb.methods[one.method].name} over the image")
        for caution in explanation.cautions:
            st.markdown(f":orange[:material/warning:] {plain(caution)}")
        passes = sum(explanation.passes.values())
        with st.expander(f"{explanation.seconds:.2g} s, {passes:,} model passes; how it was made"):
            st.markdown("\n".join(f"- {plain(note)}" for note in explanation.notes))
            if explanation.parameters:
                st.json(dict(explanation.parameters), expanded=1)
        if one.id is not None:
            rate(one.id)


def rate(run_id: int) -> None:
    """Let the viewer say how useful a map is; the rating is stored with the run."""
    before = store().ratings(run_id)

    def keep() -> None:
        given = st.session_state[f"stars-{run_id}"]
        if given is not None:
            with sentences():
                store().add_rating(run_id, "usefulness", given + 1)

    st.caption("How useful is this map?")
    st.feedback("stars", key=f"stars-{run_id}", default=before[-1].stars - 1 if before else None, on_change=keep)


def scores(found: Sequence[Result], key: str) -> None:
    """Show the measured scores as a table, and the curves they come from."""
    measured = [(one.method, score) for one in found for score in one.measured]
    if not measured:
        return
    st.subheader("Scores")
    names = {
        score.metric: kb.metrics[score.metric].name + ARROWS[kb.metrics[score.metric].direction]
        for _, score in measured
    }
    judged = trust(kb)
    table: dict[str, dict[str, float | None]] = {}
    for method, score in measured:
        table.setdefault(kb.methods[method].name, {})[names[score.metric]] = score.value
    st.dataframe(
        pd.DataFrame(table).T,
        width="stretch",
        column_config={
            name: st.column_config.NumberColumn(format="%.3f", help=judged[metric].phrase if metric in judged else None)
            for metric, name in names.items()
        },
    )
    st.caption("↑ higher is better, ↓ lower is better. One image says little: measure on several before you decide.")
    st.caption(plain(trust_in_words(kb, names)))
    curves = list(dict.fromkeys(score.metric for _, score in measured if score.curve))
    with st.expander("Curves and notes of the scores"):
        for column, metric in zip(st.columns(max(1, len(curves))), curves, strict=False):
            figure = go.Figure()
            for method, score in measured:
                if score.metric == metric and score.curve:
                    share = np.linspace(0, 100, len(score.curve))
                    figure.add_scatter(x=share, y=score.curve, name=kb.methods[method].name, mode="lines")
            figure.update_layout(title=names[metric], height=320, margin={"t": 40, "l": 10, "r": 10, "b": 10})
            figure.update_xaxes(title="% of the image changed")
            column.plotly_chart(figure, config={"displaylogo": False}, key=f"curve-{metric}-{key}")
        notes = dict.fromkeys(f"- {plain(names[s.metric])}: {plain(note)}" for _, s in measured for note in s.notes)
        st.markdown("\n".join(notes))


def downloads(case: Case, results: list[Result], key: str) -> None:
    """Offer everything as a zip, and the report alone."""
    with st.container(horizontal=True):
        st.download_button(
            "Download all (pictures, maps, report, record)",
            lambda: export.archive(case, results, kb),
            file_name=f"xai-atlas-{key[:8]}.zip",
            mime="application/zip",
            icon=":material/download:",
            on_click="ignore",
            key=f"zip-{key}",
        )
        st.download_button(
            "Download the report",
            lambda: report.html(case, results, kb).encode(),
            file_name=f"xai-atlas-{key[:8]}.html",
            mime="text/html",
            icon=":material/description:",
            on_click="ignore",
            key=f"report-{key}",
        )
