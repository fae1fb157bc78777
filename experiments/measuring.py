"""Maps of several methods on one subject, each measured alike, beside a random map."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from recommender import Measured as Row
from runners import Model
from runners.bench.boards import bootstrap
from runners.case import Measured, Result, Subject, explained, input_spacing, scored, subject
from runners.images import load_image
from runners.pictures import Rgb, beside, captioned, figure
from runners.registry import seeded
from runners.zoo.samples import samples
from taxonomy import KB
from taxonomy.errors import AtlasError, ImageError

METRICS: Final[Mapping[str, Mapping[str, int]]] = {
    "deletion": {"steps": 16},
    "insertion": {"steps": 16},
    "sparseness": {},
    "pointing_game": {},
    "relevance_mass_accuracy": {},
    "mprt": {},
}
"""What is measured, with settings: a few of each property, and nothing that takes minutes for a volume."""
MOST: Final = 8e6
"""Positions (images asked times their pixels) of one map above which metrics that explain again are left out."""
RANDOM: Final = "a random map"
"""What every method has to beat; it has no method id."""


def subjects(model: Model, data: Sequence[Path] = ()) -> Iterator[Subject]:
    """Yield a bundled model with each of its sample images, or with the images that are given instead."""
    if data:
        for path in data:
            yield subject(load_image(path), model)
        return
    for sample in samples():
        if model.card.id in sample.models:
            yield subject(sample.load(), model, source=sample.id, modality=sample.modality, mask=sample.mask())


def files(given: Iterable[str]) -> dict[str, list[Path]]:
    """Read ``MODEL=PATH`` words: a bundled model's id to its images, those of a folder sorted by name.

    Raises:
        AtlasError: a word is no such pair. ImageError: there is nothing.
    """
    found: dict[str, list[Path]] = {}
    for word in given:
        name, sign, place = word.partition("=")
        if not sign:
            raise AtlasError(f"--data {word}: give the id of a bundled model and a file or folder, as MODEL=PATH")
        path = Path(place)
        inside = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
        if not inside or not path.exists():
            raise ImageError(f"--data {word}: there is no image")
        found.setdefault(name, []).extend(inside)
    return found


def run(
    model: Model,
    one: Subject,
    methods: Iterable[str],
    kb: KB,
    *,
    metrics: Iterable[str] = tuple(METRICS),
    seed: int = 0,
) -> Iterator[Result]:
    """Yield the map of each method with its scores, then a random map with those that need no model explained again."""
    some: Result | None = None
    for method in methods:
        result = explained(model, one.x, method, one.target, seed=seed, known=one.wired)
        if result.explanation is not None:
            some = some or result
            result = measure(model, one, result, kb, metrics, seed=seed)
        yield result
    if some is None or some.explanation is None:
        return
    values = torch.randn(some.explanation.values.shape, generator=seeded(seed))
    noise = Result(RANDOM, replace(some.explanation, values=values, method=RANDOM, signed=True))
    yield measure(model, one, noise, kb, again_free(kb), seed=seed)


def again_free(kb: KB) -> tuple[str, ...]:
    """Return the metrics that look at a map alone, and do not ask its method for another."""
    return tuple(one for one in METRICS if "explainer" not in kb.metrics[one].needs)


def measure(model: Model, one: Subject, result: Result, kb: KB, metrics: Iterable[str], *, seed: int = 0) -> Result:
    """Return the result with its scores; those that need a mask only where there is one.

    Metrics that explain again are left out of maps that ask too much: a volume would take the better part of an hour.
    """
    spacing = input_spacing(one.case.image, tuple(one.x.shape[2:]), one.case.fit)
    asked = (result.explanation.passes.get("forward", 0) if result.explanation else 0) * math.prod(one.x.shape[2:])
    found: list[Measured] = []
    for metric in metrics:
        needs = kb.metrics[metric].needs
        if one.region is None and "mask" in needs:
            continue
        if "explainer" in needs and asked > MOST:
            found.append(
                Measured(metric, None, notes=("It would explain again, and one such map asks too much here.",))
            )
            continue
        given = {"seed": seed, "spacing": spacing, "known": one.wired, **METRICS[metric]}
        found.append(scored(metric, model, one.x, result, one.target, one.region, kb, **given))
    return replace(result, measured=tuple(found))


def rows(found: Mapping[str, Sequence[Result]], kb: KB, weights: Mapping[str, float]) -> list[Row]:
    """Return the scores that can be ranked, image (its name) by image."""
    return [
        Row(one.method, score.metric, score.value, image, weights.get(score.metric, 1.0))
        for image, results in found.items()
        for one in results
        for score in one.measured
        if score.value is not None and kb.metrics[score.metric].direction
    ]


def mean_in_words(values: np.ndarray, digits: str) -> str:
    """Return the mean of ``(images,)`` with its 95 % bootstrap interval; a dash where nothing is finite."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    low, high = (float(end[0]) for end in bootstrap(values[None]))
    within = f" ({low:.{digits}} to {high:.{digits}})" if low == low else ""
    return f"{values.mean():.{digits}}{within}"


def sheet(one: Subject, results: Sequence[Result], kb: KB, *, side: int = 200, across: int = 4) -> Rgb:
    """Draw the image and every map, with names below, in rows."""
    parts = [captioned(figure(one.case, None, side=side), "the image")]
    for result in results:
        if result.explanation is not None and result.method != RANDOM:
            parts.append(captioned(figure(one.case, result.explanation, side=side), kb.methods[result.method].name))
    lines = [beside(parts[i : i + across]) for i in range(0, len(parts), across)]
    width = max(line.shape[1] for line in lines)
    return torch.cat(
        [
            torch.nn.functional.pad(torch.from_numpy(line.copy()), (0, 0, 0, width - line.shape[1], 0, 6), value=255)
            for line in lines
        ]
    ).numpy()
