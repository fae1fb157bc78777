"""Count the published rows of three reviews into facts; see README.md beside this file.

Run by hand from the repository root: ``python kb/_import/counts.py FOLDER``. It prints the ``counts`` of each review as
YAML, for its file in kb/publications. We sort the rows into our families by the tables below, also where the review
names types of methods itself, so every count says ``coding: ours``.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from taxonomy.writing import dump_fields  # noqa: E402

JIN_FAMILIES = {
    "cam": "class_activation",
    "gradient": "gradient",
    "relevance": "relevance_propagation",
    "perturbation": "perturbation",
    "attention": "attention",
    "intrinsic_map": "intrinsic_localisation",
    "attribute": "concept",
    "concept": "concept",
    "example": "example",
    "prototype": "example",
    "counterfactual": "counterfactual",
    "latent": "generative_latent",
    "text": "textual",
    "rule": "rule_surrogate",
    "feature_viz": "activation_maximisation",
}
"""Code of the rows to family; ``sparse_linear`` and ``other`` have none here."""

JIN_MODALITIES = {"MRI": "mri", "X-ray": "xray", "fMRI": "fmri", "CT": "ct", "OCT": "oct"}

PATRICIO_FAMILIES = {
    "class_activation": ("CAM", "Grad-CAM", "Guided Grad-CAM"),
    "gradient": (
        "SmoothGrad",
        "Integrated Gradients",
        "Gradient, Integrated Gradient",
        "Saliency maps",
        "CBIR, Saliency Map",
    ),
    "relevance_propagation": ("DeepLIFT",),
    "perturbation": ("LIME", "Occlusion", "KernelSHAP", "SHAP"),
    "attention": ("Attention-based", "Attention maps", "Multi-Head Attention"),
    "concept": ("CBM", "TCAV", "Concept-based"),
    "example": ("CBIR", "CBR", "CBIR, Saliency Map", "Prototype Activation Map", "Prototype Activation Maps"),
    "counterfactual": ("Counterfactual Examples",),
    "projection": ("t-SNE",),
    "textual": ("Text-based", "Stacked LSTM"),
    "uncertainty": ("BCNN", "Uncertainty-based"),
}
PATRICIO_MODALITIES = {
    "X-ray": "xray",
    "Dermoscopy": "dermoscopy",
    "Microscopic Images": "microscopy",
    "Microscopy Images": "microscopy",
    "Mammography": "mammography",
    "MRI": "mri",
    "Endoscopy": "endoscopy",
    "Fundus Images": "fundus",
    "DaTscan": "spect",
}

XRAY_FAMILIES = {
    "class_activation": ("CAM",),
    "attention": ("Attention",),
    "perturbation": ("Oclusion sensitivity", "LIME"),
    "gradient": ("Gradient based method", "Guided backpropagation", "Deconvolution"),
    "projection": ("PCA", "t-SNE"),
}


def rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def counts(studies: Iterable[tuple[set[str], set[str]]], what: str) -> list[dict[str, Any]]:
    """Count (modalities, families) of studies by modality, by family, and by both.

    Args:
        studies: One pair for each study.
        what: The words before the modality and family in the sentence.
    """
    listed = list(studies)
    cells: Counter[tuple[str | None, str | None]] = Counter()
    for modalities, families in listed:
        cells.update((modality, None) for modality in modalities)
        cells.update((None, family) for family in families)
        cells.update((modality, family) for modality in modalities for family in families)
    found = []
    for (modality, family), number in sorted(cells.items(), key=lambda item: (-item[1], str(item[0]))):
        if modality and family:
            of, text = cells[modality, None], f"{what} on this modality that use this family."
        else:
            of, text = len(listed), f"{what} {'on this modality' if modality else 'that use this family'}."
        cell = {"modality": modality, "family": family}
        found.append(
            {**{k: v for k, v in cell.items() if v}, "studies": number, "of": of, "text": text, "coding": "ours"}
        )
    return found


def jin(folder: Path) -> list[dict[str, Any]]:
    """Count the 98 coded rows of the supplementary table of Jin et al."""
    studies = [
        (
            {JIN_MODALITIES.get(row["modality_coded"], row["modality_coded"])},
            {JIN_FAMILIES[code] for code in row["families_coded"].split(";") if code in JIN_FAMILIES},
        )
        for row in rows(folder / "jin2021_coded.csv")
    ]
    return counts(studies, "Studies of the authors' table")


def patricio(folder: Path) -> list[dict[str, Any]]:
    """Count the 53 rows of the interactive table of Patrício et al."""
    studies = [
        (
            {PATRICIO_MODALITIES[one] for one in row["modality"].split("/")},
            {family for family, labels in PATRICIO_FAMILIES.items() if row["interpretability_method"] in labels},
        )
        for row in rows(folder / "patricio_rows.csv")
    ]
    return counts(studies, "Studies of the authors' table")


def xray(folder: Path) -> list[dict[str, Any]]:
    """Count the 140 readable rows of a review of X-ray studies by family."""
    studies = [
        (
            {"xray"},
            {family for family, labels in XRAY_FAMILIES.items() if set(labels) & set(row["method_types"].split(";"))},
        )
        for row in rows(folder / "xray_slr_rows.csv")
    ]
    text = "X-ray studies that use this family, counted by us from the types of methods in the review's table."
    cells = counts(studies, "X-ray studies")
    return [{**one, "text": text} for one in cells if "family" in one and "modality" in one]


def main() -> None:
    """Print the counts of the three reviews."""
    folder = Path(sys.argv[1])
    for name, count in (("jin", jin), ("patricio", patricio), ("xray", xray)):
        print(f"# {name}")
        print(dump_fields({"counts": count(folder)}))


if __name__ == "__main__":
    main()
