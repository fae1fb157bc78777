"""Import literature catalogues into the knowledge base; see README.md beside this file.

Run by hand from the repository root: ``python kb/_import/literature.py FOLDER [--words FILE] [--only KIND ...]``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import yaml  # noqa: E402
from files import existing, write  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from taxonomy.schema import KINDS  # noqa: E402

Row = dict[str, Any]
Words = Mapping[str, Mapping[str, Any]]

RENAMED = {"lime_image": "lime"}
"""Catalogue ids of methods that are called differently here."""

RENAMED_STUDIES = {"relax_oct": "wen_2021_relax_oct"}
"""Catalogue ids of studies that a method has too."""

LEFT_OUT = {
    "publications": {
        "ahmed_xai_cad": "its title was not found",
        "ensemblecam_cervical": "its title was not found",
    },
    "methods": {
        "adversarial_training": "a way to train, not an explainer",
        "ensemble_cam": "its only study is left out",
    },
    "metrics": {
        "niche_impurity": "the id of its paper was recalled",
        "seg_pointing_game": "known as code only",
    },
    "multimodal": {
        "echo_vlm": "its explanation was seen only in a summary of the paper by others",
        "medclip": "its abstract explains nothing, and the catalogue recalled the mechanism",
        "biomedclip": "its abstract explains nothing, and the catalogue recalled the mechanism",
        "kad": "its abstract explains nothing, and the catalogue recalled the mechanism",
        "convirt": "its abstract explains nothing, and the catalogue recalled the mechanism",
        "chexzero": "its abstract explains nothing, and the catalogue recalled the mechanism",
        "flair": "its abstract has expert words as prompts, not as explanations",
        "ret_clip": "its abstract explains nothing, and the catalogue recalled the mechanism",
        "conch": "its abstract names tasks only, and the catalogue recalled the heat map",
        "quilt_1m": "a data set; its abstract explains nothing, and the catalogue recalled the mechanism",
        "chexagent": "its abstract has free-text answers only; nothing is explained or grounded",
        "llava_med": "its abstract has free-text answers only; nothing is explained or grounded",
        "xraygpt": "its abstract has free-text answers only; nothing is explained or grounded",
        "med_palm_m": "its abstract has free-text answers only; nothing is explained or grounded",
        "medgemma": "its abstract has free-text answers only; nothing is explained or grounded",
        "vila_m3": "its abstract has expert models that help the answer; nothing is explained",
        "llm_cxr": "its abstract has images made from text, not as counterfactuals",
        "radeval": "a package that scores reports; nothing is explained",
    },
}
"""Rows that stay out, with the reason; works of the multimodal catalogue are entered by hand, not by this script."""

FAMILIES = {
    "cam": "class_activation",
    "propagation": "relevance_propagation",
    "text": "textual",
    "embedding": "projection",
    "generative": "generative_latent",
    "training": "relevance_propagation",
}
"""Catalogue family to family of vocabulary.yaml, where the names differ."""

OUTPUTS = {
    "heatmap": "map",
    "concept scores": "concepts",
    "feature scores": "scores",
    "counterfactual image": "counterfactual",
    "embedding plot": "embedding",
    "examples": "examples",
    "text": "text",
}
FAMILY_OUTPUT = {
    "concept": "concepts",
    "example": "examples",
    "counterfactual": "counterfactual",
    "textual": "text",
    "rule_surrogate": "rules",
    "radiomics": "scores",
    "projection": "embedding",
    "generative_latent": "counterfactual",
    "activation_maximisation": "examples",
}
"""Output of a method that only its family is known of; all others give maps."""

FAMILY_NEEDS = {
    "gradient": ["gradients"],
    "relevance_propagation": ["gradients", "elementwise_activations"],
    "class_activation": ["spatial_features"],
    "attention": ["attention_weights"],
    "concept": ["training_data", "labelled_concepts"],
    "example": ["training_data"],
    "counterfactual": ["training_data", "generator"],
    "textual": ["training_data", "retraining"],
    "rule_surrogate": ["training_data"],
    "radiomics": ["clinical_features"],
    "projection": ["embedding", "training_data"],
    "generative_latent": ["training_data", "generator"],
    "activation_maximisation": ["gradients"],
}
"""Needs of a method that only its family is known of."""

YES_NO = {"yes": True, "no": False}
TASKS = ["classification", "segmentation", "regression", "detection", "retrieval", "registration", "report_generation"]
PROPERTIES = {"human_clinical": "human", "text_multimodal": "text"}
STOPWORDS = {"a", "an", "the", "of", "for", "on", "in", "and", "to", "with", "from", "by", "using", "via", "is", "are"}


def slug(text: str) -> str:
    """Return the text as a snake_case id."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower().replace("++", "_pp")).strip("_")


