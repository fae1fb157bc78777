"""What the user of the app brings along: a cohort, examples of concepts, clinical values. Nothing of it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import streamlit as st

from runners.bring import read_cohort, read_concepts, read_features
from runners.case import to_input
from runners.load import Model
from runners.owned import Owned
from taxonomy import AtlasError
from views.choosing import Pair


def choose_owned(pair: Pair) -> Owned:
    """Let the user bring what methods beyond maps need.

    Raises:
        AtlasError: something cannot be read or does not fit; the sentence says what.
    """
    left, middle, right = st.columns(3, gap="medium")
    with left:
        cohort = _folder(
            pair,
            "A folder of images like those the model learned from",
            "Sub-folders are labels; a table cohort.csv may give labels and clinical values instead.",
            read_cohort,
        )
    with middle:
        concepts = _folder(
            pair,
            "A folder with examples of concepts",
            "One sub-folder for each concept, named like it, such as spiculated_margin. Without it, measures of "
            "brightness, texture and shape make concepts of the cohort.",
            read_concepts,
        )
    with right:
        words = st.text_input(
            "Clinical values of this case", placeholder="age=63, psa=4.5", key=f"features-{pair.model.card.id}"
        )
    mask = None
    if pair.case.mask is not None:
        mask = to_input(pair.case.mask, tuple(pair.x.shape[2:]), pair.case.fit)
    features = read_features(one for one in words.split(",") if one.strip())
    return Owned(cohort=cohort, concepts=concepts or {}, features=features, mask=mask)


def _folder(pair: Pair, label: str, says: str, read: Callable[[Path, Model], Any]) -> Any:
    """Show an uploader of a folder; return what was read from it."""
    files: Any = st.file_uploader(
        label, accept_multiple_files="directory", help=says, key=f"{read.__name__}-{pair.model.card.id}"
    )
    return _read(tuple(one.file_id for one in files), files, pair.model, read) if files else None


@st.cache_resource(max_entries=4, show_spinner="Reading the images …")
def _read(key: tuple[str, ...], _files: Any, _model: Model, _read: Callable[[Path, Model], Any]) -> Any:  # noqa: ARG001
    with tempfile.TemporaryDirectory() as place:
        top = {PurePosixPath(one.name).parts[0] for one in _files}
        for one in _files:
            parts = PurePosixPath(one.name).parts
            if ".." in parts or PurePosixPath(one.name).is_absolute():
                raise AtlasError("a file of the folder lies outside of it; choose the folder itself")
            inside = parts[1:] if len(top) == 1 and len(parts) > 1 else parts  # the folder's own name is no label
            target = Path(place).joinpath(*inside)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(one.getvalue())
        return _read(Path(place), _model)
