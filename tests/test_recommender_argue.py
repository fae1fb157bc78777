"""What an answer says beyond the ranking: each sentence has its sources and says how far they are from the question."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from test_recommender_rank import ASK, claim, method, metric, paper, small

from recommender import Answer, Query, Sentence, answer
from runners import computable
from taxonomy import KB, load_kb
from taxonomy.schema import Effect, Shown, Statement

QUESTIONS = yaml.safe_load((Path(__file__).parent / "questions.yaml").read_text(encoding="utf-8"))
ABLE = computable()


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb()


@pytest.fixture(scope="module")
def answers(kb: KB) -> list[Answer]:
    """Forty answers, spread over the test questions."""
    asked = [q["ask"] for q in QUESTIONS]
    found = [answer(one, kb, runnable=ABLE) for one in asked[:: max(1, len(asked) // 60)]]
    return [one for one in found if one.recommendations][:40]


def notes(found: Answer) -> Iterator[Sentence]:
    """Yield every sentence that findings of the literature stand behind."""
    for step in found.protocol:
        yield from step.notes
    if found.comparison:
        for told in (*found.comparison.head_to_head, *sum(found.comparison.findings.values(), ())):
            yield Sentence(told.text, (told.publication,))


def sentences(found: Answer) -> Iterator[Sentence]:
    yield from (Sentence(role.text, role.cites) for role in found.roles)
    yield from (Sentence(step.text, step.cites) for step in found.protocol)
    yield from (Sentence(one.text, tuple(one.sources)) for one in found.cautions)
    yield from found.unstudied
    yield from found.comparison.verdict if found.comparison else ()
    yield from notes(found)


# --- forty answers from the real knowledge base -----------------------------------------------------------------------


def test_every_citation_resolves_and_every_sentence_ends(kb: KB, answers: Sequence[Answer]) -> None:
    assert len(answers) == 40
    for found in answers:
        for one in sentences(found):
            assert set(one.cites) <= kb.publications.keys(), one
            assert one.text.endswith((".", ")")), one
            assert "  " not in one.text
            assert "{" not in one.text
        assert all(step.metrics or step.accept is None for step in found.protocol)
        assert {m for step in found.protocol for m in step.metrics} <= kb.metrics.keys()


def test_every_finding_says_how_far_it_is(kb: KB, answers: Sequence[Answer]) -> None:
    seen = set()
    for found in answers:
        asked = set(found.query.modality)
        for one in notes(found):
            assert one.cites, one
            studies = [s for c in one.cites if (s := kb.publications[c].study)]
            if not studies:
                assert "no modality" in one.text, one
            elif asked and not any(asked & set(s.modalities) for s in studies):
                assert "another modality" in one.text or "a related modality" in one.text, one
                seen.add("far")
            elif all(asked & set(s.modalities) for s in studies):
                assert "another modality" not in one.text, one
                seen.add("same")
    assert seen == {"far", "same"}


def test_no_reason_without_data(answers: Sequence[Answer]) -> None:
    for found in answers:
        if found.panel:
            assert [role.method for role in found.roles] == list(found.panel)
        assert all(caution.sources for caution in found.cautions)
        for role in found.roles:
            assert role.cites or "No study" in role.text or "no study" in role.text, role
        for one in found.unstudied:
            assert one.text.startswith(("No", "In none", "Not ")), one  # an absence, not a claim


def test_panels_are_of_three_to_five_kinds(kb: KB, answers: Sequence[Answer]) -> None:
    sizes = [len(found.panel) for found in answers if found.panel]
    assert sizes
    assert max(sizes) <= 5
    assert sum(size >= 3 for size in sizes) >= 0.8 * len(sizes)
    for found in answers:
        branch = [kb.vocabulary.families[kb.methods[m].family].branch for m in found.panel]
        added = len(found.panel) > 1 and branch[-1] not in branch[:-1]  # one more, that answers in another way
        panel = found.panel[: -1 if added else None]
        families = [kb.methods[m].family for m in panel if m not in found.query.methods]
        assert len(panel) <= 3 or len(families) == len(set(families))


def test_panels_hold_other_answers_than_maps(kb: KB) -> None:
    """What gives no map runs here too; what compares modalities is no complement where there is one."""

    def branches(question: str) -> set[str]:
        panel = answer(question, kb, runnable=ABLE).panel
        return {kb.vocabulary.families[kb.methods[m].family].branch for m in panel}

    assert "latent" in branches("What would have to change in the image for a brain MRI classifier?")
    assert "visualization" not in branches("Which concepts does my dermoscopy CNN use?")
    assert "multimodal" not in branches("explain a ViT on histopathology")
    assert "multimodal" in branches("which modality mattered in multi-sequence MRI")


def test_protocol_checks_sanity_before_faithfulness(answers: Sequence[Answer]) -> None:
    maps = [found for found in answers if any("mprt" in step.metrics for step in found.protocol)]
    assert maps
    for found in maps:
        order = [m for step in found.protocol for m in step.metrics]
        assert order.index("mprt") < order.index("deletion")
        sanity = next(step for step in found.protocol if "mprt" in step.metrics)
        assert sanity.accept
        assert "sanity_checks_saliency_2018" in sanity.cites


def test_json_carries_all_of_it(answers: Sequence[Answer]) -> None:
    for found in answers[:5]:
        data = json.loads(json.dumps(found.as_json()))
        assert [role["method"] for role in data["roles"]] == [role.method for role in found.roles]
        assert len(data["protocol"]) == len(found.protocol)
        assert data["unstudied"] == [one.as_json() for one in found.unstudied]
        assert all(one["cites"] for one in data["cautions"])


# --- a small one ------------------------------------------------------------------------------------------------------


def test_roles_say_what_each_method_adds(kb: KB) -> None:
    methods = [
        method("cam", "class_activation", needs=["gradients"]),
        method("grad", needs=["gradients"]),
        method("hide", "perturbation"),
    ]
    effects = {
        "worsened_by": [Effect(method="cam", text="Grain spoils it.", sources=["far"])],
        "eased_by": [Effect(method="hide", text="It averages.", sources=["p0"])],
    }
    papers = [paper(f"p{i}", ["cam"]) for i in range(6)]
    toy = small(kb, methods, [*papers, paper("far", ["cam"], modality="mri")], effects=effects)
    roles = {role.method: role for role in answer(ASK, toy).roles}
    assert roles["cam"].text.startswith("It leads the ranking; 6 studies on ultrasound")
    assert roles["cam"].cites[0] == "p0"
    assert "eases “speckle”, from which Cam suffers (Ultrasound; Mri, another modality)" in roles["hide"].text
    assert set(roles["hide"].cites) == {"p0", "far"}
    assert "for its output alone" in roles["hide"].text
    assert "for its output alone" not in roles["grad"].text
    assert "unlike Cam, it is not known to suffer from “speckle” (Mri, another modality)" in roles["grad"].text


def test_panel_avoids_shared_weaknesses(kb: KB) -> None:
    effects = {"worsened_by": [Effect(method=m, text="Bad.", sources=["s"]) for m in ("best", "alike")]}
    methods = [method("best", "class_activation"), method("alike"), method("other", "perturbation", passes=10_000)]
    toy = small(kb, methods, [paper(f"p{i}", ["best"]) for i in range(9)] + [paper("s", ["best"])], effects=effects)
    assert answer(ASK, toy).panel == ("best", "other", "alike")


def test_what_cannot_be_run_here_is_argued_all_the_same(kb: KB) -> None:
    toy = small(kb, [method("a"), method("flip", "counterfactual", output="counterfactual")])
    found = answer(replace(ASK, goal="what_would_change"), toy, runnable=["a"])
    assert found.panel == ()
    assert [role.method for role in found.roles] == ["flip"]
    assert found.tools == ("box",)
    dear = answer(replace(ASK, budget=0.001), toy, runnable=["a"])
    assert "within your budget of 0.001 s" in (dear.message or "")


def test_a_fifth_answers_in_another_way(kb: KB) -> None:
    maps = [method(f"m{i}", f) for i, f in enumerate(("gradient", "perturbation", "class_activation", "attention"))]
    toy = small(kb, [*maps, method("cases", "example", output="examples")], [paper("p", ["cases"])])
    assert answer(ASK, toy).panel[-1] == "cases"
    assert "cases" not in answer(replace(ASK, goal="where"), toy).panel


def test_protocol_quotes_what_the_knowledge_base_holds(kb: KB) -> None:
    metrics = {
        "deletion": metric("deletion", weaknesses=[Statement(text="It fills holes.", sources=["far"])]),
        "mprt": metric("mprt", "randomisation", "lower"),
    }
    shown = {"shown_by": [Shown(metric="deletion", text="It fell to 0.2.", sources=["near"])]}
    papers = [paper("near", ["a"]), paper("far", ["a"], modality="mri")]
    toy = small(kb, [method("a"), method("b", "perturbation")], papers, metrics=metrics, effects=shown)
    steps = {step.metrics: step for step in answer(ASK, toy).protocol}
    assert list(steps) == [(), ("mprt",), ("deletion",)]
    assert [note.text for note in steps["deletion",].notes] == [
        "deletion, for “speckle”: It fell to 0.2 (Ultrasound).",
        "deletion, weakness: It fills holes (Mri, another modality).",
    ]
    assert "random map" in (steps["deletion",].accept or "")


def test_cautions_tell_what_was_trusted_too_much(kb: KB) -> None:
    told = [
        claim(["a"], "inadequate", criterion="usefulness", text="Readers erred with it."),
        claim(["a"], "adequate", criterion="usefulness", text="Readers liked it."),
        claim(["b"], "better", ["a"], criterion="usefulness", text="They preferred B."),
    ]
    toy = small(kb, [method("a"), method("b", "perturbation")], [paper("p", ["a"], modality="mri", claims=told)])
    texts = [one.text for one in answer(ASK, toy).cautions]
    assert "A, found against it: Readers erred with it (Mri, another modality; usefulness)." in texts
    assert not any("liked" in text or "preferred" in text for text in texts)
    assert texts[0].startswith("Speckle: ")


def test_blanks_are_counted(kb: KB) -> None:
    methods = [method("a"), method("b", "perturbation"), method("c", "class_activation")]
    papers = [
        paper("p1", ["a"], clinicians=True, claims=[claim(["a"], "better", ["c"])]),
        paper("p2", ["c"]),
        paper("p3", ["b"], modality="mri"),
    ]
    toy = small(kb, methods, papers)
    told = {one.text: one.cites for one in answer(ASK, toy).unstudied}
    assert told["None of the 2 studies on ultrasound for classification tried perturbation."] == ("p1", "p2")
    assert any(
        t.endswith("found anything on usefulness, agreement with experts, sanity, faithfulness, robustness.")
        for t in told
    )
    assert not any("judged" in text for text in told)
    assert told["No study tried B on ultrasound, though on mri (1 study)."] == ("p3",)
    assert any("A and B" in text and "A and C" not in text for text in told)
    assert answer(replace(ASK, task="segmentation"), toy).unstudied[0].text == (
        "No study on ultrasound for segmentation is in the knowledge base."
    )
    assert answer(Query(architecture="cnn"), toy).unstudied == ()


def test_named_methods_are_compared(kb: KB) -> None:
    toy = small(
        kb, [method("a"), method("b", "perturbation")], [paper("p", ["a"], claims=[claim(["a"], "better", ["b"])])]
    )
    assert answer(ASK, toy).comparison is None
    found = answer(replace(ASK, methods=("a", "b")), toy).comparison
    assert found
    assert found.head_to_head[0].favours == ("a",)
