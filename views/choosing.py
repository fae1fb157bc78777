"""Choosing an image, a model and what of it to explain: for the pages that run something. It imports torch."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import streamlit as st
from torch import Tensor

from runners import Box, Contrast, Image, Model, Region, Wired, load_image, load_model, profile
from runners.bring import read_features, with_report
from runners.case import WORDS, Case, Subject, label_name, open_case, to_input
from runners.images import FORMATS, load_mask
from runners.joint import takes_table, with_values
from runners.load import bundled
from runners.targets import Target
from runners.writing import writes
from runners.zoo.samples import Sample, samples
from taxonomy import ModelError
from views import results
from views.common import knowledge, plain, sentences

kb = knowledge()
IMAGE_TYPES = ["png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp", "dcm", "dicom", "ima", "nii", "gz", "npy", "npz"]
MODEL_TYPES = ["pt2", "pt", "ts", "onnx", "safetensors", "pth", "zip"]


@dataclass(frozen=True)
class Picked:
    """An image with what is known about where it comes from."""

    image: Image
    key: str
    """Tells it apart from other images of this session."""
    source: str
    modality: str | None
    models: tuple[str, ...] = ()
    """Bundled models that suit it."""
    mask: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and a model, and what the model says and offers."""

    case: Case
    model: Model
    x: Tensor
    wired: Wired


LOADED = "loaded"
"""Where the session keeps the pair that the page Run has loaded."""


@st.cache_resource
def lock() -> threading.Lock:
    """Return the lock that lets one session at a time use a model: bundled models are shared between sessions."""
    return threading.Lock()


# --- image ------------------------------------------------------------------------------------------------------------


@st.cache_resource(max_entries=8, show_spinner="Reading the image …")
def sample_image(sample_id: str) -> tuple[Image, Tensor | None]:
    """Return a bundled image with its mask."""
    sample = bundle()[sample_id]
    return sample.load(), sample.mask()


@st.cache_resource(max_entries=4, show_spinner="Reading the image …")
def uploaded_image(key: tuple[str, ...], _files: list[tuple[str, bytes]], frame: int | None) -> Image:  # noqa: ARG001
    """Return an uploaded image; several files are the slices of one series.

    Raises:
        ImageError: it cannot be read.
    """
    suffix = "".join(Path(_files[0][0]).suffixes[-2:])
    data = [content for _, content in _files]
    # the file's own name may be a patient's
    return load_image(data[0] if len(data) == 1 else data, frame=frame, name=f"the upload{suffix}")


def bundle() -> dict[str, Sample]:
    """Return the bundled images by id."""
    return {one.id: one for one in samples()}


def choose_image(modality: str | None, task: str | None) -> Picked | None:
    """Let the user take a bundled image, one for this modality and task first, or upload one."""
    where = st.segmented_control(
        "Image from",
        ["Bundled", "Upload"],
        default="Bundled",
        required=True,
        label_visibility="collapsed",
        key="image-from",
        persist_state="session",
    )
    picked = upload() if where == "Upload" else choose_sample(modality, task)
    if picked is None:
        return None
    preview = Case(picked.image, {}, mask=picked.mask)
    st.image(results.drawn(preview, results.View()), width=260, alt="the chosen image")
    size = " × ".join(map(str, picked.image.shape))
    kind = kb.modalities[picked.modality].name if picked.modality else "modality unknown"
    st.caption(f"{plain(kind)} · {size} · {picked.image.format}")
    if picked.mask is None and where == "Upload":
        file = st.file_uploader(
            "Mask of the finding (optional)", IMAGE_TYPES, key="mask", help="Same grid as the image; 0 is background."
        )
        if file is not None:
            picked = replace(
                picked,
                mask=load_mask(file.getvalue(), like=picked.image, name="the mask"),
                key=picked.key + file.file_id,
            )
    return picked


def choose_sample(modality: str | None, task: str | None) -> Picked:
    """Let the user take a bundled image."""
    known = bundle()
    tasks = {card.id: card.task for card in bundled()}

    def fit(one: Sample) -> int:
        return 2 * (one.modality == modality) + any(tasks.get(m) == task for m in one.models) if modality or task else 0

    best = max(known, key=lambda one: fit(known[one]))
    name = st.selectbox(
        "Bundled image",
        list(known),
        index=list(known).index(best),
        format_func=lambda one: f"{kb.get(known[one].modality).name}: {known[one].name}",
        key="sample",
        persist_state="session",
    )
    sample = known[name]
    image, mask = sample_image(name)
    st.caption(f"{plain(sample.source)} ({plain(sample.licence)})")
    return Picked(image, name, name, sample.modality, sample.models, mask)


