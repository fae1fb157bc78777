"""Sanity: may the maps of this model be believed? Tests on one's own model and image, and a verdict in plain words."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from recommender import panel_for
from views.common import knowledge, plain, sentences, sourced
from views.pieces import CHART

with st.spinner("Starting PyTorch …"):
    from runners import explainers, unmet
    from runners.sanity import QUESTIONS, Finding, Labelled, Sanity, examine, read_labelled
    from runners.targets import Target
    from runners.verdict import INTRO, WORDS, page
    from views.choosing import Pair, choose_case, lock, subject_of

kb = knowledge()
BUDGETS = {30.0: "30 seconds", 60.0: "1 minute", 120.0: "2 minutes", 300.0: "5 minutes", 900.0: "15 minutes"}
# where the session keeps what was found last, and that it has not ended yet
FOUND, RUNNING = "sanity-found", "sanity-running"
BADGE = {
    "passes": ":green-badge[:material/check: passes]",
    "fails": ":red-badge[:material/close: fails]",
    "cannot say": ":gray-badge[:material/question_mark: cannot say]",
}
ALERT = {
    "passes": (st.success, ":material/check:"),
    "fails": (st.error, ":material/close:"),
    "cannot say": (st.info, ":material/question_mark:"),
}


def show() -> None:
    """Show the set-up, run the tests when that is pressed, and show what was found."""
    st.title("May these maps be believed?")
    st.caption(INTRO)
    if st.session_state.pop(RUNNING, False):  # whatever was pressed while it ran stopped it
        st.session_state[FOUND] = replace(st.session_state[FOUND], ended="you stopped it")
    found: Sanity | None = st.session_state.get(FOUND)
    with st.expander("Set-up", expanded=found is None, icon=":material/tune:"):
        start = set_up()
    if start is not None:
        test(*start)
        st.rerun()
    if found is not None:
        verdict(found)


Start = tuple[Pair, Target, list[str], str, float, int]


def set_up() -> Start | None:
    """Show the choices; return them when the button is pressed."""
    pair, target = choose_case(st.query_params.get("modality"), st.query_params.get("task"), "sanity-on")
    if pair is None:
        return None
    able = [one for one in explainers if not unmet(one, pair.wired, target)]
    able.sort(key=lambda one: kb.methods[one].name.casefold())
    carried = [one for one in st.query_params.get("methods", "").split(",") if one in able]
    chosen = st.multiselect(
        "Methods to test",
        able,
        default=carried or [one for one in panel_for(pair.wired, pair.case.modality, kb, able=able) if one in able],
        format_func=lambda one: kb.methods[one].name,
        placeholder="Choose methods",
        key=f"sanity-methods-{pair.model.card.id}-{','.join(carried)}",
        help="Chosen at first: the panel that Ask recommends for this modality, task and model.",
    )
    left, middle, right = st.columns([4, 3, 2], vertical_alignment="bottom", gap="large")
    folder = left.text_input(
        "Training images (optional)",
        key="sanity-folder",
        placeholder="a folder on this machine",
        help="For the test with random labels: a folder with one folder of images for each label, or with labels.csv "
        "(columns file and label). Nothing of it is kept.",
    )
    budget = middle.select_slider("Time", list(BUDGETS), 60.0, format_func=BUDGETS.__getitem__, key="sanity-budget")
    pressed = right.button(
        "Test", type="primary", icon=":material/science:", width="stretch", disabled=not chosen, key="sanity-start"
    )
    return (pair, target, chosen, folder.strip(), float(budget), 0) if pressed else None


@st.cache_resource(max_entries=2, show_spinner="Reading the training images …")
def labelled(folder: str, model_id: str, _pair: Pair) -> Labelled:  # noqa: ARG001
    """Return training images as the model sees them.

    Raises:
        AtlasError: they cannot be read, or their labels are not the model's.
    """
    return read_labelled(Path(folder), _pair.model)


def test(pair: Pair, target: Target, methods: list[str], folder: str, budget: float, seed: int) -> None:
    """Run the tests; the session keeps all that is done, so that whatever is pressed meanwhile ends it without loss."""
    st.session_state.pop(FOUND, None)
    place = st.empty()
    with place.container(horizontal=True, vertical_alignment="center"):
        bar = st.progress(0.0, text="Getting ready …")
        st.button("Stop", icon=":material/stop:", key="sanity-stop", help="What is done is kept.")
    partial = st.empty()
    began, drawn = time.monotonic(), 0.0

    def report(words: str, done: int, total: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn > 0.1:
            drawn = now
            share = f" {done / total:.0%}" if total > 1 else ""
            bar.progress(min(1.0, (now - began) / budget), text=plain(words + share))

    with sentences(), lock():
        data = labelled(folder, pair.model.card.id, pair) if folder else None
        subject = subject_of(pair, target)
        for found in examine(
            pair.model, subject, methods, kb, training=data, budget=budget, seed=seed, progress=report
        ):
            st.session_state[FOUND] = found
            st.session_state[RUNNING] = True
            partial.dataframe(table(found), key=f"partial-{len(found.findings)}-{len(found.results)}")
        st.session_state.pop(RUNNING, None)
    if FOUND not in st.session_state:
        st.stop()  # the error stays in sight


# --- what was found ---------------------------------------------------------------------------------------------------


def verdict(found: Sanity) -> None:
    """Show the verdict: the whole in a sentence for each method, a table, and each test with its curve."""
    ended = f" · {plain(found.ended)}" if found.ended else ""
    st.markdown(
        f"**{plain(str(found.subject.case.model['name']))}**, explained: **{plain(found.target)}** "
        f":gray[· {found.seconds:.1f} s{ended}]"
    )
    for one in found.results:
        if one.error:
            st.error(f"**{plain(kb.methods[one.method].name)}**: {plain(one.error)}", icon=":material/error:")
    for method in found.methods:
        word, text = found.overall(method)
        box, icon = ALERT[word]
        box(f"**{plain(text)}**", icon=icon)
    if not found.methods:
        return
    st.dataframe(table(found), key="sanity-table")
    st.caption("“Cannot say” is a verdict too: the test came to no clear result here, or could not be done.")
    for test in found.planned:
        section(found, test)
    downloads(found)


def table(found: Sanity) -> pd.DataFrame:
    """Return tests × methods with the verdicts."""
    rows: dict[str, dict[str, str]] = {}
    for test in found.planned:
        if test != "agreement":
            own = {method: found.of(method, test) for method in found.methods}
            rows[QUESTIONS[test].asks] = {
                kb.methods[method].name: WORDS[one.verdict] if one else "…" for method, one in own.items()
            }
    return pd.DataFrame(rows).T


def section(found: Sanity, test: str) -> None:
    """Show a test: what it asks, the verdicts with their sentences, curves and pictures."""
    own = [one for one in found.findings if one.test == test]
    if not own:
        return
    about = QUESTIONS[test]
    with st.container(border=True):
        st.markdown(f"##### {plain(about.asks)}")
        st.markdown(f":small[:gray[{plain(about.name)}.]] {sourced(about.how, about.sources)}")
        if trusted := about.trusted(kb):
            st.caption(plain(trusted))
        if len({one.why for one in own}) == 1:
            st.markdown(f"{BADGE[own[0].verdict]} {plain(own[0].why)}")
        else:
            for one in own:
                who = f"**{plain(kb.methods[one.method].name)}**: " if one.method else ""
                st.markdown(f"{BADGE[one.verdict]} {who}{plain(one.why)}")
        chart(test, own)
        shown = [one for one in own if one.picture]
        if shown:
            with st.expander("What the test looked at", icon=":material/image:"):
                for first in range(0, len(shown), 4):
                    for column, one in zip(st.columns(4), shown[first : first + 4], strict=False):
                        assert one.picture is not None
                        picture, caption = one.picture
                        name = kb.methods[str(one.method)].name
                        column.image(picture, caption=f"{name}. {caption}", width="stretch", alt=caption)
        notes = dict.fromkeys(note for one in own for note in one.notes)
        if notes:
            with st.expander("How it was done here"):
                st.markdown("\n".join(f"- {plain(note)}" for note in notes))


def chart(test: str, own: Sequence[Finding]) -> None:
    """Draw the curves of a test, if it has any."""
    figure = go.Figure()
    names = {one.method: kb.methods[one.method].name if one.method else "" for one in own}
    drawn = [one for one in own if one.curves]
    if test == "cascade" and drawn:
        for one in drawn:
            values = one.curves["similarity"]
            share = [100 * i / (len(values) - 1) for i in range(len(values))]
            figure.add_scatter(x=share, y=values, name=names[one.method], mode="lines+markers")
        limit = drawn[0].numbers["limit"]
        figure.add_hline(limit, line_dash="dash", annotation_text="fails if the mean lies above", line_color="#c0392b")
        figure.update_xaxes(title="% of the layers with random weights, from the output down")
        figure.update_yaxes(title="likeness to the first map")
    elif test == "labels" and drawn:
        for name, values in drawn[0].curves.items():
            figure.add_scatter(y=[100 * value for value in values], name=f"taught {name}", mode="lines+markers")
        figure.add_hline(100 * drawn[0].numbers["chance"], line_dash="dash", annotation_text="chance")
        figure.update_xaxes(title="looks during the training")
        figure.update_yaxes(title="% of the training images right")
    elif test in ("deletion", "finding") and drawn:
        for one in drawn if test == "deletion" else drawn[:1]:
            name = names[one.method] if test == "deletion" else "the finding"
            figure.add_box(
                x=one.curves["elsewhere"],
                name=name,
                boxpoints="all",
                pointpos=0,
                jitter=0.6,
                marker={"size": 4, "color": "#8fa3b0"},
                line={"color": "#8fa3b0"},
                showlegend=False,
                hovertemplate="hidden at random: %{x:.3g}<extra></extra>",
            )
            figure.add_scatter(
                x=one.curves["marked"],
                y=[name],
                mode="markers",
                marker={"size": 14, "symbol": "diamond", "color": "#c0752b"},
                name="what the map marks" if test == "deletion" else "the finding",
                showlegend=one is drawn[0],
                hovertemplate="%{x:.3g}<extra></extra>",
            )
        figure.update_xaxes(title="how far the score falls (grey: the same shape hidden elsewhere)")
    elif test == "agreement" and (grid := drawn_pairs(own[0])) is not None:
        figure.add_heatmap(
            z=grid.to_numpy(),
            x=grid.columns,
            y=grid.index,
            zmin=-1,
            zmax=1,
            colorscale="RdBu_r",
            texttemplate="%{z:.2f}",
        )
        figure.update_yaxes(autorange="reversed")
    else:
        return
    height = 150 + 46 * len(names) if test in ("deletion", "agreement") else 170 if test == "finding" else 320
    figure.update_layout(height=max(height, 200), margin={"t": 30, "l": 10, "r": 10, "b": 10})
    st.plotly_chart(figure, config=CHART, key=f"sanity-chart-{test}")


def drawn_pairs(one: Finding) -> pd.DataFrame | None:
    """Return the rank correlation of each pair of methods as a square table; None when there is none."""
    pairs = {key.split(":", 1)[1]: value for key, value in one.numbers.items() if key.startswith("rank:")}
    if not pairs:
        return None
    ids = list(dict.fromkeys(name for pair in pairs for name in pair.split("|")))
    grid = pd.DataFrame(1.0, index=ids, columns=ids)
    for pair, value in pairs.items():
        first, second = pair.split("|")
        grid.loc[first, second] = grid.loc[second, first] = value
    names = [kb.methods[name].name for name in ids]
    return grid.set_axis(names, axis=0).set_axis(names, axis=1)


def downloads(found: Sanity) -> None:
    """Offer the verdict as a page and as data."""
    with st.container(horizontal=True):
        st.download_button(
            "Download the verdict (one page)",
            lambda: page(found).encode(),
            file_name="xai-atlas-sanity.html",
            mime="text/html",
            icon=":material/description:",
            on_click="ignore",
            key="sanity-html",
        )
        st.download_button(
            "JSON",
            lambda: json.dumps(found.as_json(), indent=2, ensure_ascii=False).encode(),
            file_name="xai-atlas-sanity.json",
            mime="application/json",
            icon=":material/data_object:",
            on_click="ignore",
            key="sanity-json",
        )


show()
