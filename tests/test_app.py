"""The app driven by Streamlit's AppTest: every page, what works and what must not break it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import safetensors.torch
import tiny_clip
import tiny_writer
import torch
from PIL import Image as Pillow
from streamlit.runtime.scriptrunner_utils.exceptions import StopException
from streamlit.testing.v1 import AppTest

from recommender import answer
from taxonomy import KBError, load_kb
from views.printing import printed

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give every test a store of its own, opened by the app itself."""
    monkeypatch.setenv("XAI_ATLAS_DATABASE_URL", f"sqlite:///{tmp_path / 'atlas.sqlite'}")
    from views import results

    results.store.clear()
    results.stored.clear()
    yield
    results.store().close()
    results.store.clear()
    results.stored.clear()


def opened(page: str = "ask", **params: str | list[str]) -> AppTest:
    app = AppTest.from_file(ROOT / "app.py", default_timeout=120)
    if page != "ask":
        app.run()
        app.switch_page(f"views/{page}.py")
    for name, value in params.items():
        app.query_params[name] = value
    return fine(app.run())


def fine(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].value
    return app


def text(app: AppTest) -> str:
    """All that a reader sees, without the backslashes that keep Markdown quiet."""
    parts = [*app.title, *app.subheader, *app.markdown, *app.caption, *app.info, *app.warning, *app.error]
    return "\n".join(part.value for part in parts).replace("\\", "")


def by_key(app: AppTest, start: str, kind: str = "button") -> Any:
    return next(one for one in getattr(app, kind) if str(one.key).startswith(start))


def chips(app: AppTest) -> list[str]:
    """What was understood, as the chips say it."""
    return [one.label.replace("*", "") for one in app.button if str(one.key).startswith("chip-")]


def test_ask_answers_with_reasons_sources_and_a_panel() -> None:
    app = opened(q="Which method for ultrasound segmentation?")
    shown = text(app)
    assert app.text_input[0].value == "Which method for ultrasound segmentation?", "the address keeps the question"
    assert chips(app) == ["modality: Ultrasound", "task: Segmentation"]
    assert "1. " in shown
    assert "moderate evidence" in shown
    assert "https://doi.org/" in shown
    assert "Suggested panel" in shown
    assert "Ruled out" in " ".join(one.label for one in app.expander)


def test_ask_takes_an_example_by_click_and_writes_the_address() -> None:
    app = opened()
    example = app.button[0]
    app = fine(example.click().run())
    assert app.text_input[0].value == example.label
    assert app.query_params["q"] == example.label


def test_ask_shows_all_methods_when_asked_to() -> None:
    app = opened(q="chest x-ray classification")
    few = text(app).count("#### ")
    app = fine(app.toggle[0].set_value(True).run())
    assert text(app).count("#### ") > few


@pytest.mark.parametrize("question", ["best pizza in town", "?!", "<script>alert(1)</script> $x^2$ :red[x] [a](b)"])
def test_ask_says_what_is_missing_of_a_question_it_cannot_read(question: str) -> None:
    app = opened(q=question)
    assert app.info
    assert "Name" in app.info[0].value or "understood" in app.info[0].value
    assert "Suggested panel" not in text(app)


def test_ask_tells_what_it_implied_corrected_and_left_out() -> None:
    app = opened(q="frobnicator for polyps with a vision trasformer")
    shown = text(app)
    assert chips(app)[0] == "modality: Endoscopy (implied)"
    assert "Implied from “polyps”" in by_key(app, "chip-modality:").help
    assert "Not understood and not used: frobnicator." in shown
    assert "“trasformer” as “transformer”" in shown


def test_ask_takes_a_chip_away_and_brings_it_back_by_the_address() -> None:
    app = opened(q="not CT, ultrasound segmentation with a black box")
    app = fine(by_key(app, "chip-access:").click().run())
    assert app.query_params["drop"] == "access:black_box"
    assert "access: black box" not in chips(app)
    again = opened(q="not CT, ultrasound segmentation with a black box", drop="access:black_box")
    assert (
        chips(again) == chips(app) == ["modality: Ultrasound", "task: Segmentation", "not wanted: Computed tomography"]
    )
    assert text(again) == text(app)
    app = fine(by_key(app, "bring-back").click().run())
    assert "access: black box" in chips(app)