def keyword(title: str) -> str:
    """Return a short keyword for a title: its name before a colon, else its first three telling words."""
    title = re.sub(r"\((\w+)\)(?=\w)", r"\1", title)  # "(Un)reliability" is one word
    head, _, rest = title.partition(":")
    words = re.findall(r"[A-Za-z][A-Za-z0-9+-]*", head)
    if not (rest and len(words) <= 2):
        words = [word for word in re.findall(r"[A-Za-z][A-Za-z0-9+-]*", title) if word.lower() not in STOPWORDS][:3]
    return slug(" ".join(words))


def sentence(text: str) -> str:
    """Return the text as a sentence: one line, a capital, a full stop."""
    text = " ".join(text.split()).rstrip(".;")
    return f"{text[0].upper()}{text[1:]}."


def address(seen: str) -> str | None:
    """Return the web address of a place where a paper was seen; the repository for a file of one."""
    repository = re.match(r"github\.com/[\w.-]+/[\w.-]+", seen)
    if repository:
        return f"https://{repository[0]}"
    return seen if re.fullmatch(r"https?://\S+", seen) else None


def provenance(source: str) -> str:
    """Return where a default was read, without commit and path."""
    repository = re.match(r"github\.com/([\w.-]+/[\w.-]+)@", source)
    return f"default in {repository[1]}" if repository else source.replace("signature of", "default of")


def aliases(row: Row) -> list[str]:
    """Return a row's aliases without repetitions of its name."""
    return [alias for alias in row["aliases"] if alias.casefold() != row["name"].casefold()]


def spelled(cost: str) -> str:
    """Return a cost formula without abbreviations."""
    return re.sub(r"\bbwd\b", "backward", re.sub(r"\bfwd\b", "forward", cost))


def passes(cost: str) -> int | None:
    """Return the model passes when the formula is a plain count, else None."""
    found = re.fullmatch(r"(\d+) fwd(?: \+ (\d+) (?:modified )?bwd)?(?: \+ (?:SVD|NMF|kernel PCA))?(?: \(.*\))?", cost)
    return int(found[1]) + int(found[2] or 0) if found else None


