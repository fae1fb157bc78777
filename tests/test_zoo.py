"""The bundled models, the recipes that trained them, and the sample images."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file

from runners.images import Image, load_image
from runners.load import ModelCard, bundled, load_model
from runners.zoo import nets, phantoms, train
from runners.zoo.samples import Sample, samples
from taxonomy import load_kb

IDS = ("brain_mri_vit", "breast_us_unet", "chest_xray_cnn", "hippocampus_unet3d", "nuclei_unet")
SAMPLES = {sample.id: sample for sample in samples()}


@pytest.fixture(scope="module")
def cards() -> dict[str, ModelCard]:
    return {card.id: card for card in bundled()}


def answer(model_id: str, sample: Sample) -> torch.Tensor:
    """The model's output for a sample: logits, or the label map of a segmenter on its input grid."""
    model = load_model(model_id)
    with torch.no_grad():
        output = model(model.prepare(sample.load()))[0]
    return output if output.ndim == 1 else output.argmax(0)


# ---------------------------------------------------------------- cards and weights


def test_every_model_has_card_weights_factory_and_recipe(cards: dict[str, ModelCard]) -> None:
    factories = {
        name
        for name, item in vars(nets).items()
        if inspect.isfunction(item) and item.__module__ == nets.__name__ and not name.startswith("_")
    }
    weights = {path.stem for path in train.FOLDER.glob("*.safetensors")}
    assert set(IDS) == set(cards) == factories == weights == set(train.RECIPES)


@pytest.mark.parametrize("name", IDS)
def test_card_tells_what_a_user_must_know(name: str, cards: dict[str, ModelCard]) -> None:
    card, kb = cards[name], load_kb()
    assert card.factory == f"nets:{name}"
    assert card.modality in kb.modalities
    assert card.architecture in kb.vocabulary.architectures
    assert card.task in kb.vocabulary.tasks
    assert card.training is not None
    assert (card.training.epochs, card.training.seed) == (train.RECIPES[name].epochs, train.RECIPES[name].seed)
    assert card.size is None or tuple(card.size) == train.RECIPES[name].size
    assert card.measured
    assert card.intended_use
    assert "clinical use" in card.not_for
    # share-alike images make share-alike weights
    assert ("SA" in (card.weights_licence or "")) == ("SA" in card.training.licence)


@pytest.mark.parametrize("name", IDS)
def test_weights_are_small_and_complete(name: str) -> None:
    path = train.FOLDER / f"{name}.safetensors"
    state = load_file(path)
    assert path.stat().st_size <= 1_500_000
    assert all(bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point())
    assert state.keys() == getattr(nets, name)().state_dict().keys()
    model = load_model(name)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert not model.training


def test_all_weights_together_stay_below_five_megabytes() -> None:
    assert sum(path.stat().st_size for path in train.FOLDER.glob("*.safetensors")) <= 5_000_000


