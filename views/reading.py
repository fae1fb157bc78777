"""How a question was read: its fields as chips that can be taken away, and answers to what the atlas asks back.

What is taken away or answered stands in the address (``drop`` and ``say``, as ``field:value``), so a link carries it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from recommender import Clarification, Query, clarify
from taxonomy import KB, UnknownIdError
from views.common import executable, knowledge, named, plain

DROP, SAY = "drop", "say"
WORDS = {
    "access": "access",
    "has": "at hand",
    "lacks": "not at hand",
    "methods": "method",
    "families": "family",
    "criteria": "quality",
    "others": "named",
    "excluded": "not wanted",
}
"""Field to its name on a chip, where that is another."""
FIELDS = (
    "modality",
    "task",
    "architecture",
    "dimension",
    "access",
    "goal",
    "audience",
    "budget",
    "methods",
    "families",
    "criteria",
    "others",
    "anatomy",
    "has",
    "lacks",
    "intrinsic",
    "excluded",
)
"""Fields of a query that are shown, in this order."""


@dataclass(frozen=True)
class Chip:
    """One thing that was understood.

    Attributes:
        field: Field of the query.
        value: Its value, or one of its values.
        name: The value in words.
    """

    field: str
    value: str
    name: str

    @property
    def key(self) -> str:
        """How it stands in the address."""
        return f"{self.field}:{self.value}"


def chips(query: Query, kb: KB) -> Iterator[Chip]:
    """Yield what was understood of a question."""
    for field in FIELDS:
        given: Any = getattr(query, field)
        for one in _values(given):
            yield Chip(field, one, _name(kb, field, one))


def _values(given: Any) -> list[str]:
    if isinstance(given, tuple | frozenset):
        return sorted(given) if isinstance(given, frozenset) else list(given)
    if given is None or given is False:
        return []
    return [f"{given:g}" if isinstance(given, float) else str(given)]


def _name(kb: KB, field: str, value: str) -> str:
    vocabulary = kb.vocabulary
    lists: dict[str, Mapping[Any, Any]] = {
        "task": vocabulary.tasks,
        "architecture": vocabulary.architectures,
        "goal": vocabulary.goals,
        "audience": vocabulary.audiences,
        "criteria": vocabulary.criteria,
        "has": vocabulary.needs,
        "lacks": vocabulary.needs,
    }
    if field in lists:
        return str(lists[field][value].name)
    if field in ("modality", "methods", "families", "others", "excluded"):
        return named(value)
    own = {"access": "black box", "dimension": value.upper(), "budget": f"{value} s per image", "intrinsic": "built in"}
    return own.get(field, value)


def without(query: Query, dropped: Iterable[str]) -> Query:
    """Return a query without the values that are named as ``field:value``; others are passed over."""
    for one in dropped:
        field, _, value = one.partition(":")
        if field not in FIELDS:
            continue
        given: Any = getattr(query, field)
        if value not in _values(given):
            continue
        left: Any = None if given is not True else False
        if isinstance(given, tuple | frozenset):
            left = type(given)(each for each in given if each != value)
        changes: dict[str, Any] = {field: left}
        if not left:
            changes["spans"] = {name: words for name, words in query.spans.items() if name != field}
            changes["implied"] = query.implied - {field}
        if field == "methods" and len(left) < 2:
            changes["asks"] = "judge" if left and query.asks != "recommend" else "recommend"
        query = replace(query, **changes)
    return query


def including(query: Query, said: Iterable[str], kb: KB) -> Query:
    """Return a query with answers to what was asked back, each as ``field:value``.

    Raises:
        UnknownIdError: There is no such field or value.
    """
    vocabulary = kb.vocabulary
    allowed: dict[str, Iterable[str]] = {
        "modality": kb.modalities,
        "task": vocabulary.tasks,
        "architecture": vocabulary.architectures,
        "goal": vocabulary.goals,
        "has": vocabulary.needs,
        "lacks": vocabulary.needs,
        "dimension": ("2d", "3d"),
        "access": ("black_box",),
    }
    for one in said:
        field, _, value = one.partition(":")
        if field not in allowed:
            raise UnknownIdError(field, allowed, "field of a question")
        if value not in allowed[field]:
            raise UnknownIdError(value, allowed[field], field)
        given: Any = getattr(query, field)
        new: Any = value
        if field == "modality":
            new = tuple(dict.fromkeys((*given, value)))
        elif field in ("has", "lacks"):
            new = given | {value}
        query = replace(query, **{field: new})
    return query


def added(before: Query, after: Query, kb: KB) -> list[str]:
    """Return what a query says beyond another, each as ``field:value``."""
    known = {chip.key for chip in chips(before, kb)}
    return [chip.key for chip in chips(after, kb) if chip.key not in known]


# --- shown ------------------------------------------------------------------------------------------------------------


def asked(read: Query) -> Query:
    """Return the question as read, with what the address takes away and adds.

    Raises:
        UnknownIdError: The address names something that does not exist.
    """
    return including(without(read, st.query_params.get_all(DROP)), st.query_params.get_all(SAY), knowledge())


def forget() -> None:
    """Forget what was taken away or answered: another question is asked."""
    for name in (DROP, SAY):
        st.query_params.pop(name, None)


def show(query: Query) -> None:
    """Show what was understood, each field with a way to take it away, and what was not."""
    said = st.query_params.get_all(SAY)
    shown = list(chips(query, knowledge()))
    if shown or st.query_params.get_all(DROP):
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.markdown("Understood", width="content")
            for chip in shown:
                _chip(chip, query, said=chip.key in said)
            if st.query_params.get_all(DROP):
                st.button("Bring back", icon=":material/undo:", type="tertiary", on_click=_bring_back, key="bring-back")
    if query.unmatched:
        st.caption(f"Not understood and not used: {plain(', '.join(query.unmatched))}.")


def _chip(chip: Chip, query: Query, *, said: bool) -> None:
    words = query.spans.get(chip.field)
    implied = chip.field in query.implied
    origin = (
        "You answered this." if said else f"{'Implied' if implied else 'Read'} from “{plain(words or 'the words')}”."
    )
    st.button(
        f"{WORDS.get(chip.field, chip.field)}: **{plain(chip.name)}**"
        + (" *(implied)*" if implied and not said else ""),
        icon=":material/close:",
        icon_position="right",
        help=f"{origin} Press to take it away.",
        on_click=_drop,
        args=(chip.key,),
        key=f"chip-{chip.key}",
    )


def _drop(key: str) -> None:
    said = st.query_params.get_all(SAY)
    if key in said:
        st.query_params[SAY] = [one for one in said if one != key]
    else:
        st.query_params[DROP] = [*st.query_params.get_all(DROP), key]


def _bring_back() -> None:
    st.query_params.pop(DROP, None)


def _say(answers: list[str]) -> None:
    st.query_params[DROP] = [one for one in st.query_params.get_all(DROP) if one not in answers]
    st.query_params[SAY] = [*st.query_params.get_all(SAY), *answers]


@st.cache_resource(max_entries=64, show_spinner=False)
def _clarification(key: str, _query: Query) -> Clarification | None:  # noqa: ARG001
    return clarify(_query, knowledge(), runnable=executable())


def ask_back(query: Query) -> None:
    """Ask for the one missing answer that would change the ranking most, with its answers as buttons."""
    keys = [chip.key for chip in chips(query, knowledge())]
    found = _clarification("|".join(keys), query)
    if found is None:
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.markdown(
            f":material/help: **{plain(found.text)}**",
            width="content",
            help=(f"Your answer would change {found.change:g} of the first five methods on average."),
        )
        for choice in found.choices:
            answers = added(query, choice.query, knowledge())
            st.button(plain(choice.label), on_click=_say, args=(answers,), key=f"say-{'-'.join(answers)}")
