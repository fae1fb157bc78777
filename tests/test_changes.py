"""What changed between two knowledge bases, and which answers change by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from toykb import TOY, appended, copy_toy, each, removed, replaced, written

from recommender.changes import changed_recommendations
from taxonomy import KB, load_kb
from taxonomy.changes import Change, diff


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def old() -> KB:
    return load_kb(TOY)


def test_equal_knowledge_bases_have_no_change_and_one_digest(old: KB, tmp_path: Path) -> None:
    new = load_kb(copy_toy(tmp_path))
    assert not diff(old, new)
    assert old.digest == new.digest
    assert changed_recommendations(old, new) == []


def test_what_was_added_changed_removed_and_retracted(old: KB, tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    each(
        written(
            "publications/new.yaml", "title: New\nyear: 2024\nurl: https://example.org\nread: title\nmethods: [rise]\n"
        ),
        replaced("methods/rise.yaml", "name: RISE\n", "name: Rise\n"),
        removed("challenges/shortcuts.yaml"),
        replaced("modalities/xray.yaml", ", {challenge: shortcuts, sources: [toy_2020_cxr]}", ""),
        appended("publications/toy_2020_cxr.yaml", "retracted: https://example.org/notice\n"),
        replaced("vocabulary.yaml", "aliases: [multi-label]", "aliases: [multi-label, sorting]"),
    )(root)
    new = load_kb(root)
    found = diff(old, new)
    assert found
    assert found.added == {"publications": ("new",)}
    assert found.removed == {"challenges": ("shortcuts",)}
    assert found.changed["methods"] == {"rise": (Change("name", "RISE", "Rise"),)}
    assert [change.field for change in found.changed["modalities"]["xray"]] == ["challenges"]
    assert [change.field for change in found.changed["tasks"]["classification"]] == ["aliases"]
    assert found.retracted == ("toy_2020_cxr",)
    assert old.digest != new.digest
    assert found.as_json()["changed"]["methods"]["rise"] == [{"field": "name", "old": "RISE", "new": "Rise"}]


def test_a_new_finding_moves_the_answer_and_says_why(old: KB, tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    text = (
        "title: Trial {0}\nyear: 2024\nurl: https://example.org/{0}\nread: fulltext\nclinicians: true\n"
        "study: {{modalities: [xray], anatomy: null, task: classification, architecture: cnn, dims: [2]}}\n"
        "methods: [rise, grad_cam]\nclaims:\n  - methods: [rise]\n    versus: [grad_cam]\n"
        "    criterion: faithfulness\n    outcome: better\n    text: RISE was more faithful in trial {0}.\n"
    )
    each(*(written(f"publications/trial_{i}.yaml", text.format(i)) for i in range(6)))(root)
    new = load_kb(root)
    found = {(one.modality, one.task): one for one in changed_recommendations(old, new, top=2)}
    one = found["xray", "classification"]
    assert one.old[0] != "rise"
    assert one.new[0] == "rise"
    (moved,) = (m for m in one.moved if m.method == "rise")
    assert moved.new_rank == 1
    assert moved.old_rank is None or moved.old_rank > 1
    assert any("more faithful in trial" in sentence for sentence in moved.why)


def test_two_versions_of_the_real_one_are_compared_in_seconds(tmp_path: Path) -> None:
    real = load_kb()
    import shutil

    root = Path(shutil.copytree(real.root, tmp_path / "kb", ignore=shutil.ignore_patterns("_import")))
    victim = next(one for one, p in real.publications.items() if p.claims and p.study and p.study.task)
    appended(f"publications/{victim}.yaml", "retracted: https://example.org/notice\n")(root)
    new = load_kb(root)
    assert diff(real, new).retracted == (victim,)
    for one in changed_recommendations(real, new):
        assert one.old != one.new or one.panel_old != one.panel_new
