"""Small pieces that the pages share: the knowledge base, citations, links, badges and the sentence of an error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import streamlit as st

from recommender import ready
from taxonomy import KB, AtlasError, load_kb
from taxonomy.schema import Publication

ASK, EXPLORE, RUN, RUNS, COMPARE, SANITY = (
    f"views/{name}.py" for name in ("ask", "explore", "run", "runs", "compare", "sanity")
)

BADGES: dict[str, Literal["blue", "orange", "violet", "green"]] = {
    "visualization": "blue",
    "non_visualization": "orange",
    "latent": "violet",
    "multimodal": "green",
}
"""Branch to the colour of its badge."""
COLOURS = {
    "visualization": "#2f7ea1",
    "non_visualization": "#c9823b",
    "latent": "#7a69b3",
    "multimodal": "#4d9a6a",
}
"""Branch to the colour of its marks in charts."""


@st.cache_resource(show_spinner="Reading the knowledge base …")
def knowledge() -> KB:
    """Return the knowledge base, read once per server."""
    return ready(load_kb())


@st.cache_resource(show_spinner=False)
def executable() -> tuple[str, ...]:
    """Return the methods that run here, whatever their answer; PyTorch is not needed for that."""
    import runners

    return runners.executable()


@st.cache_resource(show_spinner=False)
def computable() -> tuple[str, ...]:
    """Return the methods and metrics that run here, in the same way."""
    import runners

    return runners.computable()


@contextmanager
def sentences() -> Iterator[None]:
    """Show an error of XAI Atlas as its sentence and go on after the block."""
    try:
        yield
    except AtlasError as problem:
        st.error(plain(str(problem)), icon=":material/error:")


def plain(text: str) -> str:
    """Return ``text`` with every character that Markdown would read as an order escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$:])", r"\\\1", text)


def short(publication: Publication) -> str:
    """Return how a publication is named in running text, such as "Selvaraju 2017"."""
    who = publication.first_author or " ".join(publication.title.split()[:4]) + " …"
    return f"{who.split(',')[0]} {publication.year or 'n.d.'}"


def cite(ids: Iterable[str], *, limit: int = 6) -> str:
    """Return Markdown links to publications (DOI, arXiv or URL), the first ``limit`` of them.

    Raises:
        UnknownIdError: an id is not a publication.
    """
    publications = knowledge().publications
    unique = list(dict.fromkeys(ids))
    links = []
    for one in unique[:limit]:
        publication = publications[one]
        title = publication.title.replace('"', "'").replace("\n", " ")
        links.append(f'[{plain(short(publication))}]({publication.link} "{title}")')
    more = f" and {len(unique) - limit} more" if len(unique) > limit else ""
    return ", ".join(links) + more


def sourced(text: str, sources: Iterable[str]) -> str:
    """Return a sentence followed by its sources, as Markdown."""
    links = cite(sources)
    return f"{plain(text)} :small[:gray[({links})]]" if links else plain(text)


def entity_links(ids: Iterable[str], *, icon: str | None = None) -> None:
    """Show a row of links to the pages of entities."""
    kb = knowledge()
    with st.container(horizontal=True, gap="small"):
        for one in ids:
            entity_link(one, kb.get(one).name, icon=icon)


def entity_link(entity_id: str, label: str, *, icon: str | None = None) -> None:
    """Show a link to the page of one entity."""
    st.page_link(EXPLORE, label=plain(label), icon=icon, query_params={"id": entity_id})


def named(an_id: str) -> str:
    """Return the name of an entity, or of a family."""
    kb = knowledge()
    family = kb.vocabulary.families.get(an_id)
    return family.name if family else kb.get(an_id).name


def branch_badge(method_id: str) -> str:
    """Return the Markdown badge of a method's branch and family."""
    kb = knowledge()
    branch = kb.branch(method_id)
    family = kb.vocabulary.families[kb.methods[method_id].family].name
    return f":{BADGES[branch]}-badge[{plain(kb.vocabulary.branches[branch].name)}] :gray-badge[{plain(family)}]"


def words(ids: Iterable[str]) -> str:
    """Return ids as words for reading."""
    return ", ".join(one.replace("_", " ") for one in ids)