def _sources(value: Any) -> Iterable[str]:
    """Yield every publication id that a nest of fields cites."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "source" and item:
                yield item
            elif key == "sources":
                yield from item
            else:
                yield from _sources(item)
    elif isinstance(value, list):
        for item in value:
            yield from _sources(item)


class Shelf:
    """All papers, one entry each, found again by DOI, arXiv id or title."""

    def __init__(self, known: Mapping[str, Row]) -> None:
        self.papers: dict[str, Row] = {}
        self._keys: dict[str, str] = {}
        for paper_id, fields in known.items():
            self.put(paper_id, dict(fields))

    @staticmethod
    def _marks(fields: Row) -> list[str]:
        marks = [f"{key}:{fields[key].lower()}" for key in ("doi", "arxiv") if fields.get(key)]
        return [*marks, "title:" + slug(fields["title"])]

    def find(self, fields: Row) -> str | None:
        """Return the id of the same paper, if it is on the shelf."""
        return next((self._keys[mark] for mark in self._marks(fields) if mark in self._keys), None)

    def put(self, paper_id: str, fields: Row) -> None:
        """Put a paper on the shelf under a given id."""
        self.papers[paper_id] = fields
        for mark in self._marks(fields):
            self._keys.setdefault(mark, paper_id)

    def cite(self, paper: Row, read: str) -> str | None:
        """Return the id of a cited paper, adding it when it is new; None when it cannot be traced."""
        fields: Row = {key: paper.get(key) for key in ("title", "year", "venue", "doi", "arxiv")}
        fields["title"] = re.sub(r" \([^()]*\b(?:code|documentation|given there)\)$", "", fields["title"])
        fields["url"] = None if fields["doi"] or fields["arxiv"] else address(str(paper.get("url_seen")))
        if not (fields["doi"] or fields["arxiv"] or fields["url"]):
            return None
        found = self.find(fields)
        if found is None:
            name = keyword(fields["title"]) + (f"_{fields['year']}" if fields["year"] else "")
            found, number = name, 2
            while found in self.papers:
                found, number = f"{name}_{number}", number + 1
            self.put(found, {**fields, "read": read})
        elif read == "abstract" and self.papers[found].get("read") == "title":
            self.papers[found]["read"] = read
        return found


class Importer:
    """Turns catalogue rows into entities; ``entities[kind][id]`` holds the fields."""

    def __init__(self, folder: Path, kb: Path, words: Mapping[str, Words]) -> None:
        self.kb = kb
        self.words = words
        self.rows = {
            name: yaml.load((folder / f"{name}.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
            for name in ("publications", "methods", "methods-from-publications", "metrics", "tools")
        }
        self.shelf = Shelf(existing(kb, "publications"))
        self.entities: dict[str, dict[str, Row]] = defaultdict(dict)
        self.left_out: list[str] = []
        self.uses: dict[str, list[Row]] = defaultdict(list)
        self.tools: dict[str, str] = {}

    def run(self) -> None:
        """Build all entities in an order in which every reference is known."""
        self._studies()
        self._tools()
        self._methods()
        self._methods_of_publications()
        self._metrics()
        self._close()

    def _put(self, kind: str, entity_id: str, fields: Row) -> None:
        if self._stays_out(kind, entity_id):
            return
        self.entities[kind][entity_id] = {**fields, **self.words.get(kind, {}).get(entity_id, {})}

    def _stays_out(self, kind: str, entity_id: str) -> bool:
        reason = LEFT_OUT.get(kind, {}).get(entity_id)
        if reason:
            self.left_out.append(f"{kind}/{entity_id}: {reason}")
        return reason is not None

    def _studies(self) -> None:
        def ids(names: Iterable[str]) -> list[str]:
            renamed = [RENAMED.get(name, name) for name in names]
            return [name for name in dict.fromkeys(renamed) if name not in LEFT_OUT["methods"]]

        for row in self.rows["publications"]:
            if self._stays_out("publications", row["id"]):
                continue
            study = dict(row["study"])
            study["modalities"] = study.pop("modality")
            if study["architecture"] == "unknown":
                study["architecture"] = None
            claims = []
            for claim in row["claims"]:
                fields = {
                    **claim,
                    "methods": ids(claim["methods"]),
                    "versus": ids(claim["versus"]),
                    "text": sentence(claim["text"]),
                }
                if fields["methods"]:
                    claims.append(fields)
            fields = {key: row[key] for key in ("title", "year", "venue", "doi", "arxiv", "url")}
            fields |= {
                "read": row["verified"],
                "study": study,
                "methods": ids(row["methods"]),
                "clinicians": row["human_eval"],
                "claims": claims,
            }
            fields |= self.words.get("publications", {}).get(row["id"], {})
            if fields["doi"] or fields["arxiv"]:
                fields["url"] = None
            if fields["title"] is None:
                self.left_out.append(f"publications/{row['id']}: no title")
                continue
            study_id = RENAMED_STUDIES.get(row["id"], row["id"])
            if self.shelf.find(fields) in (None, study_id):
                self.shelf.put(study_id, fields)
            for method in dict.fromkeys([*fields["methods"], *(m for c in claims for m in c["methods"] + c["versus"])]):
                self.uses[method].append({"id": study_id, **fields})

    def _paper(self, row: Row) -> str | None:
        """Return the publication id of a row's original paper, None when the catalogue has not verified it."""
        paper = row["paper"]
        if paper is None or paper.get("verification") == "none":
            return None
        if "id recalled" in (row["notes"] or ""):
            paper = {**paper, "arxiv": None}
        return self.shelf.cite(paper, "title")

    def _tools(self) -> None:
        taken = {
            RENAMED.get(row["id"], row["id"])
            for name in ("methods", "methods-from-publications", "metrics")
            for row in self.rows[name]
        }
        for row in self.rows["tools"]:
            if row["unverified"]:
                self.left_out.append(f"tools/{row['id']}: unverified")
                continue
            tool_id = row["id"]
            if tool_id in taken:
                tool_id += "_package" if row["pypi"] else "_code"
            for name in (row["id"], row["pypi"]):
                if name:
                    self.tools[name] = tool_id
            supports = {
                f"supports_{what}": YES_NO.get(str((row[f"supports_{what}"] or {}).get("value")))
                for what in ("3d", "segmentation", "vit")
            }
            licence = row["licence"]
            fields = {
                "name": row["name"],
                "category": row["category"],
                "repository": row["repo"],
                "package": row["pypi"],
                "version": row["latest_version"],
                "last_release": row["last_release"],
                "licence": None if licence is None or "recalled" in licence else licence,
                "frameworks": row["frameworks"] or [],
                **supports,
                "traps": [
                    {
                        "text": sentence(trap["text"]),
                        "url": trap["url"],
                        "basis": trap["basis"].replace("executed in this task", "executed on toy models"),
                    }
                    for trap in row["problems"]
                ],
                "source": self._paper(row),
            }
            self._put("tools", tool_id, fields)

    def _implementations(self, row: Row) -> list[Row]:
        found = [
            {"tool": self.tools[item["package"]], "object": item["object"]}
            for item in row["implementations"]
            if item["package"] in self.tools
        ]
        return list({item["tool"]: item for item in reversed(found)}.values())[::-1]

    def _sourced(self, row: Row) -> list[Row]:
        statements = []
        for item in row["limitations"]:
            reference = re.fullmatch(r"(arXiv|doi):(\S+)", item["ref"] or "")
            if item["unverified"] or item["basis"] == "executed" or item["ref"] == "GitHub":
                continue
            paper = {"title": item["source"], "url_seen": item["url_seen"], "year": None}
            if reference:
                paper[reference[1].lower()] = reference[2]
            if paper.get("arxiv"):
                paper["year"] = 2000 + int(paper["arxiv"][:2])
            if source := self.shelf.cite(paper, "abstract"):
                statements.append({"text": sentence(item["text"]), "sources": [source]})
        return statements

    def _methods(self) -> None:
        for row in self.rows["methods"]:
            method_id = RENAMED.get(row["id"], row["id"])
            family = FAMILIES.get(row["family"][1], row["family"][1])
            output = "rules" if family == "rule_surrogate" else FAMILY_OUTPUT.get(family, OUTPUTS[row["output"][0]])
            if family in ("concept", "example"):
                output = OUTPUTS[row["output"][0]]
            source = self._paper(row)
            fields = {
                "name": row["name"],
                "aliases": aliases(row),
                "family": family,
                "umbrella": source is None,
                "requires": {
                    "needs": self._needs(row, family),
                    "tasks": [task for task in TASKS if task in row["tasks"]],
                    "dims": [2, 3] if row["supports_3d"]["value"] == "yes" else [2],
                },
                "output": output,
                "scope": row["scope"],
                "stage": "intrinsic" if self._built_in(row, family) else "post_hoc",
                "class_discriminative": row["class_discriminative"],
                "cost": {"passes": passes(row["cost"]), "text": spelled(row["cost"])},
                "hyperparameters": [
                    {
                        "name": item["name"],
                        "default": item["default"],
                        "note": provenance(item["source"]),
                    }
                    for item in row["hyperparameters"]
                    if item["verified"]
                ],
                "limitations": self._sourced(row),
                "source": source,
                "implementations": self._implementations(row),
            }
            self._put("methods", method_id, fields)

    @staticmethod
    def _built_in(row: Row, family: str) -> bool:
        """Tell whether the method is part of the model, so that the model must be trained with it."""
        trained_beside = ("counterfactual", "generative_latent", "sparse_dictionary", "perturbation", "rule_surrogate")
        return "retraining" in row["access"] and family not in trained_beside

    def _needs(self, row: Row, family: str) -> list[str]:
        access, built_in = row["access"], self._built_in(row, family)
        needs = []
        if "gradients" in access:
            needs.append("gradients")
        if "activations" in access and family == "class_activation":
            needs.append("spatial_features")
        if "attention" in access and not built_in:
            needs += ["attention_weights", "tokens"]
        if family == "relevance_propagation":
            needs.append("elementwise_activations")
        if "gap" in row["architectures"]:
            needs.append("linear_head")
        if family in ("projection", "probing", "sparse_dictionary") and "activations" in access:
            needs.append("embedding")
        if family in ("counterfactual", "generative_latent") and "retraining" in access:
            needs.append("generator")
        if "clip" in row["architectures"]:
            needs.append("text_encoder")
        if "training data" in access or built_in:
            needs.append("training_data")
        if built_in:
            needs.append("retraining")
        return needs

    def _methods_of_publications(self) -> None:
        for row in self.rows["methods-from-publications"]:
            method_id = RENAMED.get(row["id"], row["id"])
            users = self.uses[method_id]
            family = FAMILIES.get(row["family"][1], row["family"][1])
            parent = RENAMED.get(row["variant_of"], row["variant_of"])
            source = self._introduced_by(method_id, users) if row["novel"] else None
            built_in = row["novel"] and family in ("attention", "concept", "example", "textual", "rule_surrogate")
            inherited = self.entities["methods"].get(parent or "", {}).get("requires", {}).get("needs")
            needs = list(inherited if inherited is not None else FAMILY_NEEDS.get(family, []))
            if built_in and "retraining" not in needs:
                needs.append("retraining")
            tasks = {user["study"]["task"] for user in users}
            dims = {dim for user in users for dim in user["study"]["dims"] or ()}
            fields = {
                "name": row["name"],
                "family": family,
                "parent": parent,
                "umbrella": source is None,
                "definition": None if row["unverified"] else sentence(row["description"]),
                "requires": {
                    "needs": needs,
                    "tasks": [task for task in TASKS if task in tasks] or ["classification"],
                    "dims": sorted(dims) or [2],
                },
                "output": FAMILY_OUTPUT.get(family, "map"),
                "scope": "global" if family in ("projection", "activation_maximisation") else "local",
                "stage": "intrinsic" if built_in else "post_hoc",
                "cost": {"passes": None},
                "source": source,
            }
            self._put("methods", method_id, fields)

    @staticmethod
    def _introduced_by(method_id: str, users: list[Row]) -> str | None:
        """Return the study that introduced a method: the one that judges it as its own, else the earliest."""
        own = [
            user
            for user in users
            if any(claim.get("self_reported") and method_id in claim["methods"] for claim in user["claims"])
        ]
        first = min(own or users, key=lambda user: (user["year"] or 9999, user["id"]), default=None)
        return str(first["id"]) if first else None

    def _metrics(self) -> None:
        for row in self.rows["metrics"]:
            source = None if row["unverified"] else self._paper(row)
            if source is None:
                self.left_out.append(f"metrics/{row['id']}: no verified paper")
                continue
            better = row["better_when"] or ""
            fields = {
                "name": row["name"],
                "aliases": aliases(row),
                "property": PROPERTIES.get(row["property"], row["property"]),
                "direction": next((word for word in ("higher", "lower") if better.startswith(word)), None),
                "range": row["range"],
                "needs": [need for need, wanted in row["needs"].items() if wanted],
                "cost": spelled(row["cost"]) if row["cost"] else None,
                "source": source,
                "implementations": self._implementations(row),
            }
            self._put("metrics", row["id"], fields)
            if "definition" not in self.entities["metrics"].get(row["id"], {"definition": ""}):
                del self.entities["metrics"][row["id"]]
                self.left_out.append(f"metrics/{row['id']}: no definition")

    def _close(self) -> None:
        """Keep the papers that a study or a citation needs, and no parent or method that has been left out."""
        methods = self.entities["methods"]
        for fields in methods.values():
            if fields.get("parent") not in methods:
                fields["parent"] = None
        unused = [method for method in methods if methods[method]["umbrella"] and not self.uses[method]]
        for method in unused:
            self.left_out.append(f"methods/{method}: no verified paper and no study that uses it")
            del methods[method]
        cited = {name for kind in ("methods", "metrics", "tools") for name in _sources(self.entities[kind])}
        self.entities["publications"] = {
            paper_id: fields
            for paper_id, fields in self.shelf.papers.items()
            if fields.get("methods") or paper_id in cited
        }

    def write(self, kinds: Iterable[str]) -> dict[str, int]:
        """Write the entities that have no file yet; return how many per kind.

        Raises:
            SystemExit: When an entity breaks the schema; all problems are told and nothing is written.
        """
        wanted = [(kind, entity_id, fields) for kind in kinds for entity_id, fields in self.entities[kind].items()]
        problems = []
        for kind, entity_id, fields in wanted:
            try:
                KINDS[kind].model_validate({"id": entity_id, **fields})
            except ValidationError as error:
                problems += [f"{kind}/{entity_id}: {e['loc']}: {e['msg']}: {e['input']!r}" for e in error.errors()]
        if problems:
            raise SystemExit("\n".join(problems))
        written = [kind for kind, entity_id, fields in wanted if write(self.kb, kind, entity_id, fields)]
        return {kind: written.count(kind) for kind in kinds}


def main() -> None:
    """Read the command line, import, say what was written and what was left out."""
    kinds = ["publications", "tools", "methods", "metrics"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the literature catalogues")
    parser.add_argument("--words", type=Path, help="YAML file {kind: {id: {field: value}}} of what the catalogues lack")
    parser.add_argument("--only", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--kb", type=Path, default=ROOT / "kb", help="folder of the knowledge base")
    options = parser.parse_args()
    words = yaml.load(options.words.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) if options.words else {}
    importer = Importer(options.folder, options.kb, words)
    importer.run()
    for kind, count in importer.write(options.only).items():
        print(f"{kind}: {count} written")
    for line in importer.left_out:
        print(f"left out {line}")


if __name__ == "__main__":
    main()
