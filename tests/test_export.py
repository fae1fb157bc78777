"""Exports: every file says what was computed, on the right grid, all or nothing, without the patient."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from test_panels import all_forms, insight
from test_store import case, explanation

from runners import load_image
from runners.case import Case, Measured, Result
from runners.export import archive, files, record, save
from runners.store import open_store
from taxonomy import AtlasError, load_kb

KB = load_kb()


def results(shape: tuple[int, ...] = (16, 16)) -> list[Result]:
    measured = (Measured("deletion", 0.25, (1.0, 0.5)), Measured("pointing_game", None, notes=("no mask",)))
    failed = Result("lrp", error="lrp cannot explain this model: it has no ReLU.")
    return [Result("rise", explanation(shape=shape), measured), failed]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_and_record(tmp_path: Path) -> None:
    one, found = case(), results()
    written = save(tmp_path / "out", one, found, KB)
    assert [path.name for path in written] == ["image.png", "report.html", "rise.npz", "rise.png", "run.json"]
    arrays = np.load(tmp_path / "out" / "rise.npz")
    explained = found[0].explanation
    assert explained is not None
    np.testing.assert_array_equal(arrays["values"], explained.values[0].numpy())
    assert arrays["on_image"].shape == one.image.shape
    for name in ("image.png", "rise.png"):
        with Pillow.open(tmp_path / "out" / name) as picture:
            assert picture.mode == "RGB"

    said = json.loads((tmp_path / "out" / "run.json").read_text())
    assert said["image"]["sha256"] == one.image.sha256
    assert said["model"]["id"] == "toy"
    assert "created" in said
    first, second = said["results"]
    for name in ("target", "signed", "seed", "parameters", "passes", "notes", "cautions", "versions"):
        value = getattr(explained, name)
        assert first[name] == (list(value) if isinstance(value, tuple) else value), name
    assert first["scores"][0] == {"metric": "deletion", "value": 0.25, "curve": [1.0, 0.5], "notes": []}
    assert first["files"] == {"png": "rise.png", "npz": "rise.npz"}
    assert first["seconds"] == 0.5
    assert second == {"method": "lrp", "error": "lrp cannot explain this model: it has no ReLU."}


def test_insights_are_exported_with_their_arrays(tmp_path: Path) -> None:
    one = case()
    forms = all_forms(one.image.shape)
    made = [replace(insight(forms[1]), method="knn_retrieval"), replace(insight(forms[3]), method="latent_shift")]
    written = save(tmp_path / "out", one, [Result(each.method, insight=each) for each in made], KB)
    names = {path.name for path in written}
    assert {"knn_retrieval.png", "knn_retrieval.npz", "latent_shift.gif", "report.html"} <= names
    assert "knn_retrieval.gif" not in names
    arrays = np.load(tmp_path / "out" / "knn_retrieval.npz")
    assert arrays["images"].shape == (3, 1, *one.image.shape)
    cases, shift = json.loads((tmp_path / "out" / "run.json").read_text())["results"]
    assert cases["form"] == "cases"
    assert cases["found"]["roles"] == ["most alike"] * 3
    assert cases["found"]["index"] == [0, 1, 2]
    assert "images" not in cases["found"]
    assert shift["files"]["gif"] == "latent_shift.gif"
    with Pillow.open(tmp_path / "out" / "latent_shift.gif") as animation:
        assert animation.n_frames == 8


def test_one_method_twice_keeps_both(tmp_path: Path) -> None:
    twice = [Result("rise", explanation(shape=(16, 16), seed=seed)) for seed in (0, 1)]
    save(tmp_path / "out", case(), twice, KB)
    maps = [np.load(tmp_path / "out" / f"{name}.npz")["values"] for name in ("rise", "rise_2")]
    assert not np.array_equal(*maps)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_a_volumes_map_lies_on_the_file_it_came_from(tmp_path: Path, codes: str) -> None:
    """A map equal to the image must be equal to the file, whatever its orientation."""
    data = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    to = nib.orientations.axcodes2ornt(codes)
    ras = nib.Nifti1Image(data, np.array([[1.5, 0, 0, 4], [0, 2, 0, 5], [0, 0, 3, 6], [0, 0, 0, 1.0]]))
    nib.save(
        ras.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(ras.affine), to)),
        tmp_path / "scan.nii.gz",
    )
    image = load_image(tmp_path / "scan.nii.gz")
    one = Case(image, {"id": "toy", "name": "Toy"}, fit="crop")
    padded = torch.zeros(1, 8, 8, 8)
    padded[0][tuple(slice(n) for n in image.shape)] = image.values[0]
    found = replace(explanation(), values=padded)
    save(tmp_path / "out", one, [Result("rise", found)], KB)
    given, made = nib.load(tmp_path / "scan.nii.gz"), nib.load(tmp_path / "out" / "rise.nii.gz")
    assert nib.aff2axcodes(made.affine) == tuple(codes)
    np.testing.assert_allclose(made.affine, given.affine, atol=1e-6)
    np.testing.assert_allclose(made.get_fdata(), given.get_fdata(), atol=1e-6)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["results"][0]["files"]["nii.gz"] == "rise.nii.gz"


def test_a_stored_case_exports_the_same(tmp_path: Path) -> None:
    """After a reload of the app only the store is left: maps and record must not differ."""
    one, found = case(volume=True), results((8, 8, 12))
    store = open_store(f"sqlite:///{tmp_path / 'atlas.sqlite'}")
    for result in found:
        store.add_run(one, result)
    again, read = store.load(one.key)
    store.close()
    fresh, stored = dict(files(one, found, KB)), dict(files(again, read, KB))
    assert set(fresh) == set(stored)
    for name in ("rise.npz", "rise.nii.gz"):
        assert fresh[name] == stored[name], name
    records = [json.loads(made["run.json"]) | {"created": ""} for made in (fresh, stored)]
    assert records[0] == records[1]


def test_the_archive_holds_the_same_files(tmp_path: Path) -> None:
    one, found = case(), results()
    save(tmp_path / "out", one, found, KB)
    with zipfile.ZipFile(io.BytesIO(archive(one, found, KB))) as packed:
        assert packed.testzip() is None
        assert set(packed.namelist()) == set(content(tmp_path / "out"))
        assert packed.read("rise.npz") == content(tmp_path / "out")["rise.npz"]


def test_only_runnable_methods_are_told_as_ruled_out() -> None:
    answer = {
        "ruled_out": [{"method": "attention_rollout", "gap": "no tokens."}, {"method": "prototree", "gap": "no parts."}]
    }
    assert record(case(), results(), answer=answer)["ruled_out"] == [
        {"method": "attention_rollout", "gap": "no tokens."}
    ]


# --- all or nothing ---------------------------------------------------------------------------------------------------


def test_an_error_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "out", case(), results(), KB)
    before = content(tmp_path / "out")

    def full(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("runners.export._text", full)
        for name in ("out", "other"):
            with pytest.raises(AtlasError, match="No space left on device"):
                save(tmp_path / name, case(), results(), KB, force=True)
    assert content(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failing_swap_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "out", case(), results(), KB)
    before = content(tmp_path / "out")
    from runners import export

    real, calls = export.os.replace, []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("runners.export.os.replace", second_fails)
        with pytest.raises(AtlasError, match="Permission denied"):
            save(tmp_path / "out", case(), results(), KB, force=True)
    assert content(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save(tmp_path / "empty", case(), results(), KB)
    with pytest.raises(AtlasError, match="is not empty"):
        save(tmp_path / "empty", case(), results(), KB)
    (tmp_path / "empty" / "old.txt").write_text("from an earlier export")
    save(tmp_path / "empty", case(), results()[:1], KB, force=True)
    assert "old.txt" not in content(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(AtlasError, match="is a file"):
        save(tmp_path / "file", case(), results(), KB)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(AtlasError, match="was not written by an export"):
        save(tmp_path / "mine", case(), results(), KB, force=True)
    assert set(content(tmp_path / "mine")) == {"thesis.txt"}
