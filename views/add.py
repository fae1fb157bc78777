"""Add: a reference becomes the file of a publication, which the reader completes, checks and downloads."""

from __future__ import annotations

import streamlit as st

from recommender.intake import understand
from taxonomy.intake import TODO, Proposal, checked, propose, read_references
from taxonomy.writing import dump
from views.common import entity_link, knowledge, plain, sentences

kb = knowledge()
EXAMPLE = "Paste BibTeX, RIS, CSL-JSON, a DOI, an arXiv id, or a whole citation"


def page() -> None:
    """Take a reference, propose its file, check what the reader makes of it."""
    st.title("Add a publication")
    st.caption(
        "Nothing is written here: you download a file and put it into kb/publications of the repository, or send it to "
        "us. Abstracts help to find methods and modalities and are not kept."
    )
    pasted = st.text_area("Reference", placeholder=EXAMPLE, height=140, key="reference")
    uploaded = st.file_uploader("or a file", ["bib", "ris", "json", "txt"], key="upload")
    text = pasted
    if uploaded is not None:
        try:
            text = uploaded.getvalue().decode("utf-8")
        except UnicodeDecodeError:
            st.error(f"{plain(uploaded.name)} is not UTF-8 text; save it as UTF-8.", icon=":material/error:")
            return
    if not text.strip():
        st.info("A reference gives a proposal: doubles are told, and what the title and abstract name is filled in.")
        return
    proposals: list[Proposal] = []
    with sentences():
        proposals = [propose(one, kb, understand(one, kb)) for one in read_references(text)]
    if not proposals:
        return
    if len(proposals) > 1:
        chosen = st.selectbox(
            f"{len(proposals)} references", range(len(proposals)), format_func=lambda i: proposals[i].id
        )
    else:
        chosen = 0
    complete(proposals[chosen])


def complete(proposal: Proposal) -> None:
    """Let the reader complete a proposal, and say what is still wrong with it."""
    for double in proposal.doubles:
        show = st.warning if double.certain else st.info
        publication = kb.publications[double.publication]
        show(f"The knowledge base has {double.why}: {plain(publication.title)}", icon=":material/content_copy:")
        entity_link(double.publication, "Open it")
    if any(double.certain for double in proposal.doubles):
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        name = st.text_input("Id", proposal.id, key=f"id-{proposal.id}")
        text = st.text_area(
            f"{name}.yaml", proposal.yaml, height=520, key=f"yaml-{proposal.id}", help=f"Replace every {TODO}."
        )
    entity, problems = checked(name, text, kb)
    with right:
        st.subheader("What is missing" if problems else "It passes every rule")
        if problems:
            st.markdown("\n".join(f"- {plain(sentence[:1].upper() + sentence[1:])}." for sentence in proposal.open))
            st.markdown("**Line by line**")
            st.markdown("\n".join(f"- {plain(problem.partition(':')[2])}" for problem in problems))
        else:
            st.success("Put it into kb/publications, or send it to us.", icon=":material/task_alt:")
        st.download_button(
            f"{name}.yaml",
            text if problems or entity is None else dump(entity),
            file_name=f"{name}.yaml",
            mime="text/yaml",
            icon=":material/download:",
            on_click="ignore",
            disabled=bool(problems),
            help="Once nothing is missing" if problems else None,
        )
        with st.expander("Words that may stand there"):
            vocabulary = kb.vocabulary
            for label, ids in (
                ("modalities", kb.modalities),
                ("task", vocabulary.tasks),
                ("architecture", vocabulary.architectures),
                ("criterion", vocabulary.criteria),
            ):
                st.markdown(f"**{label}** {plain(', '.join(ids))}")


page()
