"""Ask: a question in plain words, what was understood of it, and the argued answer (``?q=…``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

import streamlit as st

from recommender import Answer, Comparison, Reason, Recommendation, Sentence, answer, parse, snippet, why_not
from taxonomy.schema import Statement
from taxonomy.trust import trust_in_words
from views import reading
from views.common import (
    EXPLORE,
    RUN,
    branch_badge,
    cite,
    computable,
    entity_link,
    knowledge,
    plain,
    sentences,
    sourced,
)
from views.pieces import cite_menu, evidence_line, points_badge
from views.printing import printed

kb = knowledge()
EXAMPLES = (
    "Which method for ultrasound segmentation?",
    "SHAP or Grad-CAM for chest X-ray classification?",
    "3D brain MRI, black box model, where does it look?",
    "Which concepts does my dermoscopy classifier use?",
    "Is LIME reliable for histopathology?",
)
CARDS, REASONS, FINDINGS = 5, 3, 3  # shown at first


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
        live=True,
        on_change=reading.forget,
        placeholder="for example: Which method for ultrasound segmentation?",
        label_visibility="collapsed",
        icon=":material/search:",
    )
    if not (question or "").strip():
        with st.container(horizontal=True, gap="small"):
            for example in EXAMPLES:
                st.button(example, type="tertiary", on_click=take, args=(example,))
        welcome()
        return
    with sentences():
        query = reading.asked(parse(str(question), kb))
        reading.show(query)
        back = st.container()
        found = answer(query, kb, runnable=computable())
        if found.message:
            st.info(plain(found.message), icon=":material/info:")
        trying = results(found)
        with back:  # it takes as long as all the rest
            reading.ask_back(query)
        if trying is not None:
            from views import measured  # imports torch

            with trying, sentences():
                measured.show(query)


def take(question: str) -> None:
    """Ask an example."""
    reading.forget()
    st.session_state["q"] = question


def welcome() -> None:
    """Show what the app does, before a question is asked."""
    st.space("small")
    steps = (
        (
            ":material/forum: Ask",
            "Name modality, task and model. You get a ranking with reasons, sources and cautions, and can measure it "
            "on your own model and image.",
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


# --- the answer -------------------------------------------------------------------------------------------------------


def results(found: Answer) -> st.delta_generator.DeltaGenerator | None:
    """Show the answer; return the place for trying it, when that is asked for."""
    trying = None
    if found.comparison:
        comparison(found.comparison)
    if found.recommendations:
        panel_box(found)
        share(found)
        if st.toggle(
            "Measure on my case",
            key="measure-here",
            help="Try these methods on a model and an image within a time that you set, and rank them by what they do.",
        ):
            trying = st.container(border=True)
        left, right = st.columns(2)
        with left:
            protocol(found)
            code(found)
        with right:
            sentence_list("What makes explaining hard here", ":material/warning:", found.cautions)
            sentence_list("What nobody has studied", ":material/travel_explore:", found.unstudied)
        st.subheader("Ranking")
        best = max(one.score for one in found.recommendations)
        everything = len(found.recommendations) > CARDS and st.toggle(f"Show all {len(found.recommendations)} methods")
        for rank, one in enumerate(found.recommendations if everything else found.recommendations[:CARDS], 1):
            card(rank, one, best, found.query.modality)
    if found.recommendations or found.ruled_out:
        other(found)
    if found.ruled_out:
        with st.expander(f"Ruled out: {len(found.ruled_out)} methods, and why"):
            for out in found.ruled_out:
                st.markdown(f"- {plain(out.gap)}")
    return trying


def panel_box(found: Answer) -> None:
    """Show the panel, why each of it is there, and the button that takes it to Run."""
    if not found.roles:
        return
    with st.container(border=True):
        left, right = st.columns([4, 1], vertical_alignment="center")
        title = "Suggested panel" if found.panel else "Suggested panel, with other tools: none of these runs here"
        left.markdown(
            f"**{title}**  \n:small[:gray[Methods that work in different ways, so that they can check each other.]]"
        )
        if found.panel and right.button("Run these", type="primary", icon=":material/play_arrow:", width="stretch"):
            carry = {"methods": ",".join(found.panel)}
            if found.query.modality:
                carry["modality"] = found.query.modality[0]
            if found.query.task:
                carry["task"] = found.query.task
            st.switch_page(RUN, query_params=carry)
        st.markdown(
            "\n".join(
                f"1. **{plain(kb.methods[role.method].name)}**. {plain(role.text)}{small_cites(role.cites)}"
                for role in found.roles
            )
        )


def share(found: Answer) -> None:
    """Offer the answer for passing on: a link, a page to print, its references."""
    page_, ids = printed(found, kb)
    with st.container(horizontal=True, gap="small"):
        with st.popover("Link", icon=":material/link:"):
            address = (st.context.url or "").split("?")[0].rstrip("/") + "/"
            st.code(f"{address}?{urlencode(st.query_params.to_dict() | _lists(), doseq=True)}", language=None)
            st.caption("It brings back the question with all that you took away or answered.")
        st.download_button(
            "Answer to print",
            page_,
            file_name="xai-atlas-answer.html",
            mime="text/html",
            icon=":material/print:",
            on_click="ignore",
        )
        cite_menu(ids, key="cite-answer")


def _lists() -> dict[str, list[str]]:
    return {name: given for name in (reading.DROP, reading.SAY) if (given := st.query_params.get_all(name))}


def protocol(found: Answer) -> None:
    """Show how to check the explanations."""
    if not found.protocol:
        return
    with st.expander("How to check these explanations", icon=":material/straighten:"):
        for number, step in enumerate(found.protocol, 1):
            notes = [sourced(note.text, note.cites) for note in step.notes]
            more = [plain(one) for one in (step.accept, trust_in_words(kb, step.metrics)) if one]
            lines = [sourced(step.text, step.cites), *more, *notes]
            st.markdown(f"{number}. " + "\n   - ".join(lines))


def sentence_list(title: str, icon: str, found: Sequence[Sentence | Statement]) -> None:
    """Show sentences with their sources under a title, when there are any."""
    if not found:
        return
    with st.expander(f"{title} ({len(found)})", icon=icon):
        st.markdown(
            "\n".join(
                f"- {sourced(one.text, one.cites if isinstance(one, Sentence) else one.sources)}" for one in found
            )
        )


def code(found: Answer) -> None:
    """Show the code that does what the answer recommends."""
    text = snippet(found, kb, runnable=computable())
    if text:
        with st.expander("Code to copy and run", icon=":material/code:"):
            st.code(text, language="python", wrap_lines=True)


# --- comparison and why not -------------------------------------------------------------------------------------------

SIDES = {1: ":blue-badge[＋ for]", -1: ":orange-badge[－ against]", 0: ":gray-badge[= neither]"}


def comparison(found: Comparison) -> None:
    """Show what was found of the named methods side by side."""
    st.subheader("What was found of them" if len(found.methods) > 1 else "What was found of it")
    for one in found.verdict:
        st.markdown(sourced(one.text, one.cites))
    if found.head_to_head:
        st.markdown("**Head to head**")
        lines = [
            f"- :blue-badge[{plain(', '.join(kb.methods[m].name for m in told.favours) or 'neither')}] "
            f"{plain(told.text)}{small_cites([told.publication])}"
            for told in found.head_to_head
        ]
        more(lines, "head-to-head findings")
    for column, (method, findings) in zip(st.columns(len(found.findings)), found.findings.items(), strict=True):
        with column.container(border=True, height="stretch"):
            count = {side: sum(told.side == side for told in findings) for side in SIDES}
            st.markdown(
                f"**{plain(kb.methods[method].name)}**  \n"
                f":small[{count[1]} for · {count[-1]} against · {count[0]} neither]"
            )
            nearest = sorted(findings, key=lambda told: ("same", "near", "far").index(told.near))
            lines = [f"- {SIDES[told.side]} {plain(told.text)}" + small_cites([told.publication]) for told in nearest]
            more(lines, "findings")


def more(lines: Sequence[str], what: str) -> None:
    """Show the first lines, and the others when unfolded."""
    st.markdown("\n".join(lines[:FINDINGS]))
    if len(lines) > FINDINGS:
        with st.expander(f"{len(lines) - FINDINGS} more {what}"):
            st.markdown("\n".join(lines[FINDINGS:]))


def other(found: Answer) -> None:
    """Tell why any other method is not the first choice."""
    chosen = st.selectbox(
        "Why not another method?",
        sorted(kb.methods, key=lambda one: kb.methods[one].name.casefold()),
        index=None,
        format_func=lambda one: kb.methods[one].name,
        placeholder="choose or type a method",
        key="why-not",
    )
    if chosen is None:
        return
    told = why_not(chosen, found.query, kb, runnable=computable())
    with st.container(border=True):
        st.markdown(f"**{plain(told.text)}**")
        for setback in told.setbacks:
            st.markdown(f"{points_badge(setback.points)} against the first by {plain(setback.criterion)}")
            for whose, reasons in (("it", setback.own), ("the first", setback.first)):
                st.markdown("\n".join(f"- {whose}: {reason_line(one)}" for one in reasons))
        if told.reasons:
            st.markdown("What speaks for it:\n" + "\n".join(f"- {reason_line(one)}" for one in told.reasons))
        entity_link(told.method, "About this method", icon=":material/menu_book:")


# --- cards ------------------------------------------------------------------------------------------------------------


def small_cites(ids: Iterable[str]) -> str:
    """Return citations in brackets, as Markdown; empty when there are none."""
    links = cite(ids, limit=4)
    return f" :small[:gray[({links})]]" if links else ""


def reason_line(reason: Reason) -> str:
    """Return a reason with its points and its citations, as Markdown."""
    return f"{points_badge(reason.points)} {plain(reason.text)}{small_cites(reason.cites)}"


def shortly(reasons: Sequence[Reason]) -> list[Reason]:
    """Return the strongest reasons that studies or the question give, and what speaks most against it."""
    studied = [one for one in reasons if one.cites or one.criterion == "named"] or list(reasons)
    speaks_for = [one for one in studied if one.points > 0][:REASONS]
    return speaks_for + [one for one in studied if one.points < 0][:1]


def card(rank: int, one: Recommendation, best: float, modalities: Iterable[str]) -> None:
    """Show one recommendation; for each modality it leads to the studies and ways through the graph behind it."""
    with st.container(border=True):
        left, right = st.columns([3, 1], vertical_alignment="center")
        runs = " :gray-badge[:material/play_circle: runs here]" if one.runnable else ""
        left.markdown(f"#### {rank}. {plain(one.name)}\n{branch_badge(one.method)}{runs}")
        right.progress(max(0.0, min(1.0, one.score / best)) if best > 0 else 0.0, text=f"score {one.score:.1f}")
        st.markdown(evidence_line(one.evidence))
        st.markdown("\n".join(f"- {reason_line(reason)}" for reason in shortly(one.reasons)))
        with st.expander(f"The whole argument: {len(one.reasons)} reasons, conditions and cautions"):
            st.markdown("\n".join(f"- {reason_line(reason)}" for reason in one.reasons))
            if one.conditions:
                st.markdown("**It serves only**\n\n" + "\n".join(f"- {plain(text)}" for text in one.conditions))
            if one.cautions:
                lines = (f"- :material/warning: {sourced(each.text, each.sources)}" for each in one.cautions)
                st.markdown("**Mind**\n\n" + "\n".join(lines))
            with st.container(horizontal=True, gap="small", vertical_alignment="center"):
                for metric in one.metrics:
                    entity_link(metric, kb.metrics[metric].name, icon=":material/straighten:")
                for tool in one.tools:
                    entity_link(tool, kb.tools[tool].name, icon=":material/build:")
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            entity_link(one.method, "About this method", icon=":material/menu_book:")
            for modality in modalities:
                name = kb.modalities[modality].name
                there = {"id": one.method, "in": name}  # a bound widget reads the words it shows from the address
                st.page_link(EXPLORE, label=f"Why in {plain(name)}", icon=":material/route:", query_params=there)
            if one.runnable:
                carry = {"methods": one.method}
                st.page_link(RUN, label="Run it", icon=":material/play_circle:", query_params=carry)


page()
