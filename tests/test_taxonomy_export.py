from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import networkx
import pytest
from toykb import TOY, Edit, appended, copy_toy, each, replaced

from taxonomy import KB, AtlasError, UnknownIdError, load_kb, loader
from taxonomy.documents import Document
from taxonomy.export import FORMATS, export, json_schema
from taxonomy.schema import KINDS, Publication, Vocabulary


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_ATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loader, "_loaded", {})


@pytest.fixture
def kb() -> KB:
    return load_kb(TOY)


def exported(kb: KB, folder: Path, suffix: str) -> Path:
    export(kb, folder / f"kb{suffix}")
    return folder / f"kb{suffix}"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
def test_one_knowledge_base_gives_one_file(kb: KB, tmp_path: Path, suffix: str) -> None:
    first = exported(kb, tmp_path / "a", suffix).read_bytes()
    loader._loaded.clear()
    assert exported(load_kb(TOY), tmp_path / "b", suffix.upper()).read_bytes() == first


@pytest.mark.parametrize("name", ["kb.xml", "kb", "kb.yaml"])
def test_a_suffix_without_a_format_names_those_there_are(kb: KB, tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownIdError, match="unknown suffix of an export file"):
        export(kb, tmp_path / name)
    assert list(tmp_path.glob("kb*")) == []


def test_a_file_that_cannot_be_written_is_a_sentence(kb: KB, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AtlasError, match=r"cannot write .*file/kb.json: .*; give a file in a folder"):
        export(kb, tmp_path / "file/kb.json")
    with pytest.raises(AtlasError, match="cannot write"):
        json_schema(tmp_path / "file/schemas")


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_json_holds_everything_and_reads_back(kb: KB, tmp_path: Path) -> None:
    read = json.loads(exported(kb, tmp_path, ".json").read_text(encoding="utf-8"))
    assert Vocabulary.model_validate(read["vocabulary"]) == kb.vocabulary
    for kind, model in KINDS.items():
        again = {i: model.model_validate({**value, "id": i}) for i, value in read[kind].items()}
        assert again == kb.kinds()[kind]


# --- GraphML ---------------------------------------------------------------------------------------------------------


def test_graphml_reads_back_as_the_graph(kb: KB, tmp_path: Path) -> None:
    read = networkx.read_graphml(exported(kb, tmp_path, ".graphml"), force_multigraph=True)
    assert dict(read.nodes(data=True)) == dict(kb.graph.nodes(data=True))

    def edges(graph: Any) -> list[tuple[str, str, list[tuple[str, str]]]]:
        return sorted((s, t, sorted((k, v) for k, v in e.items() if k != "id")) for s, t, e in graph.edges(data=True))

    assert edges(read) == edges(kb.graph)


# --- CSV -------------------------------------------------------------------------------------------------------------


