"""The schema of every entity of the knowledge base.

One YAML file is one entity; its id is the file stem and never stands inside the file. Reading is strict: unknown keys,
wrong types and empty texts are errors, nothing is coerced. What is not known is null. Every citation is the id of a
publication file, so one paper is one file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]
Text = Annotated[str, StringConstraints(pattern=r"\S")]
Doi = Annotated[str, StringConstraints(pattern=r"^10\.\d{4,9}/\S+$")]
Arxiv = Annotated[str, StringConstraints(pattern=r"^(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]
Dim = Literal[2, 3]

Branch = Literal["visualization", "non_visualization", "latent", "multimodal"]
Need = Literal[
    # found in the model by running it
    "gradients",
    "spatial_features",
    "attention_weights",
    "tokens",
    "relu_only",
    "elementwise_activations",
    "linear_head",
    "embedding",
    "dropout",
    "generator",
    "text_encoder",
    "text_decoder",
    # known only to the owner
    "training_data",
    "labelled_concepts",
    "reference_images",
    "retraining",
    "mask",
    "clinical_features",
    "written_reasons",
]
Criterion = Literal[
    "faithfulness",
    "localisation",
    "robustness",
    "sanity",
    "complexity",
    "agreement_with_experts",
    "usefulness",
    "speed",
    "feasibility",
    "diagnosis_gain",  # the model got better or worse with the explanation built in; says nothing about the map
]
Outcome = Literal["better", "worse", "equal", "adequate", "inadequate", "mixed"]
Output = Literal["map", "concepts", "examples", "counterfactual", "text", "embedding", "scores", "rules"]
Language = Literal["de", "fr", "es", "zh"]
Input = Literal["image", "video", "text", "clinical_data", "omics", "signal"]


class Part(BaseModel):
    """A part of an entity: strict, frozen, no unknown keys."""

    # built at first use: most processes validate whole knowledge bases only, and import time counts
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, defer_build=True)


class Entity(Part):
    """What every entity has. ``id`` comes from the file name."""

    id: Id = Field(exclude=True)
    name: Text
    aliases: list[Text] = Field(default_factory=list)


class Statement(Part):
    """One sourced sentence."""

    text: Text
    sources: list[Id] = Field(min_length=1)
    """Publication ids."""


class Implementation(Part):
    """Where a tool implements a method or a metric."""

    tool: Id
    object: Text | None = None
    """Import path or name inside the tool."""


class Requires(Part):
    """What a method asks for."""

    needs: list[Need] = Field(default_factory=list)
    tasks: list[Id] = Field(min_length=1)
    dims: list[Dim] = Field(min_length=1)


class Cost(Part):
    """Model passes of one explanation at defaults; a forward and a backward pass count one each."""

    passes: int | None
    text: Text | None = None


class Hyperparameter(Part):
    """A parameter of a method, with the value it usually has."""

    name: Text
    default: str | int | float | bool | None = None
    note: Text | None = None


class Method(Entity):
    """An explanation method."""

    family: Id
    """A family of vocabulary.yaml; the branch follows from it."""
    parent: Id | None = None
    """The method this one is a variant of."""
    umbrella: bool = False
    """True for names that publications use without saying which variant ("SHAP")."""
    definition: Text | None = None
    requires: Requires
    output: Output
    scope: Literal["local", "global", "both"]
    stage: Literal["post_hoc", "intrinsic"]
    class_discriminative: bool | None = None
    cost: Cost
    hyperparameters: list[Hyperparameter] = Field(default_factory=list)
    strengths: list[Statement] = Field(default_factory=list)
    limitations: list[Statement] = Field(default_factory=list)
    source: Id | None
    """Publication id of the original paper; null only for umbrellas."""
    implementations: list[Implementation] = Field(default_factory=list)


class Difficulty(Part):
    """A challenge as it shows in one modality."""

    challenge: Id
    text: Text | None = None
    sources: list[Id] = Field(min_length=1)


class Modality(Entity):
    """An imaging modality."""

    translations: dict[Language, list[Text]] = Field(default_factory=dict)
    implied_by: list[Text] = Field(default_factory=list)
    """Words of anatomy or disease that imply this modality (reported as implied)."""
    parent: Id | None = None
    definition: Text
    dims: list[Dim] = Field(min_length=1)
    formats: list[Text] = Field(min_length=1)
    challenges: list[Difficulty] = Field(default_factory=list)
    no_study_found: bool = False
    """True when publications were looked for and none was found."""
    sources: list[Id] = Field(default_factory=list)


class Effect(Part):
    """A method, a whole family or a metric that eases or suffers from a challenge."""

    method: Id | None = None
    family: Id | None = None
    metric: Id | None = None
    text: Text
    sources: list[Id] = Field(min_length=1)

    @model_validator(mode="after")
    def _one(self) -> Effect:
        if sum(one is not None for one in (self.method, self.family, self.metric)) != 1:
            raise ValueError("give exactly one of method, family and metric")
        return self


class Shown(Part):
    """A metric that shows whether a challenge bites."""

    metric: Id
    text: Text | None = None
    sources: list[Id] = Field(min_length=1)


class Challenge(Entity):
    """What makes explaining hard in a modality, or in general."""

    definition: Text
    general: bool = False
    sources: list[Id] = Field(min_length=1)
    eased_by: list[Effect] = Field(default_factory=list)
    worsened_by: list[Effect] = Field(default_factory=list)
    shown_by: list[Shown] = Field(default_factory=list)


class Metric(Entity):
    """A metric that measures an explanation."""

    property: Literal[
        "faithfulness",
        "robustness",
        "localisation",
        "complexity",
        "randomisation",
        "axiomatic",
        "concept",
        "counterfactual",
        "text",
        "segmentation",
        "human",
        "modality_importance",
        "meta_evaluation",
    ]
    definition: Text
    direction: Literal["higher", "lower"] | None
    range: Text | None
    needs: list[
        Literal["model", "explainer", "mask", "labels", "retraining", "reference_data", "generator", "human"]
    ] = Field(default_factory=list)
    cost: Text | None = None
    weaknesses: list[Statement] = Field(default_factory=list)
    source: Id | None
    implementations: list[Implementation] = Field(default_factory=list)


class Trap(Part):
    """A defect or limit that users of a tool meet."""

    text: Text
    url: Url | None = None
    basis: Text
    """How we know: executed here, issue seen, source read."""


class Tool(Entity):
    """A software package or repository."""

    category: Text
    repository: Url | None
    package: Text | None
    """Name on PyPI."""
    version: Text | None = None
    last_release: Text | None = None
    licence: Text | None
    frameworks: list[Text] = Field(default_factory=list)
    supports_3d: bool | None = None
    supports_segmentation: bool | None = None
    supports_vit: bool | None = None
    traps: list[Trap] = Field(default_factory=list)
    source: Id | None = None


class Claim(Part):
    """What a publication found about methods."""

    methods: list[Id] = Field(min_length=1)
    versus: list[Id] = Field(default_factory=list)
    criterion: Criterion
    outcome: Outcome
    text: Text
    where: Text | None = None
    self_reported: bool = False
    """True when the authors judge their own method."""


class Study(Part):
    """What a publication studied; what its source does not say is null."""

    modalities: list[Id] = Field(min_length=1)
    anatomy: Text | None
    task: Id | None
    architecture: Id | None
    """Of the model that is explained, not of what explains it."""
    model: Text | None = None
    dims: list[Dim] | None
    inputs: list[Input] = Field(default_factory=list)
    """What the model read, when more than the image."""
    cases: int | None = Field(default=None, ge=1)
    """Patients, examinations or images that were studied, as the source counts them."""
    setting: Text | None = None


class Count(Part):
    """How many studies a review counted: of a modality, a family or a method, a task, or of several of them at once."""

    modality: Id | None = None
    family: Id | None = None
    method: Id | None = None
    task: Id | None = None
    studies: int = Field(ge=0)
    of: int = Field(ge=1)
    """All studies the review counted among."""
    text: Text
    """What was counted, in own words."""
    coding: Literal["authors", "ours"]
    """Who sorted the studies: the review's authors, or we from their published rows."""