def test_ask_asks_back_and_takes_the_answer() -> None:
    app = opened(q="Which method for ultrasound segmentation?")
    before = text(app)
    app = fine(by_key(app, "say-goal:uncertainty").click().run())
    assert app.query_params["say"] == "goal:uncertainty"
    assert "goal: How sure the model is" in chips(app)
    assert text(app) != before
    app = fine(app.text_input[0].set_value("chest x-ray classification").run())
    assert "say" not in app.query_params, "another question forgets what was answered"


@pytest.mark.parametrize("params", [{"say": "goal:joy"}, {"say": "mood:good"}, {"drop": "nonsense"}])
def test_ask_survives_an_address_that_makes_no_sense(params: dict[str, str]) -> None:
    app = opened(q="ultrasound segmentation", **params)
    assert bool(app.error) == ("say" in params)


def test_ask_sets_named_methods_side_by_side() -> None:
    shown = text(opened(q="SHAP or Grad-CAM for chest x-ray classification?"))
    assert "What was found of them" in shown
    assert "Head to head" in shown
    assert re.search(r"\*\*SHAP\*\*.*\d+ for · \d+ against", shown, re.DOTALL)


def test_ask_tells_why_not_another() -> None:
    app = opened(q="ultrasound segmentation, black box")
    app = fine(app.selectbox(key="why-not").set_value("lime").run())
    assert re.search(r"\*\*LIME is (the first|number \d+)", text(app))
    app = fine(app.selectbox(key="why-not").set_value("grad_cam").run())
    assert "**Grad-CAM is out: it needs gradients" in text(app)


def test_the_printed_answer_numbers_its_sources() -> None:
    kb = load_kb()
    page, cited = printed(answer("SHAP or Grad-CAM for chest x-ray classification? <b>", kb), kb)
    assert "&lt;b&gt;" in page
    assert len(cited) > 5
    assert page.count("<li>", page.index("<h2>Sources")) == len(cited)
    assert max(map(int, re.findall(r"\d+", " ".join(re.findall(r"<small>\[([\d, ]+)\]", page))))) == len(cited)


