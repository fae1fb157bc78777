"""Run: image, model, target and methods in; explanations, scores and downloads out (``?run=…`` opens a stored run)."""

from __future__ import annotations

import re
import threading
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import streamlit as st

from recommender import Query, answer
from taxonomy import AtlasError, ImageError, ModelError
from views.common import RUN, RUNS, knowledge, plain, sentences

with st.spinner("Starting PyTorch …"):
    import torch
    from torch import Tensor

    from runners import (
        Box,
        Contrast,
        Image,
        Model,
        Region,
        Wired,
        explain,
        explainers,
        load_image,
        load_model,
        measure,
        metrics,
        profile,
        unmet,
    )
    from runners.baselines import BASELINES, FILLINGS
    from runners.case import WORDS, Case, Result, label_name, measured, open_case, to_input
    from runners.images import FORMATS, load_mask
    from runners.load import bundled
    from runners.registry import helps, parameters
    from runners.targets import Target
    from runners.zoo.samples import Sample, samples
    from views import results

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


@st.cache_resource
def lock() -> threading.Lock:
    """Return the lock that lets one session at a time use a model: bundled models are shared between sessions."""
    return threading.Lock()


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


Start = tuple[Pair, Target, dict[str, dict[str, Any]], list[str], int, dict[str, Any]]


def set_up() -> Start | None:
    """Show the choices; return them when Run is pressed."""
    left, middle, right = st.columns(3, gap="large")
    picked = pair = target = None
    with left, sentences():
        st.markdown("##### 1 · Image")
        picked = choose_image()
    with middle, sentences():
        st.markdown("##### 2 · Model")
        chosen = choose_model(picked.models if picked else ())
        if picked and chosen:
            pair = meet(*chosen, picked)
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
    with st.expander("What else you can give", icon=":material/add_photo_alternate:"), sentences():
        given = choose_given(pair)
    methods = choose_methods(pair, given)
    left, middle, right = st.columns([3, 1, 1], vertical_alignment="bottom", gap="large")
    with left:
        wanted = choose_metrics(pair)
    seed = middle.number_input("Seed", 0, 2**31 - 1, 0, help="The same seed gives the same map, bit for bit.")
    pressed = right.button(
        "Run", type="primary", icon=":material/play_arrow:", width="stretch", disabled=not methods, key="start"
    )
    return (pair, target, methods, wanted, int(seed), given) if pressed else None


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


def choose_image() -> Picked | None:
    """Let the user take a bundled image or upload one."""
    where = st.segmented_control(
        "Image from",
        ["Bundled", "Upload"],
        default="Bundled",
        required=True,
        label_visibility="collapsed",
        key="image-from",
        persist_state="session",
    )
    picked = upload() if where == "Upload" else choose_sample()
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


def choose_sample() -> Picked:
    """Let the user take a bundled image."""
    known = bundle()
    modality, task = st.query_params.get("modality"), st.query_params.get("task")
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
    content = None if file is None else (file.name, file.getvalue())
    key = f"{file.file_id if file else place}|{sorted(options.items(), key=str)}"
    model = own(key, content, place, **options)
    for note in model.notes:
        st.caption(plain(note))
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
def met(key: tuple[Any, ...], _model: Model, _picked: Picked) -> Pair:  # noqa: ARG001
    """Run the model on the image once and find out what it offers.

    Raises:
        ImageError, ModelError: they do not fit, or the model fails.
    """
    with lock():
        x = _model.prepare(_picked.image)
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
    return met((key, picked.key, cut), model, picked)


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


def choose_methods(pair: Pair, given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Let the user choose methods and their parameters; the others are listed with the reason."""
    out = {}
    for one in explainers:
        if found := unmet(one, pair.wired, reference=given.get("reference")):
            out[one] = " ".join(gap.sentence for gap in found)
    able = sorted((one for one in explainers if one not in out), key=lambda one: kb.methods[one].name.casefold())
    carried = [one for one in st.query_params.get("methods", "").split(",") if one]
    default = [one for one in carried if one in able] or recommended(pair, able)
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


def recommended(pair: Pair, able: list[str]) -> list[str]:
    """Return the panel for this modality, task and model."""
    query = Query(
        modality=(pair.case.modality,) if pair.case.modality else (),
        task=pair.wired.task,
        dimension="3d" if pair.wired.dims == 3 else "2d",
    )
    return list(answer(query, kb, profile=pair.wired, runnable=able).panel)


def choose_parameters(method: str, pair: Pair) -> dict[str, Any]:
    """Show a method's parameters, as its signature has them; return those that differ from their defaults."""
    function = explainers[method]
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
    quick = [one for one in able if "explainer" not in kb.metrics[one].needs]
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
) -> None:
    """Run every method and store what came of it at once, under the key that the address names from now on."""
    case = replace(pair.case, key=uuid.uuid4().hex)
    st.query_params["run"] = case.key
    for number, (method, settings) in enumerate(methods.items(), 1):
        bar = Bar(f"{number} of {len(methods)} · {kb.methods[method].name}")
        try:
            with lock():
                found = explain(pair.model, pair.x, method, target, seed=seed, progress=bar, **given, **settings)
        except AtlasError as problem:
            results.store().add_run(case, Result(method, error=str(problem)))
            st.error(f"**{plain(kb.methods[method].name)}**: {plain(str(problem))}", icon=":material/error:")
            bar.close()
            continue
        row = results.store().add_run(case, Result(method, found))
        for metric in wanted:
            bar.name(f"{number} of {len(methods)} · {kb.methods[method].name}: {kb.metrics[metric].name}")
            needs_mask = "mask" in kb.metrics[metric].needs and case.mask is not None
            mask = (
                to_input(case.mask, tuple(pair.x.shape[2:]), case.fit) if needs_mask and case.mask is not None else None
            )
            with sentences(), lock():
                reference = given.get("reference")
                score = measure(
                    metric, pair.model, pair.x, found, target, mask=mask, seed=seed, reference=reference, progress=bar
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
