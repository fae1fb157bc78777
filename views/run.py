"""Run: image, model, target and methods in; explanations, scores and downloads out (``?run=…`` opens a stored run)."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any

import streamlit as st

from recommender import panel_for
from taxonomy import ImageError
from views.common import RUN, RUNS, knowledge, plain, sentences

with st.spinner("Starting PyTorch …"):
    import torch

    from runners import Owned, explainers, insights, measure, metrics, unmet, unmet_by
    from runners.baselines import BASELINES, FILLINGS
    from runners.case import discovered, explained, input_spacing, measured, to_input
    from runners.registry import helps, parameters
    from runners.targets import Target
    from trial import METRICS
    from views import results
    from views.bringing import choose_owned
    from views.choosing import (
        LOADED,
        Pair,
        choose_image,
        choose_model,
        choose_target,
        lock,
        meet,
        say,
        uploaded_image,
    )

kb = knowledge()


def page() -> None:
    """Show the set-up, and the results of the run that the address names."""
    st.title("Run")
    key = st.query_params.get("run") or None
    with st.expander("Set-up", expanded=key is None, icon=":material/tune:"):
        start = set_up()
    if start is not None:
        run_all(*start)
        results.stored.clear()
        st.rerun()
    if key is not None:
        results.show(key)
        with st.container(horizontal=True):
            st.page_link(RUN, label="New run", icon=":material/add:")
            st.page_link(RUNS, label="All runs", icon=":material/history:")


Start = tuple[Pair, Target, dict[str, dict[str, Any]], list[str], int, dict[str, Any], Owned]


def set_up() -> Start | None:
    """Show the choices; return them when Run is pressed."""
    left, middle, right = st.columns(3, gap="large")
    picked = pair = target = None
    with left, sentences():
        st.markdown("##### 1 · Image")
        picked = choose_image(st.query_params.get("modality"), st.query_params.get("task"))
    with middle, sentences():
        st.markdown("##### 2 · Model")
        chosen = choose_model(picked.models if picked else ())
        if picked and chosen:
            pair = meet(*chosen, picked)
            st.session_state[LOADED] = pair
    with right, sentences():
        st.markdown("##### 3 · What to explain")
        if pair:
            say(pair)
            target = choose_target(pair)
        else:
            st.caption("Choose an image and a model first.")
    if pair is None or picked is None:
        return None
    st.markdown("##### 4 · Methods")
    given: dict[str, Any] = {}
    owned = Owned()
    with st.expander("What else you can give", icon=":material/add_photo_alternate:"), sentences():
        owned = choose_owned(pair)
        given = choose_given(pair)
    methods = choose_methods(pair, given, owned)
    left, middle, right = st.columns([3, 1, 1], vertical_alignment="bottom", gap="large")
    with left:
        wanted = choose_metrics(pair)
    seed = middle.number_input("Seed", 0, 2**31 - 1, 0, help="The same seed gives the same map, bit for bit.")
    pressed = right.button(
        "Run", type="primary", icon=":material/play_arrow:", width="stretch", disabled=not methods, key="start"
    )
    return (pair, target, methods, wanted, int(seed), given, owned) if pressed else None


# --- methods and metrics ----------------------------------------------------------------------------------------------


def choose_given(pair: Pair) -> dict[str, Any]:
    """Let the user bring images of the training set, and ask for the comparison with random weights."""
    files = st.file_uploader(
        "Images like those the model learned from",
        accept_multiple_files=True,
        key=f"reference-{pair.model.card.id}",
        help="Some methods compare the image with them. They are prepared like the image and not kept.",
    )
    given: dict[str, Any] = {
        "random_check": st.toggle(
            "Compare each map with that of the model under random weights",
            key="random-check",
            help="A map that hardly changes shows the image more than the model. Doubles the time.",
        )
    }
    if files:
        prepared = [
            pair.model.prepare(uploaded_image((one.file_id,), [(one.name, one.getvalue())], None)) for one in files
        ]
        if any(one.shape != pair.x.shape for one in prepared):
            raise ImageError("the images have another size than the one to explain, as the model sees them")
        given["reference"] = torch.cat(prepared)
    return given


def choose_methods(pair: Pair, given: dict[str, Any], owned: Owned) -> dict[str, dict[str, Any]]:
    """Let the user choose methods and their parameters; the others are listed with the reason."""
    out = {}
    for one in explainers:
        if found := unmet(one, pair.wired, reference=given.get("reference")):
            out[one] = " ".join(gap.sentence for gap in found)
    for one in insights:
        if found := unmet_by(one, pair.wired, owned):
            out[one] = " ".join(gap.sentence for gap in found)
    every = (*explainers, *insights)
    able = sorted((one for one in every if one not in out), key=lambda one: kb.methods[one].name.casefold())
    carried = [one for one in st.query_params.get("methods", "").split(",") if one]
    default = [one for one in carried if one in able] or list(panel_for(pair.wired, pair.case.modality, kb, able=able))
    for one in carried:
        if one not in able:
            known = one in kb.methods
            why = out.get(one, "it has no explainer yet." if known else "the atlas has no such method.")
            st.caption(f"Not possible here: {plain(kb.methods[one].name if known else one)}: {plain(why)}")
    chosen = st.multiselect(
        "Methods",
        able,
        default=default,
        format_func=lambda one: kb.methods[one].name,
        label_visibility="collapsed",
        placeholder="Choose methods",
        key=f"methods-{pair.model.card.id}-{pair.wired.dims}-{','.join(carried)}",
        help="Chosen at first: the panel that Ask recommends for this modality, task and model."
        if not carried
        else "Chosen at first: what you took from Ask.",
    )
    with st.container(horizontal=True):
        settings = {one: choose_parameters(one, pair) for one in chosen}
        if out:
            with st.popover(f"{len(out)} methods cannot explain this model", icon=":material/block:", type="tertiary"):
                for one, why in out.items():
                    st.markdown(f"**{plain(kb.methods[one].name)}**: {plain(why)}")
    return settings


def choose_parameters(method: str, pair: Pair) -> dict[str, Any]:
    """Show a method's parameters, as its signature has them; return those that differ from their defaults."""
    function = (explainers | insights)[method]
    known = parameters(function)
    if not known:
        return {}
    says = helps(function)
    changed = {}
    with st.popover(kb.methods[method].name, icon=":material/tune:"):
        for name, default in known.items():
            given = widget(name, default, says.get(name), f"{method}-{name}-{pair.model.card.id}", pair)
            if given != default:
                changed[name] = given
    return changed


