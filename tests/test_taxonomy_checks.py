from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from toykb import TOY, Edit, Mutation, appended, cases, copied, copy_toy, each, removed, replaced, written

from taxonomy import KBError, checks, load_kb, loader, schema


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_ATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loader, "_loaded", {})


RISE, CXR = "methods/rise.yaml", "publications/toy_2020_cxr.yaml"
VOCABULARY = "vocabulary.yaml"
CIRCLE = "parents without a circle"

FATAL = [
    Mutation(
        "references_resolve: family",
        replaced(RISE, "family: perturbation", "family: perturbations"),
        [f"{RISE}:3: family: perturbations: an entry of families in vocabulary.yaml; did you mean perturbation?"],
    ),
    Mutation(
        "references_resolve: task",
        replaced(RISE, "tasks: [classification, segmentation]", "tasks: [classification, x]"),
        [f"{RISE}:5: requires.tasks[1]: x: an entry of tasks in vocabulary.yaml"],
    ),
    Mutation(
        "references_resolve: parent of a method",
        replaced("methods/grad_cam_pp.yaml", "parent: grad_cam", "parent: gradcam"),
        ["methods/grad_cam_pp.yaml:3: parent: gradcam: a file methods/gradcam.yaml; did you mean grad_cam?"],
    ),
    Mutation(
        "references_resolve: parent of a modality is no method",
        replaced("modalities/mammography.yaml", "parent: xray", "parent: rise"),
        ["modalities/mammography.yaml:2: parent: rise: a file modalities/rise.yaml"],
    ),
    Mutation(
        "references_resolve: parent of a family",
        replaced(VOCABULARY, "    parent: gradient", "    parent: gradients"),
        [
            f"{VOCABULARY}:14: families.path_gradient.parent: gradients: "
            "an entry of families in vocabulary.yaml; did you mean gradient?"
        ],
    ),
    Mutation(
        "references_resolve: families of a goal",
        replaced(VOCABULARY, "families: [class_activation]", "families: [gradient, nothing]"),
        [f"{VOCABULARY}:41: goals.where.families[1]: nothing: an entry of families in vocabulary.yaml"],
    ),
    Mutation(
        "references_resolve: statement's source",
        replaced("methods/grad_cam.yaml", "toy_2021_speckle]", "toy_2021_speckel]"),
        [
            "methods/grad_cam.yaml:16: limitations[0].sources[1]: toy_2021_speckel: "
            "a file publications/toy_2021_speckel.yaml; did you mean toy_2021_speckle?"
        ],
    ),
    Mutation(
        "references_resolve: tool",
        replaced("metrics/pointing_game.yaml", "tool: toy_cam", "tool: nothing"),
        ["metrics/pointing_game.yaml:9: implementations[0].tool: nothing: a file tools/nothing.yaml"],
    ),
    Mutation(
        "references_resolve: challenge, and its metric and method",
        each(
            replaced("modalities/xray.yaml", "challenge: shortcuts", "challenge: zzz"),
            replaced("challenges/speckle.yaml", "- method: grad_cam", "- method: zzz"),
            replaced("challenges/speckle.yaml", "metric: sensitivity_max", "metric: zzz"),
        ),
        [
            "challenges/speckle.yaml:5: eased_by[0].method: zzz: a file methods/zzz.yaml",
            "challenges/speckle.yaml:12: shown_by[0].metric: zzz: a file metrics/zzz.yaml",
            "modalities/xray.yaml:10: challenges[1].challenge: zzz: a file challenges/zzz.yaml",
        ],
    ),
    Mutation(
        "references_resolve: what a study names",
        each(
            replaced(CXR, "modalities: [xray]", "modalities: [zzz]"),
            replaced(CXR, "task: classification", "task: zzz"),
            replaced(CXR, "architecture: cnn", "architecture: zzz"),
            replaced(CXR, "conflicts: [toy_2022_mammo]", "conflicts: [zzz]"),
        ),
        [
            f"{CXR}:7: study.modalities[0]: zzz: a file modalities/zzz.yaml",
            f"{CXR}:9: study.task: zzz: an entry of tasks in vocabulary.yaml",
            f"{CXR}:10: study.architecture: zzz: an entry of architectures in vocabulary.yaml",
            f"{CXR}:25: conflicts[0]: zzz: a file publications/zzz.yaml",
        ],
    ),
    Mutation(
        "ids_unique",
        copied(RISE, "methods/captum.yaml"),
        ["tools/captum.yaml:1: file: captum: an id used once; methods/captum.yaml has it"],
    ),
    Mutation(
        "parents_acyclic: itself",
        replaced("methods/grad_cam_pp.yaml", "parent: grad_cam", "parent: grad_cam_pp"),
        [f"methods/grad_cam_pp.yaml:3: parent: grad_cam_pp -> grad_cam_pp: {CIRCLE}"],
    ),
    Mutation(
        "parents_acyclic: methods",
        appended("methods/grad_cam.yaml", "parent: grad_cam_pp\n"),
        [f"methods/grad_cam.yaml:22: parent: grad_cam -> grad_cam_pp -> grad_cam: {CIRCLE}"],
    ),
    Mutation(
        "parents_acyclic: told once, also with a variant that hangs on the circle",
        each(
            appended("methods/cam_unspecified.yaml", "parent: grad_cam_pp\n"),
            appended("methods/grad_cam.yaml", "parent: grad_cam_pp\n"),
        ),
        [f"methods/grad_cam.yaml:22: parent: grad_cam -> grad_cam_pp -> grad_cam: {CIRCLE}"],
    ),
    Mutation(
        "parents_acyclic: modalities",
        appended("modalities/xray.yaml", "parent: mammography\n"),
        [f"modalities/mammography.yaml:2: parent: mammography -> xray -> mammography: {CIRCLE}"],
    ),
    Mutation(
        "parents_acyclic: families",
        replaced(
            VOCABULARY,
            "    branch: visualization\n    sources",
            "    branch: visualization\n    parent: path_gradient\n    sources",
        ),
        [f"{VOCABULARY}:10: families.gradient.parent: gradient -> path_gradient -> gradient: {CIRCLE}"],
    ),
    Mutation(
        "families_keep_branch",
        replaced(VOCABULARY, "    branch: visualization\n    parent", "    branch: latent\n    parent"),
        [f"{VOCABULARY}:13: families.path_gradient.branch: latent: visualization, as its parent gradient"],
    ),
    Mutation(
        "vocabulary_complete",
        each(
            replaced(VOCABULARY, "  speed: {name: Speed}\n", ""),
            replaced(VOCABULARY, "  latent: {name: Latent space}\n", ""),
        ),
        [
            f"{VOCABULARY}:1: branches: latent is missing: an entry for every value of the schema",
            f"{VOCABULARY}:42: criteria: speed is missing: an entry for every value of the schema",
        ],
    ),
]

