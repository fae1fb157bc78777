"""Tasks of the benchmark: their pictures, networks, training, the causal check, and data sets of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor, nn

from runners.bench import tasks
from runners.bench.expert import _image, expert, pairs
from runners.bench.phantoms import PHANTOMS
from runners.bench.tasks import FULL, LEVELS, QUICK, SMALL, TASKS, Task, cases, checked, draw, network, quality, trained
from runners.images import load_image
from runners.models import profile
from taxonomy import load_kb
from taxonomy.errors import ImageError, ModelError

SMALLEST = replace(TASKS["histology_cnn"], images=4, epochs=1, batch=4)

# ---------------------------------------------------------------- what there is


def test_tasks_speak_the_words_of_the_knowledge_base() -> None:
    kb = load_kb()
    for task in TASKS.values():
        phantom = PHANTOMS[task.phantom]
        assert task.modality == phantom.modality
        assert task.modality in kb.modalities
        assert task.architecture in kb.vocabulary.architectures
        assert task.task in kb.vocabulary.tasks
        assert task.dims == len(task.size)
        assert task.dims in phantom.dims
        assert len(task.labels) >= 2


def test_tasks_span_modalities_questions_dimensions_and_architectures() -> None:
    planted = [task for task in TASKS.values() if task.truth == "planted"]
    assert {task.modality for task in planted} >= {"ultrasound", "ct", "mri", "histopathology", "fundus", "xray"}
    spanned = {(task.task, task.dims) for task in planted}
    assert len(spanned) == 4
    assert {task.architecture for task in planted} == {"cnn", "vit", "swin", "unet"}
    assert any(task.marked for task in planted)
    assert any(task.truth == "none" for task in TASKS.values())


def test_levels_grow() -> None:
    assert list(LEVELS) == ["quick", "small", "full"]
    assert set(QUICK.tasks) < set(SMALL.tasks) <= set(FULL.tasks) <= set(TASKS)
    assert 2 <= len(QUICK.tasks) <= 3
    assert QUICK.images < SMALL.images < FULL.images
    assert QUICK.volumes < SMALL.volumes < FULL.volumes
    assert (SMALL.pictures(2), SMALL.pictures(3)) == (SMALL.images, SMALL.volumes)


KINDS = {(task.architecture, task.task, task.dims): task for task in TASKS.values()}


@pytest.mark.parametrize("task", KINDS.values(), ids=["_".join(map(str, kind)) for kind in KINDS])
def test_networks_fit_their_pictures_and_are_what_they_are_called(task: Task) -> None:
    torch.manual_seed(0)
    model, case = network(task).eval(), cases(task, 2)
    x = torch.stack([each.x for each in case])
    with torch.no_grad():
        output, alone = model(x), model(x[1:])
    spatial = task.size if task.task == "segmentation" else ()
    assert output.shape == (2, len(task.labels), *spatial)
    torch.testing.assert_close(output[1:], alone, rtol=1e-4, atol=1e-4)
    seen = profile(model, x)
    assert seen.task == task.task
    assert seen.architecture == task.architecture
    assert "gradients" in seen.has


def test_an_architecture_that_is_not_there_is_told() -> None:
    with pytest.raises(ModelError, match="no vit for segmentation.*unet and swin"):
        network(replace(TASKS["mr_unet"], architecture="vit"))


# ---------------------------------------------------------------- pictures


def test_cases_repeat_grow_and_never_cross_splits() -> None:
    task = TASKS["xray_cnn"]
    first, more = cases(task, 3), cases(task, 5)
    assert all(torch.equal(one.image, other.image) for one, other in zip(first, more, strict=False))
    assert [one.label for one in more] == [0, 1, 0, 1, 0]
    assert {one.label for one in cases(task, 4, evident=True)} == {1}
    assert [one.label for one in cases(TASKS["ct_cnn"], 4, evident=True)] == [1, 2, 1, 2]
    assert tasks.FIRST_SEED["train"] + max(task.images for task in TASKS.values()) < tasks.FIRST_SEED["test"]
    assert {one.seed for one in cases(task, 3, "train")}.isdisjoint(one.seed for one in more)


def test_a_shortcut_decides_alone() -> None:
    task = TASKS["xray_shortcut_cnn"]
    findings = []
    for label in (0, 1):
        drawn = [draw(task, seed, label) for seed in range(60)]
        for one in drawn:
            assert one.without is not None
            assert torch.equal((one.image != one.without).any(0), one.evidence & (one.image != one.without).any(0))
            assert one.evidence.any() == (label == 1)
            assert (one.shortcut is None) == (label == 0)
        # an opacity is there in about half of both: it says nothing
        healthy = [PHANTOMS["xray"].draw(seed, 0, task.size).image for seed in range(60)]
        opaque = [not torch.equal(one.without, image) for one, image in zip(drawn, healthy, strict=True)]
        findings.append(opaque)
    assert findings[0] == findings[1]
    assert 15 < sum(findings[0]) < 45
    marked, unmarked = draw(task, 3, 1), draw(task, 3, 0)
    assert marked.without is not None
    assert torch.equal(marked.without, unmarked.image)


def test_the_control_has_random_labels_and_nothing_to_find() -> None:
    drawn = cases(TASKS["xray_control_cnn"], 60)
    assert 15 < sum(one.label for one in drawn) < 45
    assert not any(one.evidence.any() for one in drawn)
    assert all(
        torch.equal(one.image, draw(TASKS["xray_control_cnn"], one.seed, 1 - one.label).image) for one in drawn[:5]
    )


# ---------------------------------------------------------------- training


def test_weights_are_made_once_and_the_same_every_time(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    state = torch.get_rng_state()
    first = trained(SMALLEST, tmp_path, lambda done, total: calls.append((done, total)))
    assert torch.equal(torch.get_rng_state(), state)
    assert not first.training
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == list(range(1, len(calls) + 1))
    calls.clear()
    again = trained(SMALLEST, tmp_path, lambda done, total: calls.append((done, total)))
    assert not calls
    anew = trained(SMALLEST, tmp_path / "elsewhere")
    x = torch.stack([one.x for one in cases(SMALLEST, 2)])
    for other in (again, anew):
        assert all(
            torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True)
        )
        assert torch.equal(first(x), other(x))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert not list(tmp_path.glob("*.part"))


def test_the_hash_knows_all_that_decides_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tasks.fingerprint(SMALLEST)
    changed = [
        replace(SMALLEST, **{key: value}) for key, value in {"seed": 1, "rate": 1e-2, "epochs": 2, "images": 5}.items()
    ]
    assert len({plain, *(tasks.fingerprint(task) for task in changed)}) == 5
    assert tasks.fingerprint(replace(SMALLEST, id="other")) == plain
    monkeypatch.setattr(tasks, "_loss", lambda logits, truth: logits.sum() * truth.sum())
    assert tasks.fingerprint(SMALLEST) != plain


def test_an_interrupted_training_leaves_no_weights(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(SMALLEST, tmp_path, stop)
    assert not list(tmp_path.iterdir())


def test_a_model_learns_to_decide_by_the_evidence_in_seconds(tmp_path: Path) -> None:
    task = replace(TASKS["histology_cnn"], images=64, epochs=6, batch=16)
    model, unseen = trained(task, tmp_path), cases(task, 40)
    assert quality(task, model, unseen) >= 0.95
    judged = checked(task, model, cases(task, 12, evident=True))
    assert sum(not one.problem for one in judged) >= 11


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mr_sequences_cnn", "xray_shortcut_cnn", "ultrasound_unet", "mr3d_unet"])
def test_trained_models_are_right_for_the_right_reason(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    model = trained(task, tmp_path)
    assert quality(task, model, cases(task, 100)) >= (0.95 if task.task == "classification" else 0.8)
    judged = checked(task, model, cases(task, 30, evident=True))
    assert sum(not one.problem for one in judged) >= 27


# ---------------------------------------------------------------- the causal check


class Reads(nn.Module):
    """Label 1 as far as a function of the picture is above 0."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        found = torch.stack([self.function(one) for one in x])
        return torch.stack([torch.zeros_like(found), found], 1)


