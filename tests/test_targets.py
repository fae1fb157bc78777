"""Targets beyond a label: parts of a segmentation, contrasts, grades, likeness, boxes of detectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Linear, images, make

from runners import Box, Contrast, Expected, Region, Similarity, explain, profile, unmet
from runners.detection import found_by, overlap
from runners.targets import for_image, resolve
from taxonomy import ModelError, RequirementError, TargetError


class Marks(nn.Module):
    """Marks what is brighter than 0.5."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([0.5 - x, x - 0.5], 1)


def two_squares() -> Tensor:
    x = torch.zeros(1, 1, 12, 12)
    x[..., 1:5, 1:5] = 1.0
    x[..., 7:11, 7:11] = 2.0
    return x


def weight_of(target: Region, x: Tensor) -> Tensor:
    """Which pixels the score sums, from its gradient."""
    model = Marks()
    entry = x.clone().requires_grad_()
    score = resolve(target, model(x), x).score(model(entry), torch.arange(len(x)))
    return torch.autograd.grad(score.sum(), entry)[0][0, 0] != 0


def square(first: int, last: int) -> Tensor:
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[first:last, first:last] = True
    return mask


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Region(1), square(1, 5) | square(7, 11)),
        (Region(1, part="boundary"), (square(1, 5) & ~square(2, 4)) | (square(7, 11) & ~square(8, 10))),
        (Region(1, part="structure", at=(8, 8)), square(7, 11)),
        (Region(1, part="pixel", at=(3, 3)), square(3, 4)),
        (Region(1, square(0, 6), part="false_positive"), square(7, 11)),
        (Region(1, square(0, 6), part="missed"), square(0, 6) & ~square(1, 5)),
        (Region(1, square(2, 9), part="boundary"), square(2, 9) & ~square(3, 8)),
    ],
)
def test_parts_of_a_segmentation(target: Region, expected: Tensor) -> None:
    assert torch.equal(weight_of(target, two_squares()), expected)


def test_part_is_kept_when_a_batch_is_taken_apart() -> None:
    masks = torch.stack([square(0, 6), square(6, 12)])
    target = for_image(Region(1, masks, part="missed"), 1, 2)
    assert isinstance(target, Region)
    assert target.part == "missed"
    assert torch.equal(target.mask, masks[1])


def test_places_refer_to_the_image_when_the_output_is_coarser() -> None:
    x = two_squares()
    pool = nn.AvgPool2d(2)
    outputs = Marks()(pool(x))
    weight = torch.zeros_like(outputs, requires_grad=True)
    score = resolve(Region(1, part="pixel", at=(9, 3)), outputs, x).score(outputs + weight, torch.arange(1))
    (grad,) = torch.autograd.grad(score.sum(), weight)
    assert grad.nonzero().tolist() == [[0, 1, 4, 1]]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Region(1, part="pixel"), "needs at="),
        (Region(1, part="missed"), "needs mask="),
        (Region(1, part="rim"), "boundary, structure, pixel"),  # type: ignore[arg-type]
        (Region(1, part="pixel", at=(3, 30)), "inside an image of (12, 12)"),
        (Region(1, part="pixel", at=(3,)), "one index per axis"),
        (Region(1, part="structure", at=(0, 0)), "nothing of this label in the connected structure at (0, 0)"),
        (Region(1, square(0, 12), part="false_positive"), "nothing of this label marked outside the reference"),
        (Contrast(), "one row of several outputs"),
        (Expected(), "one row of outputs"),
        (Box(), "a Box needs a detector"),
    ],
)
def test_targets_that_do_not_fit(target: Any, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        resolve(target, Marks()(two_squares()), two_squares())
    assert words in str(caught.value)


def linear() -> tuple[Linear, Tensor]:
    torch.manual_seed(0)
    return Linear((1, 4, 4), labels=4).eval(), torch.rand(3, 1, 4, 4)


def test_contrast_is_the_difference_of_two_labels() -> None:
    model, x = linear()
    weight = model.layer.weight.detach().view(4, 4, 4)
    found = explain(model, x, "input_x_gradient", Contrast(2, 0))
    assert torch.allclose(found.values, x[:, 0] * (weight[2] - weight[0]), atol=1e-6)
    assert found.target == "label 2 rather than 0"
    best, second = model(x).topk(2).indices.T
    own = explain(model, x, "input_x_gradient", Contrast()).values
    assert torch.allclose(own, x[:, 0] * (weight[best] - weight[second]), atol=1e-6)
    with pytest.raises(TargetError, match="cannot be set against itself"):
        explain(model, x, "vanilla_gradient", Contrast(1, 1))


@pytest.mark.parametrize("outputs", ["grades", "thresholds"])
def test_expected_grade(outputs: Any) -> None:
    model, x = linear()
    found = explain(model, x, "input_x_gradient", Expected(outputs))
    logits = model(x).detach()
    if outputs == "grades":
        assert torch.allclose(found.target_scores, logits.softmax(1) @ torch.arange(4.0), atol=1e-6)
        assert found.target == "expected grade, 0 to 3"
    else:
        assert torch.allclose(found.target_scores, logits.sigmoid().sum(1), atol=1e-6)
        assert found.target == "expected grade, 0 to 4"
    with pytest.raises(TargetError, match="grades or thresholds"):
        explain(model, x, "vanilla_gradient", Expected("levels"))  # type: ignore[arg-type]


def test_likeness_of_two_images() -> None:
    model, x = linear()
    other = model(x.flip(0)).detach()
    found = explain(model, x, "vanilla_gradient", Similarity(other))
    assert torch.allclose(found.target_scores, torch.cosine_similarity(model(x), other).detach())
    alone = explain(model, x[2:], "vanilla_gradient", Similarity(other[2]))
    assert torch.allclose(alone.values[0], found.values[2])
    with pytest.raises(TargetError, match="the model's have 4 values"):
        explain(model, x, "vanilla_gradient", Similarity(torch.ones(5)))


def test_methods_of_retrieval_need_something_to_compare_with() -> None:
    model, x = make("cnn2d"), images("cnn2d")
    with pytest.raises(RequirementError, match="it explains retrieval, not classification"):
        explain(model, x, "occlusion_similarity_saliency")
    like = Similarity(torch.tensor([1.0, -1.0, 0.5]))
    theirs = explain(model, x, "occlusion_similarity_saliency", like)
    assert torch.equal(theirs.values, explain(model, x, "occlusion", like).values)


# --- detectors --------------------------------------------------------------------------------------------------------


def test_overlap_of_boxes() -> None:
    box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    others = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [5.0, 5.0, 6.0, 6.0]])
    assert torch.allclose(overlap(others, box), torch.tensor([1.0, 1 / 7, 0.0]))
    solid = torch.tensor([0.0, 0.0, 0.0, 2.0, 2.0, 2.0])
    assert torch.allclose(overlap(torch.tensor([[1.0, 1.0, 1.0, 3.0, 3.0, 3.0]]), solid), torch.tensor([1 / 15]))