def test_measured_on_a_case_ranks_again_and_keeps_the_maps() -> None:
    app = opened(q="Grad-CAM or vanilla gradient for chest x-ray classification?")
    app = fine(app.toggle(key="measure-here").set_value(True).run())
    app.select_slider(key="trial-budget").set_value(15.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trial.MOST", 2)
        patch.setattr("trial.LEADERS", 0)
        app = fine(app.button(key="trial-start").click().run())
    table = app.dataframe[0].value
    assert set(table["method"]) == {"Grad-CAM", "Vanilla gradient"}
    assert list(table["here"]) == [1, 2]
    assert "What changed" in text(app)
    assert not app.error
    app = fine(app.button(key="trial-keep").click().run())
    assert app.title[0].value == "Run"
    assert {row.method for row in stored()} == {"grad_cam", "vanilla_gradient"}


def test_what_is_pressed_while_it_measures_ends_it_and_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    import trial as trials

    real = trials.trial

    def halted(*given: Any, **options: Any) -> Iterator[trials.Trial]:
        for number, state in enumerate(real(*given, **options)):
            yield state
            if number == 3:
                raise StopException  # as Streamlit does when something is pressed

    app = opened(q="Which method for chest x-ray classification?")
    app = fine(app.toggle(key="measure-here").set_value(True).run())
    from views import measured

    monkeypatch.setattr(measured, "trial", halted)
    app = fine(app.button(key="trial-start").click().run())
    app = fine(app.run())
    assert "you stopped it" in text(app)
    assert app.dataframe[0].value.shape[0] >= 1


def test_ask_carries_its_panel_to_run() -> None:
    app = opened(q="Which method for chest x-ray classification?")
    app = fine(next(one for one in app.button if one.label == "Run these").click().run())
    assert app.title[0].value == "Run"
    carried = app.query_params["methods"].split(",")
    assert app.multiselect[0].value
    assert set(app.multiselect[0].value) <= set(carried)
    assert app.query_params["modality"] == "xray"


def test_explore_shows_every_view() -> None:
    app = opened("explore")
    assert f"{len(load_kb().methods)} explanation methods" in text(app)
    for view in ("Taxonomy", "Evidence", "Modalities", "Compare", "Disagreements", "Not tried", "Metrics and tools"):
        shown = opened("explore", view=view)
        assert len(text(shown)) > 100


def test_explore_opens_a_page_of_every_kind() -> None:
    kb = load_kb()
    for kind, entities in kb.kinds().items():
        for one in list(entities)[:3]:
            app = opened("explore", id=one)
            assert app.title[0].value.replace("\\", "") == entities[one].name, kind


def test_explore_method_page_has_claims_and_sources() -> None:
    shown = text(opened("explore", id="grad_cam"))
    assert "Original paper" in shown
    assert "https://doi.org/" in shown
    assert "Limitations" in shown


def test_explore_explains_a_recommendation_by_ways_through_the_graph() -> None:
    assert "Way 1" not in text(opened("explore", id="grad_cam"))
    shown = text(opened("explore", id="grad_cam", **{"in": "Ultrasound"}))
    assert re.search(r"Way 1.*\n1\. Grad-CAM .*Ultrasound", shown, re.DOTALL)
    assert "suffers from" in shown
    assert "a gap" in text(opened("explore", id="squaregrad", **{"in": "Ultrasound"}))


def test_explore_says_what_an_unknown_id_may_have_meant() -> None:
    app = opened("explore", id="grad_cm")
    assert "grad_cam" in app.error[0].value.replace("\\", "")


def test_explore_searches_and_narrows() -> None:
    app = opened("explore")
    field = next(one for one in app.text_input if one.label == "Search")
    app = fine(field.set_value("ultrasound").run())
    everything = int(next(c.value for c in app.caption if " found: " in c.value).split()[0])
    app = fine(next(one for one in app.multiselect if one.label == "Modality").set_value(["ultrasound"]).run())
    narrowed = int(next(c.value for c in app.caption if " found: " in c.value).split()[0])
    assert 0 < narrowed < everything
    app = fine(next(one for one in app.multiselect if one.label == "What").set_value(["publications"]).run())
    kb = load_kb()
    titles = set(app.dataframe[0].value["title"])
    studied = {kb.publications[one].title for one in kb.index.by_modality["ultrasound"]}
    assert titles <= studied
    assert {button.label for button in app.get("download_button")} >= {"BibTeX", "RIS", "CSL-JSON"}
    app = fine(next(one for one in app.text_input if one.label == "Search").set_value("qqqqq").run())
    assert "Nothing has these" in app.info[0].value
    shown = text(opened("explore", find="ultrasound qqqqq"))
    assert "Nothing has all of these words" in shown
    assert "Ultrasound" in shown


def test_explore_links_bring_a_search_back() -> None:
    app = opened("explore", find="grad-cam", kind="methods")
    assert app.multiselect[0].value == ["methods"]
    assert "publications" not in next(c.value for c in app.caption if " found: " in c.value)


def test_explore_compares_methods_of_the_address() -> None:
    app = opened("explore", view="Compare", methods=["LIME", "RISE", "Layer-wise relevance propagation"])
    table = app.table[0].value
    assert list(table.columns) == ["LIME", "RISE", "Layer-wise relevance propagation"]
    assert "**Limitations**" in table.index
    app = fine(app.multiselect[0].set_value(["lime"]).run())
    assert "at least two" in app.info[0].value


def test_a_modality_page_says_what_held_up_what_did_not_and_what_to_measure() -> None:
    shown = text(opened("explore", id="ultrasound"))
    for title in ("makes explaining hard here", "was tried", "held up", "did not", "to measure"):
        assert f"What {title}" in shown


def test_add_proposes_checks_and_hands_over_a_file() -> None:
    app = opened("add")
    assert "A reference gives a proposal" in app.info[0].value
    app = fine(app.text_area[0].set_value('Doe, Jane. "Grad-CAM for chest X-ray triage." 2025. doi:10.1234/zz').run())
    assert "What is missing" in text(app)
    area = app.text_area[1]
    assert "modalities: [xray]" in area.value
    assert "methods: [grad_cam]" in area.value
    done = area.value.replace("read: TODO", "read: abstract").replace("criterion: TODO", "criterion: sanity")
    done = done.replace("outcome: TODO", "outcome: adequate").replace("text: TODO", "text: It looked right.")
    app = fine(area.set_value(done).run())
    assert "It passes every rule" in text(app)
    assert app.success


def test_add_tells_doubles_and_nonsense() -> None:
    app = opened("add")
    app = fine(app.text_area[0].set_value("arXiv:1610.02391").run())
    assert "the same arXiv id" in app.warning[0].value
    app = fine(app.text_area[0].set_value("@article{broken").run())
    assert app.error
    app = fine(opened("add"))
    app = fine(app.file_uploader[0].set_value(("a.bib", "@misc{a, title={é}}".encode("latin-1"), "text/plain")).run())
    assert "UTF-8" in app.error[0].value


def test_asking_and_exploring_never_import_torch() -> None:
    script = (
        "import sys; from streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file('app.py', default_timeout=120)\n"
        "app.query_params['q'] = 'ultrasound segmentation'; app.run(); assert not app.exception\n"
        "assert any('Suggested panel' in one.value for one in app.markdown)\n"
        "app.switch_page('views/explore.py').run(); assert not app.exception\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1:] == ["False"], done.stderr[-2000:]


def test_a_broken_knowledge_base_is_told_in_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    from views import common

    def broken() -> None:
        raise KBError(["methods/lime.yaml:3: name: missing: a text"])

    common.knowledge.clear()
    with monkeypatch.context() as patch:
        patch.setattr(common, "load_kb", broken)
        app = opened()
    assert "methods/lime.yaml:3" in app.error[0].value.replace("\\", "")
    common.knowledge.clear()


# --- run ----------------------------------------------------------------------------------------------------------


def by_label(widgets: object, label: str) -> object:
    return next(one for one in widgets if one.label == label)  # type: ignore[attr-defined]


def set_up(**params: str | list[str]) -> AppTest:
    return opened("run", modality="xray", task="classification", **params)


def chosen(app: AppTest, *methods: str, measured: bool = False) -> AppTest:
    """Choose methods, without metrics unless they are wanted."""
    app.multiselect[0].set_value(list(methods))
    by_label(app.toggle, "Measure the maps").set_value(measured)
    return fine(app.run())


def pressed(app: AppTest) -> AppTest:
    return fine(by_label(app.button, "Run").click().run())


def stored() -> list[object]:
    from views import results

    return results.store().list_runs()


def test_run_explains_measures_stores_and_survives_a_reload() -> None:
    app = chosen(set_up(), "grad_cam", "vanilla_gradient", measured=True)
    assert "pneumonia" in " ".join(one.proto.text for one in app.get("progress"))
    by_label(app.multiselect, "Metrics").set_value(["sparseness"])
    app = pressed(fine(app.run()))
    key = app.query_params["run"]
    assert [row.method for row in stored()] == ["vanilla_gradient", "grad_cam"]
    again = opened("run", run=key)
    for page in (app, again):
        assert len(page.image) >= 3, "the image and two maps"
        assert "Grad-CAM" in [link.label for link in page.get("page_link")]
        assert page.dataframe[0].value.shape == (2, 1)
        assert "Explained: **label" in text(page)
        assert not page.error


def test_run_draws_counterfactuals_with_the_bundled_generator_and_without_one_does_not() -> None:
    app = set_up()
    choice = by_key(app, "generator-", "selectbox")
    assert choice.options == ["the bundled one", "none", "my own"]
    assert "latent_shift" in app.multiselect[0].options or "Latent shift (Gifsplanation)" in app.multiselect[0].options
    page = pressed(chosen(app, "latent_shift"))
    assert "Latent shift" in " ".join(link.label for link in page.get("page_link"))
    assert by_label(page.slider, "Frame").value == 10
    without = fine(by_key(set_up(), "generator-", "selectbox").set_value("none").run())
    assert not any("Latent shift" in one for one in without.multiselect[0].options)


def test_who_has_no_cohort_draws_phantoms() -> None:
    app = opened("run", modality="ultrasound", task="segmentation")
    assert not any("retrieval" in one for one in app.multiselect[0].options)
    page = pressed(chosen(fine(by_key(app, "phantoms-", "checkbox").check().run()), "knn_retrieval"))
    assert "retrieval" in " ".join(link.label for link in page.get("page_link"))
    assert len(page.image) > 4, "the image and cases that are like it"
    assert not page.error


def test_run_shows_other_colours_and_opacity_without_running_again() -> None:
    app = pressed(chosen(set_up(), "grad_cam"))
    before = len(stored())
    app.slider[0].set_value(20)
    app.selectbox(key=f"colours-{app.query_params['run']}").set_value("viridis")
    fine(app.run())
    assert len(stored()) == before


def test_one_failing_method_shows_its_sentence_and_the_others_stay() -> None:
    app = chosen(set_up(), "rise", "grad_cam")
    app.number_input(key="rise-probability-chest_xray_cnn").set_value(2.0)
    app = pressed(fine(app.run()))
    assert [bool(row.error) for row in stored()] == [False, True]
    assert len(app.error) == 1
    assert "RISE" in app.error[0].value
    assert len(app.image) >= 2


def test_run_takes_the_target_and_the_parameters_from_the_widgets() -> None:
    app = chosen(set_up(), "occlusion")
    app.number_input(key="occlusion-window-chest_xray_cnn").set_value(40)
    app.selectbox(key="occlusion-baseline-chest_xray_cnn").set_value("blur")
    by_label(app.selectbox, "Explain").select_index(2)
    pressed(fine(app.run()))
    (row,) = stored()
    assert row.parameters["window"] == 40
    assert row.parameters["baseline"] == "blur"
    assert "pneumonia" in row.target


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(array).save(file, "PNG")
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def uploading(name: str, content: bytes) -> AppTest:
    app = set_up()
    app = fine(by_label(app.get("button_group"), "Image from").set_value("Upload").run())
    by_label(app.selectbox, "Modality").set_value("xray")
    return fine(
        by_label(app.file_uploader, "Your image").set_value([(name, content, "application/octet-stream")]).run()
    )


def test_run_takes_an_uploaded_image_and_keeps_no_name() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 80), np.uint8)
    app = pressed(chosen(uploading("Jane Doe 1970.png", png(noise)), "grad_cam"))
    (row,) = stored()
    assert row.source == "upload"
    assert "Jane" not in f"{row} {row.facts} {text(app)}"