def upload() -> Picked | None:
    """Let the user upload an image."""
    files = st.file_uploader(
        "Your image",
        IMAGE_TYPES,
        accept_multiple_files=True,
        key="upload",
        help=f"{FORMATS}. Give all slices of a DICOM series together. Nothing leaves this machine; "
        "names and patient data are not kept.",
    )
    modality = st.selectbox(
        "Modality",
        list(kb.modalities),
        index=None,
        format_func=lambda one: kb.modalities[one].name,
        placeholder="as the file says",
        key="upload-modality",
    )
    if not files:
        return None
    ids = tuple(one.file_id for one in files)
    contents = [(one.name, one.getvalue()) for one in files]
    image = uploaded_image(ids, contents, None)
    frame = None
    if image.frames > 1:
        frame = int(st.number_input(f"Frame (of {image.frames}, from 0)", 0, image.frames - 1, 0))
        image = uploaded_image(ids, contents, frame)
    kind = modality or image.modality
    suits = tuple(card.id for card in bundled() if card.modality == kind)
    return Picked(image, f"{'-'.join(ids)}-{frame}", "upload", kind, suits)


# --- model ------------------------------------------------------------------------------------------------------------


@st.cache_resource(max_entries=4, show_spinner="Loading the model …")
def bundled_model(model_id: str) -> Model:
    """Return a bundled model."""
    return load_model(model_id)


def choose_model(suits: tuple[str, ...]) -> tuple[str, Model] | None:
    """Let the user take a bundled model, those that suit the image first, or bring one."""
    where = st.segmented_control(
        "Model from",
        ["Bundled", "My own"],
        default="Bundled",
        required=True,
        label_visibility="collapsed",
        key="model-from",
        persist_state="session",
    )
    if where == "My own":
        return own_model()
    cards = {card.id: card for card in bundled()}
    order = sorted(cards, key=lambda one: one not in suits)
    name = st.selectbox(
        "Bundled model",
        order,
        index=0 if suits else None,  # a model for another kind of image is only ever the user's own choice
        placeholder="none is known to suit this image: choose",
        format_func=lambda one: cards[one].name + (" ✓" if one in suits else ""),
        key=f"model-{'-'.join(suits)}",
        help="✓ was trained for this kind of image.",
    )
    if name is None:
        st.caption("Say the modality of your image, choose a model, or bring your own.")
        return None
    card = cards[name]
    if name not in suits:
        st.warning(
            "This model was not trained on this kind of image: its answer means little.", icon=":material/warning:"
        )
    st.markdown(plain(card.intended_use or ""))
    st.caption(
        " · ".join(f"{plain(one.metric)} {one.value:.3g} ({plain(one.data)}, n = {one.n})" for one in card.measured[:3])
        + f" · {plain(card.not_for)}"
    )
    return name, bundled_model(name)


@st.cache_resource(max_entries=4, show_spinner="Loading the model …")
def own(key: str, _file: tuple[str, bytes] | None, place: str, **options: Any) -> Model:  # noqa: ARG001
    """Return the user's own model, from an uploaded file or from a place on this machine.

    Raises:
        ModelError: it cannot be read.
    """
    if _file is None:
        return load_model(place, **options)
    name, content = _file
    with TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(content)
        return load_model(path, **options)