@pytest.mark.parametrize("toy", ["detector", "detector_3d", "detr"])
def test_box_score_is_that_of_the_detector_and_its_gradient_too(toy: str) -> None:
    model, x = make(toy), images(toy)
    detections = found_by(model(x), x.shape[2:])
    assert detections is not None
    found = explain(model, x, "input_x_gradient", Box(1))
    second = [one.scores.sort(descending=True).values[1] for one in detections]
    assert torch.allclose(found.target_scores, torch.stack(second).detach())
    entry = x.clone().requires_grad_()
    again = found_by(model(entry), x.shape[2:])
    assert again is not None
    score = torch.stack([one.scores.sort(descending=True).values[1] for one in again]).sum()
    (grad,) = torch.autograd.grad(score, entry)
    assert torch.allclose(found.values, (x * grad).sum(1), atol=1e-6)
    assert found.passes == {"forward": len(x), "backward": len(x)}


def test_boxes_of_ones_own_and_of_a_label() -> None:
    model, x = make("detector"), images("detector", 1)
    (detections,) = found_by(model(x), x.shape[2:]) or []
    at = int(detections.scores.argmax())
    own = explain(model, x, "occlusion", Box(corners=detections.boxes[at].tolist()))
    assert torch.allclose(own.values, explain(model, x, "occlusion", Box()).values)
    label = int(detections.labels[0])
    expected = detections.scores[detections.labels == label].max()
    assert torch.allclose(explain(model, x, "occlusion", label).target_scores, expected.detach())
    with pytest.raises(TargetError, match="number 9: the model found 5 here"):
        explain(model, x, "occlusion", Box(9))
    with pytest.raises(TargetError, match="the box has 3 numbers; the model's boxes have 4"):
        explain(model, x, "occlusion", Box(corners=(1, 2, 3)))


class OneSpot(nn.Module):
    """Finds a box where the image is bright at one place, and nothing else."""

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        found = []
        for image in x:
            score = image[0, 8:12, 20:24].mean()
            some = score > 0.2
            box = torch.tensor([[20.0, 8.0, 24.0, 12.0]])
            found.append(
                {"boxes": box[: int(some)], "scores": score[None][: int(some)], "labels": torch.ones(int(some)).long()}
            )
        return found  # fmt: skip