def test_a_model_that_reads_the_evidence_passes() -> None:
    task = TASKS["xray_shortcut_cnn"]
    corner = Reads(lambda x: (x[0, :13, :10] > 2).float().sum() - 8)
    judged = checked(task, corner, cases(task, 6))
    assert [one.problem for one in judged] == [""] * 6
    assert all(one.without is not None and one.without < 0 < one.margin for one in judged[1::2])


def test_models_that_read_something_else_are_named() -> None:
    task, pictures = TASKS["xray_cnn"], cases(TASKS["xray_cnn"], 6, evident=True)

    def problems(model: nn.Module) -> set[str]:
        return {one.problem for one in checked(task, model, pictures)}

    assert problems(Reads(lambda x: 0 * x.sum() - 1)) == {"the model's answer is wrong"}
    assert problems(Reads(lambda x: 0 * x.sum() + 1)) == {"the decision stays without the evidence"}

    # sees the finding a little, and the electrodes much more
    plain = {float(each.x_without.sum()) for each in pictures if each.x_without is not None}  # type: ignore[union-attr]
    clean = [draw(task, each.seed, 1, distract=False).x for each in pictures]

    def by_electrodes(x: Tensor) -> Tensor:
        if float(x.sum()) in plain:
            return torch.tensor(-0.5)
        return torch.tensor(-3.0 if any(torch.equal(x, one) for one in clean) else 0.5)

    assert problems(Reads(by_electrodes)) == {"the decision hangs on a distractor"}


