"""The code of an answer runs as it stands."""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as Pillow
from typer.main import get_command

import cli
from recommender import Answer, Role, answer, snippet
from recommender.snippets import BROUGHT
from runners import discoverable, measurable, runnable
from taxonomy import KB, load_kb

ROOT = Path(__file__).resolve().parent.parent
ABLE = (*runnable(), *measurable())


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb()


@pytest.fixture
def fast(kb: KB) -> Answer:
    """An answer whose panel is cheap, so that its code runs in a test."""
    found = answer("Grad-CAM for a chest X-ray CNN classifier", kb, runnable=ABLE)
    assert found.panel[0] == "grad_cam"
    return replace(found, roles=(Role("grad_cam", "."), Role("vanilla_gradient", ".")))


def picture(folder: Path) -> Path:
    from runners.zoo.samples import samples

    image = next(one for one in samples() if one.id == "chest_radiograph").load()
    values = image.values.squeeze().numpy()
    low, high = values.min(), values.max()
    Pillow.fromarray(((values - low) / (high - low) * 255).astype("uint8")).save(folder / "image.png")
    return folder / "image.png"


@pytest.mark.slow
def test_it_runs_on_a_bundled_model(kb: KB, fast: Answer, tmp_path: Path) -> None:
    code = snippet(fast, kb, runnable=ABLE, model="chest_xray_cnn", image=str(picture(tmp_path)))
    assert "YOUR" not in code
    (tmp_path / "run.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [role.method for role in fast.roles]
    metrics = {line.split()[0]: float(line.split()[-1].strip("tensor([])")) for line in lines if line.startswith(" ")}
    assert {"deletion", "insertion"} <= metrics.keys()


def test_the_command_is_one_that_the_cli_knows(kb: KB, fast: Answer) -> None:
    import cli

    last = snippet(fast, kb, runnable=ABLE, image="a file.dcm").splitlines()[-1]
    words = shlex.split(last.removeprefix("# "))
    assert words[:3] == ["xai-atlas", "explain", "a file.dcm"]
    known = {option for p in cli_options(cli) for option in p}
    assert {word for word in words if word.startswith("--")} <= known
    assert "pointing_game" not in words  # needs a mask


def cli_options(cli: object) -> list[list[str]]:
    import typer

    command = typer.main.get_command(cli.app).commands["explain"]  # type: ignore[attr-defined]
    return [parameter.opts for parameter in command.params]


@pytest.mark.parametrize(
    ("question", "file"),
    [("brain MRI classifier", "image.nii.gz"), ("dermoscopy CNN", "image.png"), ("2D mammography", "image.dcm")],
)
def test_placeholders_are_marked_and_fit(kb: KB, question: str, file: str) -> None:
    code = snippet(answer(question, kb, runnable=ABLE), kb, runnable=ABLE)
    ast.parse(code)
    assert f'load_image("{file}"))  # YOUR IMAGE' in code
    assert "# YOUR MODEL" in code


def test_what_is_not_run_here_names_a_tool(kb: KB) -> None:
    found = answer("concept-based explanation for dermoscopy", kb, runnable=ABLE)
    code = snippet(found, kb, runnable=ABLE)
    ast.parse(code)
    assert "import" not in code
    assert found.roles
    for method in (role.method for role in found.roles):
        assert f"# {kb.methods[method].name} is not run here" in code
    assert "pip install" in code or "https://" in code
    assert snippet(replace(found, roles=()), kb, runnable=ABLE) == ""


def test_methods_with_another_answer_come_as_a_command_with_what_to_bring(kb: KB) -> None:
    found = answer("concept-based explanation for dermoscopy", kb, runnable=ABLE)
    roles = [role.method for role in found.roles if role.method in discoverable()]
    assert roles
    code = snippet(found, kb, runnable=(*ABLE, *discoverable()), model="m.pt", image="i.png")
    for method in roles:
        line = next(one for one in code.splitlines() if f"--method {method}" in one)
        assert line.startswith(f"# {kb.methods[method].name} gives another answer than a map: xai-atlas explain i.png")
        assert ("--cohort" in line) == ("training_data" in kb.methods[method].requires.needs)
        assert f"# {kb.methods[method].name} is not run here" not in code
    known = {option for one in get_command(cli.app).commands["explain"].params for option in one.opts}
    assert {word for words in BROUGHT.values() for word in words if word.startswith("--")} <= known


def test_methods_that_compare_with_training_images_ask_for_them(kb: KB) -> None:
    found = answer("DeepSHAP for a chest X-ray CNN", kb, runnable=ABLE)
    code = snippet(found, kb, runnable=ABLE)
    assert "deepshap" in found.panel
    assert "reference=reference" in code
    assert "--reference" in code