@pytest.mark.parametrize("name", IDS)
def test_output_has_one_channel_per_label_and_does_not_mix_images(name: str, cards: dict[str, ModelCard]) -> None:
    card, model = cards[name], load_model(name)
    assert card.channels is not None
    x = torch.randn(2, card.channels, *(card.size or (33, 41, 35)), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = model(x)
        alone = model(x[1:])
    spatial = x.shape[2:] if card.task == "segmentation" else ()
    assert output.shape == (2, len(card.labels), *spatial)
    torch.testing.assert_close(output[1:], alone, rtol=1e-4, atol=1e-4)


def test_the_transformer_attends_through_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def spy(query: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(query.shape))
        return fused(query, *rest)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    with torch.no_grad():
        load_model("brain_mri_vit")(torch.zeros(1, 1, 96, 96))
    assert shapes == [(1, 4, 1 + 12 * 12, 24)] * 5  # a class token and 12 × 12 patches in each of five blocks


# ---------------------------------------------------------------- measured quality


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_measured_numbers_are_those_of_the_committed_weights(
    name: str, cards: dict[str, ModelCard], assets: Path
) -> None:
    recipe = train.RECIPES[name]
    found = train.measure(train.stored(name), list(recipe.cases(assets, recipe.size, {"test"})))
    told = {one.metric: (one.value, one.n) for one in cards[name].measured}
    assert {metric: count for metric, (_, count) in found.items()} == {metric: n for metric, (_, n) in told.items()}
    for metric, (value, _) in found.items():
        assert value == pytest.approx(told[metric][0], abs=0.01), metric


@pytest.mark.parametrize(
    ("name", "place", "mode"),
    [
        ("breast_us_unet", "ultrasound/busi/benign", "L"),
        ("chest_xray_cnn", "xray/pneumonia/NORMAL", "L"),
        ("brain_mri_vit", "mri/brain_tumor/test/glioma", "L"),
        ("nuclei_unet", "microscopy/dsb2018", "RGB"),
    ],
)
def test_users_images_are_prepared_as_the_training_images_were(name: str, place: str, mode: str, assets: Path) -> None:
    path = min(path for path in (assets / place).iterdir() if not path.stem.endswith("_instances"))
    prepared = load_model(name).prepare(load_image(path))[0]
    trained_on = train.fit_image(train.pixels(path, mode), train.RECIPES[name].size)
    torch.testing.assert_close(prepared, trained_on, rtol=0, atol=0.02)  # Pillow rounds grey levels to whole numbers


def test_volumes_are_prepared_as_the_training_volumes_were(assets: Path) -> None:
    case = next(train.hippocampus(assets, (), {"test"}))
    image = load_image(assets / f"mri/hippocampus/images/{case.name}.nii.gz")
    torch.testing.assert_close(load_model("hippocampus_unet3d").prepare(image)[0], case.image, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_no_patient_is_in_two_splits(assets: Path) -> None:
    splits: dict[str, set[str]] = {}
    for case in train.pneumonia(assets, (8, 8)):
        person = case.name.split("_")[0] if case.stratum == "pneumonia" else case.name[: case.name.index("IM-") + 7]
        splits.setdefault(person, set()).add(case.split)
    assert max(len(found) for found in splits.values()) == 1
    assert len(splits) < 2000  # several images of one person


# ---------------------------------------------------------------- training


def test_splits_have_their_shares_and_never_change() -> None:
    splits = [train.split_of(f"patient {number}") for number in range(4000)]
    assert splits.count("test") / 4000 == pytest.approx(0.20, abs=0.02)
    assert splits.count("validation") / 4000 == pytest.approx(0.08, abs=0.02)
    assert [train.split_of(name) for name in ("j", "k", "p")] == ["train", "test", "validation"]


def test_look_alikes_share_a_group_and_strangers_do_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, second = (np.kron(rng.integers(0, 200, (6, 6)), np.ones((10, 10))).astype(np.uint8) for _ in range(2))
    paths = [tmp_path / f"{name}.png" for name in ("scan", "scan_again", "other")]
    for path, values in zip(paths, (first, first // 2 + 20, second), strict=True):
        Pillow.fromarray(values).save(path)
    assert train.look_alikes(paths) == ["scan", "scan", "other"]


@pytest.mark.parametrize("dims", [2, 3])
def test_augmenting_moves_image_and_truth_together(dims: int) -> None:
    size = (40, 48, 44)[:dims]
    truth = torch.zeros(6, *size, dtype=torch.long)
    truth[(slice(None), *[slice(8, 20)] * dims)] = 1
    recipe = train.Recipe(train.nuclei, size, "", 1, 1, rotate=40, flips=tuple(range(dims)), noise=0.0)
    image, moved = train.augment(truth[:, None].float(), truth, recipe, torch.Generator().manual_seed(0))
    assert image.shape == (6, 1, *size)
    assert len({tuple(one.nonzero().float().mean(0).tolist()) for one in moved}) == 6
    for one, where in zip(image[:, 0], moved, strict=True):
        assert train.dice(one > (one.min() + one.max()) / 2, where == 1) > 0.85


def test_dice_and_auc_of_known_cases() -> None:
    one, two = torch.tensor([1, 1, 0, 0]) > 0, torch.tensor([1, 0, 0, 0]) > 0
    assert train.dice(one, two) == pytest.approx(2 / 3)
    assert train.dice(one & ~one, two & ~two) == 1.0
    positive = np.array([True, True, False, False])
    assert train.auc(positive, np.array([4.0, 3, 2, 1])) == 1.0
    assert train.auc(positive, np.array([1.0, 1, 1, 1])) == 0.5
    assert train.auc(positive, np.array([3.0, 1, 2, 0])) == 0.75


def test_an_image_without_a_map_only_has_to_mark_something_of_plausible_size() -> None:
    recipe = train.RECIPES["breast_us_unet"]
    truth = torch.zeros(2, 20, 20, dtype=torch.long)
    truth[0, 5:10, 5:10] = 1
    truth[1] = train.UNKNOWN

    def loss(marked: int) -> float:
        logits = torch.zeros(2, 2, 400)
        logits[0, 1] = 20 * (truth[0].flatten() * 2 - 1)
        logits[1, 1] = -20
        logits[1, 1, :marked] = 20
        return float(train.loss_of(logits.view(2, 2, 20, 20), truth, recipe))

    assert loss(40) == pytest.approx(0, abs=0.02)
    assert min(loss(0), loss(400)) > loss(40) + 0.2


def test_measuring_counts_unknown_and_empty_images_apart() -> None:
    def case(stratum: str, truth: torch.Tensor, shown: torch.Tensor) -> train.Case:
        return train.Case(stratum, torch.stack([-shown.float(), shown.float()]) * 9, truth, stratum, "test")

    some, none = torch.zeros(20, 20, dtype=torch.long), torch.zeros(20, 20, dtype=torch.long)
    some[:10] = 1
    unknown = torch.full((20, 20), train.UNKNOWN)
    cases = [case("lesion", some, some), case("normal", none, none), case("cancer", unknown, some)]
    found = train.measure(torch.nn.Identity(), cases)
    assert found == {"Dice": (1.0, 1), "false marks": (0.0, 1), "AUC lesion or none": (1.0, 2)}


# ---------------------------------------------------------------- samples


def test_every_model_has_a_sample_and_every_sample_its_models(cards: dict[str, ModelCard]) -> None:
    assert len(SAMPLES) == len(samples())
    for sample in SAMPLES.values():
        assert sample.modality in load_kb().modalities
        assert all(cards[name].modality == sample.modality for name in sample.models)
        assert sample.source
        assert sample.licence
    assert {name for sample in SAMPLES.values() for name in sample.models} == set(IDS)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_sample_loads_and_suits_its_models(sample: Sample) -> None:
    image, mask = sample.load(), sample.mask()
    assert isinstance(image, Image)
    assert image.modality in (None, sample.modality)
    assert float(image.values.std()) > 0
    if mask is not None:
        assert mask.dtype == torch.bool
        assert mask.shape == image.shape
        assert 0 < float(mask.float().mean()) < 0.5
    for name in sample.models:
        model = load_model(name)
        assert model.prepare(image).shape[:2] == (1, model.card.channels)
    assert torch.equal(image.values, sample.load().values)


@pytest.mark.parametrize("name", ["breast_phantom", "breast_phantom_2", "nuclei_phantom"])
def test_segmenters_find_what_the_phantoms_hide(name: str) -> None:
    sample = SAMPLES[name]
    mask = sample.mask()
    assert mask is not None
    found = answer(sample.models[0], sample)
    assert train.dice(found == 1, train.fit_labels(mask, tuple(found.shape)) == 1) > 0.7


def test_hippocampus_is_found_in_the_template_brain() -> None:
    found = answer("hippocampus_unet3d", SAMPLES["hippocampus_left"])
    front, back = ((found == label).nonzero().float() for label in (1, 2))
    assert 1500 < len(front) + len(back) < 6000  # cubic millimetres; adults have about 3000
    assert front[:, 1].mean() > back[:, 1].mean() + 8  # the second axis runs to the front


def test_template_brain_has_no_tumour(cards: dict[str, ModelCard]) -> None:
    logits = answer("brain_mri_vit", SAMPLES["brain_slice"])
    assert cards["brain_mri_vit"].labels[int(logits.argmax())] == "no tumour"


def test_phantoms_are_repeatable_and_lesions_dark() -> None:
    for draw in (phantoms.breast_phantom, phantoms.nuclei_phantom):
        (image, mask), (again, _), (other, _) = draw(5), draw(5), draw(6)
        assert torch.equal(image, again)
        assert not torch.equal(image, other)
        assert image.shape == mask.shape
        assert 0 <= float(image.min()) < float(image.max()) <= 255
    tissue, nothing = phantoms.breast_phantom(5, lesion=False)
    assert not nothing.any()
    image, mask = phantoms.insert_lesion(tissue, torch.Generator().manual_seed(1))
    assert image[mask].mean() < 0.8 * tissue[mask].mean()
    assert torch.equal(tissue, phantoms.breast_phantom(5, lesion=False)[0])
