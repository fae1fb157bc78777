"""Concepts that are words: a vision-language model says how much of each an image has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import false_discovery_control
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least
from runners.beyond.concepts_labelled import bottlenecked
from runners.beyond.inside import asked, closest_patches, cut, enough
from runners.embedding import embedded, embedding_note
from runners.forms import Concepts, Units
from runners.joint import prompted
from runners.models import Wired
from runners.owned import Cohort, Language
from runners.registry import Progress, Score, Told, insight
from runners.sized import Pictures, chunks
from taxonomy.errors import TargetError

TEMPERATURE = 0.5
"""Of the softmax over a sign and its absence, as published."""
CLAIMS = (
    "A vision-language model may claim what is not there and miss what is: look whether its words are right for images "
    "that you know."
)


@torch.no_grad()
def likeness(language: Language, x: Pictures, words: Sequence[str], batch_size: int) -> Tensor:
    """Return the cosine of images and words, ``(N, W)`` on the CPU."""
    text = language.encode_text(list(words)).float().cpu()
    parts = [language.encode_image(part).float().cpu() for part in chunks(x, batch_size)]
    return torch.cat(parts) @ text.T


@insight("xplainer")
def xplainer(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001  the vision-language model answers by itself
    *,
    batch_size: int = 16,
    profile: Wired,  # noqa: ARG001  nothing is read inside
    language: Language,
) -> Told:
    """Ask a vision-language model for each sign, present or absent, and diagnose from the signs (arXiv 2303.13391).

    Prompts are signs, ``diagnosis: sign`` to group them. The probability of a sign is the softmax over "There are SIGN
    indicating DIAGNOSIS" and "There are no …"; that of a diagnosis is the geometric mean over its signs.

    Args:
        model: the model.
        x: image ``(1, C, H, W)``.
        score: not used.
        batch_size: images per model call.
        profile: not used.
        language: the vision-language model, with the signs as prompts.

    Returns:
        Probability of each sign, and of each diagnosis.
    """
    signs = [tuple(part.strip() for part in one.rpartition(":")[::2]) for one in language.prompts]
    if not signs:
        raise TargetError('no prompts were given; give signs to ask about, as "pneumonia: consolidation"')
    said = [f"{sign} indicating {diagnosis}" if diagnosis else sign for diagnosis, sign in signs]
    words = [f"There are {one}" for one in said] + [f"There are no {one}" for one in said]
    both = likeness(language, x, words, batch_size)[0].view(2, -1)
    found = (both / TEMPERATURE).softmax(0)[0]
    groups = dict.fromkeys(diagnosis for diagnosis, _ in signs if diagnosis)
    measures = {}
    for name in groups:
        own = [i for i, (diagnosis, _) in enumerate(signs) if diagnosis == name]
        yes, no = found[own].log().mean(), (1 - found[own]).log().mean()
        measures[f"probability of {name}"] = float(yes.exp())
        measures[f"probability of no {name}"] = float(no.exp())
    cautions = [CLAIMS, "The probabilities are not calibrated, and lie near 0.5: compare them with each other."]
    if prompted(model) is None:
        cautions.append("It tells what the vision-language model sees, not what the explained model rests on.")
    form = Concepts(
        tuple(one for _, one in signs) if not groups else tuple(language.prompts),
        found,
        "probability",
        neutral=0.5,
        measures=measures,
    )
    return Told(form, (f"{len(signs)} signs, each asked for and against.",), tuple(cautions))


@insight("label_free_cbm", sizes=True)
def label_free_cbm(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    least: float = 0.45,
    penalty: float = 0.01,
    samples: int = 20,
    runs: int = 50,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    language: Language,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Replace the model's last step by a sparse linear one on concepts that are named in words (arXiv 2304.06129).

    For every prompt a direction in the model's own embedding is learned that follows the vision-language model's
    likeness over the cohort (cosine of the cubes). Prompts that it cannot follow on images left out are dropped. The
    linear step is fitted to the model's own score, instead of labels, so that it explains this model.

    Args:
        model: network in eval mode.
        x: image ``(1, C, H, W)``.
        score: one number per output row.
        least: likeness on images left out below which a prompt is dropped.
        penalty: weight of the elastic net, for scores of deviation 1; larger numbers leave fewer concepts.
        samples: sets of random directions.
        runs: bootstrap samples for the confidence interval.
        batch_size: images per model call.
        profile: what is known of the model.
        cohort: images to fit on.
        language: the vision-language model, with the concepts as prompts.
        generator: draws.
        progress: told what is done.

    Returns:
        What each concept adds to this image's score.
    """
    at_least(1, samples=samples)
    at_least(2, runs=runs)
    enough(cohort, 20, "label_free_cbm")
    if len(language.prompts) < 1:
        raise TargetError("no prompts were given; give concepts to look for, in words")
    codes = embedded(model, cohort.x, profile, batch_size=batch_size, progress=progress).double()
    own = embedded(model, x, profile, batch_size=batch_size)[0].double()
    said = likeness(language, cohort.x, language.prompts, batch_size).double()
    held = torch.randperm(len(codes), generator=generator) % 4 == 0
    ways = _followed(codes[~held], said[~held])
    reached = _cubed(codes[held] @ ways.T, said[held])
    kept = (reached >= least).nonzero()[:, 0]
    told = ", ".join(f"{name} {float(one):.2f}" for name, one in zip(language.prompts, reached, strict=True))
    if len(kept) == 0:
        raise TargetError(
            f"the model's embedding follows none of the prompts (likeness on images left out: {told}; {least:g} is "
            "needed): there is nothing to explain it by in these words"
        )
    scores, answered, _ = asked(model, x, score, profile, batch_size).look(cohort.x)
    kinds = answered if profile.task == "classification" else None
    names = tuple(language.prompts[k] for k in kept.tolist())
    form, notes, cautions = bottlenecked(
        names, ways[kept], codes, own, scores.double(), kinds, penalty, samples, runs, generator
    )
    notes = [
        embedding_note(profile),
        f"How well the embedding follows each prompt, on images left out: {told}.",
        *notes,
    ]
    return Told(form, tuple(notes), (CLAIMS, *cautions))


