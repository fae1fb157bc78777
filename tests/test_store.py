"""The store: what goes in comes out, nothing is left behind after an error, threads do not disturb each other."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from runners.case import Answered, Case, Measured, Result
from runners.discovery import Insight
from runners.forms import Cases, Counterfactual, packed
from runners.gate import Explanation
from runners.images import Grid, Image
from runners.store import Rating, Run, Score, Store, open_store
from taxonomy.errors import AtlasError, UnknownIdError


def explanation(method: str = "rise", shape: tuple[int, ...] = (6, 5), seed: int = 0) -> Explanation:
    values = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
    return Explanation(
        values=values,
        method=method,
        target="label 1 (lesion)",
        target_scores=torch.tensor([0.75]),
        signed=True,
        notes=("Features are taken from block 3.",),
        cautions=("The map is coarse.",),
        parameters={"steps": 20, "baseline": "blur", "layer": None},
        passes={"forward": 21, "backward": 20},
        seconds=0.5,
        seed=seed,
        versions={"torch": "2.13.0"},
    )


def case(*, volume: bool = False, channels: int = 1) -> Case:
    shape = (7, 8, 9) if volume else (12, 10)
    generator = torch.Generator().manual_seed(3)
    affine = np.diag([1.0, 1.0, 2.5, 1.0])
    image = Image(
        values=torch.rand(channels, *shape, generator=generator) * 400 - 100,
        display_range=(-50.0, 250.0),
        sha256="ab" * 32,
        format="NIfTI" if volume else "PNG",
        spacing=(1.0, 1.0, 2.5) if volume else None,
        affine=affine if volume else None,
        grid=Grid((9, 8, 7), affine, np.array([[2.0, 1.0], [1.0, -1.0], [0.0, 1.0]])) if volume else None,
        modality="mri" if volume else None,
        notes=("The first volume was taken.",),
    )
    return Case(
        image=image,
        model={
            "id": "toy",
            "name": "Toy",
            "task": "segmentation",
            "labels": ["lesion"],
            "architecture": "unet",
            "sha256": None,
        },
        answer=(Answered("lesion", 12.0, "pixels", 0.1),),
        source="sample_us",
        modality="ultrasound",
        marked=(image.values[0] > 200).long(),
        mask=image.values[0] > 220,
        fit="crop",
    )


@pytest.fixture
def store(tmp_path: Path):
    opened = open_store(f"sqlite:///{tmp_path / 'atlas.sqlite'}")
    yield opened
    opened.close()


def files(store: Store) -> set[str]:
    return {path.name for path in store.folder.iterdir()}


@pytest.mark.parametrize("kind", [{"volume": True}, {"volume": False}, {"channels": 3}], ids=str)
def test_a_case_comes_back_as_it_was(store: Store, kind: dict[str, int]) -> None:
    one, found = case(**kind), explanation()
    measured = (Measured("deletion", 0.25, (1.0, 0.5, 0.0), ("blur",)), Measured("pointing_game", None))
    store.add_run(one, Result("rise", found, measured))
    store.add_run(one, Result("lrp", error="lrp cannot explain this model: it has no ReLU."))
    again, results = store.load(one.key)

    assert [r.method for r in results] == ["rise", "lrp"]
    assert results[1].explanation is None
    assert results[1].error == "lrp cannot explain this model: it has no ReLU."
    assert results[0].measured == measured
    back = results[0].explanation
    assert back is not None
    assert torch.equal(back.values, found.values)
    assert torch.equal(back.target_scores, found.target_scores)
    for name in (
        "method",
        "target",
        "signed",
        "notes",
        "cautions",
        "parameters",
        "passes",
        "seconds",
        "seed",
        "versions",
    ):
        assert getattr(back, name) == getattr(found, name), name

    for name in ("model", "answer", "source", "modality", "fit", "key"):
        assert getattr(again, name) == getattr(one, name), name
    assert again.marked is not None
    assert again.mask is not None
    assert torch.equal(again.marked, one.marked)
    assert torch.equal(again.mask, one.mask)
    assert (again.image.display() - one.image.display()).abs().max() <= 0.5 / 255 + 1e-6
    for name in ("shape", "channels", "spacing", "modality", "sha256", "format", "notes", "frames"):
        assert getattr(again.image, name) == getattr(one.image, name), name
    if one.image.affine is not None:
        original, affine = one.image.to_original(one.image.values[0])
        restored, again_affine = again.image.to_original(again.image.values[0])
        assert restored.shape == original.shape
        np.testing.assert_array_equal(affine, again_affine)


@pytest.mark.parametrize(
    "form",
    [
        Cases(torch.tensor([3, 1]), torch.tensor([0.9, 0.5]), "likeness", ("most alike",) * 2, labels=("ill", "well")),
        Counterfactual(torch.rand(3, 1, 4, 4), torch.rand(3), 0, 2, torch.rand(1, 4, 4), {"cf_validity": 1.0}),
    ],
    ids=lambda form: type(form).__name__,
)
def test_an_insight_comes_back_as_it_was(store: Store, form: Cases | Counterfactual) -> None:
    one, made = case(), explanation()
    insight = Insight(
        form, "knn_retrieval", "label 1", 0.5, ("noted",), ("beware",), {"count": 2}, {"forward": 3, "backward": 0},
        0.25, 4, {"torch": "2.13.0"},
    )  # fmt: skip
    kept = store.add_run(one, Result("knn_retrieval", insight=insight))
    store.add_run(one, Result("rise", made))
    back, other = store.load(one.key)[1]
    assert other.explanation is not None
    assert other.insight is None
    assert back.explanation is None
    assert back.found is back.insight is not None
    assert vars(back.insight) | {"form": form} == vars(insight)
    facts, arrays = packed(back.insight.form)
    assert facts == packed(form)[0]
    assert all(torch.equal(arrays[name], array) for name, array in packed(form)[1].items())
    assert kept.id is not None
    with pytest.raises(AtlasError, match="has no map: knn_retrieval gives"):
        store.load_maps(kept.id)


def test_nothing_that_names_the_users_file_or_patient_is_stored(tmp_path: Path, store: Store) -> None:
    one = case()
    store.add_run(one, Result("rise", explanation()))
    with closing(sqlite3.connect(tmp_path / "atlas.sqlite")) as connection:
        dump = "\n".join(connection.iterdump())
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {row[1] for table in tables for row in connection.execute(f"PRAGMA table_info({table})")}
    assert sorted(tables) == ["rating", "run", "score"]
    assert columns == set(Run.model_fields) | set(Score.model_fields) | set(Rating.model_fields)
    assert not {"path", "filename", "name", "comment", "patient"} & columns
    assert str(tmp_path) not in dump


def test_the_same_content_is_one_file(store: Store) -> None:
    one = case()
    for _ in range(3):
        store.add_run(one, Result("rise", explanation()))
    assert len(files(store)) == 2  # the picture and the map
    store.add_run(one, Result("rise", explanation(seed=1)))
    assert len(files(store)) == 3


def test_files_go_with_the_last_row_that_names_them(store: Store) -> None:
    one = case()
    first = store.add_run(one, Result("rise", explanation()))
    second = store.add_run(one, Result("rise", explanation()))
    store.add_rating(first.id, "usefulness", 4)
    store.add_score(first.id, Measured("deletion", 0.5))
    store.delete_run(first.id)
    assert len(files(store)) == 2
    assert store.scores(first.id) == store.ratings(first.id) == []
    assert torch.equal(store.load_maps(second.id), explanation().values[0])
    store.delete_case(one.key)
    assert files(store) == set()
    with pytest.raises(UnknownIdError, match="unknown run"):
        store.load(one.key)
    with pytest.raises(UnknownIdError, match="unknown run"):
        store.delete_run(second.id)


def test_an_error_leaves_neither_row_nor_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("runners.store.np.savez_compressed", full)
        with pytest.raises(AtlasError, match="No space left on device"):
            store.add_run(case(), Result("rise", explanation()))
    assert store.list_runs() == []
    assert files(store) == set()

    # the rows fail after the files were written
    with pytest.raises(AtlasError, match=r"score cannot be stored: metric"):
        store.add_run(case(), Result("rise", explanation(), (Measured("Not An Id", 1.0),)))
    assert store.list_runs() == []
    assert files(store) == set()


def test_a_failing_delete_puts_the_files_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.add_run(case(), Result("rise", explanation()))
    before = files(store)

    def broken(_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("runners.store.Session.commit", broken)
        with pytest.raises(AtlasError, match="Input/output error"):
            store.delete_run(run.id)
    assert files(store) == before
    assert store.get_run(run.id).maps == run.maps
    store.load_maps(run.id)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_scores": torch.tensor([float("nan")])}, "target_score: Input should be a finite number"),
        ({"signed": "sometimes"}, "signed: Input should be a valid boolean"),
        ({"method": "Grad CAM"}, "method: String should match pattern"),
    ],
)
def test_nonsense_is_refused(store: Store, change: dict[str, object], message: str) -> None:
    wrong = replace(explanation(), **change)
    with pytest.raises(AtlasError, match=message):
        store.add_run(case(), Result(wrong.method, wrong))
    assert files(store) == set()


@pytest.mark.parametrize(("criterion", "stars", "bad"), [("beauty", 3, "criterion"), ("usefulness", 6, "stars")])
def test_a_rating_is_one_of_the_allowed(store: Store, criterion: str, stars: int, bad: str) -> None:
    run = store.add_run(case(), Result("rise", explanation()))
    with pytest.raises(AtlasError, match=f"rating cannot be stored: {bad}"):
        store.add_rating(run.id, criterion, stars)  # type: ignore[arg-type]
    assert store.ratings(run.id) == []


def test_runs_are_found_newest_first(store: Store) -> None:
    first, second = case(), case(volume=True)
    for one, method in ((first, "rise"), (second, "lrp"), (first, "lime")):
        store.add_run(one, Result(method, explanation(method)))
    assert [run.method for run in store.list_runs()] == ["lime", "lrp", "rise"]
    assert [run.method for run in store.list_runs(limit=1, offset=1)] == ["lrp"]
    assert [run.case for run in store.list_runs(method="rise")] == [first.key]
    assert [[run.method for run in group] for group in store.list_cases()] == [["rise", "lime"], ["lrp"]]
    assert store.list_runs(image_sha256="0" * 64) == []


def test_damaged_and_missing_arrays_are_sentences(store: Store) -> None:
    run = store.add_run(case(), Result("rise", explanation()))
    path = store.folder / f"{run.maps}.npz"
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(AtlasError, match="damaged; delete the run"):
        store.load_maps(run.id)
    np.savez_compressed(path, values=np.zeros((6, 5), np.float32))
    with pytest.raises(AtlasError, match="changed; delete the run"):
        store.load_maps(run.id)
    path.unlink()
    with pytest.raises(AtlasError, match="gone from"):
        store.load_maps(run.id)
    store.delete_run(run.id)
    assert files(store) == set()


def test_a_failed_method_has_no_map(store: Store) -> None:
    run = store.add_run(case(), Result("lrp", error="it has no ReLU."))
    with pytest.raises(AtlasError, match=f"run {run.id} has no map: it has no ReLU"):
        store.load_maps(run.id)


def test_threads_write_and_delete_at_once(tmp_path: Path) -> None:
    """Two stores on one file stand for two processes; all write and delete the same content."""
    stores = [open_store(f"sqlite:///{tmp_path / 'atlas.sqlite'}") for _ in range(2)]
    failures: list[BaseException] = []
    kept: list[int] = []

    def work(store: Store, number: int) -> None:
        try:
            for turn in range(6):
                run = store.add_run(case(), Result("rise", explanation()))
                store.load_maps(run.id)
                if (turn + number) % 2:
                    store.delete_run(run.id)
                else:
                    kept.append(run.id)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(stores[n % 2], n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(run.id for run in stores[0].list_runs()) == sorted(kept)
    for run_id in kept:
        stores[1].load_maps(run_id)
    assert len(files(stores[0])) == 2
    for store in stores:
        store.close()


def test_default_place_and_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XAI_ATLAS_DATABASE_URL", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    store = open_store()
    store.add_run(case(), Result("rise", explanation()))
    assert (tmp_path / "data" / "xai-atlas" / "atlas.sqlite").exists()
    assert len(list((tmp_path / "data" / "xai-atlas" / "arrays").iterdir())) == 2
    store.close()
    monkeypatch.setenv("XAI_ATLAS_DATABASE_URL", f"sqlite:///{tmp_path / 'other' / 'x.sqlite'}")
    other = open_store()
    assert other.list_runs() == []
    assert (tmp_path / "other" / "x.sqlite").exists()
    other.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "URL is not understood"),
        ("sqlite:////proc/none/atlas.sqlite", "cannot be used"),
        ("nodriver://user:secret@host/db", "not installed"),
    ],
)
def test_bad_urls_are_sentences_without_the_password(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match=message) as caught:
        open_store(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_ratings_are_summed_up_by_method(store: Store) -> None:
    def run(method: str, image: int, modality: str = "mri") -> int:
        one = case(volume=modality == "mri")
        one = replace(one, image=replace(one.image, sha256=f"{image:064x}"), modality=modality)
        row = store.add_run(one, Result(method, explanation(method)))
        assert row.id is not None
        return row.id

    first = run("rise", 1)
    for stars in (1, 5):  # the opinion changed
        store.add_rating(first, "usefulness", stars)
    store.add_rating(run("rise", 1), "usefulness", 3)  # the same image again: 4 on average
    store.add_rating(run("rise", 2, "ct"), "usefulness", 2)
    store.add_rating(run("lime", 1), "usefulness", 5, "radiologist")
    rise, lime = sorted(store.rated(), key=lambda one: one.method, reverse=True)
    assert (rise.method, rise.images, rise.mean) == ("rise", 2, 3.0)
    assert (lime.images, lime.mean) == (1, 5.0)
    assert store.rated()[0].method == "lime"
    assert lime.low == pytest.approx(1 + 4 * proportion_ci(1, 1)[0])
    assert (rise.low, rise.high) == pytest.approx(tuple(1 + 4 * end for end in proportion_ci(1, 2)))
    assert [one.method for one in store.rated(audience="radiologist")] == ["lime"]
    assert store.rated(modality="mri", audience="nobody") == []
    assert {one.method: one.mean for one in store.rated(modality="mri")} == {"rise": 4.0, "lime": 5.0}


def proportion_ci(hits: int, number: int) -> tuple[float, float]:
    found = binomtest(hits, number).proportion_ci(method="wilson")
    return max(found.low, 0.0), found.high
