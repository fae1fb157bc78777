from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from taxonomy import Gap, KBError, Profile, RequirementError, TargetError, UnknownIdError, conditions, gaps, load_kb
from taxonomy.schema import NeedWord, Requires

TOY = Path(__file__).parent / "toy_kb"
REQUIRES = Requires(needs=["gradients", "spatial_features"], tasks=["classification", "segmentation"], dims=[2])


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NeedWord]:
    monkeypatch.setenv("XAI_ATLAS_CACHE", str(tmp_path))
    return load_kb(TOY).vocabulary.needs


def test_an_empty_profile_has_no_gap_and_every_condition(words: dict[str, NeedWord]) -> None:
    assert gaps(REQUIRES, Profile(), words) == []
    assert conditions(REQUIRES, Profile(), words) == [
        "if the model gives gradients",
        "if a layer keeps a spatial grid",
    ]


def test_what_is_at_hand_is_neither_gap_nor_condition(words: dict[str, NeedWord]) -> None:
    profile = Profile(has=frozenset({"gradients", "spatial_features"}), task="segmentation", dims=2)
    assert gaps(REQUIRES, profile, words) == []
    assert conditions(REQUIRES, profile, words) == []


def test_what_is_lacking_is_a_gap_with_its_reason_and_no_condition(words: dict[str, NeedWord]) -> None:
    profile = Profile(lacks={"gradients": "it runs in onnxruntime", "spatial_features": ""})
    assert gaps(REQUIRES, profile, words) == [
        Gap("gradients", "it needs gradients, and this model gives none. (it runs in onnxruntime)"),
        Gap("spatial_features", "it needs a layer with a spatial grid."),
    ]
    assert conditions(REQUIRES, profile, words) == []


def test_what_others_lack_is_no_gap(words: dict[str, NeedWord]) -> None:
    assert gaps(REQUIRES, Profile(lacks={"tokens": "it is a CNN"}), words) == []


def test_task_and_dims_that_do_not_fit_are_gaps(words: dict[str, NeedWord]) -> None:
    assert gaps(REQUIRES, Profile(task="regression", dims=3), words) == [
        Gap("task", "it explains classification, segmentation, not regression."),
        Gap("dims", "it works on 2D images, not on 3D."),
    ]


def test_every_gap_is_told_at_once(words: dict[str, NeedWord]) -> None:
    found = gaps(REQUIRES, Profile(lacks={"gradients": ""}, task="retrieval", dims=3), words)
    assert [gap.need for gap in found] == ["gradients", "task", "dims"]
    error = RequirementError("grad_cam", found)
    assert error.gaps == tuple(found)
    assert str(error).startswith("grad_cam cannot explain this model: it needs gradients")


def test_gap_and_condition_divide_the_needs_that_are_not_there(words: dict[str, NeedWord]) -> None:
    every = list(words)
    requires = Requires(needs=every, tasks=["classification"], dims=[2, 3])
    for position, need in enumerate(every):
        profile = Profile(has=frozenset(every[:position]), lacks={need: "so"})
        assert [gap.need for gap in gaps(requires, profile, words)] == [need]
        assert conditions(requires, profile, words) == [words[n].condition for n in every[position + 1 :]]


@pytest.mark.parametrize(
    "error",
    [
        RequirementError("grad_cam", [Gap("gradients", "it needs gradients.")]),
        UnknownIdError("lyme", ["lime"]),
        KBError(["a.yaml:1: name"]),
        TargetError("no"),
    ],
)
def test_errors_travel_between_processes(error: Exception) -> None:
    other = pickle.loads(pickle.dumps(error))  # noqa: S301 (made here)
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))
