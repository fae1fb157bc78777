"""Ask: a question in plain words, what was understood of it, and ranked answers with reasons and sources (``?q=…``)."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from recommender import Answer, Query, Reason, Recommendation, answer
from views.common import (
    EXPLORE,
    RUN,
    branch_badge,
    cite,
    entity_link,
    knowledge,
    named,
    plain,
    runnable,
    sentences,
    sourced,
)

kb = knowledge()
EXAMPLES = (
    "Which method for ultrasound segmentation?",
    "Chest X-ray classification with a vision transformer, for radiologists",
    "3D brain MRI, black box model, where does it look?",
    "Which concepts does my dermoscopy classifier use?",
    "Check heatmaps of a histopathology CNN, fast",
)
CARDS, REASONS, CAUTIONS = 5, 5, 2  # shown at first


def page() -> None:
    """Show the question box and the answer."""
    st.title("Which explanation method fits?")
    st.markdown(
        "Describe the images, the model and what you want to know. The answer comes from published studies and "
        "names them; no question leaves this computer."
    )
    question = st.text_input(
        "Your question",
        key="q",
        bind="query-params",
        placeholder="for example: Which method for ultrasound segmentation?",
        label_visibility="collapsed",
        icon=":material/search:",
    )
    with st.container(horizontal=True, gap="small"):
        for example in EXAMPLES:
            st.button(example, type="tertiary", on_click=st.session_state.update, args=({"q": example},))
    if not (question or "").strip():
        welcome()
        return
    with sentences():
        found = answer(str(question), kb, runnable=runnable())
        understood(found.query)
        if found.message:
            st.info(plain(found.message), icon=":material/info:")
        results(found)


def welcome() -> None:
    """Show what the app does, before a question is asked."""
    st.space("small")
    steps = (
        (
            ":material/forum: Ask",
            "Name modality, task and model. You get a ranking with reasons, sources and cautions.",
        ),
        (
            ":material/account_tree: Explore",
            "See every method, what it needs, and which studies speak for or against it.",
        ),
        (":material/play_circle: Run", "Put the methods to work on your own image and model, or on a bundled pair."),
    )
    for column, (title, text) in zip(st.columns(len(steps)), steps, strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{title}**\n\n{text}")


def understood(query: Query) -> None:
    """Show each understood field with the words it came from, and the words that were not understood."""
    vocabulary = kb.vocabulary
    names = {
        "modality": [kb.modalities[one].name for one in query.modality],
        "task": [vocabulary.tasks[query.task].name] if query.task else [],
        "architecture": [vocabulary.architectures[query.architecture].name] if query.architecture else [],
        "dimension": [query.dimension.upper()] if query.dimension else [],
        "access": ["black box"] if query.access else [],
        "audience": [vocabulary.audiences[query.audience].name] if query.audience else [],
        "goal": [vocabulary.goals[query.goal].name] if query.goal else [],
        "budget": [f"{query.budget:g} s per image"] if query.budget else [],
        "methods": [kb.methods[one].name for one in query.methods],
        "families": [vocabulary.families[one].name for one in query.families],
    }
    chips = []
    for field, found in names.items():
        if found:
            words = query.spans.get(field)
            origin = f" from “{plain(words)}”" if words else ""
            chips.append(
                f":violet-badge[{field}: {plain(', '.join(found))}, implied{origin}]"
                if field in query.implied
                else f":blue-badge[{field}: {plain(', '.join(found))}{origin}]"
            )
    if query.excluded:
        chips.append(f":red-badge[not wanted: {plain(', '.join(map(named, query.excluded)))}]")
    if chips:
        st.markdown("Understood: " + " ".join(chips))
    if query.unmatched:
        st.caption(f"Not understood and not used: {plain(', '.join(query.unmatched))}.")


def results(found: Answer) -> None:
    """Show the panel, the ranked cards and what was ruled out."""
    if found.recommendations:
        panel_box(found)
        left, right = st.columns(2)
        if found.protocol:
            with left.expander("How to check these explanations", icon=":material/straighten:"):
                for number, step in enumerate(found.protocol, 1):
                    notes = [sourced(note.text, note.cites) for note in step.notes]
                    lines = [sourced(step.text, step.cites), *([plain(step.accept)] if step.accept else []), *notes]
                    st.markdown(f"{number}. " + "\n   - ".join(lines))
        if found.cautions:
            with right.expander("What makes explaining hard here", icon=":material/warning:"):
                st.markdown("\n".join(f"- {sourced(one.text, one.sources)}" for one in found.cautions))
        best = max(one.score for one in found.recommendations)
        st.subheader("Ranking")
        everything = len(found.recommendations) > CARDS and st.toggle(f"Show all {len(found.recommendations)} methods")
        for rank, one in enumerate(found.recommendations if everything else found.recommendations[:CARDS], 1):
            card(rank, one, best, found.query.modality)
    if found.ruled_out:
        with st.expander(f"Ruled out: {len(found.ruled_out)} methods, and why"):
            for out in found.ruled_out:
                st.markdown(f"- {plain(out.gap)}")


def panel_box(found: Answer) -> None:
    """Show the panel with the button that takes it to Run."""
    with st.container(border=True):
        left, right = st.columns([4, 1], vertical_alignment="center")
        names = " · ".join(f"**{plain(kb.methods[one].name)}**" for one in found.panel)
        left.markdown(
            f"Suggested panel: {names}  \n"
            ":small[:gray[Methods that work in different ways, so that they can check each other.]]"
        )
        if right.button("Run these", type="primary", icon=":material/play_arrow:", width="stretch"):
            carry = {"methods": ",".join(found.panel)}
            if found.query.modality:
                carry["modality"] = found.query.modality[0]
            if found.query.task:
                carry["task"] = found.query.task
            st.switch_page(RUN, query_params=carry)


def reason_line(reason: Reason) -> str:
    """Return a reason with its points and its citations, as Markdown."""
    colour = "green" if reason.points > 0 else "red" if reason.points < 0 else "gray"
    cites = f" :small[({cite(reason.cites, limit=4)})]" if reason.cites else ""
    return f":{colour}-badge[{reason.points:+.1f}] {plain(reason.text)}{cites}"


def card(rank: int, one: Recommendation, best: float, modalities: Iterable[str]) -> None:
    """Show one recommendation; for each modality it leads to the studies and ways through the graph behind it."""
    with st.container(border=True):
        left, right = st.columns([3, 1], vertical_alignment="center")
        runs = " :green-badge[:material/play_circle: runs here]" if one.runnable else ""
        left.markdown(f"#### {rank}. {plain(one.name)}\n{branch_badge(one.method)}{runs}")
        right.progress(max(0.0, min(1.0, one.score / best)) if best > 0 else 0.0, text=f"score {one.score:.1f}")
        reasons = [reason_line(reason) for reason in one.reasons]
        cautions = [f":orange[:material/warning:] {sourced(caution.text, caution.sources)}" for caution in one.cautions]
        st.markdown("  \n".join(reasons[:REASONS]))
        st.markdown("  \n".join(cautions[:CAUTIONS]))
        more = reasons[REASONS:] + cautions[CAUTIONS:]
        if more or one.conditions:
            with st.expander(f"All {len(reasons)} reasons, conditions and cautions"):
                st.markdown("  \n".join(more))
                if one.conditions:
                    st.markdown("**It serves only**\n\n" + "\n".join(f"- {plain(text)}" for text in one.conditions))
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            entity_link(one.method, "About this method", icon=":material/menu_book:")
            for modality in modalities:
                name = kb.modalities[modality].name
                there = {"id": one.method, "in": name}  # a bound widget reads the words it shows from the address
                st.page_link(EXPLORE, label=f"Why in {plain(name)}", icon=":material/route:", query_params=there)
            for metric in one.metrics:
                entity_link(metric, kb.metrics[metric].name, icon=":material/straighten:")
            for tool in one.tools:
                entity_link(tool, kb.tools[tool].name, icon=":material/build:")


page()
