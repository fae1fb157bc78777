"""The README is true: its tables are those of the knowledge base, its snippets and commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("xai-atlas ")]


def run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_tables_are_up_to_date() -> None:
    run([sys.executable, "docs/readme.py", "--check"], cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""})


def test_an_old_table_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(README.replace("`grad_cam`", "`old_cam`"), "utf-8")
    (tmp_path / "docs" / "readme.py").write_bytes((ROOT / "docs" / "readme.py").read_bytes())
    command = [sys.executable, "docs/readme.py"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [*command, "--check"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "out of date" in done.stderr
    run(command, cwd=tmp_path, env=environment)
    assert (tmp_path / "README.md").read_text("utf-8") == README


def test_there_is_something_to_run() -> None:
    assert len(blocks("python")) == 2
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("snippet", blocks("python"), ids=["explain", "recommend"])
def test_snippets_run(snippet: str, tmp_path: Path) -> None:
    printed = run([sys.executable, "-c", snippet], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert printed.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(command)
    assert program == "xai-atlas"
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    printed = run([sys.executable, "-m", "cli", *arguments], cwd=tmp_path, env=environment)
    assert printed.strip() or any(tmp_path.iterdir())  # it answers, or writes a file
    if "--out" in arguments:
        assert (tmp_path / arguments[arguments.index("--out") + 1] / "report.html").exists()


def test_files_that_it_names_exist() -> None:
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
