"""Boards against closed forms, slow second writings and published numbers; the data file and the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from runners.bench.boards import (
    Friedman,
    Table,
    alike,
    board,
    bootstrap,
    collect,
    compared,
    critical_difference,
    facts,
    friedman,
    overall,
    ranked,
    tables,
)
from runners.bench.report import HEADLINE, Failure, html, mean_place, table_csv
from runners.bench.store import BenchRow, BenchRun, BenchTask
from taxonomy import KB, AtlasError, load_kb
from taxonomy.measured import BENCHMARK, problems, read_benchmark, write_benchmark
from taxonomy.trust import trust

FACTS = {
    "modality": "fundus",
    "task": "classification",
    "dims": 2,
    "architecture": "cnn",
    "truth": "planted",
    "size": [8, 8],
    "phantom": "toy",
    "marked": False,
}


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb()


def row(method: str, metric: str, image: str, value: float | None, **more: Any) -> BenchRow:
    fields = {"benchmark": BENCHMARK, "task": "toy", "task_sha": "0" * 16, "kind": "evidence", "holds": True}
    fields |= {"settings": "0" * 16, "seed": 0, "run": "0" * 12, "error": None if value is not None else "no"}
    return BenchRow.model_validate(
        {**fields, "method": method, "metric": metric, "image": image, "value": value, **more}
    )


def toy_rows() -> list[BenchRow]:
    """Mass and deletion of three methods and two references on four pictures; the last picture does not hold."""
    mass = {
        "layer_cam": [0.6, 0.7, 0.8, 0.1],
        "grad_cam": [0.3, 0.4, 0.5, 0.9],
        "integrated_gradients": [0.5, 0.5, 0.6, 0.2],
        "reference_random": [0.1, 0.1, 0.1, 0.1],
        "reference_truth": [1.0, 1.0, 1.0, 1.0],
    }
    rows = [
        row(method, "relevance_mass_accuracy", str(i), value, holds=i < 3)
        for method, values in mass.items()
        for i, value in enumerate(values)
    ]
    deletion = {"integrated_gradients": [0.1, 0.2, 0.1, 0.3], "reference_random": [0.5, 0.4, 0.6, 0.2]}
    rows += [row(method, "deletion", str(i), v) for method, values in deletion.items() for i, v in enumerate(values)]
    rows += [row("guided_backprop", "mprt", str(i), v) for i, v in enumerate([0.9, 0.8])]
    return rows


def toy_task() -> BenchTask:
    return BenchTask.model_validate(
        {"benchmark": BENCHMARK, "task": "toy", "task_sha": "0" * 16, "facts": FACTS, "images": 4,
         "problems": {"3": "the decision hangs on a distractor"}, "quality": 0.97}
    )  # fmt: skip


def toy_run() -> BenchRun:
    return BenchRun.model_validate(
        {"id": "0123456789ab", "benchmark": BENCHMARK, "level": "quick", "seed": 0, "versions": {"torch": "2.0"}}
    )


# --- statistics ---


@pytest.mark.parametrize(
    ("methods", "q"),
    [(2, 1.959964), (3, 2.343701), (4, 2.569032), (5, 2.727774), (6, 2.849705), (7, 2.94832), (8, 3.030879),
     (9, 3.101730), (10, 3.163684), (20, 3.543799)],
)  # fmt: skip
def test_the_critical_difference_has_the_published_quantiles(methods: int, q: float) -> None:
    """Of Demšar's table 5, as Orange carries it; above ten methods Orange's last digits are rounded."""
    assert critical_difference(methods, 30) == pytest.approx(q * math.sqrt(methods * (methods + 1) / 180), rel=1e-4)


def test_friedman_agrees_with_a_published_run() -> None:
    """Nine algorithms on two data sets: R's friedman.test gives 11.733 and p = 0.1635."""
    ranks = np.array([[1, 8, 6, 4, 7, 2, 5, 3, 9], [1, 6, 3, 9, 7, 2, 8, 4, 5]], float).T
    found = friedman(ranks, [str(i) for i in range(9)], "lower")
    assert found is not None
    assert found.statistic == pytest.approx(11.733, abs=1e-3)
    assert found.p == pytest.approx(0.1635, abs=1e-4)
    assert found.ranks["0"] == 1


def test_friedman_agrees_with_a_slow_second_writing() -> None:
    values = np.random.default_rng(0).normal(size=(5, 7)) + np.arange(5)[:, None]
    found = friedman(values, list("abcde"), "higher")
    assert found is not None
    n, k, sums = 7, 5, np.zeros(5)
    for column in values.T:
        for i in range(k):
            sums[i] += 1 + sum(column[j] > column[i] for j in range(k))
    statistic = 12 / (n * k * (k + 1)) * (sums**2).sum() - 3 * n * (k + 1)
    assert found.statistic == pytest.approx(statistic)
    assert found.p == pytest.approx(stats.chi2.sf(statistic, k - 1))
    assert list(found.ranks.values()) == pytest.approx((sums / n).tolist())
    assert min(found.ranks, key=lambda m: found.ranks[m]) == "e"  # the highest is first