def test_claims_are_one_row_for_each_method_and_modality(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    each(
        replaced("publications/toy_2020_cxr.yaml", "modalities: [xray]", "modalities: [xray, mammography]"),
        replaced(
            "publications/toy_2020_cxr.yaml", "  - methods: [grad_cam_pp]", "  - methods: [grad_cam_pp, grad_cam]"
        ),
    )(root)
    found = rows(exported(load_kb(root), tmp_path, ".csv").read_text(encoding="utf-8"))
    second = [(r["method"], r["modality"]) for r in found if r["claim"] == "toy_2020_cxr#2"]
    assert second == [
        ("grad_cam_pp", "xray"),
        ("grad_cam_pp", "mammography"),
        ("grad_cam", "xray"),
        ("grad_cam", "mammography"),
    ]


def test_a_claim_row_carries_its_study_and_source(kb: KB, tmp_path: Path) -> None:
    first = rows(exported(kb, tmp_path, ".csv").read_text(encoding="utf-8"))[0]
    assert first == {
        "claim": "toy_2020_cxr#1",
        "method": "grad_cam",
        "family": "class_activation",
        "branch": "visualization",
        "modality": "xray",
        "task": "classification",
        "architecture": "cnn",
        "criterion": "localisation",
        "outcome": "better",
        "versus": "integrated_gradients",
        "text": "Its highest values lay in the experts' boxes more often.",
        "where": "Table 2",
        "self_reported": "false",
        "publication": "toy_2020_cxr",
        "title": "A toy study of chest radiographs",
        "year": "2020",
        "link": "https://doi.org/10.1234/toy.2020.1",
        "read": "fulltext",
        "clinicians": "true",
    }


def test_a_claim_without_a_study_has_a_row(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    claim = (
        "methods: [rise]\nclaims:\n  - {methods: [rise], criterion: speed, outcome: inadequate, text: It is slow.}\n"
    )
    appended("publications/petsiuk_2018_rise.yaml", claim)(root)
    found = rows(exported(load_kb(root), tmp_path, ".csv").read_text(encoding="utf-8"))
    assert [(r["modality"], r["outcome"]) for r in found if r["publication"] == "petsiuk_2018_rise"] == [
        ("", "inadequate")
    ]


def test_the_zip_holds_a_table_for_each_kind(kb: KB, tmp_path: Path) -> None:
    with zipfile.ZipFile(exported(kb, tmp_path, ".zip")) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        tables = {
            Path(name).stem: rows(archive.read(name).decode()) for name in archive.namelist() if name.endswith(".csv")
        }
    everything = {**kb.kinds(), **kb.words()}
    assert {name: [r["id"] for r in table] for name, table in tables.items() if name != "claims"} == {
        kind: list(entities) for kind, entities in everything.items()
    }
    assert tables["claims"] == rows(exported(kb, tmp_path, ".csv").read_text(encoding="utf-8"))
    rise = next(row for row in tables["methods"] if row["id"] == "rise")
    assert (rise["requires.tasks"], rise["requires.dims"], rise["cost.passes"], rise["umbrella"]) == (
        "classification; segmentation",
        "2; 3",
        "4000",
        "false",
    )
    steps = next(row for row in tables["methods"] if row["id"] == "integrated_gradients")["hyperparameters"]
    assert json.loads(steps)[0] == {"name": "steps", "default": 50, "note": None}
    assert {"study.task", "study.modalities"} <= set(tables["publications"][0])
    assert "study" not in tables["publications"][0]
    assert next(r for r in tables["modalities"] if r["id"] == "xray")["translations.de"] == "Röntgen; Röntgenbild"


# --- JSON-LD ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def linked(kb: KB, tmp_path: Path) -> dict[str, Any]:
    return json.loads(exported(kb, tmp_path, ".jsonld").read_text(encoding="utf-8"))


def test_linked_data_names_every_node_once(kb: KB, linked: dict[str, Any]) -> None:
    ids = [node["@id"] for node in linked["@graph"]]
    claims = sum(len(p.claims) for p in kb.publications.values())
    assert len(ids) == len(set(ids)) == 1 + len(kb.graph) + claims


def test_no_link_leads_to_nothing(linked: dict[str, Any]) -> None:
    ids = {node["@id"] for node in linked["@graph"]}

    def links(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set().union(*(links(v) for v in value.values()))
        if isinstance(value, list):
            return set().union(*map(links, value))
        return {value} if isinstance(value, str) and value.startswith("atlas:") else set()

    assert links(linked["@graph"]) <= ids


def test_every_key_has_a_meaning(linked: dict[str, Any]) -> None:
    # what the context does not name falls to schema.org; these are the words of schema.org that we use
    schema_org = {
        "name",
        "description",
        "alternateName",
        "headline",
        "datePublished",
        "author",
        "isPartOf",
        "identifier",
    }
    schema_org |= {"license", "version", "applicationCategory", "text", "appearance", "about"}
    keys = {key for node in linked["@graph"] for key in node if not key.startswith("@")}
    assert keys <= set(linked["@context"]) | schema_org


def test_a_publication_is_an_article(linked: dict[str, Any]) -> None:
    node = next(n for n in linked["@graph"] if n["@id"] == "atlas:toy_2020_cxr")
    assert node["@type"] == "ScholarlyArticle"
    assert node["sameAs"] == "https://doi.org/10.1234/toy.2020.1"
    assert node["identifier"] == [{"@type": "PropertyValue", "propertyID": "DOI", "value": "10.1234/toy.2020.1"}]
    assert node["studied"] == ["atlas:xray"]
    assert "judged" not in node


def test_a_method_is_a_term_below_its_family(linked: dict[str, Any]) -> None:
    node = next(n for n in linked["@graph"] if n["@id"] == "atlas:grad_cam_pp")
    assert node["@type"] == ["DefinedTerm", "skos:Concept"]
    assert (node["variant_of"], node["in_family"]) == (["atlas:grad_cam"], ["atlas:family:class_activation"])
    assert linked["@context"]["in_family"] == {"@id": "skos:broader", "@type": "@id"}


def test_a_link_stands_once_however_often_it_is_stated(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    strength = "strengths:\n  - {text: It is quick., sources: [toy_2021_speckle]}\n"
    appended("methods/grad_cam.yaml", strength)(root)
    nodes = json.loads(exported(load_kb(root), tmp_path, ".jsonld").read_text(encoding="utf-8"))["@graph"]
    node = next(n for n in nodes if n["@id"] == "atlas:grad_cam")
    assert node["sourced_by"] == ["atlas:toy_2021_speckle", "atlas:selvaraju_2016_grad_cam"]


def test_a_claim_is_a_node(linked: dict[str, Any]) -> None:
    node = next(n for n in linked["@graph"] if n["@id"] == "atlas:toy_2020_cxr#1")
    assert (node["@type"], node["outcome"], node["versus"]) == ("Claim", "better", ["atlas:integrated_gradients"])


def test_translations_carry_their_language(linked: dict[str, Any]) -> None:
    node = next(n for n in linked["@graph"] if n["@id"] == "atlas:xray")
    assert {"@value": "Röntgen", "@language": "de"} in node["alternateName"]


# --- JSON Schema -----------------------------------------------------------------------------------------------------


@pytest.fixture
def validators(tmp_path: Path) -> dict[str, jsonschema.Draft202012Validator]:
    found = {}
    for file in json_schema(tmp_path / "schemas"):
        schema = json.loads(file.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        found[file.name.removesuffix(".schema.json")] = jsonschema.Draft202012Validator(schema)
    return found


def errors(validators: dict[str, jsonschema.Draft202012Validator], root: Path) -> dict[str, list[str]]:
    """Messages of the JSON Schemas by file, over the files as an editor sees them."""
    found = {}
    for file in sorted([*root.glob("[a-z]*/*.yaml"), root / "vocabulary.yaml"]):
        name = str(file.relative_to(root))
        validator = validators[file.parent.name if file.parent != root else "vocabulary"]
        if wrong := [error.message for error in validator.iter_errors(Document(name, file.read_bytes()).value)]:
            found[name] = wrong
    return found


def test_there_is_a_schema_for_each_kind(validators: dict[str, Any]) -> None:
    assert set(validators) == {*KINDS, "vocabulary"}


def test_the_toy_fits_the_schemas(validators: dict[str, Any]) -> None:
    assert errors(validators, TOY) == {}


@pytest.mark.parametrize(
    "edit",
    [
        replaced("methods/rise.yaml", "scope: local", "scope: everywhere"),
        replaced("methods/rise.yaml", "name: RISE", "id: rise\nname: RISE"),
        replaced("methods/rise.yaml", "name: RISE", "name: ''"),
        replaced("methods/rise.yaml", "passes: 4000", "passes: '4000'"),
        replaced("methods/rise.yaml", "output: map\n", ""),
        appended("methods/rise.yaml", "colour: red\n"),
    ],
)
def test_what_the_loader_refuses_the_editor_shows(validators: dict[str, Any], tmp_path: Path, edit: Edit) -> None:
    root = copy_toy(tmp_path)
    edit(root)
    assert list(errors(validators, root)) == ["methods/rise.yaml"]


def test_the_schemas_describe_fields_for_editors(validators: dict[str, Any]) -> None:
    schema = validators["publications"].schema
    assert schema["properties"]["read"]["description"] == Publication.model_fields["read"].description
    assert "id" not in schema["properties"]
    assert "id" not in schema["required"]