def test_segmentations_are_judged_by_the_true_region() -> None:
    class Marks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.zeros_like(x[:, 0]), x[:, 0] - 1.0], 1)

    task = TASKS["mr_unet"]
    one = next(each for each in cases(task, 8, evident=True) if each.distractors.any())
    assert one.truth is not None
    judged = checked(task, Marks(), [one])[0]
    assert judged.margin == pytest.approx(float((one.x[0] - 1)[one.truth > 0].mean()), abs=1e-5)
    assert judged.without is not None
    assert judged.without < judged.margin


class Knows(nn.Module):
    """Marks a given region whatever the picture."""

    def __init__(self, region: Tensor) -> None:
        super().__init__()
        self.region = region.float()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([0.5 - self.region, self.region - 0.5])[None].expand(len(x), -1, -1, -1)


def test_quality_is_accuracy_or_dice() -> None:
    one = cases(TASKS["mr_unet"], 2)[1]
    assert one.truth is not None
    region = one.truth > 0
    half = region & (region.flatten().cumsum(0).view(region.shape) <= int(region.sum()) // 2)
    assert quality(TASKS["mr_unet"], Knows(region), [one]) == 1.0
    wanted = 2 * int(half.sum()) / int(half.sum() + region.sum())
    assert quality(TASKS["mr_unet"], Knows(half), [one]) == pytest.approx(wanted)
    assert quality(TASKS["xray_cnn"], Reads(lambda x: 0 * x.sum() + 1), cases(TASKS["xray_cnn"], 40)) == 0.5


# ---------------------------------------------------------------- expert masks


def grey(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(values.astype(np.uint8)).save(path)


PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60))
MASK = np.zeros((40, 60))
MASK[10:20, 30:50] = 255


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("benign/benign (1).png", "benign/benign (1)_mask.png"),
        ("21.png", "21_vessels.png"),
        ("images/a/3.png", "masks/a/3.png"),
        ("images/3.png", "labels/3_mask.png"),
        ("imagesTr/case_001_0000.png", "labelsTr/case_001.png"),
        ("imagesTr/case_0012.png", "labelsTr/case_0012.png"),
    ],
)
def test_the_usual_layouts_are_read(image: str, mask: str, tmp_path: Path) -> None:
    grey(tmp_path / image, PICTURE)
    grey(tmp_path / mask, MASK)
    (tmp_path / "readme.txt").write_text("not an image")
    assert len(pairs(tmp_path)) == 1
    task, model, found = expert(tmp_path, "breast_us_unet")
    assert (task.truth, task.modality, task.architecture, task.task) == ("mask", "ultrasound", "unet", "segmentation")
    assert found[0].image.shape == (1, *task.size)
    assert torch.equal(found[0].x, model.prepare(load_image(tmp_path / image))[0])
    share = found[0].evidence.float().mean()
    assert float(share) == pytest.approx(200 / 2400, rel=0.2)
    assert found[0].label == 1
    assert found[0].x_without is None


