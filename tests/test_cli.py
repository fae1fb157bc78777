"""The command: what it prints, what its JSON holds, and that every user error is one sentence and exit code 2."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import cli
from taxonomy import load_kb

FACTORY = """
from torch import nn

def segmenter():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))

def classifier3d():
    features = [nn.Conv3d(1, 4, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*features, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3))

def broken():
    raise ValueError("no such width")
"""


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Run the command and return what it printed to stdout and stderr."""
    done = CliRunner().invoke(cli.app, [str(one) for one in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, a mask, a volume, weights and their factory."""
    rng = np.random.default_rng(0)
    picture = (rng.random((24, 20)) * 80).astype(np.uint8)
    picture[8:14, 6:12] = 230
    Pillow.fromarray(picture).save(tmp_path / "patient_smith.png")
    Pillow.fromarray(((picture == 230) * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    affine = np.array([[0, -1.5, 0, 10], [2.0, 0, 0, -5], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(rng.random((9, 8, 7)).astype(np.float32), affine), tmp_path / "volume.nii.gz")
    (tmp_path / "nets.py").write_text(FACTORY)
    space: dict[str, object] = {}
    exec(FACTORY, space)
    torch.manual_seed(0)
    segmenter: nn.Sequential = space["segmenter"]()  # type: ignore[operator]
    with torch.no_grad():  # label 1 where it is bright
        segmenter[0].weight[:] = 0
        segmenter[0].weight[0, 0, 1, 1] = 4.0
        segmenter[0].bias[:] = 0
        segmenter[2].weight[:] = 0
        segmenter[2].weight[1, 0] = 1.0
        segmenter[2].bias[:] = torch.tensor([2.0, 0.0])
    save_file(segmenter.state_dict(), tmp_path / "segmenter.safetensors")
    save_file(space["classifier3d"]().state_dict(), tmp_path / "classifier.safetensors")  # type: ignore[operator]
    return tmp_path


def explain(folder: Path, *more: object, image: str = "patient_smith.png", code: int = 0) -> tuple[str, str]:
    model = "classifier.safetensors" if image.startswith("volume") else "segmenter.safetensors"
    factory = "classifier3d" if image.startswith("volume") else "segmenter"
    given = ["explain", folder / image, "--model", folder / model, "--factory", f"{folder / 'nets.py'}:{factory}"]
    return run(*given, *more, code=code)


# --- ask and look up --------------------------------------------------------------------------------------------------


def test_ask_prints_reasons_with_sources() -> None:
    printed, _ = run("ask", "which method for ultrasound segmentation?", "--top", 2)
    assert "1. " in printed
    assert "3. " not in printed.split("Run together")[0]
    assert "Run together:" in printed
    assert "https://" in printed


def test_ask_with_a_model_tries_measures_and_ranks_again(tmp_path: Path) -> None:
    words = ("ask", "nuclei segmentation in fluorescence microscopy", "--model", "nuclei_unet")
    printed, _ = run(*words, "--image", "nuclei_phantom", "--budget", "8s", "--out", tmp_path / "new")
    measured = printed[printed.index("Measured on your case") :]
    assert "Nucleus segmenter (microscopy), your image" in measured
    assert "papers" in measured
    assert "Insertion AUC ↑" in measured
    assert "One image says how these methods do on it" in measured
    record = json.loads((tmp_path / "new" / "trial.json").read_text())
    assert record["budget_s"] == 8
    assert record["tried"]
    for row in record["tried"]:
        assert load_kb().methods[row["method"]].name.split()[0] in measured
        assert (tmp_path / "new" / f"{row['method']}.png").exists()
    assert "pointing_game" in {score["metric"] for score in record["scores"]}, "the sample has a mask"


def test_ask_with_a_model_as_json(folder: Path) -> None:
    given = ("ask", "ultrasound lesion segmentation", "--model", folder / "segmenter.safetensors", "--factory")
    picture = ("--image", folder / "patient_smith.png")
    printed, _ = run(
        *given, f"{folder / 'nets.py'}:segmenter", "--task", "segmentation", *picture, *picture, "--json", "--tune",
        "--mask", folder / "mask.png", "--mask", folder / "mask.png", "--budget", "12", "--out", folder / "new",
    )  # fmt: skip
    found = json.loads(printed)
    fields = "query recommendations panel roles ruled_out protocol cautions tools unstudied comparison message measured"
    assert set(fields.split()) == set(found)
    assert len(found["measured"]["images"]) == 2
    assert {score["image"] for score in found["measured"]["scores"]} == {0, 1}
    assert (folder / "new" / "image_2" / "report.html").exists()
    assert "patient_smith" not in printed
    run(*given, f"{folder / 'nets.py'}:segmenter", *picture, *picture, "--out", folder / "new", code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nuclei_unet"], "both --model and at least one --image are needed"),
        (["--image", "nuclei_phantom"], "both --model and at least one --image are needed"),
        (["--tune", "--target", "1"], "--target, --tune: only together with --model and --image"),
        (["--model", "nuclei_unet", "--image", "nuclei_phantom", "--budget", "soon"], "--budget soon: a time such as"),
        (["--model", "nuclei_unet", "--image", "nuclei_phantom", "--mask", "a", "--mask", "b"], "2 masks and 1 images"),
    ],
)
def test_ask_tells_what_is_missing_for_a_trial(arguments: list[str], message: str) -> None:
    assert message in " ".join(run("ask", "nuclei", *arguments, code=2)[1].split())


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("90", 90), ("1.5 min", 90), ("2m", 120), ("1h", 3600)])
def test_a_budget_as_people_write_it(text: str, seconds: float) -> None:
    assert cli._seconds(text) == seconds


def test_ask_json_is_the_public_interface() -> None:
    printed, _ = run("ask", "which method for ultrasound segmentation?", "--json")
    answer = json.loads(printed)
    assert set(answer) >= {"query", "recommendations", "panel", "ruled_out"}
    fields = "modality task architecture dimension access audience goal budget methods unmatched spans"
    assert set(answer["query"]) >= set(fields.split())
    assert answer["query"]["modality"] == ["ultrasound"]
    assert answer["query"]["task"] == "segmentation"
    assert answer["query"]["architecture"] is None
    fields = "method name branch family score runnable reasons conditions cautions metrics tools evidence"
    assert set(answer["recommendations"][0]) == set(fields.split())
    assert set(answer["recommendations"][0]["reasons"][0]) == {"criterion", "points", "text", "cites"}
    assert all(set(one) == {"method", "gap"} for one in answer["ruled_out"])
    kb = load_kb()
    assert set(answer["panel"]) <= set(kb.methods)
    cites = {cite for one in answer["recommendations"] for reason in one["reasons"] for cite in reason["cites"]}
    assert cites <= set(kb.publications)
    top, _ = run("ask", "which method for ultrasound segmentation?", "--json", "--top", 1)
    assert json.loads(top)["recommendations"] == answer["recommendations"][:1]


def test_ask_is_short_first_and_full_on_request() -> None:
    question = "is Grad-CAM or SHAP better for dermoscopy?"
    short, _ = run("ask", question)
    full, _ = run("ask", question, "--full")
    for heading in ("What was found", "Run together:", "Check them", "Mind", "What nobody has studied", "Sources"):
        assert heading in short
    assert "To copy and run" in full
    assert "from runners import" in full
    assert "from runners import" not in short
    assert len(full) > 1.5 * len(short)
    listed = {int(n) for n in re.findall(r"^  (\d+)\. .*https?://", full, re.M)}
    cited = {int(n) for found in re.findall(r" \[((?:\d+, )*\d+)(?: \+\d+)?\]$", full, re.M) for n in found.split(", ")}
    assert cited == listed


def test_ask_json_names_its_sources_and_asks_back() -> None:
    answer = json.loads(run("ask", "ultrasound segmentation", "--json", "--top", 2)[0])
    publications = load_kb().publications
    cites = {c for step in answer["protocol"] for note in step["notes"] for c in note["cites"]}
    assert cites <= set(answer["sources"])
    assert all(one["link"] == publications[i].link for i, one in answer["sources"].items())
    assert answer["clarify"]["choices"]
    assert "from runners import" in answer["snippet"]


def test_why_not() -> None:
    printed, _ = run("ask", "brain MRI with a ViT", "--why-not", "LIME")
    assert "LIME is number" in printed
    assert "Sources" in printed
    told = json.loads(run("ask", "black box CT", "--why-not", "grad_cam", "--json")[0])
    assert told["rank"] is None
    assert "needs gradients" in told["text"]
    assert "no methods" not in run("ask", "MRI", "--why-not", "xyzzy", code=2)[1]


@pytest.mark.parametrize("kind", ["methods", "modalities", "challenges", "metrics", "tools", "publications"])
def test_list_and_show_every_kind(kind: str) -> None:
    rows = json.loads(run("list", kind, "--json")[0])
    assert [row["id"] for row in rows] == sorted(load_kb().kinds()[kind])
    first = rows[0]
    shown = json.loads(run("show", first["id"], "--json")[0])
    assert shown["kind"] == kind
    assert shown["id"] == first["id"]
    assert first["name"] in run("list", kind)[0]
    assert first["name"] in run("show", first["id"])[0]


def test_show_takes_a_name() -> None:
    assert run("show", "Grad-CAM", "--json") == run("show", "grad_cam", "--json")


def test_check_counts() -> None:
    printed, _ = run("check")
    counts, version = printed.strip().splitlines()
    assert counts.endswith("no problems")
    assert f"{len(load_kb().methods)} methods" in counts
    assert version == f"version {load_kb().about.version}, sha256:{load_kb().digest[:12]}"


def test_export_and_schema(tmp_path: Path) -> None:
    run("export", tmp_path / "kb.json")
    assert "grad_cam" in (tmp_path / "kb.json").read_text()
    printed, _ = run("schema", tmp_path / "schema")
    assert len(printed.split()) == len(list((tmp_path / "schema").iterdir())) > 5


def test_models_lists_models_and_samples() -> None:
    listed = json.loads(run("models", "--json")[0])
    assert listed["models"]
    assert listed["samples"]
    printed, _ = run("models")
    for one in (*listed["models"], *listed["samples"]):
        assert one["id"] in printed


def test_show_answers_questions_from_the_graph() -> None:
    tried = json.loads(run("show", "ultrasound", "--task", "segmentation", "--json")[0])
    assert {row["method"] for row in tried} >= {"grad_cam_pp", "occlusion"}
    assert all(row["publications"] for row in tried)
    one = json.loads(run("show", "Grad-CAM", "--in", "ultrasound", "--json")[0])
    assert one["evidence"]
    assert one["ways"][0][-1].endswith("Ultrasound")
    split = json.loads(run("show", "--disagreements", "--in", "mri", "--json")[0])
    assert all(row["modality"] == "mri" and row["for"] and row["against"] for row in split)
    untried = json.loads(run("show", "pet", "--blanks", "--json")[0])
    assert {row["modality"] for row in untried} == {"pet"}
    assert json.loads(run("show", "rise", "--to", "ultrasound", "--json")[0])
    assert json.loads(run("show", "--search", "ultrasound", "--json")[0])["hits"][0]["id"] == "ultrasound"
    for given in (
        ["show", "ultrasound", "--task", "segmentation"],
        ["show", "lime", "--in", "ct"],
        ["show", "--blanks"],
    ):
        assert len(run(*given)[0].splitlines()) > 3
    assert "Sources" in run("show", "--disagreements")[0]
    assert "Way 1" in run("show", "rise", "--to", "ultrasound")[0]


def test_questions_that_do_not_fit_are_told() -> None:
    assert "nothing to show" in run("show", code=2)[1]
    assert "this question can be asked of a method" in run("show", "captum", "--blanks", code=2)[1]
    assert "is one of the methods" in run("show", "lime", "--task", "segmentation", code=2)[1]
    assert "unknown task" in run("show", "ultrasound", "--task", "segmentierung", code=2)[1]
    assert "Nothing has a word" in run("show", "--search", "qqqqq")[0]
    shown, said = run("show", "--search", "ultrasound qqqqq")
    assert "ultrasound" in shown
    assert "Nothing has all" in said


def test_the_report_shows_what_is_covered() -> None:
    shown = run("check", "--report")[0]
    for title in ("by modality and task", "by family and modality", "disagreements", "Blank cells"):
        assert title in shown
    report = json.loads(run("check", "--report", "--json")[0])
    assert report["problems"] == []
    assert report["report"]["counts"]["methods"] == len(load_kb().methods)


# --- keep the knowledge base alive ----------------------------------------------------------------------------------


def test_kb_add_proposes_and_writes_what_was_completed(tmp_path: Path) -> None:
    shutil.copytree(load_kb().root, tmp_path / "kb", ignore=shutil.ignore_patterns("_import"))
    reference = 'Doe, Jane. "Score-CAM for chest X-ray triage." 2025. doi:10.1234/zz'
    _, told = run("kb", "add", reference, "--out", tmp_path)
    assert "say what you read" in told
    proposal = tmp_path / "doe_2025_score.yaml"
    done = proposal.read_text().replace("read: TODO", "read: abstract").replace("criterion: TODO", "criterion: sanity")
    assert "TODO" in run("kb", "add", proposal, "--kb", tmp_path / "kb", code=2)[1], "not before it is completed"
    proposal.write_text(
        done.replace("outcome: TODO", "outcome: adequate").replace("text: TODO", "text: It looked right.")
    )
    run("kb", "add", proposal, "--kb", tmp_path / "kb")
    added = load_kb(tmp_path / "kb").publications["doe_2025_score"]
    assert (added.methods, added.doi) == (["score_cam"], "10.1234/zz")
    found = json.loads(run("kb", "diff", load_kb().root, tmp_path / "kb", "--no-recommendations", "--json")[0])
    assert found["added"] == {"publications": ["doe_2025_score"]}
    assert "doe_2025_score" in run("kb", "diff", load_kb().root, tmp_path / "kb")[0]


def test_kb_add_tells_doubles_and_what_is_no_reference() -> None:
    out, told = run("kb", "add", "arXiv:1610.02391")
    assert (out, "the same arXiv id" in told) == ("", True)
    assert "no reference was given" in run("kb", "add", " ", code=2)[1]


def test_kb_diff_tells_what_it_cannot_compare() -> None:
    assert "neither a folder nor a git revision" in run("kb", "diff", "no-such-revision", code=2)[1]
    assert "Nothing changed" in run("kb", "diff", load_kb().root)[0]


def test_kb_diff_gives_git_no_orders(tmp_path: Path) -> None:
    target = tmp_path / "stolen.tar"
    assert "neither a folder" in run("kb", "diff", "--", f"--output={target}", code=2)[1]
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".json", ".zip"])
def test_kb_diff_reads_exports(tmp_path: Path, suffix: str) -> None:
    run("export", tmp_path / f"kb{suffix}")
    assert "Nothing changed" in run("kb", "diff", tmp_path / f"kb{suffix}")[0]
    (tmp_path / f"bad{suffix}").write_text('{"vocabulary": {}}')
    assert "no export of a knowledge base" in run("kb", "diff", tmp_path / f"bad{suffix}", code=2)[1]


def test_kb_diff_compares_git_revisions_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "repository" / "kb"
    shutil.copytree(load_kb().root, root, ignore=shutil.ignore_patterns("_import"))
    git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    for file in list((root / "publications").glob("*.yaml"))[:120]:
        if "\nclaims:" in (text := file.read_text(encoding="utf-8")) and "retracted" not in text:
            file.write_text(text + "retracted: https://example.org/notice\n", encoding="utf-8")
    monkeypatch.setattr("taxonomy.loader.DEFAULT_FOLDER", root)
    shown = run("kb", "diff", "HEAD")[0]
    assert "Retracted: " in shown
    assert re.search(r"answers change", shown)
    assert re.search(r"^    \w+ (\d+|-) → (\d+|-): \S", shown, re.MULTILINE), "which method moved, and why"


def test_kb_cites_selections() -> None:
    kb = load_kb()
    assert run("kb", "cite", "grad_cam_2016")[0].startswith("@")
    some = json.loads(run("kb", "cite", "--modality", "oct", "--style", "csl")[0])
    assert {entry["id"] for entry in some} == set(kb.index.by_modality["oct"])
    both = json.loads(run("kb", "cite", "--modality", "oct", "--method", "grad_cam", "--style", "csl")[0])
    assert {entry["id"] for entry in both} == set(kb.index.coverage["grad_cam", "oct"])
    assert "unknown publication" in run("kb", "cite", "nothing", code=2)[1]
    assert "no publication fits" in run("kb", "cite", "--search", "ultrasound qqqqq", code=2)[1]


def test_kb_version_names_the_content() -> None:
    shown = json.loads(run("kb", "version", "--json")[0])
    assert shown["digest"] == load_kb().digest
    assert shown["version"] in run("kb", "version")[0]


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_runs_the_recommended_panel(folder: Path) -> None:
    printed, progress = explain(folder, "--ask", "ultrasound lesion segmentation", "--json")
    record = json.loads(printed)
    assert len(record["results"]) >= 3
    assert "Recommended here: " in progress
    for one in record["results"]:
        assert load_kb().methods[one["method"]].name in progress
    assert {one["method"] for one in record["ruled_out"]} >= {"attention_rollout"}
    assert "Attention rollout" in progress
    assert record["model"]["task"] == "segmentation"
    assert record["answer"][0]["value"] == 36


def test_explain_answers_with_cases_when_they_are_asked_for() -> None:
    asked = ("explain", "breast_phantom", "--model", "breast_us_unet", "--ask", "similar cases?")
    _, told = run(*asked, code=2)
    told = " ".join(told.split())
    assert "would: it needs the training images" in told
    assert "(cohort)" in told
    printed, _ = run(*asked, "--cohort", "phantoms", "--json")
    forms = {one["method"]: one.get("form") for one in json.loads(printed)["results"]}
    assert forms["knn_retrieval"] == "cases"


def test_out_has_everything_and_nothing_of_the_patient(folder: Path) -> None:
    target = folder / "out"
    given = ("--method", "occlusion", "--method", "vanilla_gradient", "--mask", folder / "mask.png", "--metrics")
    explain(folder, *given, "--out", target)
    names = {path.name for path in target.iterdir()}
    expected = {"image.png", "report.html", "run.json"}
    assert names == expected | {f"{m}.{e}" for m in ("occlusion", "vanilla_gradient") for e in ("png", "npz")}
    record = json.loads((target / "run.json").read_text())
    assert {score["metric"] for score in record["results"][0]["scores"]} >= {"deletion", "insertion", "pointing_game"}
    for path in target.iterdir():
        data = path.read_bytes()
        assert b"smith" not in data, path.name
        assert str(folder).encode() not in data, path.name


def test_sanity_gives_a_verdict_and_writes_it_as_a_page(folder: Path) -> None:
    given = ("sanity", "--model", "chest_xray_cnn", "--image", "chest_radiograph", "--budget", "5min")
    methods = ("--method", "guided_backprop", "--method", "vanilla_gradient")
    printed, _ = run(*given, *methods, "--out", folder / "out")
    assert "Do not rely on Guided Backpropagation here" in printed
    assert "No training images were given" in printed
    assert "Sanity Checks for Saliency Maps" in printed
    made = {path.name for path in (folder / "out").iterdir()}
    assert {"sanity.html", "sanity.json", "run.json", "report.html", "guided_backprop.png"} <= made
    record = json.loads((folder / "out" / "sanity.json").read_text(encoding="utf-8"))
    found = {(one["method"], one["test"]): one["verdict"] for one in record["findings"]}
    assert found["guided_backprop", "cascade"] == "fails"
    assert found["vanilla_gradient", "cascade"] == "passes"
    assert "is not empty" in run(*given, *methods, "--out", folder / "out", code=2)[1]


def test_sanity_takes_an_own_model_a_mask_and_training_images(folder: Path) -> None:
    given = ["sanity", "--model", folder / "segmenter.safetensors", "--factory", f"{folder / 'nets.py'}:segmenter"]
    given += ["--image", folder / "patient_smith.png", "--method", "occlusion", "--json"]
    found = json.loads(run(*given, "--mask", folder / "mask.png")[0])
    assert "finding" in found["tests"]
    assert "patient_smith" not in json.dumps(found)
    assert "is no folder" in run(*given, "--train-data", folder / "nowhere", code=2)[1]
    assert "did you mean occlusion" in run(*given, "--method", "oclusion", code=2)[1]


def test_a_volume_gives_nifti_on_its_own_grid(folder: Path) -> None:
    explain(folder, "--method", "vanilla_gradient", "--out", folder / "out", image="volume.nii.gz")
    given, made = nib.load(folder / "volume.nii.gz"), nib.load(folder / "out" / "vanilla_gradient.nii.gz")
    assert made.shape == given.shape
    np.testing.assert_allclose(made.affine, given.affine, atol=1e-6)
    raw = np.load(folder / "out" / "vanilla_gradient.npz")["values"]
    np.testing.assert_allclose(np.sort(made.get_fdata().ravel()), np.sort(raw.ravel()), atol=1e-6)
    assert gzip.decompress((folder / "out" / "vanilla_gradient.nii.gz").read_bytes())


def test_a_samples_own_mask_is_measured_against() -> None:
    printed, _ = run(
        "explain", "nuclei_phantom", "--model", "nuclei_unet", "--method", "grad_cam", "--metrics", "--json"
    )
    record = json.loads(printed)
    assert "pointing_game" in {score["metric"] for score in record["results"][0]["scores"]}
    assert record["image"]["source"] == "nuclei_phantom"


def test_counterfactuals_are_drawn_by_the_bundled_generator_or_ones_own(tmp_path: Path) -> None:
    made = tmp_path / "mine.py"
    made.write_text(
        "import torch\n\nclass Mine(torch.nn.Module):\n"
        "    def encode(self, x):\n        return torch.nn.functional.avg_pool2d(x, 8)\n"
        "    def decode(self, z):\n        return torch.nn.functional.interpolate(z, scale_factor=8.0)\n"
    )
    given = ("explain", "breast_phantom", "--model", "breast_us_unet", "--method", "latent_shift", "--json")
    notes = []
    for more in ((), ("--autoencoder", f"{made}:Mine")):
        result = json.loads(run(*given, *more)[0])["results"][0]
        assert result["form"] == "counterfactual"
        notes.append(" ".join(result["notes"]))
    assert "draws 64×64" in notes[0]
    assert "draws 64×64" not in notes[1]


def test_targets_by_name_number_and_mask(folder: Path) -> None:
    def target(*more: object) -> str:
        return str(
            json.loads(explain(folder, "--method", "vanilla_gradient", "--json", *more)[0])["results"][0]["target"]
        )

    assert target() == target("--target", 1)
    assert "36 pixels" in target()
    assert target("--target", 0).startswith("label 0")
    given = target("--target", 1, "--mask", folder / "mask.png", "--in-mask")
    assert "in the given region (36 pixels)" in given


def test_the_same_seed_gives_the_same_map(folder: Path) -> None:
    maps = []
    for number, seed in enumerate((4, 4, 5)):
        explain(folder, "--method", "rise", "--seed", seed, "--out", folder / f"out{number}")
        maps.append(np.load(folder / f"out{number}" / "rise.npz")["values"])
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_one_failing_method_does_not_stop_the_others(folder: Path) -> None:
    printed, said = explain(folder, "--method", "attention_rollout", "--method", "occlusion", "--out", folder / "out")
    assert "Attention rollout: attention_rollout cannot explain this model" in said
    assert "Occlusion" in printed
    record = json.loads((folder / "out" / "run.json").read_text())
    assert [("error" in one) for one in record["results"]] == [True, False]
    explain(folder, "--method", "attention_rollout", code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "grad_camm"], "did you mean grad_cam"),
        (["list", "method"], "did you mean methods"),
        (["export", "kb.docx"], "docx"),
        (["explain", "no.png", "--model", "chest_xray_cnn"], "no.png"),
        (["explain", "chest_radiograph", "--model", "no_such_model"], "no_such_model"),
        (["explain", "chest_radiograph", "--model", "chest_xray_cnn", "--method", "gradcam"], "did you mean grad_cam"),
        (["explain", "chest_radiograph", "--model", "chest_xray_cnn", "--metric", "deletio"], "did you mean deletion"),
        (["explain", "chest_radiograph", "--model", "chest_xray_cnn", "--task", "diagnosis"], "classification"),
        (["explain", "chest_radiograph", "--model", "chest_xray_cnn", "--target", "fracture"], "pneumonia"),
        (["explain", "chest_radiograph", "--model", "chest_xray_cnn", "--in-mask"], "give it with --mask"),
        (["explain", "chest_radiograph", "--model", "chest_xray_cnn", "--autoencoder", "vae"], "bundled are"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else None,
)
def test_user_errors_are_one_sentence(arguments: list[str], message: str) -> None:
    printed, said = run(*arguments, code=2)
    assert printed == ""
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert "Traceback" not in said


def test_bad_files_are_sentences(folder: Path) -> None:
    (folder / "text.png").write_text("not an image")
    damaged = (folder / "volume.nii.gz").read_bytes()
    (folder / "half.nii.gz").write_bytes(damaged[: len(damaged) // 2])
    for name in ("text.png", "half.nii.gz"):
        printed, said = explain(folder, "--out", folder / "out", image=name, code=2)
        assert printed == ""
        assert len(said.strip().splitlines()) == 1
        assert name in said
    assert not (folder / "out").exists()
    weights = folder / "segmenter.safetensors"
    _, said = run(
        "explain", folder / "patient_smith.png", "--model", weights, "--factory", f"{folder / 'nets.py'}:broken", code=2
    )
    assert "no such width" in said


def test_out_is_never_overwritten_by_accident(folder: Path) -> None:
    target = folder / "out"
    target.mkdir()
    (target / "thesis.txt").write_text("mine")
    given = ("--method", "vanilla_gradient", "--out", target)
    assert "is not empty" in explain(folder, *given, code=2)[1]
    assert "was not written by an export" in explain(folder, *given, "--force", code=2)[1]
    assert [path.name for path in target.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("arguments", [["ask"], ["explain", "x.png"], ["fly"], ["ask", "x", "--top", "0"]], ids=str)
def test_bad_usage_is_exit_code_2(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.output
