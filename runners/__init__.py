"""Do it, and measure it: explainers for any PyTorch model on any biomedical image.

>>> from runners import load_image, load_model, profile, explain, explainers, metrics, measure, Region
"""

import runners.metrics
from runners import attention, cams, gradients, perturbation, relevance  # noqa: F401 (they register themselves)
from runners.explain import Explanation, explain, measure
from runners.images import Image, load_image
from runners.load import Model, load_model
from runners.models import Wired, profile
from runners.registry import Found, MetricResult, explainers, metrics
from runners.targets import Region

__all__ = [
    "Explanation",
    "Found",
    "Image",
    "MetricResult",
    "Model",
    "Region",
    "Wired",
    "explain",
    "explainers",
    "load_image",
    "load_model",
    "measure",
    "metrics",
    "profile",
]
