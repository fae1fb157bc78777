"""What the user of the app brings along: images, values, models, reasons. Nothing of it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import streamlit as st
from torch import Tensor

from runners.bring import language_for, phantom_cohort, read_cohort, read_concepts, read_features, read_reasons
from runners.case import to_input
from runners.generators import autoencoder_of, bundled_autoencoders, load_autoencoder
from runners.joint import fused, prompted
from runners.load import Model, Towers, load_towers
from runners.owned import Autoencoder, Cohort, Language, Owned, Reason
from runners.zoo.samples import DRAWN
from taxonomy import AtlasError
from views.choosing import Pair
from views.common import plain


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
        if cohort is None and pair.model.card.id in DRAWN:
            drawn = st.checkbox(
                "Draw 24 phantoms instead",
                help="Synthetic and simpler than real images: to try the methods out, not to judge the model.",
                key=f"phantoms-{pair.model.card.id}",
            )
            cohort = _phantoms(pair.model.card.id, pair.model) if drawn else None
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
    autoencoder = _generator(pair)
    mask = None
    if pair.case.mask is not None:
        mask = to_input(pair.case.mask, tuple(pair.x.shape[2:]), pair.case.fit)
    features = read_features(one for one in words.split(",") if one.strip())
    if (reads := fused(pair.model)) is not None and not features:
        features = dict(zip(reads.names, reads.table[0].tolist(), strict=True))
    return Owned(
        cohort=cohort,
        concepts=concepts or {},
        autoencoder=autoencoder,
        features=features,
        language=_language(pair),
        reasons=_reasons(pair),
        mask=mask,
    )


def _language(pair: Pair) -> Language | None:
    """Let the user name a vision-language model and what to ask it; the explained model's own is taken by default."""
    own = prompted(pair.model) is not None
    left, right = st.columns(2, gap="medium")
    place = left.text_input(
        "Folder of a vision-language model",
        value=st.session_state.get("model-place", "") if own else "",
        placeholder="CLIP-like, of Hugging Face or open_clip, on this machine",
        key=f"language-{pair.model.card.id}",
    ).strip()
    words = right.text_area(
        "What to ask it about, a line each",
        value="\n".join(pair.model.card.labels) if own else "",
        placeholder="spiculated margin\nposterior shadowing",
        height=80,
        key=f"prompts-{pair.model.card.id}",
    )
    return language_for(_towers(place), words.splitlines(), pair.model) if place else None


@st.cache_resource(max_entries=2, show_spinner="Loading the vision-language model …")
def _towers(place: str) -> Towers:
    return load_towers(place)


def _reasons(pair: Pair) -> tuple[Reason, ...]:
    """Let the user give sentences to check against the model."""
    words = st.text_area(
        "Reasons to check, a sentence a line, with the region that it cites",
        placeholder="The mass is spiculated. [40, 120, 60, 200]",
        help="Of a person or a language model. The region is a box in pixels: first and last of each axis.",
        height=80,
        key=f"reasons-{pair.model.card.id}",
    )
    return read_reasons(words, pair.case, tuple(pair.x.shape[2:])) if words.strip() else ()


def _generator(pair: Pair) -> Autoencoder | None:
    """Let the user choose a generator of such images: the bundled one, their own, or none."""
    own, key = autoencoder_of(pair.model), pair.model.card.id
    left, right = st.columns([1, 2], gap="medium")
    bundled = ("the bundled one",) if own else ()
    choice = left.selectbox(
        "Generator of such images",
        (*bundled, "none", "my own"),
        key=f"generator-{key}",
        help="Counterfactuals are drawn with it: an autoencoder that turns an image into a short code and back.",
    )
    if choice == "none":
        return None
    if choice == "the bundled one" and own:
        card = next(card for card in bundled_autoencoders() if card.id == own)
        told = "; ".join(f"{one.metric}: {one.value:.0%} on {one.n} {one.data}" for one in card.measured)
        right.caption(f"{plain(card.name)}. {plain(card.intended_use or '')} {plain(told)}.")
        return _bundled(own, tuple(pair.x.shape), pair.x)
    file: Any = right.file_uploader(
        "A TorchScript file with the methods encode and decode",
        type=["pt", "pth", "ts"],
        key=f"generator-file-{key}",
        help="encode: images as the model sees them to codes; decode: back.",
    )
    if file is None:
        return None
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / "generator.pt"
        target.write_bytes(file.getvalue())
        return load_autoencoder(target, pair.x)


@st.cache_resource(max_entries=4, show_spinner=False)
def _bundled(name: str, shape: tuple[int, ...], _like: Tensor) -> Autoencoder:  # noqa: ARG001
    return load_autoencoder(name, _like)


@st.cache_resource(max_entries=2, show_spinner="Drawing phantoms …")
def _phantoms(name: str, _model: Model) -> Cohort:  # noqa: ARG001
    return phantom_cohort(_model)


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