class Publication(Part):
    """A paper. Named by its title; carries a DOI, an arXiv id or a URL that was seen."""

    id: Id = Field(exclude=True)
    title: Text
    year: int | None = Field(ge=1950, le=2100)
    first_author: Text | None = None
    venue: Text | None = None
    doi: Doi | None = None
    arxiv: Arxiv | None = None
    url: Url | None = None
    read: Literal["fulltext", "abstract", "title"]
    """What was read of it before it entered the knowledge base."""
    study: Study | None = None
    methods: list[Id] = Field(default_factory=list)
    """All methods the study used, also those without a claim."""
    clinicians: bool | None = None
    """Did clinicians or other experts judge the explanations?"""
    readers: int | None = Field(default=None, ge=1)
    """How many of them."""
    claims: list[Claim] = Field(default_factory=list)
    conflicts: list[Id] = Field(default_factory=list)
    """Publications that found otherwise."""
    counts: list[Count] = Field(default_factory=list)
    """What a review counted; says how much was done, not how well it works."""
    retracted: Url | None = None
    """Address of the retraction notice; the claims then count no longer."""

    @property
    def name(self) -> str:
        """The title, so that every entity has a name."""
        return self.title

    @property
    def link(self) -> str:
        """The address to show: DOI before arXiv before URL."""
        if self.doi:
            return f"https://doi.org/{self.doi}"
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else str(self.url)

    @model_validator(mode="after")
    def _traceable(self) -> Publication:
        if not (self.doi or self.arxiv or self.url):
            raise ValueError("a publication needs a doi, an arxiv id or a url")
        return self