def own_model() -> tuple[str, Model] | None:
    """Let the user bring a model."""
    file = st.file_uploader(
        "Your model",
        MODEL_TYPES,
        key="model-file",
        help="torch.export (.pt2), TorchScript, ONNX, or weights as safetensors / state dict with a factory. "
        "Pickled models are refused: opening one can run any code.",
    )
    place = st.text_input(
        "or a place on this machine",
        key="model-place",
        placeholder="folder of a MONAI bundle, file, timm:NAME, hf:NAME",
    ).strip()
    factory = st.text_input(
        "Factory, for weights without a network",
        key="factory",
        placeholder="path/to/file.py:function",
        help="A Python function that builds the network.",
    ).strip()
    if factory:
        st.warning(
            "The factory is Python code and runs on this machine: name only code that you trust.",
            icon=":material/warning:",
        )
    with st.popover("What it expects", icon=":material/settings:"):
        st.caption("Leave empty what the file says itself.")
        tasks = ["classification", "segmentation", "regression", "detection"]
        task = st.selectbox("Task", tasks, index=None, placeholder="found by running it", key="own-task")
        labels = st.text_input("Labels, with commas", placeholder="normal, pneumonia", key="own-labels")
        size = st.text_input("Input size", placeholder="224 224", key="own-size")
        channels = st.number_input("Channels", 1, 64, None, key="own-channels")
        scale = st.selectbox(
            "Intensities",
            ["display", "minmax", "percentile", "zscore", "none"],
            key="own-scale",
            help="How pixels come to 0..1 before mean and standard deviation; zscore: of each image.",
        )
        mean = st.text_input("Mean per channel", placeholder="0.485 0.456 0.406", key="own-mean")
        deviation = st.text_input("Standard deviation per channel", placeholder="0.229 0.224 0.225", key="own-std")
    prompts = st.text_area(
        "For a vision-language model: what to ask about, a line each",
        placeholder="a chest x-ray with pneumonia\na normal chest x-ray",
        key="own-prompts",
        height=80,
        help="A folder of Hugging Face or open_clip; each text becomes a label.",
    )
    if file is None and not place:
        return None
    sides = numbers(size, "input size")
    if any(side != int(side) for side in sides):
        raise ModelError(f"the input size {size!r} was given; whole numbers such as 224 224 are needed")
    options: dict[str, Any] = {
        "factory": factory or None,
        "task": task,
        "labels": [one.strip() for one in labels.split(",") if one.strip()] or None,
        "size": [int(side) for side in sides] or None,
        "channels": None if channels is None else int(channels),
        "normalise": {"scale": scale, "mean": numbers(mean, "mean"), "std": numbers(deviation, "standard deviation")},
    }
    if texts := [one.strip() for one in prompts.splitlines() if one.strip()]:
        options = {"prompts": texts}
    content = None if file is None else (file.name, file.getvalue())
    key = f"{file.file_id if file else place}|{sorted(options.items(), key=str)}"
    model = own(key, content, place, **options)
    for note in model.notes:
        st.caption(plain(note))
    if takes_table(model.network):
        words = st.text_input(
            "This model reads clinical values too; give those of this case, in its order",
            placeholder="age=63, psa=4.5",
            key="own-values",
        )
        if not words.strip():
            return None
        values = read_features(one for one in words.split(",") if one.strip())
        model = Model(with_values(model.network, values), model.card, sha256=model.sha256, notes=model.notes).eval()
        key = f"{key}|{words}"
    return key, model


def numbers(text: str, what: str) -> list[float]:
    """Return the numbers of a text with spaces or commas between them.

    Raises:
        ModelError: something else stands there.
    """
    try:
        return [float(one) for one in re.split(r"[\s,;]+", text.strip()) if one]
    except ValueError as error:
        raise ModelError(f"the {what} {text!r} was given; numbers with spaces between them are needed") from error


# --- model meets image ------------------------------------------------------------------------------------------------


@st.cache_resource(max_entries=6, show_spinner="The model looks at the image …")
def met(key: tuple[Any, ...], _model: Model, _picked: Picked, text: str | None) -> Pair:  # noqa: ARG001
    """Run the model on the image once and find out what it offers; a writer writes its report first, or takes a text.

    Raises:
        ImageError, ModelError: they do not fit, or the model fails.
    """
    with lock():
        x = _model.prepare(_picked.image)
        if writes(_model):
            _model = with_report(_model, x, text)
        wired = profile(_model, x)
        case = open_case(_picked.image, _model, x, source=_picked.source, modality=_picked.modality, mask=_picked.mask)
    return Pair(case, _model, x, wired)


