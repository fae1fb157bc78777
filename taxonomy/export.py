"""Write the knowledge base in other people's formats, and its schema for editors.

- ``.json``: every entity and word as it stands in the files, with its id as key.
- ``.graphml``: the graph, for Gephi, yEd, Cytoscape.
- ``.jsonld``: linked data in the words of schema.org and SKOS; what these lack is under ``urn:xai-atlas:``.
- ``.csv``: the claims, one row for each claim, method and modality.
- ``.sqlite``: a database: one table for each kind and list of words, one for each list inside them (``claims``,
  ``claims_methods`` and so on; ``owner`` is the row it belongs to), the view ``findings`` with the rows of the CSV
  file, and the graph as ``node`` and ``link``.
- ``.bib``, ``.ris``: the references of all publications.
- ``.zip``: a data package to cite (Frictionless Data): a CSV file for each kind, the claims, everything as JSON,
  ``datapackage.json`` and ``CITATION.cff``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxonomy.checks import REFERENCES
from taxonomy.citations import cite
from taxonomy.errors import AtlasError, UnknownIdError
from taxonomy.graph import RELATIONS
from taxonomy.schema import KINDS, About, Part, Publication, Tool, Vocabulary

if TYPE_CHECKING:
    import sqlite3

    from taxonomy.loader import KB

SEPARATOR = "; "
"""Between the values of a list in one cell of a table."""


def export(kb: KB, file: str | os.PathLike[str]) -> None:
    """Write the knowledge base to a file in the format of its suffix; see the module's list.

    Raises:
        UnknownIdError: A suffix without a format.
        AtlasError: The file cannot be written.
    """
    target = Path(file)
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise UnknownIdError(suffix or target.name, FORMATS, "suffix of an export file")
    _write(target, FORMATS[suffix](kb))


def read_export(file: str | os.PathLike[str]) -> KB:
    """Read a knowledge base back from its ``.json`` or ``.zip`` export.

    Raises:
        AtlasError: The file cannot be read, or is no export that fits today's schema and the fatal rules.
    """
    from pydantic import ValidationError

    from taxonomy.checks import find_problems
    from taxonomy.loader import KB

    path = Path(file)
    refused = f"{path} is no export of a knowledge base as it is written today"
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = archive.read("kb.json")
        data = json.loads(content)
        about = dict(data["about"])
        digest = str(about.pop("digest"))
        entities = {
            kind: {i: model.model_validate({"id": i, **fields}) for i, fields in data[kind].items()}
            for kind, model in KINDS.items()
        }
        vocabulary = Vocabulary.model_validate(data["vocabulary"])
        kb = KB(path, vocabulary, **entities, about=About.model_validate(about), digest=digest)  # type: ignore[arg-type]
    except OSError as error:
        raise AtlasError(f"cannot read {path}: {error.strerror}; give a file that xai-atlas export wrote") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise AtlasError(f"{refused}: {error.title} {where}: {first['msg']}; export it again") from error
    except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise AtlasError(f"{refused} ({type(error).__name__}: {error}); give what xai-atlas export wrote") from error
    if problems := find_problems(kb, fatal=True):
        one = problems[0]
        raise AtlasError(f"{refused}: {one.file}: {one.given}: {one.allowed}; export it again")
    return kb


def json_schema(folder: str | os.PathLike[str]) -> list[Path]:
    """Write one JSON Schema for each kind of file, for editors that complete and check YAML.

    Returns:
        The files written: ``<kind>.schema.json`` for each folder of the knowledge base, and ``vocabulary.schema.json``.

    Raises:
        AtlasError: The folder cannot be written.
    """
    written = []
    models: dict[str, type[Part]] = {**KINDS, "vocabulary": Vocabulary}
    for kind, model in models.items():
        target = Path(folder) / f"{kind}.schema.json"
        _write(target, _json(_file_schema(model)))
        written.append(target)
    return written


def _file_schema(model: type[Part]) -> dict[str, Any]:
    schema = model.model_json_schema()
    if "id" in model.model_fields:  # the id is the file's name and never stands inside
        del schema["properties"]["id"]
        schema["required"].remove("id")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _write(target: Path, content: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise AtlasError(
            f"cannot write {target}: {error.strerror}; give a file in a folder you may write to"
        ) from error


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


# --- formats ---------------------------------------------------------------------------------------------------------


def _to_json(kb: KB) -> bytes:
    kinds = {kind: {i: e.model_dump(mode="json") for i, e in entities.items()} for kind, entities in kb.kinds().items()}
    about = {**kb.about.model_dump(mode="json"), "digest": kb.digest}
    return _json({"about": about, "vocabulary": kb.vocabulary.model_dump(mode="json"), **kinds})


def _to_graphml(kb: KB) -> bytes:
    import networkx

    buffer = io.BytesIO()
    networkx.write_graphml(kb.graph, buffer)
    return buffer.getvalue()


def _to_claims_csv(kb: KB) -> bytes:
    return _table(_claim_rows(kb))


def _claim_rows(kb: KB) -> Iterator[dict[str, Any]]:
    for pub_id, publication in kb.publications.items():
        study = publication.study
        for number, claim in enumerate(publication.claims, start=1):
            for method in claim.methods:
                for modality in study.modalities if study else [None]:
                    yield {
                        "claim": f"{pub_id}#{number}",
                        "method": method,
                        "family": kb.methods[method].family,
                        "branch": kb.branch(method),
                        "modality": modality,
                        "task": study.task if study else None,
                        "architecture": study.architecture if study else None,
                        "criterion": claim.criterion,
                        "outcome": claim.outcome,
                        "versus": SEPARATOR.join(claim.versus),
                        "text": claim.text,
                        "where": claim.where,
                        "self_reported": claim.self_reported,
                        "publication": pub_id,
                        "title": publication.title,
                        "year": publication.year,
                        "link": publication.link,
                        "read": publication.read,
                        "clinicians": publication.clinicians,
                    }


def _tables(kb: KB) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the name and rows of each kind, each list of words, and the claims."""
    everything: dict[str, Mapping[str, Part]] = {**kb.kinds(), **kb.words()}
    for kind, entities in everything.items():
        yield kind, [{"id": i, **_cells(entity.model_dump(mode="json"))} for i, entity in entities.items()]
    yield "claims", list(_claim_rows(kb))