def _cubed(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of the cubes of standardised columns, ``(K,)``."""
    cubes = [((t - t.mean(0)) / t.std(0, correction=0).clamp(min=1e-12)) ** 3 for t in (a, b)]
    found: Tensor = F.cosine_similarity(cubes[0], cubes[1], dim=0)
    return found


def _followed(codes: Tensor, said: Tensor, steps: int = 200) -> Tensor:
    """Learn directions ``(K, D)`` along which embeddings ``(N, D)`` follow ``said`` ``(N, K)``."""
    middle, spread = codes.mean(0), codes.std(0, correction=0).clamp(min=1e-9)
    z = (codes - middle) / spread
    start = torch.linalg.solve(
        z.T @ z + 0.1 * len(z) * torch.eye(z.shape[1], dtype=z.dtype), z.T @ (said - said.mean(0))
    )
    start = start / (z @ start).std(0, correction=0).clamp(min=1e-12)
    with torch.enable_grad():
        ways = start.clone().requires_grad_()
        adam = torch.optim.Adam([ways], lr=0.01, weight_decay=1e-3)
        for _ in range(steps):
            adam.zero_grad()
            (-_cubed(z @ ways, said).sum()).backward()  # type: ignore[no-untyped-call]
            adam.step()
    learned: Tensor = ways.detach() / spread[:, None]
    return learned.T


@insight("clip_dissect", sizes=True)
def clip_dissect(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    units: int = 8,
    share: float = 0.1,
    samples: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    language: Language,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Name units by the words that a vision-language model gives to the images that excite them (arXiv 2204.10965).

    By soft weighted pointwise mutual information: the strongest images of a unit count, the first nearly in full, and
    words that fit every unit count less. Named are the units that add most to this image's score (activation times
    gradient); p is from words that were exchanged between images, against the best of all words.

    Args:
        model: network in eval mode.
        x: image ``(1, C, H, W)``.
        score: one number per output row.
        layer: name of the layer; None for the deepest features.
        units: how many units to name.
        share: of the cohort, the images that excite a unit most; at least 5.
        samples: exchanges for the p-values.
        batch_size: images per model call.
        profile: what is known of the model.
        cohort: images to look at.
        language: the vision-language model, with the words as prompts.
        generator: draws.
        progress: told what is done.
    """
    at_least(1, samples=samples)
    if not 0 < share <= 0.5:
        raise TargetError(f"share = {share}: it must be above 0 and at most 0.5")
    enough(cohort, 20, "clip_dissect")
    if len(language.prompts) < 2:
        raise TargetError("at least two prompts are needed to choose a name from")
    inside = cut(model, x, score, profile, batch_size, layer)
    features = inside.features(cohort.x, progress)
    pooled = features.flatten(2).mean(2)
    own = inside.features(x)
    worth = (own * inside.slopes(x)).flatten(2).sum(2)[0]
    chosen = worth.abs().argsort(descending=True, stable=True)[:units]
    said = (10 * likeness(language, cohort.x, language.prompts, batch_size)).softmax(1).double()
    top = max(5, round(share * len(cohort)))
    likely = _likely(pooled, said, top)
    # a word that fits every unit says nothing: against its mean over the units
    words = (likely - likely.logsumexp(0)).argmax(1)
    null = torch.stack(
        [_likely(pooled[:, chosen], said[torch.randperm(len(said), generator=generator)], top) for _ in range(samples)]
    )
    middle, spread = null.mean(0), null.std(0).clamp(min=1e-12)
    beyond = ((likely[chosen] - middle) / spread).gather(1, words[chosen, None])[:, 0]
    p = (1 + (((null - middle) / spread).amax(2) >= beyond).sum(0)) / (samples + 1)
    p = torch.as_tensor(false_discovery_control(p.numpy()))
    sure = [float(one) < 0.05 for one in p]
    names = tuple(
        f"unit {int(u)}: {language.prompts[int(words[u])] if good else 'no name'}"
        for u, good in zip(chosen, sure, strict=True)
    )
    patches = torch.stack(
        [
            closest_patches(cohort.x, features[:, u], pooled[:, u].argsort(descending=True, stable=True), 4)
            for u in chosen.tolist()
        ]
    )
    told = "; ".join(
        f"unit {int(u)} {language.prompts[int(words[u])]} (p {float(one):.2g})"
        for u, one in zip(chosen, p, strict=True)
    )
    notes = (
        *inside.notes,
        f"Best words: {told}. p: of {samples} exchanges between images, those with a word as good, corrected by "
        "Benjamini and Hochberg; from 0.05 on a unit is given no name.",
    )
    form = Units(
        names,
        worth[chosen],
        "adds to the score (activation times gradient)",
        patches=patches,
        maps=inside.up(own[0, chosen], x.shape[2:]),
        measures={"units with a name": float(np.mean(sure)) if sure else math.nan},
    )
    cautions = (CLAIMS, "Only the words that were given can be found; a unit may respond to something else as well.")
    return Told(form, notes, cautions)


def _likely(pooled: Tensor, said: Tensor, top: int) -> Tensor:
    """Return the log likelihood of each word given the images that excite each unit most, ``(U, W)``.

    Args:
        pooled: activations ``(N, U)``.
        said: probability of each word given the image, ``(N, W)``.
        top: images of a unit that count.
    """
    order = pooled.argsort(dim=0, descending=True, stable=True)[:top]
    belongs = torch.linspace(0.998, 0.97, top, dtype=said.dtype)[:, None, None]
    return (1 + belongs * (said[order] - 1)).clamp(min=1e-7).log().sum(0)
