"""A case: the model's answer in plain numbers, maps back on the image, targets as users type them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from runners.case import at_input, label_name, measured, open_case, place, read_target, to_input
from runners.detection import Box
from runners.images import Image
from runners.load import Model, ModelCard
from runners.registry import MetricResult
from runners.targets import Contrast, Expected, Region
from taxonomy.errors import TargetError


class Fixed(nn.Module):
    """Answers the same, whatever it sees."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output.expand(len(x), *self.output.shape[1:]) + 0 * x.sum()


def image(shape: tuple[int, ...] = (8, 8), **more: object) -> Image:
    return Image(torch.rand(1, *shape), (0.0, 1.0), "0" * 64, "PNG", **more)  # type: ignore[arg-type]


def answer(output: torch.Tensor, given: Image | None = None, **card: object) -> dict[str, float]:
    given = given or image()
    model = Model(Fixed(output), ModelCard(id="toy", name="Toy", **card))  # type: ignore[arg-type]
    one = open_case(given, model, torch.rand(1, 1, *given.shape))
    return {f"{line.label} [{line.unit}]": line.value for line in one.answer}


def test_probabilities() -> None:
    logits = torch.tensor([[0.0, 2.0]]).log1p().exp().log()  # log 1 and log 3
    assert answer(logits, task="classification", labels=["a", "b"]) == pytest.approx(
        {"a [probability]": 0.25, "b [probability]": 0.75}
    )
    many = answer(torch.tensor([[0.0, 100.0]]), task="classification", multilabel=True)
    assert many == pytest.approx({"label 0 [probability]": 0.5, "label 1 [probability]": 1.0})
    done = torch.tensor([[0.2, 0.8]])  # it ends in a softmax of its own
    assert answer(done, task="classification") == pytest.approx(
        {"label 0 [probability]": 0.2, "label 1 [probability]": 0.8}
    )
    one = answer(torch.tensor([[0.0]]), task="classification", labels=["no", "yes"])
    assert one == pytest.approx({"no [probability]": 0.5, "yes [probability]": 0.5})
    assert answer(torch.tensor([[63.5]]), task="regression", labels=["age"]) == {"age [value]": 63.5}


def test_regions_in_pixels_and_in_millilitres() -> None:
    output = torch.zeros(1, 2, 8, 8)
    output[0, 1, 2:4, 1:6] = 1.0
    assert answer(output, task="segmentation", labels=["background", "lesion"]) == {"lesion [pixels]": 10.0}
    spaced = image(spacing=(0.5, 2.0))
    assert answer(output, spaced, labels=["background", "lesion"]) == {"lesion [mm²]": 10.0}
    volume = torch.full((1, 1, 4, 4, 4), -1.0)
    volume[0, 0, :2] = 1.0
    thick = image((4, 4, 4), spacing=(10.0, 10.0, 5.0))
    assert answer(volume, thick, labels=["organ"]) == {"organ [ml]": 16.0}


def test_maps_go_back_as_the_model_takes_the_image() -> None:
    """Against Model.restore, the other writing of the same way."""
    values = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    for fit, card, given in (
        ("stretch", ModelCard(id="a", name="A", dims=2, size=[6, 5]), image((17, 13))),
        ("crop", ModelCard(id="a", name="A", dims=2, multiple_of=4), image((6, 5))),
    ):
        raw = values if fit == "stretch" else torch.rand(8, 8)
        expected = Model(nn.Identity(), card).restore(raw[None], given)[0]
        torch.testing.assert_close(place(raw, given.shape, fit), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(("shape", "fit"), [((12, 16), "crop"), ((20, 26), "stretch")])
def test_masks_go_to_the_input_and_back(shape: tuple[int, int], fit: str) -> None:
    mask = torch.zeros(10, 13, dtype=torch.bool)
    mask[2:5, 3:9] = True
    there = to_input(mask, shape, fit)  # type: ignore[arg-type]
    assert there.shape == shape
    assert there.dtype == torch.bool
    assert torch.equal(place(there.long(), (10, 13), fit, labels=True) > 0, mask)  # type: ignore[arg-type]


def test_targets_as_typed() -> None:
    classes = ModelCard(id="a", name="A", task="classification", labels=["normal", "Pneumonia"])
    assert read_target(None, classes) is None
    assert read_target("1", classes) == 1
    assert read_target(" pneumonia ", classes) == 1
    with pytest.raises(TargetError, match=r"no label 'cat'; its labels are: normal, Pneumonia"):
        read_target("cat", classes)
    with pytest.raises(TargetError, match="of a model that segments"):
        read_target("1", classes, torch.ones(4, 4))
    segments = ModelCard(id="a", name="A", task="segmentation", labels=["background", "lesion"])
    assert read_target("lesion", segments) == Region(1)
    single = ModelCard(id="a", name="A", task="segmentation", labels=["lesion"])
    assert read_target("lesion", single) == Region(1)
    mask = torch.ones(4, 4)
    region = read_target("lesion", single, mask)
    assert isinstance(region, Region)
    assert region.mask is mask
    with pytest.raises(TargetError, match="give the target too"):
        read_target(None, single, mask)
    assert read_target("1", ModelCard(id="a", name="A"), task="segmentation") == Region(1)


def test_undefined_scores_are_none() -> None:
    assert measured("deletion", MetricResult(torch.tensor([float("nan")]))).value is None
    found = measured("deletion", MetricResult(torch.tensor([0.5]), torch.tensor([[1.0, 0.0]]), ("blur",)))
    assert (found.value, found.curve, found.notes) == (0.5, (1.0, 0.0), ("blur",))
    assert label_name([], 3) == "label 3"


def test_targets_of_other_kinds_as_typed() -> None:
    classes = ModelCard(id="a", name="A", task="classification", labels=["mild", "severe", "grade"])
    assert read_target("severe vs mild", classes) == Contrast(1, 0)
    assert read_target("2 vs. 0", classes) == Contrast(2, 0)
    assert read_target("grade", classes) == 2, "a label goes before a word of ours"
    assert read_target("Grade", ModelCard(id="a", name="A")) == Expected("grades")
    assert read_target("steps", classes) == Expected("thresholds")
    assert read_target("box 3", ModelCard(id="a", name="A", task="detection")) == Box(3)
    with pytest.raises(TargetError, match="no label 'box'"):
        read_target("severe vs box", classes)
    segments = ModelCard(id="a", name="A", task="segmentation", labels=["background", "lesion"])
    assert read_target("lesion", segments, part="boundary") == Region(1, part="boundary")
    assert read_target(None, segments, part="pixel", at=(2, 3)) == Region(None, None, "pixel", (2, 3))
    with pytest.raises(TargetError, match="is explained for one label"):
        read_target("lesion vs background", segments, part="boundary")
    assert at_input((10, 20), (40, 80), (20, 20), "stretch") == (5, 5)
    assert at_input((10, 20), (40, 80), (64, 96), "crop") == (10, 20)
    with pytest.raises(TargetError, match="does not lie in the image"):
        at_input((10, 90), (40, 80), (64, 96), "crop")
