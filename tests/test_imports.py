"""Who may import whom, and what may not import torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"taxonomy", "recommender", "runners", "experiments", "views", "cli", "app", "mcp_server", "trial"}
ALLOWED = {"taxonomy": set(), "recommender": {"taxonomy"}, "runners": {"taxonomy"}}
"""Package to the sisters it may import; faces may import all."""


def imported(path: Path) -> set[str]:
    """Return the top-level modules that a file imports, wherever the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_they_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        wrong = (imported(path) & OURS) - ALLOWED[package] - {package}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def sources() -> list[Path]:
    return [
        *(ROOT / f for f in ("cli.py", "app.py", "mcp_server.py", "trial.py")),
        *(p for name in (*ALLOWED, "views") for p in (ROOT / name).rglob("*.py")),
    ]


def test_everything_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *(one for group in project["optional-dependencies"].values() for one in group)]
    declared = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-") for line in lines}
    owners = packages_distributions()
    outside = {name for path in sources() for name in imported(path)} - OURS - set(sys.stdlib_module_names)
    missing = {
        name
        for name in outside
        if not declared & {owner.lower().replace("_", "-") for owner in owners.get(name, [name])}
    }
    assert not missing, f"imported but not in pyproject.toml: {', '.join(sorted(missing))}"


@pytest.mark.parametrize(
    "code",
    [
        "import taxonomy; taxonomy.load_kb()",
        "import recommender, taxonomy; recommender.answer('ultrasound segmentation', taxonomy.load_kb())",
        "import runners; assert len(runners.runnable()) > 10",
        "import mcp_server; mcp_server.ask('ultrasound segmentation')",
        "import sys; from cli import app; sys.argv = ['xai-atlas', 'ask', 'ultrasound segmentation', '--top', '1']\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code, end.code",
        "import sys; from cli import app; sys.argv = ['xai-atlas', 'show', 'grad_cam', '--json']\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code, end.code",
    ],
    ids=["taxonomy", "recommender", "runnable", "mcp", "ask", "show"],
)
def test_no_torch(code: str) -> None:
    heavy = "{'torch', 'monai', 'matplotlib', 'streamlit'}"
    check = f"\nimport sys\nfound = {heavy} & set(sys.modules)\nassert not found, found"
    done = subprocess.run([sys.executable, "-c", code + check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_runnable_says_what_the_registry_holds() -> None:
    import runners

    assert runners.runnable() == tuple(sorted(runners.explainers))
    assert runners.measurable() == tuple(sorted(runners.metrics))