OTHERS = [
    Mutation(
        "one_paper_one_file: DOI",
        replaced("publications/toy_2022_mammo.yaml", "10.1234/toy.2022.1", "10.1234/TOY.2020.1"),
        [
            "publications/toy_2022_mammo.yaml:3: doi: 10.1234/TOY.2020.1: "
            "one file a paper; publications/toy_2020_cxr.yaml has the same doi"
        ],
    ),
    Mutation(
        "one_paper_one_file: arXiv id",
        replaced("publications/sundararajan_2017_ig.yaml", "1703.01365", "1312.6034"),
        [
            "publications/sundararajan_2017_ig.yaml:4: arxiv: 1312.6034: "
            "one file a paper; publications/simonyan_2013_gradient.yaml has the same arxiv"
        ],
    ),
    Mutation(
        "one_paper_one_file: title, other case and signs",
        replaced("publications/toy_2022_mammo.yaml", "A toy study of mammograms", '"A Toy study: of -- Speckle!"'),
        [
            "publications/toy_2022_mammo.yaml:1: title: A Toy study: of -- Speckle!: "
            "one file a paper; publications/toy_2021_speckle.yaml has the same title"
        ],
    ),
    Mutation(
        "methods_have_source",
        replaced("methods/cam_unspecified.yaml", "umbrella: true\n", ""),
        ["methods/cam_unspecified.yaml:11: source: null: the publication id of its original paper, or umbrella: true"],
    ),
    Mutation(
        "claims_name_own_methods",
        replaced(CXR, "methods: [grad_cam, grad_cam_pp, integrated_gradients]", "methods: [grad_cam, grad_cam_pp]"),
        [
            f"{CXR}:16: claims[0].versus[0]: integrated_gradients: "
            "one of the publication's methods; add it there if the study used it"
        ],
    ),
    Mutation(
        "claims_compare",
        replaced(CXR, "versus: [integrated_gradients]", "versus: [integrated_gradients, grad_cam]"),
        [f"{CXR}:16: claims[0].versus: grad_cam: methods that do not stand on the claim's other side"],
    ),
    Mutation(
        "names_unambiguous: two methods",
        replaced(RISE, "aliases: [randomised input sampling]", "aliases: [Grad-cam]"),
        [f"{RISE}:2: aliases[0]: Grad-cam: a word that means one entity; grad_cam has it too"],
    ),
    Mutation(
        "names_unambiguous: twice in one file",
        replaced(RISE, "aliases: [randomised input sampling]", "aliases: [Rise]"),
        [f"{RISE}:2: aliases[0]: Rise: each name once"],
    ),
    Mutation(
        "names_unambiguous: translation",
        replaced("modalities/ultrasound.yaml", "de: [Sonographie, Ultraschall]", "de: [Sonographie, Röntgen]"),
        ["modalities/xray.yaml:4: translations.de[0]: Röntgen: a word that means one entity; ultrasound has it too"],
    ),
    Mutation(
        "names_unambiguous: words of the vocabulary",
        replaced(VOCABULARY, "aliases: [multi-label]", "aliases: [Segmentation]"),
        [
            f"{VOCABULARY}:27: tasks.segmentation.name: Segmentation: "
            "a word that means one entity; classification has it too"
        ],
    ),
    Mutation(
        "modalities_described: challenges",
        replaced("modalities/mammography.yaml", "challenges: [{challenge: overlap, sources: [toy_2022_mammo]}]\n", ""),
        ["modalities/mammography.yaml:1: challenges: none: at least one challenge"],
    ),
    Mutation(
        "modalities_described: neither source nor study",
        replaced("publications/toy_2021_speckle.yaml", "modalities: [ultrasound]", "modalities: [xray]"),
        [
            "modalities/ultrasound.yaml:1: sources: none: a source, or a publication that studied this modality",
            "modalities/ultrasound.yaml:1: no_study_found: false: true, or a publication that studied this modality",
        ],
    ),
    Mutation(
        "modalities_described: no study, and it says so",
        each(
            replaced("publications/toy_2022_mammo.yaml", "modalities: [mammography]", "modalities: [xray]"),
            appended("modalities/mammography.yaml", "no_study_found: true\n"),
        ),
        [],
    ),
    Mutation(
        "modalities_described: says no study, and there is one",
        appended("modalities/mammography.yaml", "no_study_found: true\n"),
        ["modalities/mammography.yaml:8: no_study_found: true: false: there are studies of it"],
    ),
    Mutation(
        "modalities_described: a part that was studied will do",
        replaced(CXR, "modalities: [xray]", "modalities: [ultrasound]"),
        [],
    ),
    Mutation(
        "modalities_described: metrics",
        replaced("challenges/speckle.yaml", "shown_by: [{metric: sensitivity_max, sources: [toy_2021_speckle]}]\n", ""),
        ["modalities/ultrasound.yaml:8: challenges: no metric: a challenge with a metric that shows it (shown_by)"],
    ),
    Mutation(
        "references_well_formed",
        each(
            replaced(CXR, "doi: 10.1234/toy.2020.1", 'doi: "10.1234/toy.2020.1,"\narxiv: "2013.01234"'),
            replaced("publications/toy_2022_mammo.yaml", "doi: 10.1234/toy.2022.1", "url: https://doi.org/10.1234/a"),
            replaced("publications/toy_2021_speckle.yaml", "doi: 10.1234/toy.2021.1", "doi: 10.48550/arXiv.2101.01234"),
        ),
        [
            f"{CXR}:4: doi: 10.1234/toy.2020.1,: a whole DOI, without the punctuation around it",
            f"{CXR}:5: arxiv: 2013.01234: an arXiv id that begins with year and month, as 1807.06420",
            "publications/toy_2021_speckle.yaml:4: doi: 10.48550/arXiv.2101.01234: "
            'arxiv: "2101.01234" and the DOI of the journal or null',
            "publications/toy_2022_mammo.yaml:3: url: https://doi.org/10.1234/a: the fields doi and arxiv for these",
        ],
    ),
    Mutation(
        "conflicts_mutual",
        replaced("publications/toy_2022_mammo.yaml", "conflicts: [toy_2020_cxr]", "conflicts: [toy_2022_mammo]"),
        [
            f"{CXR}:25: conflicts[0]: toy_2022_mammo: a publication that names toy_2020_cxr in its conflicts too",
            "publications/toy_2022_mammo.yaml:25: conflicts[0]: toy_2022_mammo: another publication",
        ],
    ),
    Mutation(
        "contradictions_listed",
        each(
            replaced(
                "publications/toy_2021_speckle.yaml", "modalities: [ultrasound]", "modalities: [ultrasound, xray]"
            ),
            replaced(
                "publications/toy_2021_speckle.yaml", "[grad_cam, vanilla", "[integrated_gradients, grad_cam, vanilla"
            ),
            appended(
                "publications/toy_2021_speckle.yaml",
                "  - {methods: [integrated_gradients], versus: [grad_cam], criterion: localisation, outcome: better, "
                "text: It hit more.}\n",
            ),
        ),
        [
            f"{CXR}:25: conflicts: toy_2021_speckle is missing: toy_2021_speckle there: "
            "they rank grad_cam by localisation in opposite order"
        ],
    ),
    Mutation(
        "counts_fit",
        each(
            replaced("publications/toy_2022_mammo.yaml", "studies: 3", "studies: 30"),
            replaced(
                "publications/toy_2022_mammo.yaml",
                "  - modality: mammography\n    family: perturbation\n    s",
                "  - s",
            ),
        ),
        [
            "publications/toy_2022_mammo.yaml:19: counts[0]: a count of nothing: a modality, family, …",
            "publications/toy_2022_mammo.yaml:19: counts[0].studies: 30 of 10: at most the whole",
        ],
    ),
    Mutation(
        "sentences_short",
        replaced("modalities/ultrasound.yaml", "the echoes of sound.", "the echoes of sound" + " again" * 34 + "."),
        [
            "modalities/ultrasound.yaml:5: definition: 41 words (Images made from the echoes …): "
            "sentences of at most 40 words"
        ],
    ),
    Mutation(
        "sentences_short: two short ones will do",
        replaced("modalities/ultrasound.yaml", "the echoes of sound.", "sound. " + "And" + " again" * 39 + "."),
        [],
    ),
    Mutation(
        "spelled_british",
        replaced(
            "modalities/ultrasound.yaml", "the echoes of sound.", "localized tumors, resized in color_map by Visualize."
        ),
        [
            "modalities/ultrasound.yaml:5: definition: localized: localised",
            "modalities/ultrasound.yaml:5: definition: tumors: tumours",
        ],
    ),
    Mutation(
        "nothing_orphaned: challenge",
        replaced("modalities/ultrasound.yaml", "challenge: speckle", "challenge: shortcuts"),
        ["challenges/speckle.yaml:1: file: speckle: used by a modality, or general: true"],
    ),
    Mutation(
        "nothing_orphaned: publication",
        written("publications/lonely.yaml", "title: Lonely\nyear: null\nurl: https://example.org\nread: title\n"),
        ["publications/lonely.yaml:1: file: lonely: cited by an entity, or naming the methods it used"],
    ),
    Mutation(
        "nothing_orphaned: family",
        replaced(
            VOCABULARY, "tasks:\n  classification", "  empty: {name: Empty, branch: latent}\ntasks:\n  classification"
        ),
        [f"{VOCABULARY}:22: families.empty: empty: a family with a method or a family below it"],
    ),
]


