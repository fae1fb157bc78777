"""Shared fixtures: one thread per process, the folder of test assets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # toys.py


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real test images; tests that need it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "assets"
    if not folder.is_dir():
        pytest.skip("the folder of real test images (../shared/assets) is not here")
    return folder