def test_no_model_is_guessed_for_an_image_of_unknown_modality() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 80), np.uint8)
    app = uploading("scan.png", png(noise))
    app = fine(by_label(app.selectbox, "Modality").set_value(None).run())
    assert by_label(app.selectbox, "Bundled model").value is None
    assert "choose a model" in text(app)


VOLUME_FACTORY = """
import torch


class Segmenter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(x).relu()
"""


def test_run_shows_a_volume_by_planes_and_slices(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((12, 14, 10), np.float32)
    volume = nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])).to_bytes()
    torch.manual_seed(0)
    conv = torch.nn.Conv3d(1, 2, 3, padding=1)
    weights = {f"conv.{name}": value for name, value in conv.state_dict().items()}
    app = uploading("scan.nii", volume)
    app = fine(by_label(app.get("button_group"), "Model from").set_value("My own").run())
    (tmp_path / "nets.py").write_text(VOLUME_FACTORY)
    app.file_uploader(key="model-file").set_value(("net.safetensors", safetensors.torch.save(weights), ""))
    by_label(app.text_input, "Factory, for weights without a network").set_value(f"{tmp_path / 'nets.py'}:Segmenter")
    app = pressed(chosen(fine(app.run()), "vanilla_gradient"))
    (row,) = stored()
    assert row.dims == 3
    assert row.error is None
    key = app.query_params["run"]
    for axis, last in ((2, 9), (1, 13), (0, 11)):
        by_label(app.get("button_group"), "Plane").set_value(axis)
        app = fine(app.run())
        assert app.slider(key=f"slice-{key}-{axis}").max == last
        app = fine(app.slider(key=f"slice-{key}-{axis}").set_value(last).run())
        assert len(app.image) >= 3, "the preview of the set-up, the slice, the map"


