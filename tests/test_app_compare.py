"""The pages Compare and Sanity driven by Streamlit's AppTest, and the figures behind Compare."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from streamlit.runtime.scriptrunner_utils.exceptions import StopException
from test_app import _own_store, by_label, fine, opened, text  # noqa: F401 (the fixture acts by itself)
from test_store import case, explanation

import trial
from runners import sanity
from runners.case import Measured, Result
from runners.store import open_store
from taxonomy import load_kb, measured
from taxonomy.trust import trust
from views import comparing
from views.results import View

KB = load_kb()


def scored(**values: float | None) -> tuple[Measured, ...]:
    curves = {"deletion": (1.0, 0.4, 0.1), "insertion": (0.1, 0.7, 1.0)}
    return tuple(Measured(metric, value, curves.get(metric)) for metric, value in values.items())


def results() -> list[Result]:
    return [
        Result("rise", explanation(shape=(16, 16)), scored(deletion=0.2, insertion=0.9, sparseness=0.4, mprt=0.95)),
        Result("grad_cam", explanation("grad_cam", (16, 16)), scored(deletion=0.3, insertion=0.5, sparseness=None)),
        Result("lrp", error="it has no ReLU."),
    ]


def compared(found: list[Result] | None = None) -> comparing.Comparison:
    return comparing.Comparison(KB, case(), found or results())


def test_the_heatmap_minds_the_direction_marks_the_best_and_shows_what_has_no_number() -> None:
    found = compared()
    heat = comparing.heatmap(found).data[0]
    column = {name.split(" ")[0]: list(heat.x).index(name) for name in heat.x}
    rise, cam = (list(heat.y).index(KB.methods[one].name) for one in ("rise", "grad_cam"))
    deletion, insertion, sparse = column["Deletion"], column["Insertion"], column["Sparseness"]
    assert heat.z[rise][deletion] == 1, "lower is better"
    assert heat.z[cam][deletion] == 0
    assert heat.z[rise][insertion] == 1
    assert heat.text[rise][deletion] == "0.20 ★"
    assert heat.text[cam][sparse] == "–"
    assert heat.z[cam][sparse] is None
    assert heat.z[rise][sparse] is None, "alone it is ahead of nobody"
    sanity_check = next(i for i, name in enumerate(heat.x) if "✗" in heat.text[rise][i])
    assert "random weights" in heat.hovertext[rise][sanity_check]
    assert KB.methods["lrp"].name not in heat.y


def test_the_radar_has_the_mean_place_by_property_and_the_curves_one_line_for_each_method() -> None:
    more = [(Measured("pointing_game", i), Measured("max_sensitivity", i)) for i in range(2)]
    found = compared([replace(one, measured=one.measured + extra) for one, extra in zip(results(), more, strict=False)])
    radar = comparing.radar(found)
    assert radar is not None
    assert list(radar.data[0].theta) == ["faithfulness", "localisation", "robustness", "faithfulness"]
    assert list(radar.data[0].r) == [100, 0, 100, 100]
    assert list(radar.data[1].r) == [0, 100, 0, 0]
    assert comparing.radar(compared([replace(one, measured=()) for one in results()])) is None
    curves = comparing.curves(found)
    assert curves is not None
    assert len(curves.data) == 4
    assert {line.legendgroup for line in curves.data} == set(found.names)
    assert comparing.curves(compared([replace(one, measured=()) for one in results()])) is None


def test_metrics_show_and_count_how_far_they_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    torn = [
        Result("rise", explanation(shape=(16, 16)), scored(deletion=0.2, insertion=0.5)),
        Result("grad_cam", explanation("grad_cam", (16, 16)), scored(deletion=0.3, insertion=0.9)),
    ]
    rise, cam = (KB.methods[one].name for one in ("rise", "grad_cam"))
    judged = trust(KB)["deletion"]
    heat = comparing.heatmap(compared(torn)).data[0]
    assert judged.phrase in heat.hovertext[0][list(compared(torn).metrics).index("deletion")]
    assert "Trust, 0 to 1" in comparing.page(compared(torn), View())
    rows = csv.DictReader(io.StringIO(comparing.table(compared(torn))))
    assert {row["trust"] for row in rows if row["metric"] == "deletion"} == {str(judged.weight)}
    monkeypatch.setattr(trial, "weights", lambda kb: {"deletion": 0.75, "insertion": 0.25})  # noqa: ARG005
    assert compared(torn).properties["faithfulness"] == {rise: 75, cam: 25}
    monkeypatch.setattr(trial, "weights", lambda kb: {"deletion": 1.0, "insertion": 0.0})  # noqa: ARG005
    assert compared(torn).properties["faithfulness"] == {rise: 100, cam: 0}


def test_linked_overlays_hold_a_picture_and_the_values_of_every_method_and_no_script_from_a_name() -> None:
    found = compared()
    page = comparing.linked(found, View(), dark=True)
    data = json.loads(re.search(r"const data = (\{.*\}), root", page)[1].replace("<\\/", "</"))  # type: ignore[index]
    assert [one["name"] for one in data["tiles"]] == ["Image", *found.names]
    for one in data["tiles"][1:]:
        assert one["picture"].startswith("data:image/png;base64,")
        assert one["grid"] == [min(comparing.GRID, 480), min(comparing.GRID, 480)] or max(one["grid"]) <= comparing.GRID
    assert page.count("</script>") == 1
    assert "http" not in page


def test_the_files_say_the_same_as_the_page() -> None:
    found = compared()
    rows = list(csv.DictReader(io.StringIO(comparing.table(found))))
    assert len(rows) == 7
    assert next(row for row in rows if row["id"] == "grad_cam" and row["metric"] == "sparseness")["value"] == ""
    best = {(row["id"], row["metric"]) for row in rows if row["best"] == "True"}
    assert best == {("rise", "deletion"), ("rise", "insertion")}
    data = json.loads(json.dumps(comparing.data(found), allow_nan=False))
    assert data["properties"]["faithfulness"] == {KB.methods["rise"].name: 100, KB.methods["grad_cam"].name: 0}
    with Pillow.open(io.BytesIO(comparing.picture(found))) as picture:
        assert picture.width > picture.height
    page = comparing.page(found, View())
    assert "Not for clinical use" in page
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="https?:', page)


def test_a_method_that_was_run_twice_has_two_lines() -> None:
    found = compared([*results(), results()[0]])
    assert list(found.names) == [KB.methods["rise"].name, "Grad-CAM", f"{KB.methods['rise'].name} (2)"]


# --- the pages --------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept() -> str:
    store, one = open_store(), case()
    for result in results():
        store.add_run(one, result)
    store.close()
    return one.key


def test_compare_says_what_to_do_when_nothing_was_run() -> None:
    app = opened("compare")
    assert "Nothing was run yet" in text(app)


def test_compare_shows_the_last_case_and_that_of_the_address(kept: str) -> None:
    app = opened("compare")
    assert by_label(app.selectbox, "Case").value == kept
    assert [one.value for one in app.subheader][:2] == ["The same place in every map", "Scores"]
    assert len(app.get("plotly_chart")) >= 2
    assert len(app.get("iframe")) == 1
    assert {one.label for one in app.get("download_button")} == {
        "Scores (CSV)", "All data (JSON)", "Overlays (PNG)", "This comparison (HTML)", "CSV",
    }  # fmt: skip
    app = opened("compare", run="0" * 32)
    assert "unknown run" in app.error[0].value


def test_leaderboards_are_absent_or_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    def task(modality: str) -> measured.BenchmarkTask:
        lines = [("rise", 0.3, 0.2, 0.4, 1, 5), ("reference_random", 0.5, 0.4, 0.6, None, 5)]
        board = measured.Scores(lines=[measured.Measured(*one) for one in lines], difference=1.2)
        return measured.BenchmarkTask(
            modality=modality, task="classification", dims=2, architecture="cnn", truth="planted", size=[64, 64],
            sha="0" * 16, images=5, boards={"deletion": board},
        )  # fmt: skip

    bench = measured.Benchmark(
        benchmark="1", level="quick", date="2026-01-02", runs=["0" * 12], seeds=[0], versions={},
        tasks={"a": task("ultrasound"), "b": task("mri")},
    )  # fmt: skip
    monkeypatch.setattr(measured, "benchmark", lambda _: None)
    assert "No results of the benchmark" in text(opened("compare"))
    monkeypatch.setattr(measured, "benchmark", lambda _: bench)
    app = opened("compare")
    assert sum("images" in one.label for one in app.expander) == 2
    assert "XAI Atlas benchmark 1, quick" in text(app)
    app = fine(app.selectbox(key="b-Modality").set_value("mri").run())
    (only,) = [one.label for one in app.expander if "images" in one.label]
    assert only.startswith("Magnetic resonance imaging")
    assert list(app.dataframe[0].value["method"]) == [KB.methods["rise"].name, "(a random map)"]


def test_sanity_gives_a_verdict_with_its_reasons() -> None:
    app = opened("sanity", modality="xray", methods="grad_cam,guided_backprop")
    assert app.multiselect[0].value == ["grad_cam", "guided_backprop"]
    app = fine(app.button(key="sanity-start").click().run())
    shown = text(app)
    assert "Do not rely on Guided Backpropagation here" in shown
    assert "Does the map notice when the model forgets what it has learned?" in shown
    table = app.dataframe[0].value
    assert list(table.columns) == ["Grad-CAM", "Guided Backpropagation"]
    assert table.iloc[0].tolist() == ["✓ passes", "✗ fails"]
    assert {one.label for one in app.get("download_button")} >= {"Download the verdict (one page)", "JSON"}


def test_what_is_pressed_during_the_tests_ends_them_and_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sanity.examine

    def halted(*given: Any, **options: Any) -> Iterator[sanity.Sanity]:
        for number, state in enumerate(real(*given, **options)):
            yield state
            if number == 4:
                raise StopException  # as Streamlit does when something is pressed

    monkeypatch.setattr(sanity, "examine", halted)
    app = opened("sanity", modality="xray", methods="grad_cam,guided_backprop")
    app = fine(app.button(key="sanity-start").click().run())
    app = fine(app.run())
    assert "you stopped it" in text(app)
    assert "…" in np.ravel(app.dataframe[0].value.to_numpy())


def test_sanity_says_what_is_wrong_with_the_training_images() -> None:
    app = opened("sanity", modality="xray", methods="grad_cam")
    app.text_input(key="sanity-folder").set_value("no/such/folder")
    app = fine(app.button(key="sanity-start").click().run())
    assert "is no folder" in app.error[0].value
