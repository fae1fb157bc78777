"""All weights of the ranking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


class Points:
    """All weights of the ranking, in points; a strong body of evidence is worth about 6.

    What was asked for decides, then what was found; what a method takes is told as a condition and only tells methods
    apart that are about as well supported. Set by reasoning, checked on the development part of the back-test.
    """

    # what the question asks for
    NAMED: Final = 12.0
    """The method, or an umbrella it belongs to, is named."""
    FAMILY: Final = 6.0
    """Its family is named."""
    GOAL: Final = 6.0
    """It gives what the goal asks for; the family of the goal counts in full, its kind of output alone by half."""
    OFF_GOAL: Final = -8.0
    MAP: Final = 0.2
    """No goal is said: most people want to see where."""
    MADE_FOR_TASK: Final = 2.0
    """It was made for this task, and only for it."""
    MADE_FOR_ARCHITECTURE: Final = 2.5
    """It reads what only such a model has, e.g. attention weights."""
    # evidence
    EVIDENCE: Final = 2.0
    """All that speaks for it, for each doubling of 1 + the weight of the findings and uses: the first close finding
    says most, the hundredth use next to nothing."""
    AGAINST: Final = -1.0
    """The same for what speaks against it, but half, since a method that is compared often also loses often."""
    SHRINK: Final = 0.3
    """Weight to add in thought before a share of the weight counts: little evidence says less than its weight."""
    USED: Final = 0.4
    """Weight of a study that used it, beside what it found, where a comparison won counts 1: that others chose it says
    something, but less than any finding."""
    SELF_REPORTED: Final = 0.4
    """Factor for findings of authors about their own method."""
    CLINICIANS: Final = 1.3
    """Factor for findings of studies in which clinicians or other experts judged the explanations."""
    CRITERIA: Final[Mapping[str, float]] = {"faithfulness": 1.3, "sanity": 1.3, "complexity": 0.7, "speed": 0.3}
    """Factor by what was judged, else 1: whether a map is true of the model comes before whether it looks right."""
    SMALL_STUDY: Final = 0.7
    """Factor for a study of fewer than 30 cases, where their number is known."""
    HALF_LIFE: Final = 20.0
    """Years after which a finding counts half, where the year is known: models and maps change."""
    SHRINK_AUDIENCE: Final = 3.0
    """Findings to add in thought before a share of them counts."""
    READ: Final[Mapping[str, float]] = {"fulltext": 1.0, "abstract": 0.8, "title": 0.4}
    """Factor by what was read of the paper."""
    ASKED_CRITERION: Final = 1.6
    """Factor for findings on a quality that the goal, the audience or the question cares about."""
    IDLE_RIVAL: Final = 0.3
    """Factor for comparisons with methods that cannot serve here anyway."""
    UMBRELLA: Final = 0.2
    """Factor for studies that name only the umbrella ("SHAP"), not the variant."""
    ANATOMY: Final = 0.5
    DIMENSION: Final = 0.3
    ARCHITECTURE: Final = 0.5
    """How much more a study counts that shares the organ, the dimension, the architecture."""
    OTHER_KIND: Final = 0.3
    """Factor for a study of a convolutional network where a transformer is asked about, and the other way round."""
    # the modality
    CHALLENGE: Final = 0.25
    """One challenge eased or worsened; each further one counts half of the one before."""
    # what it takes
    PASSES: Final = -0.1
    """Per factor of ten in model passes, when no budget is given."""
    WITHIN_BUDGET: Final = 0.5
    OVER_BUDGET: Final = -4.0
    INTRINSIC: Final = -15.0
    """It must be built into the model, which is finished."""
    MAYBE_INTRINSIC: Final = -0.3
    """It must be built into the model, and nobody said whether there is one already: a condition like any other."""
    INTRINSIC_AIMED: Final = -5.0
    """The same where the family or the goal is asked for, but not a new model."""
    BUILT_IN: Final = 4.0
    """The asker wants the explanation built in, and it is."""
    ADDED_ON: Final = -4.0
    """The asker wants it built in, and it is not."""
    NO_TOOL: Final = -0.4
    """It is to be added to a model, and nobody is known to have put it into a tool."""
    NEEDS: Final[Mapping[str, float]] = {
        # most models meet it
        "gradients": -0.02,
        "spatial_features": -0.05,
        "embedding": -0.05,
        "elementwise_activations": -0.15,
        # some do
        "relu_only": -0.2,
        "linear_head": -0.2,
        "attention_weights": -0.2,
        "tokens": -0.2,
        "dropout": -0.2,
        "text_encoder": -0.5,
        "text_decoder": -0.5,
    }
    """A need of which nobody knows whether the model meets it."""
    EFFORT: Final[Mapping[str, float]] = {
        "training_data": -0.2,
        "labelled_concepts": -0.4,
        "reference_images": -0.15,
        "generator": -0.5,
        "mask": -0.15,
        "clinical_features": -0.5,
        "written_reasons": -0.5,
        "retraining": -0.4,
    }
    """What the owner has to bring."""
    WANTED_EFFORT: Final = 0.2
    """Factor for that when the asker wants just such a method."""
    NOT_DISCRIMINATIVE: Final = -0.2
    """The map does not depend on the class or region that is asked about."""
    GLOBAL: Final = -0.8
    """It describes the model as a whole, not this image."""
    # our own benchmark
    BENCHMARK: Final = 1.0
    """Ahead of all methods by every property, on the modality and the task that are asked about: small models on drawn
    pictures say something, and less than a single good study. Last of all gets as much less."""
    OTHER_DIMS: Final = 0.7
    """Factor for pictures where volumes are asked about, and the other way round."""
    # here
    RUNNABLE: Final = 1.0
    MEASURED: Final = 8.0
    """The best of many methods on many images by a trusted property: as much as a strong body of evidence. The worst
    gets as much less."""
    TRUST: Final[Mapping[str, float]] = {"faithfulness": 1.0, "robustness": 0.5, "localisation": 0.5, "complexity": 0.2}
    """Factor by the property of a metric; its metrics share it. A sharp or stable map may still be wrong about the
    model, and a mask says what a person looks at."""
    OTHER_TRUST: Final = 0.3
    DOUBTFUL: Final = 0.5
    """Trust in a metric below which it is said that it counts little."""
    SHRINK_MEASURED: Final = 1.0
    """Images to add in thought: one image says half of what many do."""
    INSANE: Final = -24.0
    """Its map stays the same when the model forgets what it learned: whatever else it scores, it cannot explain it.
    Half of that where the map changes just too little."""
    SANE: Final = 0.5
    """It does change; noise does so too, so it is worth little."""
    ALIKE: Final = 0.02
    """Values that differ by less than this share of the larger one are a tie."""


SECONDS_PER_PASS: Final[Mapping[int | None, float]] = {None: 0.05, 2: 0.05, 3: 0.5}
"""What one forward or backward pass is taken to cost on an ordinary machine, by dimensions, until it was measured."""

CLOSENESS: Final[Mapping[tuple[str, bool], float]] = {
    ("same", True): 1.0,
    ("same", False): 0.4,
    ("near", True): 0.5,
    ("near", False): 0.2,
    ("far", True): 0.2,
    ("far", False): 0.08,
}
"""How much a study counts by (modality, same task): near is a relative in the tree of modalities; another task counts
two fifths, for segmenters and classifiers are explained by different methods."""

FOR = {"better": 1.0, "adequate": 0.7, "equal": 0.0, "mixed": 0.0, "inadequate": -0.8, "worse": -1.0}
AGAINST = {"better": -0.8, "worse": 0.8}
"""Value for the method that others are compared with."""
