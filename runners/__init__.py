"""Do it, and measure it: explainers for any PyTorch model on any biomedical image.

>>> from runners import load_image, load_model, profile, explain, explainers, measure, metrics, Region

Nothing is imported before it is asked for: ``runnable()`` answers without torch, so that questions are answered at
once.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runners.bring import with_report
    from runners.detection import Box
    from runners.discovery import Insight, check_rationale, discover, unmet_by
    from runners.gate import Explanation, explain, measure, unmet
    from runners.generators import bundled_autoencoders, load_autoencoder
    from runners.images import Image, load_image, load_mask
    from runners.load import Model, bundled, load_model, load_towers
    from runners.mil import Tiled
    from runners.models import Wired, profile
    from runners.owned import Cohort, Concept, Language, Owned, Reason
    from runners.registry import Found, MetricResult, explainers, insights, metrics
    from runners.sequences import rank_channels
    from runners.targets import Contrast, Expected, Region, Similarity

_HOME = {
    "bring": ("with_report",),
    "generators": ("bundled_autoencoders", "load_autoencoder"),
    "gate": ("Explanation", "explain", "measure", "unmet"),
    "images": ("Image", "load_image", "load_mask"),
    "load": ("Model", "bundled", "load_model", "load_towers"),
    "mil": ("Tiled",),
    "models": ("Wired", "profile"),
    "discovery": ("Insight", "check_rationale", "discover", "unmet_by"),
    "owned": ("Cohort", "Concept", "Language", "Owned", "Reason"),
    "registry": ("Found", "MetricResult", "explainers", "insights", "metrics"),
    "sequences": ("rank_channels",),
    "detection": ("Box",),
    "targets": ("Contrast", "Expected", "Region", "Similarity"),
}
_REGISTERING = (
    "across",
    "attention",
    "beyond.anchored",
    "beyond.concepts_found",
    "beyond.concepts_labelled",
    "beyond.counterfactuals_drawn",
    "beyond.counterfactuals_filled",
    "beyond.counterfactuals_inside",
    "beyond.counterfactuals_searched",
    "beyond.counterfactuals_tables",
    "beyond.distilled",
    "beyond.influence",
    "beyond.modality",
    "beyond.neighbours",
    "beyond.probing",
    "beyond.projections",
    "beyond.prototypes",
    "beyond.radiomic",
    "beyond.reports",
    "beyond.sentences",
    "beyond.sparse",
    "beyond.strategies",
    "beyond.visualised",
    "beyond.worded",
    "cams",
    "coalitions",
    "detectors",
    "gradients",
    "learned_masks",
    "measures.axioms",
    "measures.channels",
    "measures.complexity",
    "measures.faithfulness",
    "measures.highlights",
    "measures.localisation",
    "measures.randomisation",
    "measures.robustness",
    "measures.subsets",
    "mil",
    "paths",
    "perturbation",
    "relevance",
    "retrieval",
    "score_cams",
    "uncertainty",
)
"""Modules that fill the registries when they are imported."""

__all__ = [
    "Box",
    "Cohort",
    "Concept",
    "Contrast",
    "Expected",
    "Explanation",
    "Found",
    "Image",
    "Insight",
    "Language",
    "MetricResult",
    "Model",
    "Owned",
    "Reason",
    "Region",
    "Similarity",
    "Tiled",
    "Wired",
    "bundled",
    "check_rationale",
    "bundled_autoencoders",
    "computable",
    "discover",
    "discoverable",
    "executable",
    "explain",
    "explainers",
    "insights",
    "load_autoencoder",
    "load_image",
    "load_mask",
    "load_model",
    "load_towers",
    "measurable",
    "measure",
    "metrics",
    "profile",
    "rank_channels",
    "runnable",
    "unmet",
    "unmet_by",
    "with_report",
]


@cache
def runnable() -> tuple[str, ...]:
    """Return the ids of all methods with an explainer, read from the decorators, without importing torch."""
    return _decorated("explainer")


@cache
def discoverable() -> tuple[str, ...]:
    """Return the ids of all methods with an insight, in the same way."""
    return _decorated("insight")


@cache
def executable() -> tuple[str, ...]:
    """Return the ids of all methods that run here, whatever their answer."""
    return (*runnable(), *discoverable())


@cache
def measurable() -> tuple[str, ...]:
    """Return the ids of all metrics with a computation, in the same way."""
    return _decorated("metric")


@cache
def computable() -> tuple[str, ...]:
    """Return the ids of all methods and metrics that run here: what an answer can be acted on with."""
    return (*executable(), *measurable())


def _decorated(decorator: str) -> tuple[str, ...]:
    pattern = re.compile(rf'^@{decorator}\("(\w+)"[,)]', re.M)
    folder = Path(__file__).parent
    texts = (folder.joinpath(*name.split(".")).with_suffix(".py").read_text("utf-8") for name in _REGISTERING)
    return tuple(sorted(one for text in texts for one in pattern.findall(text)))


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            if module in ("gate", "registry", "discovery"):
                for filling in _REGISTERING:
                    importlib.import_module(f"runners.{filling}")
            return getattr(importlib.import_module(f"runners.{module}"), name)
    raise AttributeError(f"module 'runners' has no attribute {name!r}")
