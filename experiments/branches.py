"""Experiment 2: maps against changes in a latent space, on one clinical task: why did the model mark this lesion?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

import numpy as np
import torch

from experiments.measuring import RANDOM, again_free, mean_in_words, measure, run, sheet
from experiments.page import Experiment, Section
from runners import Model, load_model
from runners.bench.boards import bootstrap
from runners.bring import FIRST, phantom_cohort
from runners.case import Measured, Result, Subject, discovered, subject
from runners.discovery import Insight
from runners.forms import Counterfactual
from runners.gate import Explanation
from runners.generators import load_autoencoder
from runners.owned import Owned
from runners.panels import panel
from runners.registry import Progress, no_progress
from runners.zoo.samples import breast_picture
from taxonomy import KB
from taxonomy.errors import TargetError
from trial import ARROWS

MODEL: Final = "breast_us_unet"
MAPS: Final = ("vanilla_gradient", "integrated_gradients", "lrp_composite", "grad_cam", "occlusion")
"""Of every family of the visualization-based branch that explains a segmenter."""
LATENT: Final = ("latent_shift", "vae_latent", "ganspace")
"""All that move in the code of a generator, explain a segmenter, and need no more than a cohort of its images."""
VALIDITY: Final = "cf_validity"
"""The metric that says whether a counterfactual is answered otherwise."""


def branches(
    kb: KB,
    *,
    maps: Sequence[str] = MAPS,
    latent: Sequence[str] = LATENT,
    images: int = 6,
    cohort: int = 24,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Experiment:
    """Explain the bundled breast ultrasound segmenter by both kinds of methods, where the lesion is known.

    Args:
        kb: the knowledge base.
        maps: ids of explainers.
        latent: ids of methods that give a counterfactual drawn by a generator.
        images: phantoms with a lesion that are explained.
        cohort: further phantoms, half with a lesion, from which directions in the latent space are learned.
        seed: of all randomness.
        progress: called with ``(done, total)``, counted in explanations.

    Raises:
        TargetError: too few images or cases.
    """
    if images < 2 or cohort < 8:
        raise TargetError(f"images = {images}, cohort = {cohort}: at least 2 and 8 are needed")
    sides = {"maps": tuple(maps), "latent methods": tuple(latent)}
    start = time.perf_counter()
    model = load_model(MODEL)
    subjects = [_drawn(model, FIRST + number) for number in range(images)]
    known = phantom_cohort(model, cohort, FIRST + images)
    owned = Owned(cohort=known, autoencoder=load_autoencoder(MODEL, subjects[0].x))
    total, done = images * (len(maps) + 1 + len(latent)), 0
    found: list[list[Result]] = []
    for one in subjects:
        own: list[Result] = []
        drawn = run(model, one, maps, kb, metrics=again_free(kb), seed=seed)
        for result in chain(drawn, _latent(model, one, latent, owned, kb, seed)):
            own.append(result)
            progress(done := done + 1, total)
        found.append(own)
    values = _values(found)
    metrics = [metric for metric in again_free(kb) if any(metric in one for one in values.values())]
    return Experiment(
        title="Visualization-based against latent-based",
        question="Why did the model mark this lesion: do maps or changes in a latent space tell better?",
        done=(
            f"The bundled breast ultrasound segmenter marked a lesion in {images} synthetic phantoms whose lesion is "
            f"known. {len(maps)} methods drew a map; {len(latent)} changed the image's code in the bundled autoencoder "
            "until the marking changed, and where the image differed then is their map. Both were measured alike.",
            f"Directions in the latent space were learned from {cohort} further phantoms, half of them with a lesion. "
            "Intervals are bootstrap intervals over the images.",
        ),
        answer=_answer(kb, sides, values, metrics, found),
        sections=(
            _board(kb, values, metrics, found),
            _changed(kb, found),
            Section(
                "The first image",
                pictures=(
                    (sheet(subjects[0], [_as_map(one) for one in found[0]], kb), "what every method marks"),
                    *(
                        (panel(one.insight, subjects[0].case), kb.methods[one.method].name)
                        for one in found[0]
                        if one.insight is not None
                    ),
                ),
            ),
        ),
        limits=(
            "Phantoms are simpler than patients; the segmenter learned in part from such phantoms.",
            "Where an image was changed is not all that a latent method says: it also shows how, which no map does and "
            "no metric here counts.",
            "The autoencoder draws coarse structure only. What it cannot draw it cannot change.",
        ),
        numbers=tuple(
            {
                "image": number + 1,
                "branch": _branch(kb, one.method),
                "method": one.method,
                "metric": score.metric,
                "value": score.value,
                "seconds": None if one.found is None or one.method == RANDOM else one.found.seconds,
                "note": " ".join(score.notes),
            }
            for number, each in enumerate(found)
            for one in each
            for score in (*one.measured, *_own_measures(one))
        ),
        seconds=time.perf_counter() - start,
        seed=seed,
    )


def _drawn(model: Model, seed: int) -> Subject:
    image, mask = breast_picture(seed)
    return subject(image, model, source="phantom", modality="ultrasound", mask=mask)


def _latent(model: Model, one: Subject, methods: Sequence[str], owned: Owned, kb: KB, seed: int) -> Iterator[Result]:
    """Yield what each latent method found, with the scores of where it changed the image."""
    for method in methods:
        result = discovered(model, one.x, method, one.target, owned=owned, seed=seed, known=one.wired)
        if result.insight is not None:
            result = replace(result, measured=measure(model, one, _as_map(result), kb, again_free(kb)).measured)
        yield result


def _as_map(result: Result) -> Result:
    """Return where the chosen counterfactual differs from its start, as a map; a map as it is."""
    if result.insight is None or not isinstance(result.insight.form, Counterfactual):
        return result
    insight, form = result.insight, result.insight.form
    return replace(result, explanation=_difference(insight, form))


def _difference(insight: Insight, form: Counterfactual) -> Explanation:
    values = (form.images[form.chosen] - form.images[form.start]).abs().sum(0)
    return Explanation(
        values=values[None],
        method=insight.method,
        target=insight.target,
        target_scores=torch.tensor([insight.target_score]),
        signed=False,
        notes=insight.notes,
        cautions=insight.cautions,
        parameters=insight.parameters,
        passes=insight.passes,
        seconds=insight.seconds,
        seed=insight.seed,
        versions=insight.versions,
    )


def _own_measures(result: Result) -> tuple[Measured, ...]:
    """Return what a counterfactual says of itself."""
    form = result.insight.form if result.insight is not None else None
    return tuple(Measured(name, value) for name, value in form.measures.items()) if form is not None else ()


Values = Mapping[str, Mapping[str, np.ndarray]]
"""Method to metric to its scores ``(images,)``, NaN where there is none."""


def _values(found: Sequence[Sequence[Result]]) -> Values:
    values: dict[str, dict[str, np.ndarray]] = {}
    for number, each in enumerate(found):
        for one in each:
            own = values.setdefault(one.method, {})
            for score in one.measured:
                if score.value is not None:
                    own.setdefault(score.metric, np.full(len(found), np.nan))[number] = score.value
    return values


def _branch(kb: KB, method: str) -> str:
    """Return the branch of the taxonomy: what moves in a latent space need not stand in the branch of that name."""
    return "" if method == RANDOM else kb.vocabulary.branches[kb.branch(method)].name


def _answer(
    kb: KB,
    sides: Mapping[str, Sequence[str]],
    values: Values,
    metrics: Sequence[str],
    found: Sequence[Sequence[Result]],
) -> tuple[str, ...]:
    lines = []
    (maps, latent) = sides.values()
    for metric in metrics:
        about = kb.metrics[metric]
        rows = [[values[one][metric] for one in side if metric in values.get(one, {})] for side in (maps, latent)]
        if not all(rows):
            continue
        first, second = (np.mean(np.stack(own), 0) for own in rows)  # of images that all methods explained
        apart = (first - second)[np.isfinite(first - second)]
        if len(apart) < 2:
            continue
        low, high = (float(end[0]) for end in bootstrap(apart[None]))
        ahead = list(sides)[(low > 0) != (about.direction == "higher")]
        lines.append(
            f"{about.name}: maps {np.nanmean(first):.3g}, latent methods {np.nanmean(second):.3g}; difference "
            f"{apart.mean():+.3g} (95 % {low:.3g} to {high:.3g} over {len(apart)} images): "
            f"{'no clear difference' if low <= 0 <= high else f'{ahead} are ahead'}."
        )
    for method in latent:
        own = [one.insight for each in found for one in each if one.method == method and one.insight is not None]
        valid = sum(one.form.measures.get(VALIDITY, 0.0) >= 0.5 for one in own)
        if own:
            lines.append(
                f"{kb.methods[method].name} changed the marking in {valid} of {len(own)} images, in "
                f"{np.mean([one.seconds for one in own]):.1f} seconds each."
            )
    seconds = [one.found.seconds for each in found for one in each if one.method in maps and one.found is not None]
    if seconds:
        lines.append(f"A map took {np.mean(seconds):.1f} seconds on average.")
    return tuple(lines)


def _board(kb: KB, values: Values, metrics: Sequence[str], found: Sequence[Sequence[Result]]) -> Section:
    rows = []
    for method, own in values.items():
        cells = []
        for metric in metrics:
            cells.append(mean_in_words(own.get(metric, np.zeros(0)), "3g"))
        rows.append((RANDOM if method == RANDOM else kb.methods[method].name, _branch(kb, method), *cells))
    heads = (f"{kb.metrics[one].name}{ARROWS[kb.metrics[one].direction]}" for one in metrics)
    why = dict.fromkeys(f"{kb.methods[one.method].name}: {one.error}" for each in found for one in each if one.error)
    return Section(
        "Where they point",
        lines=tuple(why),
        head=("Method", "Branch", *heads),
        rows=tuple(rows),
    )


def _changed(kb: KB, found: Sequence[Sequence[Result]]) -> Section:
    """Tell what only counterfactuals say: how far the answer went, and at what price."""
    gathered: dict[str, dict[str, list[float]]] = {}
    for each in found:
        for one in each:
            for score in _own_measures(one):
                if score.value is not None:
                    gathered.setdefault(one.method, {}).setdefault(score.metric, []).append(score.value)
    names = list(dict.fromkeys(name for own in gathered.values() for name in own))
    return Section(
        "What only changes tell",
        lines=("How far the changed images reach another answer, and what they change for it; means over the images.",),
        head=("Method", *(kb.metrics[name].name if name in kb.metrics else name for name in names)),
        rows=tuple(
            (kb.methods[method].name, *(f"{np.mean(own[name]):.3g}" if name in own else "–" for name in names))
            for method, own in gathered.items()
        ),
    )