def test_several_masks_are_joined_and_empty_ones_left_out(tmp_path: Path) -> None:
    other = np.roll(MASK, 15, 0)
    for name in ("a", "b"):
        grey(tmp_path / f"{name}.png", PICTURE)
    grey(tmp_path / "a_mask.png", MASK)
    grey(tmp_path / "a_mask_1.png", other)
    grey(tmp_path / "b_mask.png", 0 * MASK)
    _, _, found = expert(tmp_path, "breast_us_unet")
    assert [one.name for one in found] == ["a"]
    assert float(found[0].evidence.float().mean()) == pytest.approx(400 / 2400, rel=0.2)


def test_classes_come_from_folders_and_are_else_unknown(tmp_path: Path) -> None:
    for place in ("glioma/x", "elsewhere/x"):
        grey(tmp_path / f"{place}.png", PICTURE)
        grey(tmp_path / f"{place}_mask.png", MASK)
    task, model, found = expert(tmp_path, "brain_mri_vit")
    assert task.architecture == "vit"
    assert {one.name: one.label for one in found} == {"glioma/x": model.card.labels.index("glioma"), "elsewhere/x": -1}


def test_labels_and_channels_of_nnunet_are_kept(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(12, 16, 16)).astype(np.float32)
    labels = np.zeros((12, 16, 16), np.uint8)
    labels[3:6, 4:9, 4:9] = 2
    for name, values in (("imagesTr/p_0000", volume), ("labelsTr/p", labels)):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    _, _, found = expert(tmp_path, "hippocampus_unet3d")
    assert found[0].label == 2
    assert int(found[0].evidence.sum()) == 75
    nibabel.save(nibabel.Nifti1Image(2 * volume, np.eye(4)), tmp_path / "imagesTr/p_0001.nii.gz")
    both = _image(pairs(tmp_path)[0], 2).values
    assert torch.equal(both[1], 2 * both[0])


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not a folder.*imagesTr"):
        pairs(tmp_path / "nowhere")
    with pytest.raises(ImageError, match="holds no image with a mask"):
        pairs(tmp_path)
    grey(tmp_path / "a.png", PICTURE)
    grey(tmp_path / "a_mask.png", 0 * MASK)
    with pytest.raises(ImageError, match="nothing is marked"):
        expert(tmp_path, "breast_us_unet")


def test_real_data_sets_are_read(assets: Path) -> None:
    task, model, found = expert(assets / "mri/hippocampus", "hippocampus_unet3d", 2)
    assert (task.dims, len(found)) == (3, 2)
    with torch.no_grad():
        guess = model(found[0].x[None])[0].argmax(0)
    both = ((guess > 0) & found[0].evidence).sum()
    assert 2 * both / ((guess > 0).sum() + found[0].evidence.sum()) > 0.8
    assert len(pairs(assets / "fundus/drive")) == 6
