"""Exports: pictures, raw maps, the report and the record of a case, all or nothing.

The record ``run.json`` holds what is needed to repeat the run and nothing of a patient: the image is its SHA-256.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from torch import Tensor

from runners import forms
from runners.case import Case, Result
from runners.discovery import Insight
from runners.forms import Counterfactual
from runners.gate import Explanation
from runners.images import Image
from runners.panels import panel, sweep
from runners.pictures import figure, limits
from runners.report import NOT_CLINICAL, could_have_run, gif, html, png
from taxonomy.errors import AtlasError
from taxonomy.loader import KB

RECORD = "run.json"

nifti_image: Any = nib.Nifti1Image  # nibabel carries no annotations here


def save(
    folder: str | os.PathLike[str],
    case: Case,
    results: Sequence[Result],
    kb: KB,
    *,
    answer: Mapping[str, Any] | None = None,
    force: bool = False,
) -> list[Path]:
    """Write everything into a new folder.

    ``image.png``, ``report.html`` and ``run.json``; for each method ``<method>.png`` (the map over the image, or the
    panel of an insight), ``.npz`` (``values`` as computed, ``on_image`` on the image's grid; the arrays of an insight),
    for images with an affine ``.nii.gz`` on the grid of the original file, ``.gif`` for a series of counterfactuals.

    Args:
        folder: does not exist yet, or is empty.
        case: what was explained.
        results: what came of each method.
        kb: for the report.
        answer: the recommender's answer as its public JSON, for reasons and what was ruled out.
        force: replace a folder that an earlier export wrote.

    Returns:
        The files.

    Raises:
        AtlasError: the folder holds something, or cannot be written; it is as before then.
    """
    target = Path(folder).absolute()
    check_target(target, force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as aside:
            made = Path(aside) / "new"
            made.mkdir()
            for name, data in files(case, results, kb, answer=answer):
                (made / name).write_bytes(data)
            if target.exists():
                os.replace(target, Path(aside) / "old")
            try:
                os.replace(made, target)
            except OSError:
                if (Path(aside) / "old").exists():
                    os.replace(Path(aside) / "old", target)
                raise
    except OSError as error:
        raise AtlasError(f"{target} cannot be written: {error.strerror or error}; choose another folder") from error
    return sorted(target.iterdir())


def check_target(target: Path, force: bool) -> None:
    """Refuse a folder that :func:`save` may not write, before any work is done for it.

    Raises:
        AtlasError: it holds something else.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise AtlasError(f"{target} is a file; name a folder that does not exist yet")
    if any(target.iterdir()):
        if not force:
            raise AtlasError(f"{target} is not empty; name another folder, or replace an earlier export with --force")
        if not (target / RECORD).exists():
            raise AtlasError(f"{target} was not written by an export ({RECORD} is missing), so it is not replaced")


def archive(case: Case, results: Sequence[Result], kb: KB, *, answer: Mapping[str, Any] | None = None) -> bytes:
    """Return what :func:`save` writes as one zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files(case, results, kb, answer=answer):
            packed.writestr(name, data)
    return buffer.getvalue()


def files(
    case: Case, results: Sequence[Result], kb: KB, *, answer: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every file of an export."""
    created = datetime.now(UTC)
    yield "image.png", png(figure(case, None, side=_side(case)))
    names: list[dict[str, str]] = []
    taken: dict[str, int] = {}
    for result in results:
        made: dict[str, str] = {}
        names.append(made)
        if result.found is None:
            continue
        taken[result.method] = taken.get(result.method, 0) + 1
        stem = result.method + (f"_{taken[result.method]}" if taken[result.method] > 1 else "")
        parts = _insight(case, result.insight) if result.insight else _maps(case, result.explanation)
        for kind, data in parts:
            made[kind] = f"{stem}.{kind}"
            yield made[kind], data
    yield "report.html", html(case, results, kb, answer=answer, created=created).encode()
    yield RECORD, _text(record(case, results, answer=answer, created=created, names=names))


def _side(case: Case) -> int:
    """The image's own size within reason: a thumbnail is enlarged, a whole radiograph shrunk."""
    return min(max(*case.image.shape, 480), 1000)


def _maps(case: Case, explanation: Explanation | None) -> Iterator[tuple[str, bytes]]:
    assert explanation is not None
    values = explanation.values[0]
    on_image = case.place(values)
    yield "png", png(figure(case, explanation, side=_side(case)))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, values=values.numpy(), on_image=on_image.numpy())
    yield "npz", buffer.getvalue()
    if case.image.grid is not None:
        back, affine = case.image.to_original(on_image)
        nifti = nifti_image(back.numpy().astype(np.float32), affine)
        nifti.header["descrip"] = f"XAI Atlas {explanation.method}"[:79].encode()
        if case.image.spacing is not None:
            nifti.header.set_xyzt_units("mm")
        yield "nii.gz", gzip.compress(nifti.to_bytes(), mtime=0)


