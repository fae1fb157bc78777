"""The report: self-contained, complete, and safe whatever a user typed."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from test_panels import all_forms, insight
from test_store import case, explanation

from recommender import answer
from runners.case import Answered, Measured, Result
from runners.report import html
from taxonomy import load_kb

KB = load_kb()
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Reads a page, and fails on elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(**changes: object) -> Page:
    measured = (Measured("deletion", 0.25, notes=("the baseline scores higher.",)), Measured("pointing_game", None))
    found = [
        Result("rise", explanation(shape=(16, 16)), measured),
        Result("grad_cam", replace(explanation("grad_cam", (16, 16)), signed=False)),
        Result("lrp", error="it has no ReLU."),
    ]
    given = {"case": case(), "results": found, "created": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)} | changes
    return Page(html(given.pop("case"), given.pop("results"), KB, **given))  # type: ignore[arg-type]


def test_it_says_everything_a_reader_needs() -> None:
    text = page().text
    for words in (
        "Not for clinical use",
        "Toy",
        "lesion 12 pixels (10.0% of the image)",
        "Explained: label 1 (lesion). The model saw the image as 16 × 16.",
        "Red places speak for the explained answer",
        "The stronger the colour",
        "The map is coarse.",  # caution
        "Features are taken from block 3.",  # note
        '"steps": 20',
        "41 model passes",
        "0.250",
        "lower is better",
        "Layer-wise relevance propagation: it has no ReLU.",
        "ab" * 32,
        "torch 2.13.0",
        "02 January 2026",
        KB.methods["rise"].name,
        KB.methods["rise"].limitations[0].text,
        "what the model marks",
        "the reference mask",
    ):
        assert words in text, words


def test_it_needs_no_other_file() -> None:
    read = page()
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object"}
    pictures = [attributes["src"] for tag, attributes in read.tags if tag == "img"]
    assert len(pictures) == 3  # the image and two maps
    for source in pictures:
        assert source is not None
        assert base64.b64decode(source.removeprefix("data:image/png;base64,"))[:4] == b"\x89PNG"
    assert all(attributes.get("alt") for tag, attributes in read.tags if tag == "img")


def test_every_citation_leads_to_its_paper() -> None:
    advice = answer("ultrasound segmentation", KB).as_json()
    read = page(answer=advice)
    anchors = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    links = [str(attributes["href"]) for tag, attributes in read.tags if tag == "a"]
    cited = {link[1:] for link in links if link.startswith("#")}
    assert cited
    assert cited == anchors
    papers = {link for link in links if not link.startswith("#")}
    assert papers <= {paper.link for paper in KB.publications.values()}
    source = KB.methods["rise"].source
    assert source is not None
    assert KB.publications[source].link in papers
    reasons = next(one["reasons"] for one in advice["recommendations"] if one["method"] == "grad_cam")
    assert " ".join(reasons[0]["text"].split()) in read.text


EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>&'


def test_nothing_typed_becomes_markup() -> None:
    one = case()
    model = {**one.model, "name": EVIL, "labels": [EVIL], "task": EVIL}
    answered = tuple(Answered(EVIL, 0.5, unit) for unit in ("probability", "value", "pixels"))  # type: ignore[arg-type]
    image = replace(one.image, notes=(EVIL,), format=EVIL)
    bad = replace(
        explanation(shape=(16, 16)),
        target=EVIL,
        notes=(EVIL,),
        cautions=(EVIL,),
        parameters={EVIL: EVIL},
        versions={EVIL: EVIL},
    )
    read = page(
        case=replace(one, model=model, answer=answered, image=image),
        results=[Result("rise", bad), Result("lrp", error=EVIL)],
        answer={
            "recommendations": [{"method": "rise", "reasons": [{"text": EVIL, "cites": []}]}],
            "ruled_out": [{"method": "attention_rollout", "gap": EVIL}],
        },
    )
    assert "script" not in {tag for tag, _ in read.tags}
    assert not any("onerror" in attributes for _, attributes in read.tags)
    assert read.text.count(EVIL) >= 12


def test_without_maps_it_says_so() -> None:
    read = page(results=[Result("lrp", error="it has no ReLU.")])
    assert "No method gave a map" in read.text
    assert "How good are the maps?" not in read.text


@pytest.mark.parametrize("kind", [{"volume": True}, {"channels": 3}], ids=str)
def test_other_images(kind: dict[str, int]) -> None:
    shape = (8, 8, 12) if kind.get("volume") else (16, 16)
    read = page(case=case(**kind), results=[Result("rise", explanation(shape=shape))])
    assert ("voxels, 1 × 1 × 2.5 mm each" in read.text) == bool(kind.get("volume"))
    sizes = [(attributes["width"], attributes["height"]) for tag, attributes in read.tags if tag == "img"]
    assert all(re.fullmatch(r"\d+", str(side)) for size in sizes for side in size)


def test_notes_on_scores_are_told() -> None:
    assert "Deletion AUC: the baseline scores higher." in page().text


def test_insights_stand_beside_the_maps() -> None:
    one = case()
    made = [
        Result("knn_retrieval", insight=replace(insight(form), method="knn_retrieval", cautions=("A < B.",)))
        for form in all_forms(one.image.shape)[1:4]
    ]
    both = page(results=[Result("rise", explanation(shape=(16, 16))), *made])
    name = KB.methods["knn_retrieval"].name
    assert both.text.count(f"{name} ") >= 3
    assert "Beyond the maps" in both.text
    assert "Known cases beside this one" in both.text
    assert both.text.count("A < B.") == 3
    assert "Beyond the maps" not in page().text
    only = page(results=made)
    assert "No method gave a map." in only.text
    assert f"Explained: {made[0].insight.target if made[0].insight else ''}" in only.text