def meet(key: str, model: Model, picked: Picked) -> Pair:
    """Bring an image and a model together; a model of pictures looks at one slice of a volume."""
    cut = results.Cut()
    image = picked.image
    if image.dims == 3 and model.card.dims == 2:
        last = image.shape[image.plane_axis] - 1
        label = "This model reads pictures: slice of the volume"
        cut = results.Cut(image.plane_axis, st.slider(label, 0, last, last // 2) if last else 0)
        mask = None if picked.mask is None else image.view(picked.mask, *cut)
        picked = replace(picked, image=image.slice(*cut), mask=mask)
    text = None
    if writes(model):
        text = st.text_area(
            "Report to explain, sentence by sentence",
            placeholder="empty: what the model writes about the image",
            height=80,
            key=f"report-{model.card.id}",
        ).strip()
    return met((key, picked.key, cut), model, picked, text or None)


def choose_case(modality: str | None, task: str | None, key: str) -> tuple[Pair | None, Target]:
    """Let the user choose an image, a model and what is explained: what the page Run has loaded, or others.

    Args:
        modality: modality id of the images that are offered first.
        task: task of the models that are offered first.
        key: key of the choice between the two.
    """
    pair: Pair | None = st.session_state.get(LOADED)
    here = "Choose here"
    if pair is not None:
        loaded = f"As loaded in Run: {pair.model.card.name}"
        where = st.segmented_control(
            "Try on", [here, loaded], default=here, required=True, label_visibility="collapsed", key=key
        )
        if where == here:
            pair = None
    left, middle, right = st.columns(3, gap="large")
    if pair is None:
        picked = chosen = None
        with left, sentences():
            picked = choose_image(modality, task)
        with middle, sentences():
            chosen = choose_model(picked.models if picked else ())
            if picked and chosen:
                pair = meet(*chosen, picked)
    target: Target = None
    with right, sentences():
        if pair is None:
            st.caption("Choose an image and a model first.")
        else:
            say(pair)
            target = choose_target(pair)
    return pair, target


def subject_of(pair: Pair, target: Target) -> Subject:
    """Return what is explained of an image and a model."""
    region = None if pair.case.mask is None else to_input(pair.case.mask, tuple(pair.x.shape[2:]), pair.case.fit)
    return Subject(pair.case, pair.x, pair.wired, target, region)


def say(pair: Pair) -> None:
    """Show the model's answer and what it offers to explainers."""
    results.answer_lines(pair.case)
    names: dict[str, str] = {need: word.name for need, word in kb.vocabulary.needs.items()}
    with st.popover("What the model offers", icon=":material/fact_check:"):
        for need in sorted(pair.wired.has):
            st.markdown(f":green[:material/check:] {plain(names[need])}")
        for need, why in sorted(pair.wired.lacks.items()):
            st.markdown(f":gray[:material/close:] {plain(names[need])}" + (f": {plain(why)}" if why else ""))
        for note in (*pair.wired.notes, *pair.wired.place_notes, *pair.model.fit(pair.case.image).notes):
            st.caption(plain(note))


def choose_target(pair: Pair) -> Target:
    """Let the user say which of the model's outputs is explained."""
    options = targets(pair)
    chosen: str = st.selectbox("Explain", list(options), key=f"target-{pair.model.card.id}-{len(options)}")
    if pair.wired.task == "classification" and pair.wired.outputs > 1:
        names = [label_name(pair.model.card.labels, one) for one in range(pair.wired.outputs)]
        versus = st.selectbox(
            "rather than", names, index=None, placeholder="anything else", key=f"versus-{pair.model.card.id}"
        )
        label = options[chosen]
        if versus is not None and (label is None or isinstance(label, int)):
            return Contrast(label, names.index(versus))
    return options[chosen]


def targets(pair: Pair) -> dict[str, Target]:
    """Return what can be explained of a model, by its words."""
    card, outputs, task = pair.model.card, pair.wired.outputs, pair.wired.task
    if task == "detection":
        return {f"{line.label}, {line.value:.0%}": Box(number) for number, line in enumerate(pair.case.answer)}
    if task != "segmentation":
        count = 2 if outputs == 1 and task == "classification" else outputs
        options: dict[str, Target] = {"what the model decided": None}
        options |= {label_name(card.labels, one): one for one in range(count)}
        if task == "classification" and count > 2:
            options["the expected grade (labels are ordered)"] = WORDS["grade"]
        return options
    mask = pair.case.mask
    region = None if mask is None else to_input(mask, tuple(pair.x.shape[2:]), pair.case.fit)
    options = {"the largest region the model marks": None}
    for one in [1] if outputs == 1 else range(1, outputs):
        name = label_name(card.labels, one - 1 if outputs == 1 else one)
        options[f"{name}, where the model marks it"] = Region(one)
        options[f"{name}, at the boundary of what the model marks"] = Region(one, part="boundary")
        if region is not None:
            options[f"{name} inside the reference mask"] = Region(one, region)
            options[f"{name} that the model marks outside the reference"] = Region(one, region, "false_positive")
            options[f"{name} of the reference that the model missed"] = Region(one, region, "missed")
    return options
