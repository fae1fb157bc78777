"""The registries: explainers, insights and metrics, filled by decorators, read by the gates, the app, docs and tests.

An explainer is a function ``f(model, x, score, *, parameters) -> Tensor | Found``:

* ``x``: float32 ``(B, C, *spatial)``, spatial 2D or 3D.
* ``score(outputs, rows) -> (N,)``: one number per output row; ``rows`` ``(N,)`` says which image of ``x`` a row
belongs to.
* result: ``(B, *spatial)``, finite, unscaled; when signed, positive speaks for the score. What no profile can tell
beforehand (too few reference images, no pooling over instances) is raised as a RequirementError.

An insight is an explainer whose result is not a map: ``f(model, x, score, *, parameters) -> Form | Told`` for one
image, ``x`` ``(1, C, *spatial)``.

Keyword-only parameters with a default are the user's; those without one (:data:`INJECTED`) are handed in by the
gate.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from runners.forms import Form

Score = Callable[[Any, Tensor], Tensor]
"""``(outputs of the model, rows) -> (N,)``."""
Progress = Callable[[int, int], None]
"""``(done, total)``."""

INJECTED = (
    "profile",
    "generator",
    "progress",
    "explain_again",
    "mask",
    "channels",
    "spacing",
    "reference",
    "members",
    "others",
    "settings",
    "confidence",
    "decision",
    "cohort",
    "concepts",
    "autoencoder",
    "features",
    "language",
    "reasons",
)
"""Keyword names that the gate gives to an explainer, an insight or a metric that asks for them.

``reference`` ``(R, C, *spatial)``: images of the data the model was trained on; ``members``: further models trained for
the same task. Both come from the owner of the model. ``channels``: the explanation's map of every input channel, or
None. ``spacing``: millimetres per axis, or None. ``others``: the scores of the model's other outputs, from the one
after the explained on; of a segmentation, at the same places; none where there is one output, or no label is explained.
``settings``: the parameters that the explanation was made with. ``confidence`` and ``decision``: like the score, see
:class:`runners.targets.Resolved`. The last six are those of :class:`runners.owned.Owned`.
"""


@dataclass(frozen=True)
class Found:
    """What an explainer returns when it has more to say than the map."""

    values: Tensor
    notes: tuple[str, ...] = ()
    """What was wired and decided."""
    cautions: tuple[str, ...] = ()
    """Where the map is approximate or easy to misread."""
    signed: bool = True
    channels: Tensor | None = None
    """``(B, C, *spatial)``: the map of every input channel, when ``values`` is their sum."""
    checks: Mapping[str, Tensor] = field(default_factory=dict)
    """Checks of :data:`runners.checks.CHECKS` that came with the computation, ``(B,)`` each."""
    again: int = 0
    """Passes through all layers, for each image, that the method's rule asks for beside those through the model."""


def by_channel(values: Tensor, **more: Any) -> Found:
    """Return what was found from the maps of every channel, ``(B, C, *spatial)``: their sum is the map."""
    return Found(values.sum(1), channels=values, **more)


@dataclass(frozen=True)
class MetricResult:
    """One metric on a batch of explanations.

    Attributes:
        score: ``(B,)``.
        curve: ``(B, steps + 1)`` for metrics that are an area under a curve.
        notes: what was assumed (baseline, ranking, skipped images).
    """

    score: Tensor
    curve: Tensor | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Told:
    """What an insight returns when it has more to say than its form."""

    form: Form
    notes: tuple[str, ...] = ()
    """What was wired and decided."""
    cautions: tuple[str, ...] = ()
    """Where the answer is approximate or easy to misread."""


explainers: dict[str, Callable[..., Tensor | Found]] = {}
"""Method id to function."""
looking_first: set[str] = set()
"""Explainers that were registered with ``looks_first``."""
insights: dict[str, Callable[..., Form | Told]] = {}
"""Method id to function, of methods whose result is not a map."""
any_size: set[str] = set()
"""Insights that were registered with ``sizes``."""
metrics: dict[str, Callable[..., MetricResult]] = {}
"""Metric id to function."""

_E = TypeVar("_E", bound=Callable[..., Tensor | Found])
_I = TypeVar("_I", bound=Callable[..., Form | Told])
_M = TypeVar("_M", bound=Callable[..., MetricResult])


def explainer(method_id: str, *, looks_first: bool = False) -> Callable[[_E], _E]:
    """Register a function as the explainer of a method of the knowledge base.

    Args:
        method_id: the method.
        looks_first: the first that it asks the score about is the model's answer on ``x`` itself, row by row, further
            rows behind them; the target is then found there, which saves a pass.
    """

    def register(function: _E) -> _E:
        if method_id in explainers:
            raise ValueError(f"explainer {method_id!r} is registered twice")
        explainers[method_id] = function
        if looks_first:
            looking_first.add(method_id)
        return function

    return register


def insight(method_id: str, *, sizes: bool = False) -> Callable[[_I], _I]:
    """Register a function as the insight of a method of the knowledge base.

    Args:
        method_id: the method.
        sizes: it takes a cohort and examples of concepts whose images have other sizes than the one it explains; else
            the gate resizes them.
    """

    def register(function: _I) -> _I:
        if method_id in insights or method_id in explainers:
            raise ValueError(f"method {method_id!r} is registered twice")
        insights[method_id] = function
        if sizes:
            any_size.add(method_id)
        return function

    return register


def metric(metric_id: str) -> Callable[[_M], _M]:
    """Register a function as the computation of a metric of the knowledge base."""

    def register(function: _M) -> _M:
        if metric_id in metrics:
            raise ValueError(f"metric {metric_id!r} is registered twice")
        metrics[metric_id] = function
        return function

    return register


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the user's parameters of a registered function with their defaults, from its signature."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
    }


def helps(function: Callable[..., Any]) -> dict[str, str]:
    """Return what the docstring of a registered function says of its parameters, or of those it shares with another."""
    text = inspect.getdoc(function) or ""
    shared = re.search(r"Parameters as in :func:`(\w+)`", text)
    own = dict(re.findall(r"^ {4,}(\w+): (.+)$", text, re.MULTILINE))
    return helps((explainers | insights)[shared[1]]) | own if shared else own


def injected(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names that the gate must hand to a registered function."""
    return tuple(name for name in inspect.signature(function).parameters if name in INJECTED)


def no_progress(done: int, total: int) -> None:  # noqa: ARG001
    """Discard progress."""


def seeded(seed: int) -> torch.Generator:
    """Return a CPU generator: randomness never touches the global state."""
    return torch.Generator().manual_seed(seed)
