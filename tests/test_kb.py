"""The real knowledge base: it loads clean, and spot checks of its facts hold."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from taxonomy import KB, load_kb

ROOT = Path(__file__).resolve().parents[1]
LITERATURE = ROOT.parent / "shared" / "literature"
EXPLAINERS = [
    *("vanilla_gradient", "input_x_gradient", "integrated_gradients", "smoothgrad", "gradient_shap"),
    *("guided_backprop", "deeplift", "lrp", "grad_cam", "grad_cam_pp", "hirescam", "layer_cam", "eigen_cam"),
    *("score_cam", "occlusion", "rise", "lime", "kernel_shap", "attention_rollout", "chefer_lrp"),
]
METRICS = ["deletion", "insertion", "max_sensitivity", "sparseness", "pointing_game", "relevance_mass_accuracy", "mprt"]
STUDIED = [
    *("xray", "mri", "ultrasound", "histopathology", "ct", "dermoscopy", "mammography", "fundus", "microscopy"),
    *("endoscopy", "cytology", "oct", "spect", "fmri", "surgical_video", "pet"),
]
LANGUAGES = {"de", "fr", "es", "zh"}


@pytest.fixture(scope="module")
def kb() -> KB:
    return load_kb(ROOT / "kb")


def _sentences(value: Any) -> Iterator[str]:
    """Yield every sentence of an entity's prose, without titles, names and addresses."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            part = getattr(value, name)
            if isinstance(part, str):
                if name in ("definition", "text", "gap", "condition"):
                    yield from re.split(r"(?<=[.!?])\s+", part)
            else:
                yield from _sentences(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _sentences(part)
    elif isinstance(value, list):
        for part in value:
            yield from _sentences(part)


def _entities(kb: KB) -> Iterator[tuple[str, BaseModel]]:
    for kind in (kb.methods, kb.modalities, kb.challenges, kb.metrics, kb.tools, kb.publications):
        yield from kind.items()


def test_no_problem(kb: KB) -> None:
    assert list(kb.problems()) == []


def test_size_of_the_first_slice(kb: KB) -> None:
    assert set(STUDIED) <= set(kb.modalities)
    assert len(kb.methods) >= 300
    assert len(kb.metrics) >= 20
    assert len(kb.tools) >= 12
    assert sum(publication.study is not None for publication in kb.publications.values()) >= 300


@pytest.mark.parametrize("method_id", EXPLAINERS)
def test_explainer_is_complete(kb: KB, method_id: str) -> None:
    method = kb.methods[method_id]
    assert not method.umbrella
    assert method.source in kb.publications
    assert method.definition
    assert method.strengths
    assert method.limitations
    assert method.cost.passes
    assert method.implementations
    assert method.requires.dims == [2, 3]
    assert set(method.requires.tasks) >= {"classification", "segmentation", "regression"}
    assert kb.branch(method_id) == "visualization"


def test_every_registered_explainer_and_metric_has_a_file(kb: KB) -> None:
    runners = pytest.importorskip("runners")
    assert set(runners.explainers) <= set(kb.methods)
    assert set(runners.metrics) <= set(kb.metrics)


@pytest.mark.parametrize(
    ("method_id", "needs"),
    [
        ("vanilla_gradient", {"gradients"}),
        ("gradient_shap", {"gradients"}),
        ("guided_backprop", {"gradients", "relu_only"}),
        ("deeplift", {"gradients", "elementwise_activations"}),
        ("lrp", {"gradients", "elementwise_activations"}),
        ("hirescam", {"gradients", "spatial_features"}),
        ("score_cam", {"spatial_features"}),
        ("eigen_cam", {"spatial_features"}),
        ("rise", set()),
        ("kernel_shap", set()),
        ("attention_rollout", {"attention_weights", "tokens"}),
        ("chefer_lrp", {"gradients", "attention_weights", "tokens"}),
        ("cbm", {"training_data", "labelled_concepts", "retraining"}),
        ("protopnet", {"training_data", "retraining"}),
        ("tcav", {"gradients", "spatial_features", "training_data", "labelled_concepts"}),
    ],
)
def test_needs(kb: KB, method_id: str, needs: set[str]) -> None:
    assert set(kb.methods[method_id].requires.needs) == needs


@pytest.mark.parametrize("metric_id", METRICS)
def test_runnable_metric_is_there(kb: KB, metric_id: str) -> None:
    metric = kb.metrics[metric_id]
    assert metric.direction in ("higher", "lower")
    assert metric.source in kb.publications


def test_metrics_that_need_a_mask(kb: KB) -> None:
    assert "mask" in kb.metrics["pointing_game"].needs
    assert "mask" not in kb.metrics["deletion"].needs


def test_original_papers(kb: KB) -> None:
    def arxiv(method_id: str) -> str | None:
        source = kb.methods[method_id].source
        assert source
        return kb.publications[source].arxiv

    assert arxiv("grad_cam") == "1610.02391"
    assert arxiv("integrated_gradients") == "1703.01365"
    assert arxiv("rise") == "1806.07421"
    assert arxiv("lime") == "1602.04938"
    assert kb.publications[kb.methods["lrp"].source or ""].doi == "10.1371/journal.pone.0130140"
    assert kb.publications[kb.methods["lrp"].source or ""].year == 2015


def test_relevance_variants_hang_under_lrp(kb: KB) -> None:
    for variant in ("lrp_epsilon", "lrp_alpha_beta", "lrp_composite"):
        assert kb.methods[variant].parent == "lrp"


def test_relations_of_modalities(kb: KB) -> None:
    parents = {modality_id: modality.parent for modality_id, modality in kb.modalities.items()}
    assert parents["fmri"] == "mri"
    assert parents["cytology"] == parents["histopathology"] == "microscopy"
    assert parents["mammography"] == "xray"
    assert parents["pet"] == parents["spect"] == "nuclear_medicine"


def test_modalities_speak_five_languages(kb: KB) -> None:
    for modality in kb.modalities.values():
        assert set(modality.translations) == LANGUAGES
        assert modality.challenges
        assert modality.sources


def test_words_that_imply_a_modality_imply_one_only(kb: KB) -> None:
    owners: dict[str, str] = {}
    for modality_id, modality in kb.modalities.items():
        names = {modality.name, *modality.aliases, *(w for words in modality.translations.values() for w in words)}
        assert not {n.casefold() for n in names} & {w.casefold() for w in modality.implied_by}, modality_id
        for word in {*(n.casefold() for n in names), *(w.casefold() for w in modality.implied_by)}:
            assert owners.setdefault(word, modality_id) == modality_id, word


def test_vocabulary_translated(kb: KB) -> None:
    words = kb.vocabulary
    for section in (words.tasks, words.architectures, words.audiences, words.goals, words.criteria):
        for word_id, word in section.items():
            if word_id != "other":
                assert set(word.translations) == LANGUAGES, word_id


def test_need_sentences_read_well(kb: KB) -> None:
    for need_id, word in kb.vocabulary.needs.items():
        assert word.gap.startswith("it needs "), need_id
        assert word.gap.endswith("."), need_id
        assert word.condition.startswith("if "), need_id


def test_sentences_are_short(kb: KB) -> None:
    long = [
        f"{entity_id}: {sentence}"
        for entity_id, entity in [*_entities(kb), ("vocabulary", kb.vocabulary)]
        for sentence in _sentences(entity)
        if len(sentence.split()) > 40
    ]
    assert long == []


def test_clinical_claims(kb: KB) -> None:
    claims = kb.publications["saporta_2022_benchmark_cxr"].claims
    assert any(c.methods == ["grad_cam"] and (c.criterion, c.outcome) == ("localisation", "better") for c in claims)
    assert kb.publications["jin_2023_clinical_xai_guidelines"].doi == "10.1016/j.media.2022.102684"
    feasible = [c for p in kb.publications.values() for c in p.claims if c.criterion == "feasibility"]
    assert len(feasible) >= 100


def test_conflicts_are_mutual(kb: KB) -> None:
    pairs = {(a, b) for a, publication in kb.publications.items() for b in publication.conflicts}
    assert pairs
    assert pairs == {(b, a) for a, b in pairs}


def test_tree_is_not_presented_as_the_survey(kb: KB) -> None:
    assert kb.publications["dagnaw_2025_survey"].read == "abstract"
    for family in kb.vocabulary.families.values():
        assert family.sources
        assert "dagnaw_2025_survey" not in family.sources


@pytest.mark.parametrize("kind", ["methods", "modalities", "challenges", "metrics", "tools", "publications"])
def test_files_are_written_the_one_way(kb: KB, kind: str) -> None:
    """A file is what ``kb/_import/files.py`` writes, so a diff shows facts and not style."""
    sys.path.insert(0, str(ROOT / "kb" / "_import"))
    try:
        from files import dump
    finally:
        sys.path.pop(0)
    for entity_id, entity in getattr(kb, kind).items():
        written = (ROOT / "kb" / kind / f"{entity_id}.yaml").read_text(encoding="utf-8")
        assert written == dump(entity), entity_id


def test_import_touches_no_existing_file(tmp_path: Path) -> None:
    if not LITERATURE.is_dir():
        pytest.skip("the literature catalogues are not beside this checkout")
    (tmp_path / "tools").mkdir()
    mine = tmp_path / "tools" / "captum.yaml"
    mine.write_text("name: changed by hand\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "kb" / "_import" / "literature.py"), str(LITERATURE), "--kb", str(tmp_path)]
    done = subprocess.run([*command, "--only", "publications", "tools"], capture_output=True, text=True, check=True)
    assert mine.read_text(encoding="utf-8") == "name: changed by hand\n"
    assert (tmp_path / "tools" / "quantus.yaml").is_file()
    assert len(list((tmp_path / "publications").glob("*.yaml"))) > 300
    assert "left out publications/" in done.stdout
