"""The run of the benchmark: what is measured, resumed, spread, and what happens when something fails."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from runners import explainers, metrics
from runners.bench import boards
from runners.bench import run as running
from runners.bench import tasks as bench
from runners.bench import work as working
from runners.bench.pool import Died, Pool, tick
from runners.bench.report import failures
from runners.bench.run import run
from runners.bench.store import Results, open_results
from runners.bench.tasks import LEVELS, Checked, Level, Task
from runners.bench.work import CONTROLS, REFERENCES, Own, method_options, metric_options, remade
from taxonomy import AtlasError, UnknownIdError, load_kb
from taxonomy.measured import BENCHMARK

TOY = Task("ultrasound_cnn", "ultrasound", "classification", 2, "cnn", "planted", (32, 32), phantom="ultrasound")
MARKS = replace(TOY, id="ultrasound_unet", task="segmentation", architecture="unet")
METHODS = ("vanilla_gradient", "grad_cam")
LEVEL = Level("quick", (TOY.id,), 3, 3, METHODS, ("relevance_mass_accuracy", "deletion", "max_sensitivity"))


@pytest.fixture
def results() -> Iterator[Results]:
    opened = open_results("sqlite://")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _untrained(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Networks with random weights, which decide by the evidence by decree, but for the second picture."""

    def trained(task: Task, *_: Any) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return bench.network(task).eval()

    def checked(_task: Task, _model: Any, pictures: Any) -> list[Checked]:
        return [Checked(one.name, 1.0, -1.0, 1.0, "by decree" if i == 1 else "") for i, one in enumerate(pictures)]

    monkeypatch.setattr(bench, "trained", trained)
    monkeypatch.setattr(bench, "checked", checked)
    monkeypatch.setattr(bench, "TASKS", {TOY.id: TOY, MARKS.id: MARKS})
    working._ready.cache_clear()
    yield
    working._ready.cache_clear()


def test_every_method_picture_and_metric_has_its_row(results: Results) -> None:
    ran = run(LEVEL, results, by="Ada")
    rows = results.rows(BENCHMARK)
    # methods: mass and deletion on 3 pictures, sensitivity on 2, four controls on 2; references have no sensitivity
    assert ran.rows == len(rows) == 2 * (3 + 3 + 2 + 8) + 3 * (3 + 3 + 8)
    assert {row.method for row in rows} == {"vanilla_gradient", "grad_cam", *REFERENCES}
    assert {row.metric for row in rows} == {*LEVEL.metrics, *CONTROLS}  # type: ignore[misc]
    assert {row.kind for row in rows if row.metric in CONTROLS} == {"control"}
    assert all((row.value is None) == (row.error is not None) for row in rows)
    assert [row.holds for row in rows if row.image == rows[1].image] == [False] * sum(
        row.image == rows[1].image for row in rows
    )
    one = next(row for row in rows if row.method == "vanilla_gradient" and row.metric == "deletion")
    assert (one.forward, one.backward) == (1, 1)
    assert one.map_seconds > 0  # type: ignore[operator]
    assert one.seconds > 0  # type: ignore[operator]
    assert one.metric_parameters == {"steps": 16}
    (task,) = results.tasks(BENCHMARK)
    assert list(task.problems.values()) == ["by decree"]
    assert "attention" in task.unmet["attention_rollout"]
    (made,) = results.runs({one.run})
    assert (made.by, made.machine, made.level) == ("Ada", None, "quick")
    truth = [r.value for r in rows if r.method == "reference_truth" and r.metric == "relevance_mass_accuracy"]
    assert truth == [1.0] * 3