BAD_IMAGES = {
    "text.png": b"this is no picture",
    "empty.png": b"",
    "cut.dcm": b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0\xc0\0\0\0",
    "nan.npy": npy(np.full((1, 32, 32), np.nan, np.float32)),
    "five_channels.npy": npy(np.random.default_rng(0).random((5, 1, 32, 32), np.float32)),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_one_sentence_and_nothing_is_stored(name: str) -> None:
    app = uploading(name, BAD_IMAGES[name])
    assert len(app.error) == 1, [one.value for one in app.error]
    assert "Traceback" not in app.error[0].value
    assert not stored()


FACTORY = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


class Broken(Net):
    def forward(self, x):
        raise RuntimeError("no signal")
"""


def own(folder: Path, factory: str) -> AppTest:
    (folder / "nets.py").write_text(FACTORY)
    torch.manual_seed(0)
    weights = {
        "conv.weight": torch.randn(4, 1, 3, 3),
        "conv.bias": torch.zeros(4),
        "head.weight": torch.randn(3, 4),
        "head.bias": torch.zeros(3),
    }
    app = fine(by_label(set_up().get("button_group"), "Model from").set_value("My own").run())
    app.file_uploader(key="model-file").set_value(("mine.safetensors", safetensors.torch.save(weights), ""))
    by_label(app.text_input, "Factory, for weights without a network").set_value(f"{folder / 'nets.py'}:{factory}")
    by_label(app.text_input, "Labels, with commas").set_value("one, two, three")
    return fine(app.run())


def test_run_takes_an_own_model_from_weights_and_a_factory(tmp_path: Path) -> None:
    app = own(tmp_path, "Net")
    assert not app.error
    assert any("runs on this machine" in one.value for one in app.warning)
    pressed(chosen(app, "grad_cam"))
    (row,) = stored()
    assert row.facts["model"]["labels"] == ["one", "two", "three"]


def test_run_takes_a_language_model_its_prompts_and_reasons_to_check() -> None:
    pytest.importorskip("transformers")
    app = fine(by_label(set_up().get("button_group"), "Model from").set_value("My own").run())
    app.text_input(key="model-place").set_value(str(tiny_clip.folder(trained=False)))
    app.text_area(key="own-prompts").set_value("bright disc\nstripes")
    app = fine(app.run())
    assert not app.error
    next(one for one in app.text_area if one.label.startswith("Reasons to check")).set_value(
        "It is here. [10, 80, 20, 90]\nI am sure."
    )
    app = fine(app.run())
    pressed(chosen(app, "cot_rationale"))
    (row,) = stored()
    assert row.facts["model"]["labels"] == ["bright disc", "stripes"]


def test_run_explains_a_report_sentence_by_sentence() -> None:
    pytest.importorskip("transformers")
    app = fine(by_label(set_up().get("button_group"), "Model from").set_value("My own").run())
    app.text_input(key="model-place").set_value(str(tiny_writer.folder(trained=False)))
    app = fine(app.run())
    next(one for one in app.text_area if one.label.startswith("Report to explain")).set_value(
        "square left. stripe below."
    )
    app = fine(app.run())
    assert not app.error
    pressed(chosen(app, "report_generation"))
    (row,) = stored()
    assert row.facts["model"]["labels"] == ["square left.", "stripe below."]


@pytest.mark.parametrize(("factory", "said"), [("Broken", "no signal"), ("Missing", "Missing")])
def test_a_broken_model_is_one_sentence(tmp_path: Path, factory: str, said: str) -> None:
    app = own(tmp_path, factory)
    assert len(app.error) == 1
    assert said in app.error[0].value
    assert not stored()


def test_a_pickled_model_is_refused() -> None:
    app = fine(by_label(set_up().get("button_group"), "Model from").set_value("My own").run())
    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), file)
    app = fine(app.file_uploader(key="model-file").set_value(("net.pt", file.getvalue(), "")).run())
    assert len(app.error) == 1
    assert "pickle" in app.error[0].value.lower()


def test_run_says_what_an_unknown_run_is() -> None:
    app = opened("run", run="0" * 32)
    assert "unknown run" in app.error[0].value


def test_runs_lists_compares_and_deletes() -> None:
    assert "Nothing was run yet" in text(opened("runs"))
    keys = [pressed(chosen(set_up(), one)).query_params["run"] for one in ("grad_cam", "vanilla_gradient")]
    app = opened("runs")
    assert "Grad-CAM" in text(app)
    assert app.button(key="compare-button").disabled
    for key in keys:
        app.checkbox(key=f"tick-{key}").check()
    app = fine(fine(app.run()).button(key="compare-button").click().run())
    assert len(app.image) >= 4, "two images, two maps"
    fine(opened("runs").button(key=f"delete-{keys[0]}").click().run())
    assert [row.case for row in stored()] == [keys[1]]


def test_runs_says_what_is_wrong_when_the_store_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    from views import results

    with monkeypatch.context() as patch:
        patch.setenv("XAI_ATLAS_DATABASE_URL", "nonsense")
        results.store.clear()
        app = opened("runs")
        assert "database" in app.error[0].value


@pytest.mark.parametrize("volume", [False, True])
def test_a_stored_run_shows_every_form_of_insight(volume: bool) -> None:
    from test_panels import all_forms, insight
    from test_store import case

    from runners.case import Result
    from views import results

    one = case(volume=volume)
    forms = all_forms(one.image.shape)
    for form in forms:
        results.store().add_run(one, Result("tcav", insight=insight(form)))
    app = opened("run", run=one.key)
    shown = text(app)
    assert [link.label for link in app.get("page_link")].count("TCAV") == len(forms)
    for words in ("Explained: **label 1**", "The lesion is dark.", "It is large.", "Counterfactual validity"):
        assert words in shown, words
    assert "the score goes" not in shown
    slider = next(one for one in app.slider if str(one.key).startswith("frame-"))
    assert slider.value == 4
    fine(slider.set_value(1).run())
    look = next(one for one in app.pills if str(one.key).startswith("concept-"))
    fine(look.select("shadow").run())
