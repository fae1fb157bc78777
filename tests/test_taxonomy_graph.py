from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from toykb import TOY, copy_toy, each, replaced, written

from taxonomy import KB, UnknownIdError, graph, load_kb, loader, schema


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_ATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loader, "_loaded", {})


@pytest.fixture
def kb() -> KB:
    return load_kb(TOY)


# --- the graph -------------------------------------------------------------------------------------------------------


def test_every_entity_and_word_is_a_node_with_kind_and_name(kb: KB) -> None:
    counted = Counter(kind for _, kind in kb.graph.nodes(data="kind"))
    assert counted == {kind: len(entities) for kind, entities in {**kb.kinds(), **kb.words()}.items()}
    assert kb.graph.nodes["grad_cam"] == {"kind": "methods", "name": "Grad-CAM"}
    assert kb.graph.nodes["branch:latent"] == {"kind": "branches", "name": "Latent space"}
    assert all(graph.name(kb, node) == name for node, name in kb.graph.nodes(data="name"))


def test_no_edge_leads_to_a_node_that_is_not_there(kb: KB) -> None:
    # networkx would make such a node silently, without a kind
    assert all("kind" in facts for _, facts in kb.graph.nodes(data=True))
    assert {relation for *_, relation in kb.graph.edges(data="relation")} <= set(graph.RELATIONS)


def test_the_toy_shows_every_relation(kb: KB) -> None:
    assert {relation for *_, relation in kb.graph.edges(data="relation")} == set(graph.RELATIONS)


@pytest.mark.parametrize(
    ("source", "target", "relation"),
    [
        ("grad_cam_pp", "grad_cam", "variant_of"),
        ("rise", "family:perturbation", "in_family"),
        ("family:path_gradient", "family:gradient", "part_of"),
        ("family:gradient", "branch:visualization", "part_of"),
        ("mammography", "xray", "part_of"),
        ("rise", "petsiuk_2018_rise", "introduced_in"),
        ("grad_cam", "toy_2021_speckle", "sourced_by"),
        ("toy_2022_mammo", "rise", "used"),
        ("toy_2022_mammo", "mammography", "studied"),
        ("toy_2021_speckle", "task:segmentation", "worked_on"),
        ("toy_2021_speckle", "architecture:unet", "explained"),
        ("toy_2020_cxr", "toy_2022_mammo", "contradicts"),
        ("xray", "overlap", "made_hard_by"),
        ("speckle", "grad_cam", "eased_by"),
        ("speckle", "family:gradient", "worsened_by"),
        ("speckle", "sensitivity_max", "shown_by"),
        ("pointing_game", "toy_cam", "implemented_in"),
        ("rise", "task:classification", "explains"),
        ("grad_cam", "need:spatial_features", "needs"),
        ("goal:where", "family:class_activation", "served_by"),
        ("goal:where", "criterion:localisation", "asks_for"),
        ("audience:clinician", "criterion:agreement_with_experts", "asks_for"),
    ],
)
def test_a_statement_is_an_edge(kb: KB, source: str, target: str, relation: str) -> None:
    assert relation in {edge["relation"] for edge in kb.graph[source][target].values()}


def test_a_family_with_a_parent_hangs_on_it_alone(kb: KB) -> None:
    assert not kb.graph.has_edge("family:path_gradient", "branch:visualization")


def test_claims_carry_what_was_found(kb: KB) -> None:
    judged = [e for e in kb.graph.get_edge_data("toy_2020_cxr", "integrated_gradients").values() if "side" in e]
    assert judged == [
        {
            "relation": "judged",
            "criterion": "localisation",
            "outcome": "better",
            "text": "Its highest values lay in the experts' boxes more often.",
            "side": "versus",
        }
    ]