@pytest.mark.parametrize("method", ["d_rise", "occlusion", "lime", "odam"])
def test_a_box_is_explained_by_where_it_is(method: str) -> None:
    x = torch.zeros(1, 1, 32, 32)
    x[..., 8:12, 20:24] = 1.0
    model = OneSpot()
    if method == "odam":
        assert "it needs an inner layer" in unmet(method, profile(model, x, Box()))[0].sentence
        return
    options = {"d_rise": {"masks": 300, "cells": 8}, "lime": {"segments": 40, "samples": 200}}.get(method, {})
    values = explain(model, x, method, **options).values[0]  # type: ignore[arg-type]
    assert values[8:12, 20:24].mean() > 3 * values.clamp(min=0).mean()
    assert values[9, 22] > 0.5 * values.max()


def test_nothing_found_is_told() -> None:
    with pytest.raises(TargetError, match="the model found 0 here"):
        explain(OneSpot(), torch.zeros(1, 1, 32, 32), "occlusion")
    empty = explain(OneSpot(), torch.zeros(1, 1, 32, 32), "occlusion", Box(corners=(20, 8, 24, 12)))
    assert not empty.values.any()


def test_outputs_of_monai_are_understood() -> None:
    outputs = [{"box": torch.rand(2, 6), "label": torch.ones(2), "label_scores": torch.rand(2)}]
    (found,) = found_by(outputs, (8, 8, 8)) or []
    assert torch.equal(found.boxes, outputs[0]["box"])
    assert found_by([{"a": torch.rand(2)}], (8, 8)) is None
    assert found_by(torch.rand(2, 3), (8, 8)) is None
    with pytest.raises(ModelError, match="boxes for 1 images, not for the 2"):
        resolve(None, outputs, torch.rand(2, 1, 8, 8, 8))


def asked(target: Any, output: Tensor, x: Tensor, later: Tensor | None = None, **more: Any) -> tuple[Tensor, Tensor]:
    resolved = resolve(target, output, x, **more)
    assert resolved.confidence is not None
    assert resolved.decision is not None
    rows, later = torch.arange(len(x)), output if later is None else later
    return resolved.confidence(later, rows), resolved.decision(later, rows)


def test_confidence_and_decision_of_a_classifier() -> None:
    x, output = torch.rand(2, 1, 8, 8), torch.tensor([[2.0, -1.0, 0.0], [0.5, 3.0, 1.0]])
    for given in (output, output.softmax(1)):  # a model that ends in its own softmax
        belief, decided = asked(None, given, x)
        assert torch.allclose(belief, output.softmax(1).amax(1))
        assert decided.tolist() == [1, 1]
    belief, decided = asked(2, output, x, output.flip(1))
    assert torch.allclose(belief, output.softmax(1)[:, 0])
    assert decided.tolist() == [1, 0]
    belief, decided = asked(2, output, x, multilabel=True)
    assert torch.allclose(belief, output.sigmoid()[:, 2])
    assert decided.tolist() == [0, 1]
    belief, decided = asked(None, output[:, :1] - 1, x, torch.tensor([[-3.0], [-3.0]]), task="classification")
    assert torch.allclose(belief, torch.tensor([-3.0, 3.0]).sigmoid())  # the second was decided against
    assert decided.tolist() == [0, 1]
    belief, decided = asked(Contrast(0, 2), output, x)
    assert torch.allclose(belief, torch.tensor([2.0, -0.5]).sigmoid())
    assert decided.tolist() == [1, 0]


def test_confidence_and_decision_of_a_region() -> None:
    x = two_squares()
    for output in (Marks()(x), (x - 0.5) * 2, Marks()(x).softmax(1)):
        belief, decided = asked(None, output, x)
        mean = (16 * torch.tensor(1.0).sigmoid() + 16 * torch.tensor(3.0).sigmoid()) / 32
        assert torch.allclose(belief, mean[None])
        assert decided.tolist() == [1]
    later = x.clone()
    later[..., 1:5, 1:5] = 0  # half of the region is gone
    belief, decided = asked(None, Marks()(x), x, Marks()(later))
    assert decided.tolist() == [0.5]
    background, decided = asked(Region(0, square(7, 11)), (x - 0.5) * 2, x)
    assert torch.allclose(background, torch.tensor([-3.0]).sigmoid())
    assert decided.tolist() == [0]


def test_what_is_no_probability_has_no_confidence() -> None:
    x, output = torch.rand(2, 1, 8, 8), torch.rand(2, 3)
    for target, task in (
        (Expected(), None),
        (Similarity(torch.rand(3)), None),
        (lambda o: o[:, 0], None),
        (0, "regression"),
    ):
        resolved = resolve(target, output, x, task)
        assert resolved.confidence is resolved.decision is None