def _insight(case: Case, insight: Insight) -> Iterator[tuple[str, bytes]]:
    yield "png", png(panel(insight, case))
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: one.numpy() for name, one in forms.packed(insight.form)[1].items()}
    np.savez_compressed(buffer, **arrays)
    yield "npz", buffer.getvalue()
    if isinstance(insight.form, Counterfactual):
        yield "gif", gif(sweep(insight.form, case))


def record(
    case: Case,
    results: Sequence[Result],
    *,
    answer: Mapping[str, Any] | None = None,
    created: datetime | None = None,
    names: Sequence[Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """Return the record of a run as plain data; ``names`` are the files of each result."""
    return {
        "schema": 1,
        "notice": NOT_CLINICAL,
        "created": (created or datetime.now(UTC)).isoformat(timespec="seconds"),
        "image": _image(case.image) | {"source": case.source, "modality": case.modality},
        "model": dict(case.model),
        "answer": [vars(one) for one in case.answer],
        "results": [
            _result(case, one, files) for one, files in zip(results, names or [{}] * len(results), strict=True)
        ],
        "ruled_out": [dict(one) for one in could_have_run(answer)],
    }


def _image(image: Image) -> dict[str, Any]:
    return {
        "sha256": image.sha256,
        "format": image.format,
        "shape": list(image.shape),
        "channels": image.channels,
        "spacing_mm": None if image.spacing is None else list(image.spacing),
        "notes": list(image.notes),
    }


def _result(case: Case, result: Result, names: Mapping[str, str]) -> dict[str, Any]:
    found = result.found
    if found is None:
        return {"method": result.method, "error": result.error}
    if isinstance(found, Explanation):
        low, high = limits(case.place(found.values[0]), found.signed)
        own: dict[str, Any] = {
            "target_score": float(found.target_scores[0]),
            "signed": found.signed,
            "shape": list(found.values.shape[1:]),
            "colour_scale": [low, high],
        }
    else:
        facts, arrays = forms.packed(found.form)
        small = {name: _numbers(one) for name, one in arrays.items() if one.ndim <= 2}
        own = {"target_score": found.target_score, "form": forms.name_of(found.form), "found": facts | small}
    return {
        "method": result.method,
        "target": found.target,
        **own,
        "parameters": dict(found.parameters),
        "seed": found.seed,
        "seconds": round(found.seconds, 4),
        "passes": dict(found.passes),
        "notes": list(found.notes),
        "cautions": list(found.cautions),
        "scores": [vars(one) for one in result.measured],
        "versions": dict(found.versions),
        "files": dict(names),
    }


def _numbers(values: Tensor) -> Any:
    """Return numbers fit for JSON: what is not a number is null."""
    if values.ndim:
        return [_numbers(one) for one in values]
    number = values.item()
    return number if number == number else None


def _text(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
