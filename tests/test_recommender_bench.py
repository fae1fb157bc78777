"""The benchmark in the recommender: nearest boards first, the distance is said, the weight is small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recommender import Query, Reason, recommend
from recommender import bench as module
from recommender.points import Points
from taxonomy import KB, check, load_kb
from taxonomy import measured as measuring
from taxonomy.measured import BENCHMARK, Benchmark, BenchmarkTask, Measured, Scores, benchmark

ORDER = ("grad_cam", "layer_cam", "occlusion", "vanilla_gradient", "rise")


def board(order: tuple[str, ...] = ORDER) -> Scores:
    lines = [Measured(method, 0.9 - i / 10, 0.85 - i / 10, 0.95 - i / 10, i + 1, 12) for i, method in enumerate(order)]
    return Scores(lines=[*lines, Measured("reference_random", 0.1, 0.09, 0.11, None, 12)])


def task(modality: str, **more: Any) -> BenchmarkTask:
    fields = {"task": "segmentation", "dims": 2, "architecture": "unet", "truth": "planted", "size": [64, 64]}
    fields |= {"sha": "0" * 16, "images": 12, "boards": {"relevance_mass_accuracy": board()}}
    return BenchmarkTask(modality=modality, **{**fields, **more})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, BenchmarkTask]]:
    """A benchmark that the test fills."""
    tasks: dict[str, BenchmarkTask] = {}

    def found(_: KB) -> Benchmark | None:
        return Benchmark(
            benchmark=BENCHMARK, level="small", date="2026-01-02", runs=["0123456789ab"], seeds=[0], versions={},
            tasks=tasks,
        )  # fmt: skip

    monkeypatch.setattr(module, "benchmark", found)
    module._nearest.cache_clear()
    yield tasks
    module._nearest.cache_clear()


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb()


def reasons(query: Query, kb: KB) -> dict[str, Reason]:
    module._nearest.cache_clear()
    return {r.method: one for r in recommend(query, kb) for one in r.reasons if one.criterion == "benchmark"}


ULTRASOUND = Query(modality=("ultrasound",), task="segmentation", architecture="unet")


def test_the_first_gains_what_the_last_loses(known: dict[str, BenchmarkTask], kb: KB) -> None:
    known["us"] = task("ultrasound")
    found = reasons(ULTRASOUND, kb)
    assert found.keys() == set(ORDER)
    assert [found[method].points for method in ORDER] == pytest.approx([1, 0.5, 0, -0.5, -1])
    assert max(abs(one.points) for one in found.values()) <= Points.BENCHMARK
    text = found["layer_cam"].text
    assert "Measured by us, not from the literature" in text
    assert "rank 2 of 5 in Relevance Mass Accuracy (0.8, 95 % CI 0.75 to 0.85)" in text
    assert "planted evidence in ultrasound (U-Net" in text
    assert f"XAI Atlas benchmark {BENCHMARK}, small, 2026-01-02, run 0123456789ab" in text
    assert "nearest" not in text
    assert found["layer_cam"].cites == ()


def test_the_nearest_boards_count_and_the_distance_is_said(known: dict[str, BenchmarkTask], kb: KB) -> None:
    known["us"] = task("ultrasound", task="classification", architecture="cnn")
    far = reasons(ULTRASOUND, kb)["grad_cam"]
    assert 0 < far.points < 1
    assert "not your case but the nearest" in far.text
    known["xray"] = task("fundus", boards={"relevance_mass_accuracy": board(ORDER[::-1])})
    assert reasons(ULTRASOUND, kb)["grad_cam"].points == far.points  # the other task of the same modality is nearer
    known["us_seg"] = task("ultrasound")
    assert reasons(ULTRASOUND, kb)["grad_cam"].points == pytest.approx(1)
    known["us_vit"] = task("ultrasound", architecture="swin", boards={"relevance_mass_accuracy": board(ORDER[::-1])})
    assert reasons(ULTRASOUND, kb)["grad_cam"].points == pytest.approx(1)  # attention says little of convolution


def test_what_says_nothing_is_left_out(known: dict[str, BenchmarkTask], kb: KB) -> None:
    known["random"] = task("ultrasound", truth="none")
    known["few"] = task("ultrasound", boards={"deletion": board(ORDER[:2]), "control_same_place": board()})
    assert reasons(ULTRASOUND, kb) == {}


def test_properties_are_weighed_by_trust(known: dict[str, BenchmarkTask], kb: KB) -> None:
    known["us"] = task("ultrasound", boards={"deletion": board(), "relevance_mass_accuracy": board(ORDER[::-1])})
    trust = Points.TRUST
    expected = (trust["faithfulness"] - trust["localisation"]) / (trust["faithfulness"] + trust["localisation"])
    assert reasons(ULTRASOUND, kb)["grad_cam"].points == pytest.approx(expected, abs=1e-3)


def test_a_metric_that_cannot_be_trusted_does_not_count(
    known: dict[str, BenchmarkTask], kb: KB, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = {"deletion": board(), "insertion": board(ORDER[::-1])}
    known["us"] = task("ultrasound", boards=boards)
    monkeypatch.setattr(module, "weights", lambda _: {"insertion": 0.0})
    assert reasons(ULTRASOUND, kb)["grad_cam"].points == pytest.approx(1)
    monkeypatch.setattr(module, "weights", lambda _: {"deletion": 0.25, "insertion": 0.75})
    assert reasons(ULTRASOUND, kb)["grad_cam"].points == pytest.approx(-0.5)


def test_without_a_data_file_nothing_is_said(monkeypatch: pytest.MonkeyPatch, kb: KB) -> None:
    monkeypatch.setattr(module, "benchmark", lambda _: None)
    assert reasons(ULTRASOUND, kb) == {}


def test_the_file_beside_the_knowledge_base_is_read(tmp_path: Path, kb: KB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "folder", lambda _: tmp_path)
    assert benchmark(kb) is None
    found = Benchmark(
        benchmark=BENCHMARK, level="small", date="2026-01-02", runs=["0123456789ab"], seeds=[0], versions={},
        tasks={"us": task("ultrasound")},
    )  # fmt: skip
    measuring.write_benchmark(found, tmp_path / "benchmark.json")
    assert benchmark(kb) == found
    assert measuring.check(kb) == []
    measuring.write_benchmark(found.model_copy(update={"benchmark": "0"}), tmp_path / "benchmark.json")
    assert benchmark(kb) is None  # another version does not compare
    assert "versions do not compare" in measuring.check(kb)[0]
    (tmp_path / "benchmark.json").write_text("{}")
    assert measuring.check(kb)


def test_the_packaged_file_is_in_order(kb: KB) -> None:
    assert not [line for line in check(kb) if line.startswith("measured")]


def test_means_are_not_those_of_tasks_that_are_gone(known: dict[str, BenchmarkTask], kb: KB) -> None:
    for number in range(50):  # a task may come to lie where one lay that was thrown away
        order = ORDER if number % 2 else ORDER[::-1]
        known["us"] = task("ultrasound", boards={"relevance_mass_accuracy": board(order)})
        assert reasons(ULTRASOUND, kb)[order[0]].points == pytest.approx(1), number