def _to_package(kb: KB) -> bytes:
    files: dict[str, bytes] = {}
    resources: list[dict[str, Any]] = []
    for name, rows in _tables(kb):
        files[f"{name}.csv"] = _table(rows)
        resources.append(
            {
                "name": name,
                "path": f"{name}.csv",
                "profile": "tabular-data-resource",
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "schema": _table_schema(name, rows),
            }
        )
    files["kb.json"] = _to_json(kb)
    resources.append({"name": "kb", "path": "kb.json", "format": "json", "mediatype": "application/json"})
    about = kb.about
    files["datapackage.json"] = _json(
        {
            "profile": "data-package",
            "name": "xai-atlas",
            "title": about.title,
            "description": about.description,
            "version": about.version,
            "created": about.date and f"{about.date}T00:00:00Z",
            "id": kb.digest,
            "licenses": [{"name": about.licence}] if about.licence else [],
            "contributors": [{"title": name, "role": "author"} for name in about.creators],
            "sources": [{"title": "The publications that every statement names", "path": "publications.csv"}],
            "resources": [
                resource | {"bytes": len(files[resource["path"]]), "hash": f"sha256:{_sha256(files[resource['path']])}"}
                for resource in resources
            ],
        }
    )
    files["CITATION.cff"] = _citation(kb)
    files["README.md"] = (
        f"# {about.title}\n\nVersion {about.version}, {about.date}. {about.description or ''}\n\n"
        "`kb.json` holds everything; each CSV file is one table of it. In a cell, values of a list stand between "
        f'"{SEPARATOR.strip()}". `datapackage.json` describes the files, `CITATION.cff` says how to cite them. Every '
        "statement names the publications it comes from by the ids of `publications.csv`.\n"
    ).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # a fixed date, so that one knowledge base gives one file
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _table_schema(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe the columns of a table: their types and the tables that their ids are in."""
    columns = _columns(rows)
    fields = [{"name": column, "type": _TYPES[_type(row.get(column) for row in rows)][0]} for column in columns]
    keys = [
        {"fields": column, "reference": {"resource": "" if kind == name else kind, "fields": "id"}}
        for column in columns
        if (kind := _referred(column, name)) and not any(SEPARATOR in str(row.get(column)) for row in rows)
    ]
    described: dict[str, Any] = {"fields": fields}
    if name != "claims":
        described["primaryKey"] = "id"
    return described | ({"foreignKeys": keys} if keys else {})


_TYPES: dict[type, tuple[str, str]] = {
    bool: ("boolean", "INTEGER"),
    int: ("integer", "INTEGER"),
    float: ("number", "REAL"),
    str: ("string", "TEXT"),
    object: ("string", ""),
}
"""Python's type of a column, object where it is mixed, to its names in a data package and in SQLite."""


def _type(values: Iterable[Any]) -> type:
    """The one type that the values of a column have: object where they differ, str where all are null."""
    found = {type(value) for value in values if value is not None} or {str}
    return found.pop() if len(found) == 1 else object


def _referred(column: str, own_kind: str) -> str | None:
    """The kind that the ids of a column name, by the last word of its dotted name."""
    field = column.rpartition(".")[2]
    if field == "publication":
        return "publications"
    return own_kind if field == "parent" else REFERENCES.get(field)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _citation(kb: KB) -> bytes:
    import yaml

    about = kb.about
    fields = {
        "cff-version": "1.2.0",
        "message": "If you use these data, please cite them, and the publications that a statement names.",
        "type": "dataset",
        "title": about.title,
        "version": about.version,
        "date-released": about.date,
        "license": about.licence,
        "authors": [{"name": name} for name in about.creators],
        "identifiers": [{"type": "other", "value": f"sha256:{kb.digest}", "description": "digest of the files"}],
    }
    text = yaml.safe_dump({k: v for k, v in fields.items() if v}, allow_unicode=True, sort_keys=False)
    return text.encode()


_SHORT = {"publications_claims": "claims", "publications_counts": "counts"}
"""Tables with a shorter name than owner and field."""

_FINDINGS = """CREATE VIEW findings AS
SELECT c.id AS claim, m.value AS method, mm.family, f.branch, sm.value AS modality, p.study_task AS task,
  p.study_architecture AS architecture, c.criterion, c.outcome, c.text, c."where", c.self_reported,
  p.id AS publication, p.title, p.year, p.read, p.clinicians
FROM claims c JOIN claims_methods m ON m.owner = c.id JOIN methods mm ON mm.id = m.value
JOIN families f ON f.id = mm.family JOIN publications p ON p.id = c.owner
LEFT JOIN publications_study_modalities sm ON sm.owner = p.id
ORDER BY p.rowid, c.position, m.position, sm.position"""


def _to_sqlite(kb: KB) -> bytes:
    import sqlite3

    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    keys: dict[str, dict[str, str]] = defaultdict(dict)
    everything: dict[str, Mapping[str, Part]] = {**kb.kinds(), **kb.words()}
    for kind, entities in everything.items():
        for entity_id, entity in entities.items():
            _shred(kind, {"id": entity_id}, entity.model_dump(mode="json"), kind, tables, keys)
    tables["about"] = [{**_cells(kb.about.model_dump(mode="json")), "digest": kb.digest}]
    tables["node"] = [{"id": i, "kind": facts["kind"], "name": facts["name"]} for i, facts in kb.graph.nodes(data=True)]
    links = ((source, facts["relation"], target) for source, target, facts in kb.graph.edges(data=True))
    columns = ("source", "relation", "target")
    tables["link"] = [dict(zip(columns, one, strict=True)) for one in dict.fromkeys(links)]
    keys["link"] = {"source": "node", "target": "node"}
    database = sqlite3.connect(":memory:")
    for table, rows in tables.items():
        _fill(database, table, rows, keys[table])
    database.execute(_FINDINGS)
    database.commit()
    database.execute("VACUUM")
    content = database.serialize()
    database.close()
    return content


def _shred(
    table: str,
    row: dict[str, Any],
    value: Mapping[str, Any],
    kind: str,
    tables: dict[str, list[dict[str, Any]]],
    keys: dict[str, dict[str, str]],
) -> None:
    """Add an entity or a part as a row of its table, and what its lists hold as rows of tables of their own."""
    tables[table].append(row)
    todo = list(value.items())
    while todo:
        name, item = todo.pop(0)
        inner = f"{table}_{name}".replace(".", "_")
        referred = _referred(name, kind)
        if name == "translations":
            for language, words in item.items():
                for position, word in enumerate(words):
                    cells = {"owner": row["id"], "position": position, "language": language, "value": word}
                    tables[inner].append(cells)
            keys[inner] = {"owner": table}
        elif isinstance(item, dict):
            todo[:0] = [(f"{name}.{key}", part) for key, part in item.items()]
        elif not isinstance(item, list):
            row[name] = item
            if referred:
                keys[table][name] = referred
        else:
            inner = _SHORT.get(inner, inner)
            keys[inner]["owner"] = table
            for position, part in enumerate(item):
                if isinstance(part, dict):
                    own = {"id": f"{row['id']}#{position + 1}", "owner": row["id"], "position": position}
                    own["id"] = own["id"] if inner == "claims" else f"{inner}:{own['id']}"
                    _shred(inner, own, part, kind, tables, keys)
                else:
                    tables[inner].append({"owner": row["id"], "position": position, "value": part})
                    if referred:
                        keys[inner]["value"] = referred


def _fill(database: sqlite3.Connection, table: str, rows: list[dict[str, Any]], keys: Mapping[str, str]) -> None:
    """Create a table with its keys and indexes, and its rows."""
    if not rows:
        return
    columns = _columns(rows)
    declared = []
    for column in columns:
        text = f'"{_plain(column)}" {_TYPES[_type(row.get(column) for row in rows)][1]}'
        if column == "id":
            text += " PRIMARY KEY NOT NULL"
        if column in keys:
            text += f' REFERENCES "{keys[column]}"(id)'
        declared.append(text)
    database.execute(f'CREATE TABLE "{table}" ({", ".join(declared)})')
    marks = ", ".join("?" * len(columns))
    database.executemany(
        f'INSERT INTO "{table}" VALUES ({marks})',  # noqa: S608 - names of our own tables
        ([row.get(column) for column in columns] for row in rows),
    )
    for column in keys:
        database.execute(f'CREATE INDEX "{table}_by_{_plain(column)}" ON "{table}"("{_plain(column)}")')


def _plain(column: str) -> str:
    """The name of a column without dots, which SQL reads as a table's."""
    return column.replace(".", "_")


def _to_bib(kb: KB) -> bytes:
    return cite(kb, kb.publications, "bibtex").encode()


def _to_ris(kb: KB) -> bytes:
    return cite(kb, kb.publications, "ris").encode()


def _cells(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten an entity into cells: a part into dotted columns, a plain list into one cell, the rest into JSON."""
    cells: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            cells |= _cells(item, f"{prefix}{key}.")
        elif isinstance(item, list) and not any(isinstance(part, (dict, list)) for part in item):
            cells[prefix + key] = SEPARATOR.join(map(str, item))
        elif isinstance(item, list):
            cells[prefix + key] = json.dumps(item, ensure_ascii=False)
        else:
            cells[prefix + key] = item
    return cells


def _table(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Write rows as CSV (RFC 4180, UTF-8 with a mark, so that spreadsheets see it); true and false in lower case."""
    listed = list(rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _columns(listed), extrasaction="ignore")
    writer.writeheader()
    for row in listed:
        writer.writerow({k: str(v).lower() if isinstance(v, bool) else v for k, v in row.items()})
    return buffer.getvalue().encode("utf-8-sig")


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    columns = dict.fromkeys(column for row in rows for column in row)
    # a part that is null in some rows would leave an empty column beside those of its fields
    parts = {column.rpartition(".")[0] for column in columns}
    return [column for column in columns if column not in parts]


# --- linked data -----------------------------------------------------------------------------------------------------

_STANDARD = {
    "variant_of": "skos:broader",
    "in_family": "skos:broader",
    "part_of": "skos:broader",
    "introduced_in": "schema:citation",
    "sourced_by": "schema:citation",
    "used": "schema:mentions",
    "studied": "schema:about",
}
"""Relations that schema.org or SKOS have a word for."""

CONTEXT = {
    "@vocab": "https://schema.org/",
    "schema": "https://schema.org/",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "atlas": "urn:xai-atlas:",
    "criterion": "atlas:criterion",
    "outcome": "atlas:outcome",
    "self_reported": "atlas:self_reported",
    "inputs": "atlas:inputs",
    "studies": "atlas:studies",
    "of": "atlas:of",
    "coding": "atlas:coding",
    "retracted": {"@id": "atlas:retracted", "@type": "@id"},
    "versus": {"@id": "atlas:versus", "@type": "@id"},
    "sameAs": {"@type": "@id"},
    "url": {"@type": "@id"},
    "codeRepository": {"@type": "@id"},
    **{name: {"@id": _STANDARD.get(name, f"atlas:{name}"), "@type": "@id"} for name in RELATIONS if name != "judged"},
}
"""The ``@context`` of the JSON-LD export."""


def _to_jsonld(kb: KB) -> bytes:
    links: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for source, target, statement in kb.graph.edges(data=True):
        targets = links[source][statement["relation"]]
        if f"atlas:{target}" not in targets:
            targets.append(f"atlas:{target}")
    nodes = []
    for node, facts in kb.graph.nodes(data=True):
        kind = facts["kind"]
        word = node.partition(":")[2] or node
        entity = {**kb.kinds(), **kb.words()}[kind][word]
        described = _DESCRIBE.get(kind, _term)(entity)
        nodes.append({"@id": f"atlas:{node}", "name": facts["name"], **_given(described), **links[node]})
        nodes[-1].pop("judged", None)  # a claim is a node of its own
    for pub_id, publication in kb.publications.items():
        nodes += [
            {
                "@id": f"atlas:{pub_id}#{number}",
                "@type": "Claim",
                "appearance": {"@id": f"atlas:{pub_id}"},
                "about": [{"@id": f"atlas:{method}"} for method in claim.methods],
                "versus": [f"atlas:{method}" for method in claim.versus],
                "criterion": claim.criterion,
                "outcome": claim.outcome,
                "self_reported": claim.self_reported,
                "text": claim.text,
            }
            for number, claim in enumerate(publication.claims, start=1)
        ]
        nodes += [
            {
                "@id": f"atlas:{pub_id}#count{number}",
                "@type": "Observation",
                "isBasedOn": {"@id": f"atlas:{pub_id}"},
                "observationAbout": [
                    {"@id": f"atlas:{named}"}
                    for named in (
                        count.modality,
                        count.family and f"family:{count.family}",
                        count.method,
                        count.task and f"task:{count.task}",
                    )
                    if named
                ],
                "studies": count.studies,
                "of": count.of,
                "coding": count.coding,
                "text": count.text,
            }
            for number, count in enumerate(publication.counts, start=1)
        ]
    about = kb.about
    dataset = {
        "@id": "atlas:",
        "@type": ["Dataset", "skos:ConceptScheme"],
        "name": about.title,
        "description": about.description,
        "version": about.version,
        "identifier": kb.digest,
        "dateModified": about.date,
        "license": about.licence and f"https://spdx.org/licenses/{about.licence}",
        "creator": [{"@type": "Organization", "name": name} for name in about.creators],
    }
    return _json({"@context": CONTEXT, "@graph": [_given(dataset), *nodes]})


def _given(described: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in described.items() if value not in (None, [], {})}


def _term(entity: Any) -> dict[str, Any]:
    """A word of the taxonomy: schema.org's DefinedTerm, SKOS's concept."""
    translated = getattr(entity, "translations", {})
    return {
        "@type": ["DefinedTerm", "skos:Concept"],
        "description": getattr(entity, "definition", None),
        "alternateName": [
            *getattr(entity, "aliases", ()),
            *({"@value": word, "@language": language} for language, words in translated.items() for word in words),
        ],
    }


def _article(publication: Publication) -> dict[str, Any]:
    names = {"DOI": publication.doi, "arXiv": publication.arxiv}
    family, _, given = (publication.first_author or "").partition(", ")
    return {
        "@type": "ScholarlyArticle",
        "headline": publication.title,
        "datePublished": str(publication.year) if publication.year else None,
        "author": {"@type": "Person", "familyName": family} | ({"givenName": given} if given else {})
        if family
        else None,
        "isPartOf": {"@type": "Periodical", "name": publication.venue} if publication.venue else None,
        "identifier": [{"@type": "PropertyValue", "propertyID": k, "value": v} for k, v in names.items() if v],
        "sameAs": publication.link,
        "url": publication.url,
        "inputs": list(publication.study.inputs) if publication.study else None,
        "creativeWorkStatus": "Retracted" if publication.retracted else None,
        "retracted": publication.retracted,
    }


def _software(tool: Tool) -> dict[str, Any]:
    return {
        "@type": "SoftwareSourceCode",
        "alternateName": tool.aliases,
        "codeRepository": tool.repository,
        "license": tool.licence,
        "version": tool.version,
        "applicationCategory": tool.category,
    }


_DESCRIBE: dict[str, Callable[[Any], dict[str, Any]]] = {"publications": _article, "tools": _software}
"""Kind to how JSON-LD describes it; every other kind is a term."""

FORMATS: dict[str, Callable[[KB], bytes]] = {
    ".json": _to_json,
    ".graphml": _to_graphml,
    ".jsonld": _to_jsonld,
    ".csv": _to_claims_csv,
    ".sqlite": _to_sqlite,
    ".bib": _to_bib,
    ".ris": _to_ris,
    ".zip": _to_package,
}
"""Suffix of a file to the function that makes its content."""