class Word(Part):
    """An entry of a small closed list, with the words people use for it."""

    name: Text
    aliases: list[Text] = Field(default_factory=list)
    translations: dict[Language, list[Text]] = Field(default_factory=dict)
    definition: Text | None = None


class Family(Word):
    """A family of methods; families form a tree under the branches."""

    branch: Branch
    parent: Id | None = None
    sources: list[Id] = Field(default_factory=list)


class NeedWord(Word):
    """A need with the sentences shown when it is missing or unknown."""

    gap: Text
    """Shown when the profile lacks it, e.g. "it needs gradients, and this model gives none."."""
    condition: Text
    """Shown when it is unknown, e.g. "if the model exposes its attention weights"."""


class Goal(Word):
    """What somebody wants to know, and the outputs, families and criteria that serve it."""

    outputs: list[Output] = Field(default_factory=list)
    families: list[Id] = Field(default_factory=list)
    criteria: list[Criterion] = Field(default_factory=list)


class Audience(Word):
    """Somebody who reads explanations."""

    criteria: list[Criterion] = Field(default_factory=list)
    """Criteria this audience cares about most."""


class Vocabulary(Part):
    """kb/vocabulary.yaml."""

    branches: dict[Branch, Word]
    families: dict[Id, Family]
    tasks: dict[Id, Word]
    architectures: dict[Id, Word]
    audiences: dict[Id, Audience]
    goals: dict[Id, Goal]
    criteria: dict[Criterion, Word]
    needs: dict[Need, NeedWord]


class About(Part):
    """kb/about.yaml: what a citation of the knowledge base says."""

    title: Text = "A knowledge base of explanation methods"
    version: Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")] = "0"
    """Year, month and number of the change in it: 2026.11.0."""
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None
    creators: list[Text] = Field(default_factory=list)
    licence: Text | None = None
    """SPDX name of the licence of the data."""
    description: Text | None = None


KINDS: dict[str, type[Part]] = {
    "methods": Method,
    "modalities": Modality,
    "challenges": Challenge,
    "metrics": Metric,
    "tools": Tool,
    "publications": Publication,
}
"""Folder name to schema."""
