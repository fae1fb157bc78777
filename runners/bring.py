"""Read what the owner of a model brings along from folders and words: images, values, words, reasons, a report."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from runners.case import Case, fit_of, to_input
from runners.images import load_image, load_mask, times
from runners.load import Model, ModelCard, Towers
from runners.owned import Cohort, Concept, Language, Reason
from runners.registry import Progress, no_progress
from runners.sized import Pictures, on_disk, several
from runners.writing import Writer
from runners.zoo.samples import DRAWN
from taxonomy.errors import AtlasError, ImageError, ModelError

TABLE = "cohort.csv"
"""Name of the table that may lie beside a cohort's images."""
MASK = "_mask"
"""Ending of the name of a mask that lies beside its image."""
PHANTOMS = "phantoms"
"""What to give for a cohort of generated images."""
FIRST = 1000
"""Seed of the first of them: far from those that the models learned from."""


def read_cohort(folder: Path, model: Model, *, most: int | None = None, progress: Progress = no_progress) -> Cohort:
    """Read images like those the model learned from.

    Sub-folders are labels. A table ``cohort.csv`` beside the images may hold a column ``file`` (path below the folder),
    a column ``label`` and clinical values in further columns; empty cells are unknown. ``NAME_mask.*`` is the mask of
    ``NAME.*``. File names are not kept. Labels that are the model's own get its numbers.

    Args:
        folder: the folder, or the word "phantoms" for :func:`phantom_cohort`.
        model: prepares every image as it does the one that is explained.
        most: read so many at most, evenly out of all.
        progress: told the images read.

    Raises:
        AtlasError: the folder or the table cannot be read, or does not fit.
        ImageError: an image cannot be read.
    """
    if folder == Path(PHANTOMS) and not folder.exists():
        return phantom_cohort(model, most or 24)
    files = _images(folder)
    if most is not None and len(files) > most:
        files = [files[i * len(files) // most] for i in range(most)]
    rows = _rows(folder / TABLE)
    if unknown := [one for one in rows if not (folder / one).is_file()]:
        raise AtlasError(f"{TABLE} names {unknown[0]}, which is not below the folder {folder.name}")
    own = [rows.get(file.relative_to(folder).as_posix(), {}) for file in files]
    words = [
        row.get("label") or (file.parent.name if file.parent != folder else "")
        for file, row in zip(files, own, strict=True)
    ]
    names = _label_names(words, model.card.labels)
    columns = tuple(key for key in next(iter(rows.values()), {}) if key not in ("file", "label"))
    values = [[_number(row.get(key, ""), key) for key in columns] for row in own]
    x, masks, note = _prepared(files, model, progress)
    return Cohort(
        x=x,
        labels=torch.tensor([_place(word, names) for word in words]) if names else None,
        label_names=names,
        features=torch.tensor(values) if columns else None,
        feature_names=columns,
        masks=masks,
        notes=(f"Cohort: {note}",) if note else (),
    )


def phantom_cohort(model: Model, count: int = 24, first: int = FIRST) -> Cohort:
    """Draw images for who has no cohort at hand: every second one with a finding, labelled by that, with its mask.

    They are simpler than real images: fit for trying methods out, not for judging a model.

    Args:
        model: a bundled one that phantoms are drawn for.
        count: how many.
        first: seed of the first; the same seed draws the same image.

    Raises:
        AtlasError: there are no phantoms for this model.
    """
    if model.card.id not in DRAWN:
        raise AtlasError(
            f"no phantoms are drawn for {model.card.name}, only for {', '.join(DRAWN)}; give a folder of images "
            "like those it learned from"
        )
    draw, names = DRAWN[model.card.id]
    labels = [number % 2 for number in range(count)]
    drawn = [draw(first + number, bool(label)) for number, label in enumerate(labels)]
    x = torch.cat([model.prepare(image) for image, _ in drawn])
    masks = torch.stack([to_input(mask > 0, tuple(x.shape[2:]), fit_of(model.card)) for _, mask in drawn])
    called = tuple(f"phantom {first + number}" for number in range(count))
    return Cohort(x, torch.tensor(labels), names, called, masks=masks)


def read_concepts(folder: Path, model: Model, *, progress: Progress = no_progress) -> dict[str, Concept]:
    """Read examples of concepts: one sub-folder each, named like the concept; ``NAME_mask.*`` says where it is.

    Raises:
        AtlasError: the folder cannot be read or has no sub-folders.
        ImageError: an image cannot be read.
    """
    inside = sorted(one for one in _listed(folder) if one.is_dir())
    if not inside:
        raise AtlasError(f"{folder} has no sub-folders; put the examples of each concept into one named like it")
    found = {}
    for one in inside:
        x, masks, note = _prepared(_images(one), model, progress)
        name = one.name.replace("_", " ")
        found[name] = Concept(x, masks, (f"Concept {name}: {note}",) if note else ())
    return found


def read_features(given: Iterable[str]) -> dict[str, float]:
    """Read clinical values from ``name=value``.

    Raises:
        AtlasError: one is not of this form, or its value is no number.
    """
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name.strip():
            raise AtlasError(f"{one!r} was given; name=value is needed, as in age=63")
        found[name.strip()] = _number(value, name.strip())
    return found


def with_report(model: Model, x: Tensor, text: str | None = None) -> Model:
    """Let a model that writes reports be explained: its outputs become the sentences of a report.

    Args:
        model: of :func:`runners.load.load_model`.
        x: the image as the model sees it, ``(1, C, *spatial)``.
        text: the report; None for what the model itself writes about the image, the likeliest word piece each time.

    Returns:
        The model whose labels are the sentences; an output is the mean log-probability per word piece of one.

    Raises:
        ModelError: the model writes no text.
        TargetError: there is no sentence, or the text is too long.
    """
    writer = next((one for one in model.modules() if isinstance(one, Writer)), None)
    if writer is None:
        raise ModelError(f"{model.card.name} writes no text; a report can only be explained of a model that writes it")
    report = writer.about(x, text)
    count = Counter(report.sentences)
    labels = [
        one if count[one] == 1 else f"{one} ({report.sentences[: at + 1].count(one)})"
        for at, one in enumerate(report.sentences)
    ]
    whose = "The model's own report" if text is None else "The given report"
    note = f"{whose}, {len(labels)} sentences: {' '.join(report.sentences)}"
    card = model.card.model_copy(update={"labels": labels})
    return Model(report, card, sha256=model.sha256, notes=[*model.notes, note]).eval()


def language_for(towers: Towers, prompts: Sequence[str], model: Model) -> Language:
    """Let a vision-language model look at the images of another model, prepared as it needs them.

    Args:
        towers: the vision-language model.
        prompts: what to ask about.
        model: whose images they are.
    """
    alike = all(getattr(towers.card, name) == getattr(model.card, name) for name in ("normalise", "size", "channels"))

    def encode_image(x: Tensor) -> Tensor:
        return F.normalize(towers.image(x if alike else _seen_by(towers.card, x, model.card)), dim=-1)

    words = tuple(one.strip() for one in prompts if one.strip())
    return Language(towers.encode_text, encode_image, words, towers.scale)


def _seen_by(card: ModelCard, x: Tensor, own: ModelCard) -> Tensor:
    """Turn images ``(B, C, H, W)`` that were prepared by one card into what another model wants; differentiable.

    Raises:
        ImageError: they are volumes.
    """
    if x.ndim != 4:
        raise ImageError("a vision-language model reads pictures; this image has three axes: take a slice of it")

    def each(values: Sequence[float]) -> Tensor:
        return x.new_tensor(list(values)).view(1, -1, 1, 1)

    if own.normalise.mean:
        x = x * each(own.normalise.std) + each(own.normalise.mean)
    if own.normalise.scale in ("zscore", "none"):  # unbounded: the range of each image is what a viewer shows
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        x = (x - low) / (high - low).clamp(min=1e-12)
    x = x.clamp(0, 1)
    if x.shape[1] != (card.channels or 3):
        grey = (x * each((0.299, 0.587, 0.114))).sum(1, keepdim=True) if x.shape[1] == 3 else x.mean(1, keepdim=True)
        x = grey.expand(-1, card.channels or 3, -1, -1)
    if card.size and tuple(card.size) != tuple(x.shape[2:]):
        x = F.interpolate(x, tuple(card.size), mode="bilinear", antialias=True)
    return (x - each(card.normalise.mean)) / each(card.normalise.std) if card.normalise.mean else x


CITED = re.compile(r"\s*\[([^\[\]]+)\]\s*$")


def read_reasons(text: str, case: Case, shape: tuple[int, ...], folder: Path | None = None) -> tuple[Reason, ...]:
    """Read sentences to check, a line each, with the region that each cites in square brackets at its end.

    A region is a box in pixels of the image, first and last index of each axis in its order, as in
    ``[40, 120, 60, 200]`` for rows 40 to 120 and columns 60 to 200; or the name of a mask file below ``folder``.

    Args:
        text: the lines; empty ones and those that begin with # are left out.
        case: the image they are about.
        shape: of the model's input.
        folder: where masks lie.

    Raises:
        AtlasError: there is no sentence, or a region cannot be read or lies outside of the image.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cited = CITED.search(line)
        words = line[: cited.start()] if cited else line
        region = None
        if cited:
            mask = _region(cited[1], number, case, folder)
            region = to_input(mask, shape, case.fit)
            if not region.any():
                raise AtlasError(f"line {number}: nothing of the region {cited[1]} lies in the image")
        found.append(Reason(words.strip(), region))
    if not found:
        raise AtlasError("there is no sentence; write one a line, with its region at the end, as in [40, 120, 60, 200]")
    return tuple(found)


def _region(words: str, number: int, case: Case, folder: Path | None) -> Tensor:
    """Return the region ``(*spatial)`` on the grid of the image."""
    shape = case.image.shape
    try:
        ends = [int(one) for one in words.split(",")]
    except ValueError:
        if folder is None or not (folder / words.strip()).is_file():
            raise AtlasError(
                f"line {number}: [{words}] is neither a box of {2 * len(shape)} whole numbers nor a mask beside the "
                "text"
            ) from None
        return load_mask(folder / words.strip(), like=case.image) > 0
    if len(ends) != 2 * len(shape) or any(a > b for a, b in zip(ends[::2], ends[1::2], strict=False)):
        raise AtlasError(
            f"line {number}: [{words}] was given; {2 * len(shape)} whole numbers are needed, first and last of each "
            "axis"
        )
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice(max(a, 0), b + 1) for a, b in zip(ends[::2], ends[1::2], strict=True))] = True
    return mask


def _label_names(words: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the labels by number: the model's where they fit; none when a case has no label."""
    if not all(words):
        return ()
    used, known = {word.casefold() for word in words}, {label.casefold() for label in labels}
    return tuple(labels) if used <= known else tuple(sorted(set(words)))


def _place(word: str, names: Sequence[str]) -> int:
    return [name.casefold() for name in names].index(word.casefold())


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise AtlasError(f"{folder} cannot be read: {error.strerror or error}; name a folder of images") from error


def _images(folder: Path) -> list[Path]:
    """Return the images below a folder in a fixed order: no hidden files, no tables, no masks."""
    _listed(folder)
    files = sorted(one for one in folder.rglob("*") if one.is_file() and not one.name.startswith("."))
    images = [one for one in files if one.suffix.lower() not in (".csv", ".txt", ".md") and not _stem(one)[1]]
    if not images:
        raise AtlasError(f"{folder} holds no images")
    return images


def _stem(file: Path) -> tuple[str, bool]:
    """Return the name without its endings, and whether it is that of a mask."""
    stem = file.name.partition(".")[0]
    return stem.removesuffix(MASK), stem.endswith(MASK)


def _rows(table: Path) -> dict[str, dict[str, str]]:
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if "file" not in (reader.fieldnames or ()):
            raise AtlasError(f"{TABLE} has the columns {', '.join(reader.fieldnames or ())}; it needs one named file")
        return {str(row["file"]): {key: value or "" for key, value in row.items() if key} for row in reader}


def _number(text: str, name: str) -> float:
    if not text.strip():
        return float("nan")
    try:
        return float(text)
    except ValueError as error:
        raise AtlasError(f"{name}: {text!r} was given; a number is needed") from error


def _prepared(files: Sequence[Path], model: Model, progress: Progress) -> tuple[Pictures, Pictures | None, str]:
    """Return images as the model sees them, each as it would alone, their masks where every one has one, and a note.

    Images ``(n, C, *spatial)`` where they have one size for the model, which they always have where its card names one.
    """
    masks: list[Tensor] = []
    converted: Counter[str] = Counter()

    def read() -> Iterator[Tensor]:
        for number, file in enumerate(files, 1):
            image = load_image(file)
            prepared = model.fit(image)
            converted.update(note.split()[0] for note in prepared.notes)
            beside = [one for one in file.parent.iterdir() if _stem(one) == (_stem(file)[0], True)]
            if beside:
                mask = load_mask(beside[0], like=image) > 0
                masks.append(to_input(mask, tuple(prepared.x.shape[2:]), fit_of(model.card)))
            progress(number, len(files))
            yield prepared.x[0]

    x = on_disk(read())
    many = len(files)
    notes = [
        f"{count} of {many} images were {word.lower()} {how}."
        for word, how in (("Resized", f"to {times(model.card.size or ())}, as the model needs"),
                          ("Padded", f"with zeros to multiples of {model.card.multiple_of}"))
        if (count := converted[word])
    ]  # fmt: skip
    return x, several(masks) if len(masks) == many else None, " ".join(notes)