def test_friedman_leaves_out_gaps() -> None:
    values = np.array([[1, 2, 3, math.nan], [2, 3, 4, math.nan], [3, 4, 9, 1], [1, math.nan, 1, math.nan]])
    found = friedman(values, list("abcd"), "higher")
    assert found is not None
    assert found.blocks == 3  # the last picture has one number in four
    assert list(found.ranks) == ["a", "b", "c"]  # d has a gap
    assert friedman(values[:2], ["a", "b"], "higher") is None
    assert friedman(values[:0], [], "higher") is None
    assert friedman(np.ones((3, 4)), list("abc"), "higher") is None
    assert friedman(values, list("abcd"), None) is None


def test_groups_that_cannot_be_told_apart() -> None:
    found = Friedman(1, 0.01, 1.0, {"a": 1.0, "b": 1.8, "c": 2.5, "d": 4.0}, 5)
    assert alike(found) == [("a", "b"), ("b", "c")]


def test_the_bootstrap_is_that_of_scipy_and_the_same_for_every_row() -> None:
    values = np.random.default_rng(1).normal(size=(2, 25))
    low, high = bootstrap(values, draws=20000)
    for i, one in enumerate(values):
        peer = stats.bootstrap((one,), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(2))
        assert (low[i], high[i]) == pytest.approx(tuple(peer.confidence_interval), abs=0.02)
    assert bootstrap(values)[0].tolist() == bootstrap(values)[0].tolist()
    assert bootstrap(values)[0][1] == bootstrap(values[1:])[0][0]
    single = bootstrap(np.array([[1.0, math.nan], [1.0, 1.0]]))
    assert math.isnan(single[0][0])
    assert (single[0][1], single[1][1]) == (1.0, 1.0)


def test_ranks() -> None:
    assert ranked([0.1, 0.5, 0.5, math.nan, 0.2], "higher") == [4, 1, 1, None, 3]
    assert ranked([0.1, 0.5, 0.5, math.nan, 0.2], "lower") == [1, 3, 3, None, 2]
    assert ranked([0.1, 0.5], None) == [None, None]


def test_tables_count_for_localisation_only_pictures_that_hold(kb: KB) -> None:
    by_metric = {one.metric: one for one in tables(toy_rows(), kb)}
    mass = by_metric["relevance_mass_accuracy"]
    assert mass.images == ("0", "1", "2")
    assert by_metric["deletion"].images == ("0", "1", "2", "3")
    later = [*toy_rows(), row("grad_cam", "relevance_mass_accuracy", "0", 0.9)]
    changed = next(one for one in tables(later, kb) if one.metric == "relevance_mass_accuracy")
    assert changed.values[changed.methods.index("grad_cam"), 0] == 0.9
    seeds = [*toy_rows(), row("grad_cam", "relevance_mass_accuracy", "0", 0.5, seed=1)]
    changed = next(one for one in tables(seeds, kb) if one.metric == "relevance_mass_accuracy")
    assert changed.values[changed.methods.index("grad_cam"), 0] == pytest.approx(0.4)


def test_a_board_ranks_methods_and_not_references(kb: KB) -> None:
    table = next(one for one in tables(toy_rows(), kb) if one.metric == "relevance_mass_accuracy")
    made = board(table)
    assert [(line.method, line.rank) for line in made.lines] == [
        ("layer_cam", 1),
        ("integrated_gradients", 2),
        ("grad_cam", 3),
        ("reference_random", None),
        ("reference_truth", None),
    ]
    assert made.of == 3
    assert made.lines[0].mean == pytest.approx(0.7)
    assert made.lines[0].n == 3
    assert made.p == pytest.approx(stats.friedmanchisquare([1, 1, 1], [2, 2, 2], [3, 3, 3]).pvalue, rel=1e-3)


def test_a_mean_over_few_of_the_pictures_is_not_ranked() -> None:
    values = np.array([[0.2, 0.3, 0.4], [math.nan, 0.9, math.nan], [0.5, 0.1, math.nan]])
    made = board(Table("t", "pointing_game", ("a", "b", "c"), ("x", "y", "z"), values, "higher"))
    assert [(line.method, line.rank, line.n) for line in made.lines] == [("a", 1, 3), ("c", 1, 2), ("b", None, 1)]
    assert made.of == 2


