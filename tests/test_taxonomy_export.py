from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import networkx
import pytest
import yaml
from toykb import TOY, Edit, appended, copy_toy, each, replaced

from taxonomy import KB, AtlasError, UnknownIdError, load_kb, loader
from taxonomy.citations import cite
from taxonomy.documents import Document
from taxonomy.export import FORMATS, export, json_schema, read_export
from taxonomy.schema import KINDS, About, Publication, Vocabulary


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


def test_the_package_describes_its_tables(kb: KB, tmp_path: Path) -> None:
    kb = replace_about(kb)
    with zipfile.ZipFile(exported(kb, tmp_path, ".zip")) as archive:
        package = json.loads(archive.read("datapackage.json"))
        citation = yaml.safe_load(archive.read("CITATION.cff"))
        for resource in package["resources"]:
            content = archive.read(resource["path"])
            assert resource["hash"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
            assert resource["bytes"] == len(content)
            if resource["format"] == "csv":
                header = content.decode("utf-8-sig").splitlines()[0].split(",")
                assert [f["name"] for f in resource["schema"]["fields"]] == header
        assert {"README.md", "kb.json"} < set(archive.namelist())
    assert package["created"] == "2026-11-24T00:00:00Z", "a date with a time, as the standard asks"
    assert (package["version"], package["licenses"][0]["name"]) == ("2026.11.0", "CC0-1.0")
    assert package["sources"][0]["path"] == "publications.csv"
    schemas = {r["name"]: r.get("schema", {}) for r in package["resources"]}
    types = {f["name"]: f["type"] for f in schemas["methods"]["fields"]}
    assert (types["cost.passes"], types["umbrella"], types["name"]) == ("integer", "boolean", "string")
    assert {"fields": "family", "reference": {"resource": "families", "fields": "id"}} in schemas["methods"][
        "foreignKeys"
    ]
    assert (citation["version"], citation["license"], citation["type"]) == ("2026.11.0", "CC0-1.0", "dataset")


def replace_about(kb: KB) -> KB:
    return replace(kb, about=About(version="2026.11.0", date="2026-11-24", licence="CC0-1.0", creators=["Somebody"]))


# --- SQLite, references, and back -------------------------------------------------------------------------------------


@pytest.fixture
def database(kb: KB, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(f"file:{exported(kb, tmp_path, '.sqlite')}?mode=ro", uri=True)
    yield opened
    opened.close()


def test_the_database_joins(database: sqlite3.Connection, kb: KB) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.execute("DELETE FROM methods")
    found = database.execute(
        "SELECT p.title, m.name, v.name FROM claims c JOIN publications p ON p.id = c.owner "
        "JOIN claims_methods cm ON cm.owner = c.id JOIN methods m ON m.id = cm.value "
        "JOIN claims_versus cv ON cv.owner = c.id JOIN methods v ON v.id = cv.value "
        "JOIN families f ON f.id = m.family WHERE f.branch = 'visualization' AND c.outcome = 'better'"
    ).fetchall()
    assert found == [("A toy study of chest radiographs", "Grad-CAM", "Integrated gradients")]
    for kind, entities in {**kb.kinds(), **kb.words()}.items():
        assert [i for (i,) in database.execute(f'SELECT id FROM "{kind}" ORDER BY rowid')] == list(entities)
    claims = sum(len(p.claims) for p in kb.publications.values())
    assert database.execute("SELECT count(*) FROM claims").fetchone() == (claims,)
    sources = database.execute(
        "SELECT s.value FROM modalities_challenges c JOIN modalities_challenges_sources s ON s.owner = c.id "
        "WHERE c.owner = 'xray' ORDER BY c.position, s.position"
    ).fetchall()
    assert [s for (s,) in sources] == [s for c in kb.modalities["xray"].challenges for s in c.sources]
    words = database.execute("SELECT value FROM modalities_translations WHERE owner = 'xray' AND language = 'de'")
    assert [w for (w,) in words] == kb.modalities["xray"].translations["de"]


def test_the_findings_are_the_rows_of_the_csv(database: sqlite3.Connection, kb: KB, tmp_path: Path) -> None:
    table = rows(exported(kb, tmp_path, ".csv").read_text(encoding="utf-8"))
    columns = "claim, method, family, branch, modality, task, architecture, criterion, outcome, text, publication, year"
    found = database.execute(f"SELECT {columns} FROM findings").fetchall()
    expected = [tuple(row[c] for c in columns.split(", ")) for row in table]
    assert sorted(tuple("" if v is None else str(v) for v in row) for row in found) == sorted(expected)


def test_the_database_holds_its_keys_and_indexes(database: sqlite3.Connection) -> None:
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    keys = {
        (table, row[3], row[2])
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for row in database.execute(f'PRAGMA foreign_key_list("{table}")')
    }
    assert {
        ("methods", "family", "families"),
        ("methods", "parent", "methods"),
        ("modalities", "parent", "modalities"),
        ("publications", "study_task", "tasks"),
        ("publications_methods", "value", "methods"),
        ("publications_methods", "owner", "publications"),
        ("claims_versus", "value", "methods"),
        ("counts", "modality", "modalities"),
        ("publications_conflicts", "value", "publications"),
        ("methods_implementations", "tool", "tools"),
    } <= keys
    plan = database.execute("EXPLAIN QUERY PLAN SELECT owner FROM publications_methods WHERE value = 'rise'").fetchall()
    assert "USING" in plan[0][3]
    assert "INDEX" in plan[0][3]
    types = {row[1]: row[2] for row in database.execute("PRAGMA table_info(publications)")}
    assert (types["year"], types["title"], types["clinicians"]) == ("INTEGER", "TEXT", "INTEGER")


def test_references_of_all_publications(kb: KB, tmp_path: Path) -> None:
    assert exported(kb, tmp_path, ".bib").read_text(encoding="utf-8") == cite(kb, kb.publications, "bibtex")
    assert exported(kb, tmp_path, ".ris").read_text(encoding="utf-8") == cite(kb, kb.publications, "ris")


@pytest.mark.parametrize("suffix", [".json", ".zip"])
def test_an_export_is_a_knowledge_base_again(kb: KB, tmp_path: Path, suffix: str) -> None:
    again = read_export(exported(kb, tmp_path, suffix))
    assert {**again.kinds(), **again.words()} == {**kb.kinds(), **kb.words()}
    assert (again.digest, again.about) == (kb.digest, kb.about)


def test_what_is_no_export_is_told(kb: KB, tmp_path: Path) -> None:
    whole = json.loads(exported(kb, tmp_path, ".json").read_text(encoding="utf-8"))
    whole["methods"]["rise"]["family"] = "nothing"
    for name, content in {
        "a.json": "{",
        "b.json": "[]",
        "c.json": "{}",
        "d.json": json.dumps(whole),
        "e.zip": "no zip",
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(AtlasError, match="no export of a knowledge base"):
            read_export(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(AtlasError, match="no export of a knowledge base"):
        read_export(tmp_path / "f.zip")
    with pytest.raises(AtlasError, match=r"cannot read .*none.json"):
        read_export(tmp_path / "none.json")


# --- JSON-LD ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def linked(kb: KB, tmp_path: Path) -> dict[str, Any]:
    return json.loads(exported(kb, tmp_path, ".jsonld").read_text(encoding="utf-8"))


def test_linked_data_names_every_node_once(kb: KB, linked: dict[str, Any]) -> None:
    ids = [node["@id"] for node in linked["@graph"]]
    parts = sum(len(p.claims) + len(p.counts) for p in kb.publications.values())
    assert len(ids) == len(set(ids)) == 1 + len(kb.graph) + parts


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
    schema_org |= {"dateModified", "creator", "creativeWorkStatus", "observationAbout", "isBasedOn"}
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


def test_the_dataset_has_version_and_licence(kb: KB, tmp_path: Path) -> None:
    nodes = json.loads(exported(replace_about(kb), tmp_path, ".jsonld").read_text(encoding="utf-8"))["@graph"]
    assert nodes[0]["@type"] == ["Dataset", "skos:ConceptScheme"]
    assert (nodes[0]["version"], nodes[0]["license"]) == ("2026.11.0", "https://spdx.org/licenses/CC0-1.0")
    assert nodes[0]["identifier"] == kb.digest


def test_counts_inputs_and_retractions_are_carried(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    each(
        appended("publications/toy_2020_cxr.yaml", "retracted: https://example.org/notice\n"),
        replaced("publications/toy_2020_cxr.yaml", "  dims: [2]\n", "  dims: [2]\n  inputs: [image, text]\n"),
        replaced("publications/toy_2020_cxr.yaml", "first_author: Toy\n", "first_author: Toy, Tim\n"),
    )(root)
    nodes = json.loads(exported(load_kb(root), tmp_path, ".jsonld").read_text(encoding="utf-8"))["@graph"]
    by_id = {node["@id"]: node for node in nodes}
    paper = by_id["atlas:toy_2020_cxr"]
    assert (paper["creativeWorkStatus"], paper["retracted"]) == ("Retracted", "https://example.org/notice")
    assert paper["inputs"] == ["image", "text"]
    assert paper["author"] == {"@type": "Person", "familyName": "Toy", "givenName": "Tim"}
    assert "creativeWorkStatus" not in by_id["atlas:toy_2021_speckle"]
    count = by_id["atlas:toy_2022_mammo#count1"]
    assert (count["@type"], count["studies"], count["of"], count["coding"]) == ("Observation", 3, 10, "authors")
    assert count["observationAbout"] == [{"@id": "atlas:mammography"}, {"@id": "atlas:family:perturbation"}]


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
