"""What the owner brings is read from folders and words, and what does not fit is told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from runners.bring import phantom_cohort, read_cohort, read_concepts, read_features
from runners.load import Model, load_model
from taxonomy.errors import AtlasError, ImageError


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("chest_xray_cnn")


def save(file: Path, grey: int = 90, size: int = 64) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((size, size), grey, np.uint8)
    values[: size // 2] //= 2
    Pillow.fromarray(values).save(file)


def test_folders_are_labels_and_the_models_names_count(tmp_path: Path, model: Model) -> None:
    for word, count in (("Pneumonia", 3), ("normal", 2)):
        for i in range(count):
            save(tmp_path / word / f"{i}.png", 60 + 20 * i)
    save(tmp_path / "normal" / ".hidden.png")
    told: list[tuple[int, int]] = []
    found = read_cohort(tmp_path, model, progress=lambda *done: told.append(done))
    assert found.label_names == ("normal", "pneumonia")
    assert found.labels is not None
    assert sorted(found.labels.tolist()) == [0, 0, 1, 1, 1]
    assert found.label(0) == "pneumonia"  # "P" sorts before "n"
    assert found.x.shape == (5, 1, 160, 160)
    assert told[-1] == (5, 5)
    assert found.names == ()
    few = read_cohort(tmp_path, model, most=2)
    assert len(few) == 2
    assert torch.equal(few.x[0], found.x[0])


def test_a_table_gives_labels_and_clinical_values(tmp_path: Path, model: Model) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png")
    (tmp_path / "cohort.csv").write_text("file,label,age,psa\n0.png,early,63,4.5\n1.png,late,,7\n2.png,late,70,1\n")
    found = read_cohort(tmp_path, model)
    assert found.label_names == ("early", "late")
    assert found.feature_names == ("age", "psa")
    assert found.features is not None
    assert found.features[1, 0].isnan()
    assert found.features[:, 1].tolist() == [4.5, 7, 1]
    (tmp_path / "cohort.csv").write_text("file,label\n9.png,early\n")
    with pytest.raises(AtlasError, match=r"9\.png, which is not below"):
        read_cohort(tmp_path, model)
    (tmp_path / "cohort.csv").write_text("image,label\n0.png,early\n")
    with pytest.raises(AtlasError, match="it needs one named file"):
        read_cohort(tmp_path, model)


def test_masks_lie_beside_their_images(tmp_path: Path, model: Model) -> None:
    for i in range(2):
        save(tmp_path / "dark" / f"{i}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[:16, :32] = 255
        Pillow.fromarray(mask).save(tmp_path / "dark" / f"{i}_mask.png")
    save(tmp_path / "bright_spot" / "a.png", 200)
    found = read_concepts(tmp_path, model)
    assert set(found) == {"dark", "bright spot"}
    assert found["bright spot"].masks is None
    masks = found["dark"].masks
    assert masks is not None
    assert masks.shape == (2, 160, 160)
    assert masks[0, :40, :80].all()
    assert int(masks[0].sum()) == 40 * 80


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    model = load_model("breast_us_unet")
    with pytest.raises(AtlasError, match="cannot be read"):
        read_cohort(tmp_path / "nowhere", model)
    with pytest.raises(AtlasError, match="holds no images"):
        read_cohort(tmp_path, model)
    save(tmp_path / "a.png")
    with pytest.raises(AtlasError, match="no sub-folders"):
        read_concepts(tmp_path, model)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ImageError):
        read_cohort(tmp_path, model)


def test_clinical_values_are_words() -> None:
    assert read_features(["age=63", " psa = 4.5 "]) == {"age": 63.0, "psa": 4.5}
    for wrong, words in (("age", "name=value"), ("=3", "name=value"), ("age=old", "'old'")):
        with pytest.raises(AtlasError, match=words):
            read_features([wrong])


def test_who_has_no_cohort_gets_phantoms():
    model = load_model("nuclei_unet")
    found = phantom_cohort(model, 6)
    assert found.x.shape == (6, 3, 160, 160)
    assert found.labels.tolist() == [0, 1] * 3
    assert found.label(1) == "many nuclei"
    counted = [int((model(one[None]).argmax(1) > 0).sum()) for one in found.x]
    assert max(counted[::2]) < min(counted[1::2])  # few and many, as the model sees them too
    for one, mask in zip(found.x, found.masks, strict=True):
        marks = model(one[None]).argmax(1)[0] > 0
        assert 2 * (marks & mask).sum() / (marks.sum() + mask.sum()) > 0.7  # where they are
    assert torch.equal(found.x, read_cohort(Path("phantoms"), model, most=6).x)
    with pytest.raises(AtlasError, match="breast_us_unet, nuclei_unet"):
        phantom_cohort(load_model("chest_xray_cnn"))