def test_the_whole_takes_each_task_as_a_block(kb: KB) -> None:
    found = [
        Table(f"t{i}", "deletion", ("a", "b", "c"), ("x",), np.array([[1.0], [2.0], [3.0 + i]]), "lower")
        for i in range(4)
    ]
    test = overall(found, kb, "deletion")
    assert test is not None
    assert test.blocks == 4
    assert test.ranks == {"a": 1, "b": 2, "c": 3}
    assert overall(found, kb, "deletion", ["t0"]) is None
    assert overall(found, kb, "insertion") is None


# --- known facts ---


def test_compared_says_by_how_much_the_first_is_better(kb: KB) -> None:
    found = {one.metric: one for one in tables(toy_rows(), kb)}
    gain = compared(found["deletion"], "integrated_gradients", "reference_random")
    assert gain is not None
    assert gain[0] == pytest.approx(0.25)  # lower is better
    assert gain[1] < gain[0] < gain[2]
    assert compared(found["deletion"], "integrated_gradients", "grad_cam") is None


def test_facts(kb: KB) -> None:
    told = facts(tables(toy_rows(), kb), kb, {"toy": FACTS})
    assert [fact.holds for fact in told] == [True, True, True]
    assert "1 of 1 tasks" in told[0].text
    assert "0.85" in told[1].text
    swapped = [row(r.method, r.metric, r.image, None if r.value is None else 1 - r.value) for r in toy_rows()]
    assert [fact.holds for fact in facts(tables(swapped, kb), kb, {"toy": FACTS})] == [False] * 3
    assert [fact.holds for fact in facts([], kb, {})] == [None] * 3


# --- files ---


def test_the_data_file_comes_back_as_it_was_and_is_checked(tmp_path: Path, kb: KB) -> None:
    found = collect(toy_rows(), [toy_task()], [toy_run()], kb, by="Ada")
    assert problems(found, kb) == []
    assert found.by == "Ada"
    assert found.runs == ["0123456789ab"]
    path = tmp_path / "measured" / "benchmark.json"
    write_benchmark(found, path)
    assert read_benchmark(path) == found
    assert len(path.read_text().splitlines()) < 70
    line = found.tasks["toy"].boards["deletion"].lines[0]
    wrong = {
        "no_method": line._replace(method="magic"),
        "n": line._replace(n=99),
        "rank": line._replace(rank=7),
        "interval": line._replace(mean=9.0),
    }
    for one in wrong.values():
        task = found.tasks["toy"]
        scores = task.boards["deletion"].model_copy(update={"lines": [one]})
        broken = found.model_copy(update={"tasks": {"toy": task.model_copy(update={"boards": {"deletion": scores}})}})
        assert len(problems(broken, kb)) == 1
    assert problems(found.model_copy(update={"benchmark": "0"}), kb)
    path.write_text(path.read_text().replace('"images": 4', '"images": "many"'))
    with pytest.raises(AtlasError, match="images"):
        read_benchmark(path)


def test_a_place_counts_as_far_as_its_metric_is_trusted(kb: KB) -> None:
    task = collect(toy_rows(), [toy_task()], [toy_run()], kb).tasks["toy"]
    lines = {name: next(one for one in board.lines if one.rank == 1) for name, board in task.boards.items()}
    first, others = HEADLINE, [name for name in lines if name != HEADLINE]
    lines[first] = next(one for one in task.boards[first].lines if one.rank == 2)
    behind = 1 / (task.boards[first].of - 1)
    assert mean_place(lines, task, {first: 0.0}) == 0
    assert mean_place(lines, task, {}) == pytest.approx(behind / (1 + len(others)))
    assert mean_place(lines, task, dict.fromkeys(others, 0.5)) == pytest.approx(behind / (1 + 0.5 * len(others)))
    assert mean_place({}, task, {}) == math.inf


def test_the_page_is_whole(kb: KB) -> None:
    found = collect(toy_rows(), [toy_task()], [toy_run()], kb, by="<b>Ada</b>")
    made = tables(toy_rows(), kb)
    picture = np.zeros((8, 8, 3), np.uint8)
    failure = Failure("toy", "1", "grad_cam", 0.01, picture, "layer_cam", 0.7, picture)
    page = html(found, made, kb, facts(made, kb, {"toy": FACTS}), [failure])
    assert "&lt;b&gt;Ada" in page
    assert page.count('<img src="data:image/png;base64,') == 2
    assert f'<th title="{trust(kb)["deletion"].phrase}">' in page
    assert "hangs on a distractor" in page
    assert 'src="http' not in page
    lines = table_csv(found).splitlines()
    assert len(lines) == 1 + sum(len(b.lines) for b in found.tasks["toy"].boards.values())
    assert lines[1].count(",") == lines[0].count(",")