def widget(name: str, default: Any, says: str | None, key: str, pair: Pair) -> Any:
    """Show one parameter."""
    label = name.replace("_", " ")
    if name == "layer":
        places = [place.name for place in pair.wired.places]
        return st.selectbox(label, places, index=None, placeholder="chosen automatically", help=says, key=key)
    if name == "baseline":
        kinds = FILLINGS if "inpaint" in (says or "") else BASELINES
        return st.selectbox(label, kinds, index=kinds.index(default), help=says, key=key)
    if isinstance(default, bool):
        return st.toggle(label, default, help=says, key=key)
    if isinstance(default, float):
        return st.number_input(label, value=default, step=default / 10 or 0.1, format="%g", help=says, key=key)
    if isinstance(default, str):
        return st.text_input(label, default, help=says, key=key)
    given = st.number_input(label, value=default, step=1, placeholder="automatic", help=says, key=key)
    return None if given is None else int(given)


def choose_metrics(pair: Pair) -> list[str]:
    """Let the user choose metrics."""
    able = [one for one in metrics if pair.case.mask is not None or "mask" not in kb.metrics[one].needs]
    quick = [one for one in METRICS if one in able and "explainer" not in kb.metrics[one].needs]
    if not st.toggle("Measure the maps", value=True, key="measure"):
        return []
    return st.multiselect(
        "Metrics",
        able,
        default=quick,
        format_func=lambda one: kb.metrics[one].name,
        label_visibility="collapsed",
        key=f"metrics-{len(able)}",
        help="Metrics that explain again (robustness, randomisation) take as long as many runs.",
    )


# --- run --------------------------------------------------------------------------------------------------------------


def run_all(
    pair: Pair,
    target: Target,
    methods: dict[str, dict[str, Any]],
    wanted: list[str],
    seed: int,
    given: dict[str, Any],
    owned: Owned,
) -> None:
    """Run every method and store what came of it at once, under the key that the address names from now on."""
    case = replace(pair.case, key=uuid.uuid4().hex)
    st.query_params["run"] = case.key
    for number, (method, settings) in enumerate(methods.items(), 1):
        bar = Bar(f"{number} of {len(methods)} · {kb.methods[method].name}")
        with lock():
            if method in insights:
                result = discovered(
                    pair.model, pair.x, method, target, owned=owned, seed=seed, progress=bar, **settings
                )
            else:
                result = explained(pair.model, pair.x, method, target, seed=seed, progress=bar, **given, **settings)
        row = results.store().add_run(case, result)
        found = result.explanation
        if result.error is not None:
            st.error(f"**{plain(kb.methods[method].name)}**: {plain(result.error)}", icon=":material/error:")
        if found is None:
            bar.close()
            continue
        for metric in wanted:
            bar.name(f"{number} of {len(methods)} · {kb.methods[method].name}: {kb.metrics[metric].name}")
            needs_mask = "mask" in kb.metrics[metric].needs and case.mask is not None
            mask = (
                to_input(case.mask, tuple(pair.x.shape[2:]), case.fit) if needs_mask and case.mask is not None else None
            )
            with sentences(), lock():
                reference = given.get("reference")
                score = measure(
                    metric,
                    pair.model,
                    pair.x,
                    found,
                    target,
                    mask=mask,
                    seed=seed,
                    reference=reference,
                    spacing=input_spacing(case.image, tuple(pair.x.shape[2:]), case.fit),
                    progress=bar,
                )
                assert row.id is not None
                results.store().add_score(row.id, measured(metric, score))
        bar.close()


class Bar:
    """A progress bar that is drawn at most ten times a second.

    Args:
        name: what is being done.
    """

    def __init__(self, name: str) -> None:
        self._bar = st.progress(0.0, text=plain(name))
        self._name, self._drawn = name, 0.0

    def name(self, name: str) -> None:
        """Begin something new."""
        self._name, self._drawn = name, 0.0
        self(0, 1)

    def __call__(self, done: int, total: int) -> None:
        """Draw the progress."""
        now = time.monotonic()
        if now - self._drawn > 0.1 or done >= total:
            self._drawn = now
            self._bar.progress(min(1.0, done / max(total, 1)), text=plain(self._name))

    def close(self) -> None:
        """Take the bar away."""
        self._bar.empty()


page()