def test_two_claims_about_one_method_are_two_edges(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    claim = "  - {methods: [grad_cam], criterion: speed, outcome: adequate, text: It is quick.}\n"
    replaced("publications/toy_2020_cxr.yaml", "conflicts:", claim + "conflicts:")(root)
    edges = load_kb(root).graph.get_edge_data("toy_2020_cxr", "grad_cam").values()
    assert sorted(e["criterion"] for e in edges if e["relation"] == "judged") == ["localisation", "speed"]


def test_graph_and_index_are_built_once(kb: KB) -> None:
    assert kb.graph is kb.graph
    assert kb.index is kb.index


def test_a_namesake_of_a_family_is_no_trouble(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    (root / "methods/rise.yaml").rename(root / "methods/perturbation.yaml")
    for old in ("methods: [rise, cam_unspecified]", "  - methods: [rise]"):
        replaced("publications/toy_2022_mammo.yaml", old, old.replace("rise", "perturbation"))(root)
    changed = load_kb(root)
    assert graph.ancestors(changed, "perturbation") == ["family:perturbation", "branch:visualization"]
    assert changed.graph.nodes["perturbation"]["kind"] == "methods"


# --- trees -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "above"),
    [
        ("grad_cam_pp", ["grad_cam", "family:class_activation", "branch:visualization"]),
        (
            "integrated_gradients",
            ["vanilla_gradient", "family:path_gradient", "family:gradient", "branch:visualization"],
        ),
        ("family:path_gradient", ["family:gradient", "branch:visualization"]),
        ("branch:latent", []),
        ("mammography", ["xray"]),
        ("ultrasound", []),
        ("captum", []),
    ],
)
def test_ancestors(kb: KB, node: str, above: list[str]) -> None:
    assert graph.ancestors(kb, node) == above


@pytest.mark.parametrize(
    ("node", "below"),
    [
        ("branch:visualization", ("family:class_activation", "family:gradient", "family:perturbation")),
        ("branch:latent", ()),
        ("family:gradient", ("family:path_gradient", "vanilla_gradient")),
        ("family:path_gradient", ("integrated_gradients",)),
        ("family:class_activation", ("cam_unspecified", "grad_cam")),
        ("grad_cam", ("grad_cam_pp",)),
        ("vanilla_gradient", ()),  # its variant is of another family and stands there
        ("xray", ("mammography",)),
    ],
)
def test_children(kb: KB, node: str, below: tuple[str, ...]) -> None:
    assert graph.children(kb, node) == below


def test_every_method_stands_once_below_its_branch(kb: KB) -> None:
    def below(node: str) -> list[str]:
        return [node, *(found for child in graph.children(kb, node) for found in below(child))]

    for branch in kb.vocabulary.branches:
        methods = [node for node in below(f"branch:{branch}") if node in kb.methods]
        assert sorted(methods) == sorted(m for m in kb.methods if kb.branch(m) == branch)


def test_relatives_are_nearest_first(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)

    def modality(dims: str, parent: str = "null", challenges: str = "speckle") -> str:
        text = "name: {}\nparent: {}\ndefinition: d\ndims: {}\nformats: [PNG]\n"
        text += "challenges: [{{challenge: {}, sources: [toy_2020_cxr]}}]\n"
        return text.format(f"{parent} {dims} {challenges}", parent, dims, challenges)

    each(
        written("modalities/chest.yaml", modality("[2]", "xray")),
        written("modalities/dental.yaml", modality("[2]", "chest")),
        written("modalities/fundus.yaml", modality("[2]")),
        written("modalities/dermoscopy.yaml", modality("[2]", challenges="overlap")),
        written("modalities/ct.yaml", modality("[3]")),
    )(root)
    relatives = graph.relatives(load_kb(root), "mammography")
    assert relatives == [
        ("xray", 1),
        ("chest", 2),
        ("dental", 3),
        ("dermoscopy", 4),  # before fundus: it shares a challenge
        ("fundus", 4),
        ("ultrasound", 5),
    ]
    assert "ct" not in dict(relatives)  # 2D evidence says nothing about volumes


# --- evidence --------------------------------------------------------------------------------------------------------


def test_evidence_of_a_method(kb: KB) -> None:
    found = graph.evidence(kb, "grad_cam")
    assert [(e.publication.id, [c.criterion for c in e.claims]) for e in found] == [
        ("toy_2021_speckle", ["robustness"]),  # as what another is compared with
        ("toy_2020_cxr", ["localisation"]),
    ]


def test_evidence_counts_studies_without_a_claim(kb: KB) -> None:
    (found,) = graph.evidence(kb, "cam_unspecified")
    assert (found.publication.id, found.claims) == ("toy_2022_mammo", ())


def test_evidence_is_narrowed_by_modality_and_task(kb: KB) -> None:
    def ids(**by: str) -> list[str]:
        return [e.publication.id for e in graph.evidence(kb, "grad_cam", **by)]

    assert ids(modality="ultrasound") == ["toy_2021_speckle"]
    assert ids(modality="mammography") == []
    assert ids(task="classification") == ["toy_2020_cxr"]
    assert ids(modality="xray", task="segmentation") == []


def test_a_method_only_in_a_claim_counts_as_used(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    replaced("publications/toy_2020_cxr.yaml", "methods: [grad_cam, grad_cam_pp, integrated", "methods: [integrated")(
        root
    )
    kb = load_kb(root)
    assert graph.coverage(kb)["grad_cam", "xray"] == ("toy_2020_cxr",)


def test_coverage(kb: KB) -> None:
    assert graph.coverage(kb) == {
        ("grad_cam", "xray"): ("toy_2020_cxr",),
        ("grad_cam_pp", "xray"): ("toy_2020_cxr",),
        ("integrated_gradients", "xray"): ("toy_2020_cxr",),
        ("grad_cam", "ultrasound"): ("toy_2021_speckle",),
        ("vanilla_gradient", "ultrasound"): ("toy_2021_speckle",),
        ("rise", "mammography"): ("toy_2022_mammo",),
        ("cam_unspecified", "mammography"): ("toy_2022_mammo",),
    }


def test_coverage_agrees_with_the_graph(kb: KB) -> None:
    # a second, slow way: walk the edges
    walked: dict[tuple[str, str], set[str]] = {}
    for publication in kb.publications:
        edges = [(target, edge["relation"]) for _, target, edge in kb.graph.out_edges(publication, data=True)]
        methods = {target for target, relation in edges if relation in ("used", "judged")}
        for modality in {target for target, relation in edges if relation == "studied"}:
            for method in methods:
                walked.setdefault((method, modality), set()).add(publication)
    assert {pair: set(ids) for pair, ids in graph.coverage(kb).items()} == walked


def test_the_index_knows_claims_from_both_sides_and_tools(kb: KB) -> None:
    index = kb.index
    assert [pub for pub, _ in index.claims["grad_cam"]] == ["toy_2020_cxr"]
    assert [pub for pub, _ in index.versus["grad_cam"]] == ["toy_2021_speckle"]
    assert index.tools["grad_cam"] == ("captum", "toy_cam")
    assert index.tools["pointing_game"] == ("toy_cam",)
    assert index.by_modality["ultrasound"] == ("toy_2021_speckle",)
    assert "rise" not in index.tools


def test_publications_stand_newest_first(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    study = "study: {modalities: [xray], anatomy: null, task: null, architecture: null, dims: null}\n"
    paper = "title: {0}\nyear: {1}\nurl: https://example.org/{0}\nread: title\nmethods: [grad_cam]\n" + study
    paper = paper.replace("{modalities", "{{modalities").replace("null}\n", "null}}\n")
    each(
        written("publications/undated.yaml", paper.format("Undated", "null")),
        written("publications/newest.yaml", paper.format("Newest", "2024")),
    )(root)
    assert graph.coverage(load_kb(root))["grad_cam", "xray"] == ("newest", "toy_2020_cxr", "undated")


# --- names that do not exist -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda kb: graph.ancestors(kb, "grad_can"), "'grad_can': did you mean grad_cam"),
        (lambda kb: graph.children(kb, "family:gradients"), "unknown family 'gradients': did you mean gradient"),
        (lambda kb: graph.name(kb, "familly:gradient"), "unknown prefix of a node 'familly': did you mean family"),
        (lambda kb: graph.relatives(kb, "ultra_sound"), "unknown modality 'ultra_sound': did you mean ultrasound"),
        (lambda kb: graph.evidence(kb, "rize"), "unknown method 'rize': did you mean rise"),
        (lambda kb: graph.evidence(kb, "rise", "x_ray"), "unknown modality 'x_ray': did you mean xray"),
        (lambda kb: graph.evidence(kb, "rise", task="segment"), "unknown task 'segment': did you mean segmentation"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(kb: KB, ask, message: str) -> None:
    with pytest.raises(UnknownIdError, match=message):
        ask(kb)


def test_every_section_of_the_vocabulary_has_a_prefix() -> None:
    assert set(graph.PREFIXES) == set(schema.Vocabulary.model_fields)
    assert len(set(graph.PREFIXES.values())) == len(graph.PREFIXES)
