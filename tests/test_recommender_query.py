"""What is understood of a question."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from recommender import Query, parse
from recommender.query import _distance, _lexicon
from taxonomy import KB, load_kb

QUESTIONS = yaml.safe_load((Path(__file__).parent / "questions.yaml").read_text(encoding="utf-8"))
FIELDS: dict[str, Any] = {
    "modality": [],
    "task": None,
    "architecture": None,
    "dimension": None,
    "access": None,
    "audience": None,
    "goal": None,
    "budget": None,
    "methods": [],
    "implied": [],
    "excluded": [],
}


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb()


def test_the_questions_are_many_and_in_five_languages() -> None:
    asked = [question["ask"] for question in QUESTIONS]
    assert len(asked) == len(set(asked)) >= 240
    assert sum(any("\u4e00" <= char <= "\u9fff" for char in text) for text in asked) >= 5


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q["ask"])
def test_question(kb: KB, question: dict[str, Any]) -> None:
    found = parse(question["ask"], kb).as_json()
    expected = {field: question.get(field, empty) for field, empty in FIELDS.items()}
    assert {field: found[field] for field in FIELDS} == expected
    assert found["asks"] == question.get("asks", "recommend")
    if "unmatched" in question:
        assert found["unmatched"] == question["unmatched"]


def test_held_back_questions(kb: KB) -> None:
    """Nearly all are read right in every field; their file says what to do with one that is not."""
    asked = yaml.safe_load((Path(__file__).parent / "questions_held_back.yaml").read_text(encoding="utf-8"))
    assert not {q["ask"] for q in asked} & {q["ask"] for q in QUESTIONS}
    right = 0
    for question in asked:
        found = parse(question["ask"], kb).as_json()
        right += all(found[field] == question.get(field, empty) for field, empty in FIELDS.items())
    assert right >= 0.95 * len(asked)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q["ask"])
def test_every_field_keeps_words_of_the_question(kb: KB, question: dict[str, Any]) -> None:
    query = parse(question["ask"], kb)
    for field in ("modality", "task", "architecture", "dimension", "access", "audience", "goal", "budget", "methods"):
        assert bool(getattr(query, field)) == (field in query.spans)
    for words in query.spans.values():
        assert all(part in query.text for part in words.split(", "))


def test_every_name_of_the_knowledge_base_is_understood(kb: KB) -> None:
    missed = []
    for field, entities in (("methods", kb.methods), ("modality", kb.modalities)):
        for entity_id, entity in entities.items():
            # "saliency map" is what people call any heatmap; a list is a list; a bracket tells two of one name apart
            if entity_id == "saliency_unspecified" or set(entity.name) & set(",("):
                continue
            if entity_id not in getattr(parse(entity.name, kb), field):
                missed.append((entity_id, entity.name))
    assert not missed


def test_vocabulary_names_and_translations_are_understood(kb: KB) -> None:
    lists = {"task": kb.vocabulary.tasks, "architecture": kb.vocabulary.architectures}
    for field, words in lists.items():
        for word_id, word in words.items():
            for name in (word.name, *sum(word.translations.values(), [])):
                if word_id != "other":
                    assert getattr(parse(name, kb), field) == word_id, name


def test_a_typo_is_told(kb: KB) -> None:
    query = parse("ultrasond segmentation", kb)
    assert query.corrections == {"ultrasond": "ultrasound"}
    assert query.spans["modality"] == "ultrasond"


@pytest.mark.parametrize("word", ["intention", "selection", "relation", "breath", "river", "depletion", "insertion"])
def test_an_english_word_is_no_typo(kb: KB, word: str) -> None:
    assert not parse(word, kb).corrections


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "abc", 3), ("abc", "abc", 0), ("abcd", "abdc", 1), ("ultrasond", "ultrasound", 1), ("kitten", "sitting", 3)],
)
def test_distance(a: str, b: str, distance: int) -> None:
    assert _distance(a, b, 3) == distance == _distance(b, a, 3)
    assert _distance(a, b, 0) == (0 if a == b else 1)


def test_needs_that_are_denied_or_owned(kb: KB) -> None:
    query = parse("I have no training data, but I have reference images; CT", kb)
    assert "training_data" in query.lacks
    assert "reference_images" in query.has
    assert parse("CT model that we cannot retrain", kb).lacks == {"retraining"}
    assert parse("we could retrain the CT model", kb).intrinsic


def test_anatomy_is_understood_and_not_listed(kb: KB) -> None:
    query = parse("brain MRI", kb)
    assert query.anatomy == ("brain",)
    assert query.unmatched == ()


def test_long_and_odd_text(kb: KB) -> None:
    start = time.perf_counter()
    query = parse("ultrasound " + "blorb flumph \x00 ﬁ ＵＬＴＲＡ 😀 " * 300, kb)
    assert query.modality == ("ultrasound",)
    assert time.perf_counter() - start < 5
    assert parse("ｕｌｔｒａｓｏｕｎｄ", kb).modality == ("ultrasound",)
    assert parse("e\u0301chographie", kb).modality == ("ultrasound",)


def test_same_text_same_query(kb: KB) -> None:
    assert parse("polyp, real-time", kb) == parse("polyp, real-time", kb)
    assert isinstance(parse("", kb), Query)


def test_the_lexicon_is_built_once(kb: KB) -> None:
    assert _lexicon(kb) is _lexicon(kb)


def test_empty_means_nothing_to_rest_on(kb: KB) -> None:
    for text in ("", "hello", "how to cook pasta", "where can I buy shoes", "why did it say malignant?"):
        assert parse(text, kb).empty, text
    for text in ("CT", "segmentation", "Grad-CAM", "explain it to clinicians", "black box"):
        assert not parse(text, kb).empty, text


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Is Grad-CAM reliable for CT?", "judge"),
        ("Can I trust Grad-CAM on CT?", "judge"),
        ("Ist Grad-CAM bei CT zuverlässig?", "judge"),
        ("Grad-CAM在CT上可靠吗？", "judge"),
        ("How does Grad-CAM work?", "recommend"),
        ("What is Grad-CAM?", "recommend"),
        ("Is there anything better than Grad-CAM for CT?", "recommend"),
        ("Is this CT heatmap reliable?", "recommend"),
        ("Grad-CAM or LIME for CT?", "compare"),
        ("I use Grad-CAM and LIME for CT", "recommend"),
        ("not Grad-CAM or LIME, CT", "recommend"),
    ],
)
def test_what_is_asked_about_named_methods(kb: KB, text: str, asks: str) -> None:
    assert parse(text, kb).asks == parse(text, kb).as_json()["asks"] == asks


@pytest.mark.parametrize(
    "text",
    [
        "he told me that the echo of the toe was a clip",
        "images from three scanners",
        "e.g. the usual one",
        "large vessel occlusion",
        "a Dice of 0.85",
        "a single dice",
        "Uni hospital",
    ],
)
def test_a_word_is_not_taken_for_a_name(kb: KB, text: str) -> None:
    query = parse(text, kb)
    assert (query.modality, query.methods, query.architecture) == ((), (), None)


def test_a_typo_of_three_words_at_the_end_is_read(kb: KB) -> None:
    assert parse("my concept bottleneck modl", kb).methods == ("cbm",)


def test_a_thousand_characters_are_read_at_once(kb: KB) -> None:
    text = " ".join(question["ask"] for question in QUESTIONS)[:1000]
    parse(text, kb)
    start = time.perf_counter()
    parse(text, kb)
    assert time.perf_counter() - start < 0.5  # about 0.02 on a quiet machine


def test_the_recommender_never_imports_torch() -> None:
    code = "import sys, recommender; assert not {'torch', 'numpy', 'runners'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_a_name_like_a_word_of_negation_does_not_take_its_place() -> None:
    kb = load_kb()
    niche = kb.metrics["deletion"].model_copy(update={"id": "niche", "name": "Niche", "aliases": []})
    query = parse("Röntgen Thorax, nicht CT", replace(kb, metrics={**kb.metrics, "niche": niche}))
    assert query.modality == ("xray",)
    assert "ct" in query.excluded
