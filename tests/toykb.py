"""The toy knowledge base, and named mutations that break a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

TOY = Path(__file__).parent / "toy_kb"

Edit = Callable[[Path], None]


class Mutation(NamedTuple):
    """One edit of the toy, and every line the loader must then say."""

    name: str
    edit: Edit
    expected: list[str]


def cases(mutations: list[Mutation]) -> pytest.MarkDecorator:
    """Parametrise a test over mutations as ``edit`` and ``expected``."""
    parameters = [pytest.param(m.edit, m.expected, id=m.name) for m in mutations]
    return pytest.mark.parametrize(("edit", "expected"), parameters)


def copy_toy(folder: Path) -> Path:
    return Path(shutil.copytree(TOY, folder / "kb"))


def replaced(file: str, old: str, new: str) -> Edit:
    def edit(root: Path) -> None:
        text = (root / file).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        (root / file).write_text(text.replace(old, new), encoding="utf-8")

    return edit


def appended(file: str, text: str) -> Edit:
    def edit(root: Path) -> None:
        with (root / file).open("a", encoding="utf-8") as stream:
            stream.write(text)

    return edit


def written(file: str, content: str | bytes) -> Edit:
    def edit(root: Path) -> None:
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return edit


def copied(old: str, new: str) -> Edit:
    def edit(root: Path) -> None:
        (root / new).parent.mkdir(exist_ok=True)
        shutil.copy(root / old, root / new)

    return edit


def removed(file: str) -> Edit:
    def edit(root: Path) -> None:
        (root / file).unlink()

    return edit


def each(*edits: Edit) -> Edit:
    def edit(root: Path) -> None:
        for one in edits:
            one(root)

    return edit
