"""Questions to the graph on the toy knowledge base: exact answers; on the real one: what must hold of any."""

from __future__ import annotations

from pathlib import Path

import pytest
from toykb import TOY, Edit, copy_toy, each, replaced, written

from taxonomy import KB, UnknownIdError, graph, load_kb
from taxonomy.questions import (
    NEAR,
    bearings,
    blanks,
    disagreements,
    explains,
    findings,
    neighbourhood,
    neighbours,
    side,
    why,
)
from taxonomy.schema import Claim

STUDY = "{{modalities: [{}], anatomy: null, task: classification, architecture: null, dims: null}}"
PAPER = "title: {0}\nyear: {1}\nurl: https://example.org/{0}\nread: abstract\nstudy: {2}\nmethods: [{3}]\nclaims:\n"
CLAIM = "  - {{methods: [{}], versus: [{}], criterion: {}, outcome: {}, text: Told.}}\n"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def kb() -> KB:
    return load_kb(TOY)


@pytest.fixture(scope="module")
def real() -> KB:
    return load_kb()


def paper(name: str, modality: str, methods: str, *claims: tuple[str, str, str, str], year: int = 2023) -> Edit:
    text = PAPER.format(name, year, STUDY.format(modality), methods)
    return written(f"publications/{name}.yaml", text + "".join(CLAIM.format(*claim) for claim in claims))


def loaded(tmp_path: Path, *edits: Edit) -> KB:
    root = copy_toy(tmp_path)
    each(*edits)(root)
    return load_kb(root)


@pytest.mark.parametrize(
    ("criterion", "outcome", "expected"),
    [
        ("localisation", "better", (1, -1)),
        ("localisation", "worse", (-1, 1)),
        ("localisation", "equal", (0, 0)),
        ("localisation", "mixed", (0, 0)),
        ("sanity", "adequate", (1, 0)),
        ("sanity", "inadequate", (-1, 0)),
        ("feasibility", "adequate", (0, 0)),
        ("feasibility", "inadequate", (-1, 0)),
    ],
)
def test_what_a_claim_says_about_both_sides(criterion: str, outcome: str, expected: tuple[int, int]) -> None:
    claim = Claim.model_validate(
        {"methods": ["a"], "versus": ["b"], "criterion": criterion, "outcome": outcome, "text": "Told."}
    )
    assert (side(claim, "a"), side(claim, "b")) == expected


def test_findings_are_newest_first_and_from_both_sides(kb: KB) -> None:
    assert [(f.publication, f.side) for f in findings(kb, "grad_cam")] == [("toy_2021_speckle", 1), ("toy_2020_cxr", 1)]


def test_what_explains_a_modality_for_a_task(kb: KB) -> None:
    tried = explains(kb, "ultrasound", "segmentation")
    assert [(one.method, one.balance, one.publications) for one in tried] == [
        ("grad_cam", 1, ("toy_2021_speckle",)),
        ("vanilla_gradient", -1, ("toy_2021_speckle",)),
    ]
    assert explains(kb, "ultrasound", "classification") == []
    (best, *_) = explains(kb, "xray")
    assert (best.method, best.clinicians) == ("grad_cam", 1)


def test_publications_that_point_in_opposite_directions_disagree(tmp_path: Path) -> None:
    kb = loaded(
        tmp_path,
        paper(
            "other",
            "xray",
            "grad_cam, integrated_gradients",
            ("integrated_gradients", "grad_cam", "localisation", "better"),
        ),
    )
    found = disagreements(kb)
    assert {(d.method, d.criterion, d.modality) for d in found} == {
        ("grad_cam", "localisation", "xray"),
        ("integrated_gradients", "localisation", "xray"),
    }
    (one,) = disagreements(kb, "grad_cam")
    assert one.opposed == (("toy_2020_cxr", "other"),)
    assert disagreements(kb, modality="ultrasound") == []


def test_no_disagreement_between_criteria_modalities_or_inside_a_publication(tmp_path: Path) -> None:
    against = ("integrated_gradients", "grad_cam", "localisation", "better")
    kb = loaded(
        tmp_path,
        paper("elsewhere", "ultrasound", "grad_cam, integrated_gradients", against),
        paper(
            "otherwise",
            "xray",
            "grad_cam, integrated_gradients",
            ("integrated_gradients", "grad_cam", "speed", "better"),
        ),
        paper("torn", "mammography", "rise", ("rise", "", "sanity", "adequate"), ("rise", "", "sanity", "inadequate")),
    )
    assert disagreements(kb) == []


def test_an_opposed_pair_ranks_the_same_two_methods(tmp_path: Path) -> None:
    kb = loaded(
        tmp_path,
        paper("other", "xray", "grad_cam, rise", ("grad_cam", "rise", "localisation", "worse")),
    )
    (one,) = disagreements(kb, "grad_cam")
    assert one.opposed == (), "worse than RISE does not contradict better than integrated gradients"


def test_what_a_method_eases_comes_with_its_parents_and_families(kb: KB) -> None:
    (eased,) = bearings(kb, "grad_cam_pp")
    assert (eased.challenge, eased.eases, eased.effect.method, eased.modalities) == (
        "speckle",
        True,
        "grad_cam",
        ("ultrasound",),
    )
    (suffers,) = bearings(kb, "integrated_gradients")
    assert (suffers.eases, suffers.effect.family) == (False, "gradient")
    assert bearings(kb, "grad_cam_pp", "xray") == []


