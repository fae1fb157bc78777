"""Experiment 1: do maps of the same methods fare alike across modalities and networks?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from scipy.stats import friedmanchisquare

from experiments.measuring import RANDOM, rows, run, sheet, subjects
from experiments.page import Experiment, Section
from recommender.case import Standing, failed, standings
from runners import Model, load_model
from runners.case import Result
from runners.load import bundled
from runners.registry import Progress, no_progress
from taxonomy import KB
from taxonomy.errors import UnknownIdError
from taxonomy.trust import weights

METHODS: Final = (
    "vanilla_gradient",
    "integrated_gradients",
    "smoothgrad",
    "guided_backprop",
    "lrp_composite",
    "grad_cam",
    "layer_cam",
    "eigen_cam",
    "occlusion",
    "lime",
)
"""One or two of every family that looks at any network."""
CHANCE: Final = 0.05
"""Friedman's p from which on an agreement may be chance."""
FAITHFUL: Final = "faithfulness"
"""The property by which a map has to beat a random one."""


def modalities(
    kb: KB,
    *,
    methods: Sequence[str] = METHODS,
    models: Sequence[str] = (),
    data: Mapping[str, Sequence[Path]] | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Experiment:
    """Run the same methods and metrics on the bundled models of all modalities.

    Args:
        kb: the knowledge base.
        methods: ids of explainers.
        models: ids of bundled models; all of them by default.
        data: model id to images to explain instead of its samples.
        seed: of all randomness.
        progress: called with ``(done, total)``, counted in maps.

    Raises:
        UnknownIdError: there is no such bundled model.
        ImageError, ModelError: an image does not fit its model.
    """
    start = time.perf_counter()
    data = data or {}
    known = [card.id for card in bundled()]
    for name in (*models, *data):
        if name not in known:
            raise UnknownIdError(name, known, "bundled model")
    names = tuple(models) or tuple(known)
    loaded = {name: load_model(name) for name in names}
    asked = {name: list(subjects(model, data.get(name, ()))) for name, model in loaded.items()}
    total, done = (len(methods) + 1) * sum(map(len, asked.values())), 0
    results: dict[str, dict[str, list[Result]]] = {}
    for name, each in asked.items():
        results[name] = {}
        for number, one in enumerate(each):
            own = results[name][f"{name} {number + 1}"] = []
            for result in run(loaded[name], one, methods, kb, seed=seed):
                own.append(result)
                progress(done := done + 1, total)
    trust = weights(kb)
    stand = {name: standings(rows(found, kb, trust), kb) for name, found in results.items()}
    labels = {name: _label(loaded[name].card.name) for name in names}
    metrics = list(dict.fromkeys(metric for found in stand.values() for own in found.values() for metric in own))
    counts = {name: len(each) for name, each in asked.items()}
    return Experiment(
        title="Maps across modalities",
        question="Do the same explanation methods fare alike across modalities?",
        done=(
            f"{len(methods)} methods explained what {len(names)} bundled models say about "
            f"{sum(counts.values())} images ("
            + "; ".join(f"{labels[name]}: {counts[name]}" for name in names)
            + "), each with its defaults. Every map was measured alike, as was a map of random numbers.",
            "A place is that among all maps of one image by one metric, 1 is best; ties share theirs. Kendall's W says "
            "how far models agree on the order of the methods: 0 not at all, 1 wholly. Its p is Friedman's.",
        ),
        answer=_answer(kb, stand, labels, metrics, loaded, methods),
        sections=(
            *(_board(kb, metric, stand, labels, methods) for metric in metrics),
            *(
                Section(
                    f"The maps: {labels[name]}",
                    lines=tuple(
                        dict.fromkeys(
                            f"{kb.methods[r.method].name}: {r.error}"
                            for found in results[name].values()
                            for r in found
                            if r.error
                        )
                    ),
                    pictures=tuple(
                        (sheet(one, found, kb), f"{labels[name]}: the image and what each method marks")
                        for one, found in zip(asked[name], results[name].values(), strict=True)
                    ),
                )
                for name in names
            ),
        ),
        limits=(
            "So few images per model say nothing of the methods in general: `xai-atlas benchmark` measures them on "
            "many, with intervals. Here it shows that an order found on one modality need not hold on another.",
            "Modality and network differ together: what is due to the one or the other cannot be told apart here.",
            "The models are small and were trained for trying explanations, not for care.",
        ),
        numbers=tuple(
            {
                "model": name,
                "modality": asked[name][0].case.modality,
                "image": image,
                "method": one.method,
                "metric": score.metric,
                "value": score.value,
                "seconds": None if one.explanation is None or one.method == RANDOM else one.explanation.seconds,
                "note": " ".join(score.notes),
            }
            for name, found in results.items()
            for image, each in found.items()
            for one in each
            for score in one.measured
        ),
        seconds=time.perf_counter() - start,
        seed=seed,
    )


Standings = Mapping[str, Mapping[str, Mapping[str, Standing]]]
"""Model to method to metric to where it stands."""


def _label(name: str) -> str:
    """Return the name of a bundled model's images: what stands in brackets in its name."""
    return name[name.rfind("(") + 1 : -1] if name.endswith(")") else name


def agreement(places: np.ndarray) -> tuple[float, float] | None:
    """Return Kendall's W of places ``(models, methods)`` and Friedman's p; None of fewer than 3, or of ties only."""
    judges, judged = places.shape
    if min(judges, judged) < 3 or (places == places[:, :1]).all():
        return None
    found = friedmanchisquare(*places.T)  # corrected for ties
    return float(found.statistic / (judges * (judged - 1))), float(found.pvalue)


def _table(stand: Standings, metric: str, methods: Sequence[str]) -> tuple[list[str], list[str], np.ndarray]:
    """Return the models and methods that have places by a metric everywhere, and these ``(models, methods)``."""
    models = [name for name, found in stand.items() if any(metric in own for own in found.values())]
    shared = [m for m in methods if all(metric in stand[name].get(m, {}) for name in models)]
    return models, shared, np.array([[stand[name][m][metric].place for m in shared] for name in models])


def _answer(
    kb: KB,
    stand: Standings,
    labels: Mapping[str, str],
    metrics: Sequence[str],
    loaded: Mapping[str, Model],
    methods: Sequence[str],
) -> tuple[str, ...]:
    def names(found: Iterable[str]) -> str:
        return ", ".join(kb.methods[one].name for one in found)

    lines = []
    for metric in metrics:
        models, shared, places = _table(stand, metric, methods)
        found = agreement(places) if places.size else None
        if found is None:
            continue
        w, p = found
        how = "do not agree beyond chance" if p >= CHANCE else "agree" if w > 0.7 else "agree in part"
        first = "; ".join(
            f"{names([shared[at]])} on {labels[name]}" for name, at in zip(models, places.argmin(1), strict=True)
        )
        lines.append(
            f"{kb.metrics[metric].name}: the {len(models)} models {how} on the order of {len(shared)} methods "
            f"(W {w:.2f}, p {p:.2g}). Best on average is {names([shared[int(places.mean(0).argmin())]])}; first are "
            f"{first}."
        )
    for name, own in stand.items():
        if bad := failed(own, kb, loaded[name].card.task):
            lines.append(f"Their maps hardly depend on the model (randomisation test, {labels[name]}): {names(bad)}.")
        noise = {metric: one for metric, one in own.get(RANDOM, {}).items() if kb.metrics[metric].property == FAITHFUL}
        worse = [
            m for m in methods if any(k in own.get(m, {}) and own[m][k].place >= one.place for k, one in noise.items())
        ]
        if worse:
            lines.append(f"No better than a random map by deletion or insertion ({labels[name]}): {names(worse)}.")
    return tuple(lines)


def _board(kb: KB, metric: str, stand: Standings, labels: Mapping[str, str], methods: Sequence[str]) -> Section:
    models = [name for name, found in stand.items() if any(metric in own for own in found.values())]
    about = kb.metrics[metric]
    shown = []
    for method in (*methods, RANDOM):
        cells = []
        places = []
        for name in models:
            own = stand[name].get(method, {}).get(metric)
            if own is not None:
                places.append(own.place)
            cells.append("–" if own is None else f"{own.value:.3g}  (place {own.place:g} of {own.of})")
        if places:
            called = method if method == RANDOM else kb.methods[method].name
            shown.append((sum(places) / len(places), (called, *cells)))
    better = {"higher": "higher is better", "lower": "lower is better"}[str(about.direction)]
    return Section(
        f"{about.name} ({better})",
        head=("Method", *(labels[name] for name in models), "Mean place"),
        rows=tuple((*cells, f"{mean:.1f}") for mean, cells in sorted(shown, key=lambda pair: pair[0])),
    )