def test_what_is_done_is_not_done_again(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(LEVEL, results, methods=["grad_cam"])
    again = run(LEVEL, results, methods=["grad_cam"])
    assert (again.rows, again.kept, again.run) == (0, first.rows, None)
    more = run(LEVEL, results)
    assert more.kept == first.rows
    assert more.rows == 3 + 3 + 2 + 8
    other = run(LEVEL, results, methods=["grad_cam"], seed=1)
    assert (other.rows, other.kept) == (first.rows, 0)
    monkeypatch.setitem(working.SPENDING, ("quick", 2), replace(working.SPENDING["quick", 2], most={"steps": 8}))
    cut = run(LEVEL, results, methods=["grad_cam"])  # deletion takes other steps, sensitivity other samples
    assert cut.rows == 4 * 3 + 2
    more_pictures = run(replace(LEVEL, images=4), results, methods=["grad_cam"])
    assert more_pictures.rows == 2 * 4  # mass and deletion of one more picture


def test_the_same_seed_gives_the_same_numbers_one_by_one_and_in_batches(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = replace(LEVEL, methods=("grad_cam", "smoothgrad"))
    run(level, results)
    monkeypatch.setitem(working.BATCH, 2, 1)
    other = open_results("sqlite://")
    run(level, other)

    def keyed(rows: Any) -> dict[Any, float]:
        return {(r.method, r.metric, r.image, r.kind): r.value for r in rows}

    a, b = keyed(results.rows(BENCHMARK)), keyed(other.rows(BENCHMARK))
    assert a.keys() == b.keys()
    for metric in {key[1] for key in a}:
        mine = [k for k in a if k[1] == metric and a[k] is not None]
        near = 1e-2 if metric == "deletion" else 2e-3  # on some CPUs rounding swaps neighbours in the order of pixels
        assert [a[k] for k in mine] == pytest.approx([b[k] for k in mine], rel=1e-3, abs=near)
    other.close()


def test_a_failing_method_loses_only_itself(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("of course")

    monkeypatch.setitem(explainers, "grad_cam", broken)
    ran = run(LEVEL, results)
    rows = results.rows(BENCHMARK)
    failed = [row for row in rows if row.method == "grad_cam"]
    assert len(failed) == 3 + 3 + 2 + 8
    assert all("ZeroDivisionError: of course" in (row.error or "") for row in failed)
    assert ran.failed == sum(row.value is None for row in rows)
    assert any(row.value is not None for row in rows if row.method == "vanilla_gradient")


def test_a_failing_metric_loses_only_itself(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    @functools.wraps(metrics["deletion"])
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("of course")

    whole = metrics["deletion"]
    monkeypatch.setitem(metrics, "deletion", broken)
    run(LEVEL, results, methods=["grad_cam"])
    rows = results.rows(BENCHMARK)
    assert all((row.error is not None) for row in rows if row.metric == "deletion")
    assert all(
        (row.error is None) for row in rows if row.metric == "relevance_mass_accuracy" and row.method != "grad_cam"
    )
    before = sum(row.error is not None for row in rows)
    monkeypatch.setitem(metrics, "deletion", whole)
    again = run(LEVEL, results, methods=["grad_cam"], retry=True)
    assert again.rows == before
    assert not any("of course" in (row.error or "") for row in results.rows(BENCHMARK))


def test_what_takes_too_long_is_given_up(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(working.SPENDING, ("quick", 2), replace(working.SPENDING["quick", 2], seconds=0.0))
    run(LEVEL, results, methods=["smoothgrad"])
    late = [row.error for row in results.rows(BENCHMARK) if row.method == "smoothgrad"]
    assert set(late) == {"given up after 0 s"}


def test_ctrl_c_keeps_what_is_done(results: Results) -> None:
    def stop(state: running.Progress) -> None:
        if "edges" in state.words:
            raise KeyboardInterrupt

    ran = run(LEVEL, results, progress=stop)
    assert ran.stopped
    assert {row.method for row in results.rows(BENCHMARK)} == {"reference_random", "reference_edges"}
    assert run(LEVEL, results).kept == ran.rows


def test_progress_counts_to_the_end(results: Results) -> None:
    states: list[running.Progress] = []
    run(LEVEL, results, progress=states.append)
    assert (states[0].done, states[0].total, states[0].left) == (1, 1, None)
    assert [one.done for one in states[1:]] == [1, 2, 3, 4, 5]
    assert states[-1].share == pytest.approx(1)
    assert states[-1].left == pytest.approx(0, abs=1e-6)


def test_a_segmentation_and_its_controls(results: Results) -> None:
    run(replace(LEVEL, tasks=(MARKS.id,)), results, methods=["vanilla_gradient"])
    rows = [row for row in results.rows(BENCHMARK) if row.method == "vanilla_gradient"]
    assert len(rows) == 3 + 3 + 2 + 8


def test_wrong_names(results: Results) -> None:
    with pytest.raises(UnknownIdError, match="ultrasound_cnn"):
        run(LEVEL, results, tasks=["ultrasound_cn"])
    with pytest.raises(UnknownIdError, match="grad_cam"):
        run(LEVEL, results, methods=["gradcam"])
    with pytest.raises(UnknownIdError, match="metric"):
        run(replace(LEVEL, metrics=("beauty",)), results)
    with pytest.raises(AtlasError, match="0 jobs"):
        run(LEVEL, results, jobs=0)
    ran = run(replace(LEVEL, metrics=("deletion", "simulatability")), results, methods=["grad_cam"])
    assert ran.skipped == {"simulatability": "it is not computed here"}


def test_a_task_that_cannot_be_prepared_is_told(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise AtlasError("no weights today")

    monkeypatch.setattr(bench, "trained", broken)
    ran = run(LEVEL, results)
    assert ran.skipped == {TOY.id: "the task could not be prepared: no weights today"}
    assert ran.rows == 0


def test_levels_name_only_what_exists() -> None:
    kb = load_kb()
    for level in LEVELS.values():
        for dims in (2, 3):
            assert (level.name, dims) in working.SPENDING
    for named in working.METRICS.values():
        assert set(named) <= set(kb.metrics)
    for named in working.METHODS.values():
        assert set(named) <= set(explainers)
    assert set(working._CONTROLS) == set(CONTROLS)
    assert set(working._MAPS) == set(REFERENCES)


def test_a_costly_method_is_cut() -> None:
    assert method_options("rise", 500, 100, (64, 64)) == {"masks": 100}
    assert method_options("rise", 500, None, (64, 64)) == {}
    assert method_options("grad_cam", 2, 100, (64, 64)) == {}
    assert method_options("sobol_attribution", 2112, 100, (64, 64)) == {"designs": working.FEWEST}
    assert method_options("pixel_rde", 1202, 100, (64, 64)) == {"samples": working.FEWEST, "steps": 12}  # both, or 1202
    wide = method_options("occlusion", 226, 60, (64, 64))
    assert wide == {"window": 10, "stride": 10}
    assert metric_options("deletion", {"steps": 16, "samples": 4}) == {"steps": 16}
    assert metric_options("deletion", {"steps": 64}) == {}


def test_references_and_controls() -> None:
    evidence = torch.zeros(2, 4, 4, dtype=torch.bool)
    evidence[:, 1:3, 1:3] = True
    x = torch.zeros(2, 1, 4, 4)
    x[:, :, :, 2:] = 1
    assert working.true_map(x, evidence, 0).sum() == 8
    edges = working.edge_map(x, evidence, 0)
    assert edges[0, :, 1:3].min() == 0.5
    assert edges[0, :, [0, 3]].max() == 0
    noise = working.random_map(x, evidence, 3)
    assert noise.equal(working.random_map(x, evidence, 3))
    assert not noise[0].equal(noise[1])
    planted = bench.cases(TOY, 2, evident=True)
    here = torch.rand(2, 32, 32)
    assert working.left_over(here / 2, here, planted, 0).tolist() == pytest.approx([0.5, 0.5])
    assert working.same_place(here, here, planted, 0).tolist() == pytest.approx([1, 1])
    assert working.on_distractors(torch.ones(2, 32, 32), here, planted, 0).tolist() == pytest.approx([1, 1])
    inside = torch.stack([one.distractors for one in planted])
    share = inside.double().mean((1, 2))
    assert working.on_distractors(inside.float(), here, planted, 0).tolist() == pytest.approx((1 / share).tolist())


def test_a_map_is_made_again_bit_for_bit_and_fills_the_gallery(results: Results) -> None:
    level = replace(LEVEL, methods=("smoothgrad", "grad_cam"))
    run(level, results)
    rows = results.rows(BENCHMARK)
    row = next(r for r in rows if r.method == "smoothgrad" and r.metric == "relevance_mass_accuracy")
    planted, made = remade(row, 3)
    mass = made.values[0].clamp_min(0).double()
    assert float(mass[planted.evidence].sum() / mass.sum()) == pytest.approx(row.value, abs=1e-6)
    found = failures(rows, results.tasks(BENCHMARK), most=2)
    assert [one.method for one in found] in (["smoothgrad", "grad_cam"], ["grad_cam", "smoothgrad"])
    assert all(one.value <= one.best_value for one in found)
    assert found[0].picture.shape == (256, 256, 3)
    assert not boards.tables([], load_kb())


def test_pictures_of_the_user(tmp_path: Path, results: Results) -> None:
    generator = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(generator.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / f"miller_{i}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[20:40, 20 + i : 40] = 255
        Image.fromarray(mask).save(tmp_path / f"miller_{i}_mask.png")
    own = Own("ultrasound", tmp_path, "breast_us_unet")
    ran = run(LEVEL, results, tasks=(), own=[own], methods=["vanilla_gradient"])
    rows = results.rows(BENCHMARK)
    assert not ran.skipped
    assert {row.task for row in rows} == {"own_ultrasound"}
    assert "reference_edges" in {row.method for row in rows}
    assert not any("miller" in str(vars(row)) for row in (*rows, *results.tasks(BENCHMARK)))


# --- processes ---


def double(number: int) -> int:
    """Double a number; 13 kills the process, 7 fails."""
    if number == 13:
        os._exit(1)
    if number == 7:
        raise ValueError("seven")
    return 2 * number


@pytest.mark.slow
def test_processes_and_one_that_dies() -> None:
    pool = Pool(2)
    try:
        found = {arguments[0]: result for arguments, result in pool.map(double, [(n,) for n in (1, 7, 13, 4, 5)])}
    finally:
        pool.close()
    assert (found[1], found[4], found[5]) == (2, 8, 10)
    assert isinstance(found[7], ValueError)
    assert isinstance(found[13], Died)


def slow(number: int) -> int:
    """Work until it is stopped."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        tick(0, 1)
        time.sleep(0.01)
    return number


@pytest.mark.slow
def test_ctrl_c_stops_the_processes() -> None:
    pool = Pool(2)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
    threading.Timer(6.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    start, found = time.monotonic(), []
    try:
        with pytest.raises(KeyboardInterrupt):
            found.extend(result for _, result in pool.map(slow, [(n,) for n in range(6)]))
    finally:
        signal.signal(signal.SIGINT, before)
        pool.close()
    assert time.monotonic() - start < 40
    assert set(found) <= {"stopped"}


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    code = """
import os, sys, time
from runners.bench.pool import Pool
if __name__ == "__main__":
    for _, number in Pool(2).map(os.getpid, [()]):
        print(number, flush=True)
        time.sleep(60)
"""
    (tmp_path / "starts.py").write_text(code)
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(
        [sys.executable, tmp_path / "starts.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as one:
        assert one.stdout is not None
        worker = int(one.stdout.readline())
        assert alive(worker)
        one.kill()
    end = time.monotonic() + 20
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(worker)


def alive(process: int) -> bool:
    """Say whether a process runs; one that ended may be listed until whoever inherited it looks."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
def test_the_quick_level_shows_the_known_facts(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    working._ready.cache_clear()
    ran = run(LEVELS["quick"], results)
    kb, tasks = load_kb(), results.tasks(BENCHMARK)
    told = boards.facts(boards.tables(results.rows(BENCHMARK), kb), kb, {one.task: one.facts for one in tasks})
    assert set(ran.skipped) <= set(working.METRICS["quick"])
    # Integrated Gradients loses on histopathology: its black start is blind to dark nuclei on a bright ground. LRP,
    # which starts from zero, does not. Metrics that tie or that noise pleases are told, not asserted. Another CPU
    # rounds otherwise and trains another network: one task may fall out.
    shown = 0
    for name in ("Deletion AUC", "Insertion AUC", "IROF", "Selectivity", "Region Perturbation", "Monotonicity Corr"):
        mine = [
            fact for fact in told if f"Layer-wise relevance propagation against a random map by {name}" in fact.text
        ]
        assert mine
        better, of = re.findall(r"better on (\d+) of (\d+) tasks", mine[0].text)[0]
        assert int(better) > int(of) / 2, mine[0].text
        shown += bool(mine[0].holds)
    assert shown >= 5
    by_task = {one.task: one for one in boards.tables(results.rows(BENCHMARK), kb) if one.metric == "mprt"}
    assert len(by_task) == len(tasks)
    for table in by_task.values():
        guided, plain = (
            np.nanmean(table.values[table.methods.index(method)]) for method in ("guided_backprop", "vanilla_gradient")
        )
        assert guided > plain + 0.1
    assert sum(bool(fact.holds) for fact in told if "guided backpropagation" in fact.text) >= 2