def test_blank_cells_are_those_nobody_tried_and_rise_with_their_neighbours(tmp_path: Path) -> None:
    kb = loaded(tmp_path)
    found = blanks(kb)
    tried = set(graph.coverage(kb))
    assert not {(b.method, b.modality) for b in found} & tried
    assert "cam_unspecified" not in {b.method for b in found}
    possible = {
        (m, o)
        for m, method in kb.methods.items()
        for o, modality in kb.modalities.items()
        if not method.umbrella and set(method.requires.dims) & set(modality.dims)
    }
    covered = tried | {("rise", "xray")}  # mammography is a kind of X-ray, and RISE was tried there
    assert {(b.method, b.modality) for b in found} == possible - covered
    assert [b.promise for b in found] == sorted((b.promise for b in found), reverse=True)
    (one,) = (b for b in found if (b.method, b.modality) == ("grad_cam", "mammography"))
    assert one.elsewhere == (("xray", 1, 1), ("ultrasound", 1, 1))
    assert one.promise == pytest.approx(NEAR[1] * 1.5 + NEAR[5] * 1.5)


def test_a_finding_against_it_elsewhere_makes_a_blank_less_promising(tmp_path: Path) -> None:
    before = {(b.method, b.modality): b.promise for b in blanks(load_kb(TOY))}
    kb = loaded(tmp_path, paper("bad", "xray", "grad_cam", ("grad_cam", "", "sanity", "inadequate")))
    after = {(b.method, b.modality): b.promise for b in blanks(kb, "mammography", ["grad_cam"])}
    assert after["grad_cam", "mammography"] < before["grad_cam", "mammography"]


def test_a_challenge_it_eases_makes_a_blank_more_promising(tmp_path: Path) -> None:
    edit = replaced("modalities/mammography.yaml", "challenge: overlap", "challenge: speckle")
    kb = loaded(tmp_path, edit)
    (one,) = blanks(kb, "mammography", ["grad_cam"])
    (before,) = blanks(load_kb(TOY), "mammography", ["grad_cam"])
    assert one.eases == ("speckle",)
    assert one.promise == pytest.approx(before.promise + 0.5)


def test_the_nearest_relative_is_the_parent_or_a_variant(kb: KB) -> None:
    first = neighbours(kb, "grad_cam_pp")[0]
    assert first.method == "grad_cam"
    assert "Grad-CAM++ is a variant of it" in first.why
    assert all(0 <= one.likeness <= 1 for one in neighbours(kb, "rise", limit=99))
    assert len(neighbours(kb, "rise", limit=2)) == 2


def test_ways_say_why_and_each_shows_something_new(kb: KB) -> None:
    ways = why(kb, "grad_cam", "ultrasound")
    assert [[step.text for step in steps] for steps in ways][:2] == [
        ["Grad-CAM eases Speckle", "Speckle makes it hard to explain Ultrasound"],
        ["Grad-CAM was judged in A toy study of speckle", "A toy study of speckle studied Ultrasound"],
    ]
    seen: set[str] = set()
    for steps in ways:
        nodes = {step.source for step in steps} | {step.target for step in steps}
        assert not seen or nodes - seen
        seen |= nodes
        assert all(a.target == b.source for a, b in zip(steps, steps[1:], strict=False))


def test_ways_prefer_statements_to_what_all_share(kb: KB) -> None:
    relations = {step.relation for step in why(kb, "rise", "grad_cam", limit=1)[0]}
    assert not relations & {name for name, relation in graph.RELATIONS.items() if relation.length == 5}


def test_there_may_be_no_way(kb: KB) -> None:
    assert why(kb, "rise", "rise") == []
    assert why(kb, "branch:latent", "rise") == []  # the toy has no family in this branch


def test_a_neighbourhood_is_small_and_of_many_kinds(real: KB) -> None:
    steps = neighbourhood(real, "grad_cam", limit=20)
    assert len(steps) == 20
    assert len({step.relation for step in steps}) >= 6
    assert all(step.source == "grad_cam" for step in steps)
    assert len({step.target for step in steps}) == 20


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda kb: findings(kb, "nothing"), "method"),
        (lambda kb: explains(kb, "nothing"), "modality"),
        (lambda kb: explains(kb, "xray", "nothing"), "task"),
        (lambda kb: disagreements(kb, modality="nothing"), "modality"),
        (lambda kb: bearings(kb, "nothing"), "method"),
        (lambda kb: bearings(kb, "rise", "nothing"), "modality"),
        (lambda kb: blanks(kb, "nothing"), "modality"),
        (lambda kb: blanks(kb, methods=["nothing"]), "method"),
        (lambda kb: neighbours(kb, "nothing"), "method"),
        (lambda kb: why(kb, "rise", "nothing"), "id"),
        (lambda kb: neighbourhood(kb, "nothing"), "id"),
    ],
)
def test_a_name_that_does_not_exist_is_told(kb: KB, ask: object, what: str) -> None:
    with pytest.raises(UnknownIdError, match=f"unknown {what} 'nothing'"):
        ask(kb)  # type: ignore[operator]


def test_the_real_knowledge_base_lists_its_contradictions(real: KB) -> None:
    for found in disagreements(real):
        assert {f.side for f in found.for_} == {1}
        assert {f.side for f in found.against} == {-1}
        for one, other in found.opposed:
            assert other in real.publications[one].conflicts
            assert one in real.publications[other].conflicts