@cases(FATAL)
def test_what_code_relies_on_keeps_it_from_loading(tmp_path: Path, edit: Edit, expected: list[str]) -> None:
    root = copy_toy(tmp_path)
    edit(root)
    with pytest.raises(KBError) as caught:
        load_kb(root)
    assert list(caught.value.problems) == expected


@cases(OTHERS)
def test_matters_of_curation_are_told_and_load(tmp_path: Path, edit: Edit, expected: list[str]) -> None:
    root = copy_toy(tmp_path)
    edit(root)
    assert load_kb(root).problems() == expected


def test_the_toy_breaks_no_rule() -> None:
    kb = load_kb(TOY)
    for rule in checks.RULES.values():
        assert list(rule.find(kb)) == [], rule.name


def test_a_general_challenge_needs_no_modality(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    replaced("modalities/xray.yaml", ", {challenge: shortcuts, sources: [toy_2020_cxr]}", "")(root)
    assert load_kb(root).problems() == []


def test_every_rule_is_broken_by_a_mutation_of_its_sort() -> None:
    for mutations, fatal in ((FATAL, True), (OTHERS, False)):
        tested = {mutation.name.partition(":")[0] for mutation in mutations}
        assert tested == {name for name, rule in checks.RULES.items() if rule.fatal is fatal}


def test_every_rule_says_what_must_hold() -> None:
    assert all(rule.find.__doc__ for rule in checks.RULES.values())


def test_two_rules_can_be_broken_at_once(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    each(removed("tools/captum.yaml"), copied(RISE, "metrics/bad.yaml"))(root)
    with pytest.raises(KBError) as caught:
        load_kb(root)
    named = {line.split(":")[0] for line in caught.value.problems}
    assert {"methods/vanilla_gradient.yaml", "methods/integrated_gradients.yaml", "metrics/bad.yaml"} <= named


def _id_fields(model: type[BaseModel]) -> set[str]:
    """The fields of a model that hold one id or a list of ids, by the schema's annotations."""
    found = set()
    for name, field in model.model_fields.items():

        def holds_id(annotation: Any, metadata: list[Any]) -> bool:
            if get_args(schema.Id)[1] in metadata:
                return True
            if getattr(annotation, "__metadata__", None):
                return holds_id(annotation.__origin__, list(annotation.__metadata__))
            if getattr(annotation, "__origin__", None) is dict:
                return False
            return any(holds_id(a, []) for a in get_args(annotation))

        if holds_id(field.annotation, field.metadata):
            found.add(name)
    return found


def test_every_id_field_of_the_schema_is_followed() -> None:
    models = [m for m in vars(schema).values() if isinstance(m, type) and issubclass(m, BaseModel)]
    fields = set().union(*map(_id_fields, models))
    assert fields - {"id", "parent"} == set(checks.REFERENCES)


def test_the_knowledge_base_itself_breaks_no_rule() -> None:
    kb = load_kb()
    assert kb.root == Path(schema.__file__).parent.parent / "kb"
    assert kb.problems() == []
