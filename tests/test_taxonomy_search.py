"""Search and report: what is found, in which order, and how it is narrowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from toykb import TOY, appended, copy_toy, replaced

from taxonomy import KB, UnknownIdError, load_kb
from taxonomy.card import card
from taxonomy.graph import methods_of
from taxonomy.report import coverage_report
from taxonomy.search import FACETS, search


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def kb() -> KB:
    return load_kb(TOY)


@pytest.fixture(scope="module")
def real() -> KB:
    return load_kb()


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Grad-CAM", "grad_cam"),
        ("gradcam++", "grad_cam_pp"),
        ("10.1234/toy.2020.1", "toy_2020_cxr"),
        ("Röntgenbild", "xray"),
        ("rontgen", "xray"),
        ("granular patt", "speckle"),
        ("experts' boxes", "toy_2020_cxr"),
    ],
)
def test_what_is_meant_comes_first(kb: KB, text: str, first: str) -> None:
    assert search(kb, text).hits[0].id == first


def test_every_word_must_occur(kb: KB) -> None:
    assert search(kb, "speckle").total > search(kb, "speckle grain").total > 0
    assert not search(kb, "speckle grain").loose


def test_what_has_some_of_the_words_is_found_where_nothing_has_all(kb: KB) -> None:
    found = search(kb, "speckle zebra")
    assert found.loose
    assert [hit.id for hit in found.hits] == [hit.id for hit in search(kb, "speckle").hits]
    assert "[" in found.hits[0].snippet
    nothing = search(kb, "okapi zebra")
    assert (nothing.total, nothing.loose) == (0, False)


@pytest.mark.parametrize("text", ['"', "AND", "a* OR b", "NEAR(x)", "')--", "(", "?!", "^x:y", "\u0000"])
def test_no_text_is_read_as_an_order(kb: KB, text: str) -> None:
    search(kb, text)


def test_chinese_is_found_by_its_characters(real: KB) -> None:
    found = search(real, "超声")
    assert found.hits[0].id == "ultrasound"
    assert search(real, "超声心动").total >= 1
    assert search(real, "心声").total == 0, "the order of the characters counts"


def test_studies_are_found_by_the_names_of_what_they_studied(kb: KB) -> None:
    assert "toy_2021_speckle" in {hit.id for hit in search(kb, "ultrasound", {"kind": ["publications"]}).hits}


def test_the_words_found_are_marked(kb: KB) -> None:
    (hit,) = (h for h in search(kb, "granular").hits if h.id == "speckle")
    assert "[granular]" in hit.snippet


def test_facets_are_joined_by_and_and_their_values_by_or(kb: KB) -> None:
    both = search(kb, where={"kind": ["publications"], "modality": ["xray", "ultrasound"]})
    assert {hit.id for hit in both.hits} == {"toy_2020_cxr", "toy_2021_speckle"}
    one = search(kb, where={"kind": ["publications"], "modality": ["xray", "ultrasound"], "task": ["segmentation"]})
    assert [hit.id for hit in one.hits] == ["toy_2021_speckle"]
    assert search(kb, where={"clinicians": ["yes"]}).total == 1


def test_counts_of_a_facet_leave_its_own_choice_out(kb: KB) -> None:
    found = search(kb, where={"kind": ["publications"], "modality": ["xray"]})
    assert found.facets["modality"]["ultrasound"] == 1, "one may still change to ultrasound"
    assert found.facets["kind"]["publications"] == 1


def test_without_words_everything_is_found_page_by_page(real: KB) -> None:
    total = sum(len(entities) for entities in real.kinds().values())
    assert search(real).total == total
    pages = [hit.id for start in range(0, total, 100) for hit in search(real, limit=100, offset=start).hits]
    assert len(pages) == len(set(pages)) == total


def test_without_words_the_most_studied_comes_first(real: KB) -> None:
    for kind, studied in (("methods", real.index.by_method), ("modalities", real.index.by_modality)):
        counts = [len(studied.get(hit.id, ())) for hit in search(real, where={"kind": [kind]}, limit=1000).hits]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] > 0


def test_an_unknown_facet_is_told(kb: KB) -> None:
    with pytest.raises(UnknownIdError, match="unknown facet 'colour'"):
        search(kb, where={"colour": ["red"]})


def test_every_facet_narrows_the_real_knowledge_base(real: KB) -> None:
    everything = search(real, limit=0)
    for facet in FACETS:
        value, count = next(iter(everything.facets[facet].items()))
        found = search(real, where={facet: [value]}, limit=0)
        assert 0 < found.total == count < everything.total, facet


def test_the_report_counts_what_the_files_say(real: KB) -> None:
    report = coverage_report(real)
    studies = [p for p in real.publications.values() if p.study and not p.retracted]
    assert report.studies == len(studies)
    assert report.with_clinicians == pytest.approx(sum(bool(p.clinicians) for p in studies) / len(studies), abs=1e-3)
    ultrasound = [p for p in studies if p.study and "ultrasound" in p.study.modalities]
    assert report.by_modality["ultrasound"]["studies"] == len(ultrasound)
    tasks = {task: n for (modality, task), n in report.by_task.items() if modality == "ultrasound"}
    assert sum(tasks.values()) == len(ultrasound)
    cams = [p for p in ultrasound if any(real.methods[m].family == "class_activation" for m in methods_of(p))]
    assert report.by_family["ultrasound", "class_activation"] == len(cams)
    plain = report.as_json()
    assert sum(cell["studies"] for cell in plain["by_task"]) == sum(report.by_task.values())


def test_a_retracted_study_counts_no_longer(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    appended("publications/toy_2020_cxr.yaml", "retracted: https://example.org/notice\n")(root)
    kb = load_kb(root)
    assert coverage_report(kb).studies == coverage_report(load_kb(TOY)).studies - 1
    assert ("grad_cam", "xray") not in kb.index.coverage
    assert "toy_2020_cxr" not in {pub for pub, _ in kb.index.claims.get("grad_cam", ())}


def test_the_card_names_needs_findings_and_sources(kb: KB) -> None:
    page = card(kb, "grad_cam")
    for words in (
        "<h1>Grad-CAM</h1>",
        "Speckle",
        "experts&#x27; boxes",
        "doi.org/10.1234/toy.2020.1",
        "not for clinical",
    ):
        assert words in page, words
    numbers = {int(n) for group in re.findall(r"<small>\[([\d, ]+)\]</small>", page) for n in group.split(",")}
    assert numbers == set(range(1, page.count("<li>", page.index("<ol>")) + 1)), "every mark has its source"
    with pytest.raises(UnknownIdError):
        card(kb, "nothing")


def test_a_card_lets_nothing_through_that_a_browser_would_run(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    replaced("methods/grad_cam.yaml", "name: Grad-CAM\n", "name: <script>alert(1)</script>\n")(root)
    assert "<script" not in card(load_kb(root), "grad_cam")
