"""Sentences that give reasons, each tied to a measured quantity: ours from templates, and anyone's checked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

import torch
from scipy import ndimage
from scipy.stats import false_discovery_control, spearmanr
from torch import Tensor, nn

from runners.asking import ask, at_least
from runners.baselines import Fill, filling
from runners.beyond.inside import asked, enough
from runners.beyond.radiomic import table
from runners.beyond.worded import CLAIMS, likeness
from runners.checks import background
from runners.forms import Rationale
from runners.models import Wired, run
from runners.owned import Cohort, Language, Reason
from runners.perturbation import occlusion
from runners.regions import PLACEMENTS, placements
from runners.registry import Progress, Score, Told, insight, no_progress
from taxonomy.errors import TargetError

SURE: Final = 0.05
CONTROLS: Final = tuple(
    """
    banana bicycle violin elephant umbrella teapot lighthouse cactus parrot skateboard pineapple tractor guitar penguin
    sailboat hamburger castle butterfly trumpet
    """.split()
)
"""Words of things that no biomedical image shows: what is found for them is found for nothing."""
HALVED: Final = math.log(2)
LEAST_DROP: Final = 0.1
"""Share of what the whole image adds to the score that a region must add to be a reason."""


def without(
    model: nn.Module, x: Tensor, fill: Fill, score: Score, regions: Tensor, batch_size: int, progress: Progress
) -> Tensor:
    """Return the scores ``(N,)`` of the image ``(1, C, *spatial)`` without each of the regions ``(N, *spatial)``."""
    rows = torch.zeros(len(regions), dtype=torch.long)
    found = ask(model, x, fill, score, rows, lambda jobs: ~regions[jobs].to(x.device), batch_size, progress)
    with torch.no_grad():
        return torch.cat([answers.double().cpu() for *_, answers in found])


def elsewhere(x: Tensor, region: Tensor, generator: torch.Generator) -> tuple[Tensor, tuple[str, ...]]:
    """Return regions ``(PLACEMENTS, *spatial)`` like one, at random places in the body, and a note."""
    return placements(region, ~background(x)[0].cpu(), generator)


def chance(drop: float, others: Tensor) -> float:
    """Return how often a region elsewhere costs as much, itself included."""
    return (1 + int((others >= drop).sum())) / (1 + len(others))


@insight("cot_rationale")
@insight("llm_text_rationale")
def checked_reasons(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    baseline: str = "inpaint",
    batch_size: int = 16,
    profile: Wired,
    reasons: tuple[Reason, ...],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Check sentences that a person or a language model wrote: does the score fall when the cited region is removed?

    A sentence is confirmed when the score falls more without its region than without 95 % of regions of the same size
    and shape elsewhere. What a sentence says of the region is not read.

    Args:
        model: network in eval mode.
        x: image ``(1, C, *spatial)``, 2D or 3D.
        score: one number per output row.
        baseline: what a removed region shows: black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: images per model call.
        profile: what is known of the model.
        reasons: the sentences, with the regions that they cite.
        generator: draws the places of the controls.
        progress: told the model rows done.
    """
    fill = filling(x, baseline, generator)
    with torch.no_grad():
        whole = float(score(run(model, x.clone()), torch.zeros(1, dtype=torch.long))[0])
    cited = [one.region for one in reasons if one.region is not None]
    jobs: list[Tensor] = []
    lacking: list[str] = []
    for region in cited:
        others, told = elsewhere(x, region.cpu(), generator)
        jobs += [region[None].cpu(), others]
        lacking += told
    joint = torch.stack(cited).any(0)[None].cpu() if cited else torch.zeros(0, *x.shape[2:], dtype=torch.bool)
    regions = torch.cat([*jobs, joint, ~joint]) if cited else joint
    answers = whole - without(model, x, fill, score, regions, batch_size, progress) if cited else torch.zeros(0)
    quantities, values, drops, holds, at = [], [], [], [], 0
    for one in reasons:
        if one.region is None:
            quantities.append("cites no region, so it cannot be checked")
            values.append(0.0)
            drops.append(math.nan)
            holds.append(False)
            continue
        drop, others = float(answers[at]), answers[at + 1 : at + 1 + PLACEMENTS]
        at += 1 + PLACEMENTS
        p = chance(drop, others)
        quantities.append("share of equal regions elsewhere that cost less")
        values.append(float((others < drop).double().mean()))
        drops.append(drop)
        holds.append(drop > 0 and p < SURE)
    measures = {"sentences that cite a region": float(len(cited)), "sentences confirmed": float(sum(holds))}
    if cited:
        decided = asked(model, x, score, profile, batch_size).decided
        with torch.no_grad():
            bare = fill(torch.zeros(1, dtype=torch.long, device=x.device), ~joint.to(x.device))
            changed = decided(run(model, bare)) != decided(run(model, x.clone()))
        measures |= {
            "score": whole,
            "score without all cited regions": whole - float(answers[at]),
            "score with nothing but the cited regions": whole - float(answers[at + 1]),
            "answer changes without them": float(changed[0]),
        }
    empty = torch.zeros(x.shape[2:], dtype=torch.bool)
    form = Rationale(
        tuple(one.text for one in reasons),
        tuple(quantities),
        torch.tensor(values),
        maps=torch.stack([empty if one.region is None else one.region.cpu() for one in reasons]),
        drops=torch.tensor(drops),
        holds=tuple(holds),
        measures=measures,
    )
    notes = (
        f"Removed regions show the baseline {baseline!r}; {PLACEMENTS} regions of the same size and shape elsewhere.",
        *dict.fromkeys(lacking),
        *(
            (f"{len(reasons) - len(cited)} of {len(reasons)} sentences cite no region.",)
            if len(cited) < len(reasons)
            else ()
        ),
    )
    cautions = (
        "It is checked whether the model needs the place, not whether what the sentence says of it is true.",
        "A confirmed sentence may still be one that was made up afterwards: that the place counts does not show why.",
    )
    return Told(form, notes, cautions)


@insight("combined_text_saliency", sizes=True)
def measured_reasons(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    baseline: str = "inpaint",
    most: int = 5,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort | None,
    language: Language | None,
    mask: Tensor | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Say in sentences from templates what was measured, nothing else: where the evidence lies, and what is unusual.

    Sentences about places are checked by removal. Those about measures of the image, or its likeness to a text, are
    said only where this image is among the 10 % with most or least of the cohort and the model's score goes with the
    measure over the cohort (rank correlation, corrected for the number of measures).

    Args:
        model: network in eval mode.
        x: image ``(1, C, *spatial)``, 2D or 3D.
        score: one number per output row.
        baseline: what a removed region shows in the check: inpaint, impute, black, white, mean, organ, blur, noise or
            zero; the map is made with the mean.
        most: sentences about measures.
        batch_size: images per model call.
        profile: what is known of the model.
        cohort: images to compare with, at least 20; None leaves out what needs them.
        language: vision-language model whose prompts are measures too; None without.
        mask: region of interest, bool ``(*spatial)``; None without.
        generator: draws the places of the controls.
        progress: told the model rows done.
    """
    at_least(0, most=most)
    fill = filling(x, baseline, generator)
    map_ = occlusion(model, x, score, batch_size=batch_size, progress=progress, generator=generator).values[0].cpu()
    row = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        whole = float(score(run(model, x.clone()), row)[0])
    everything = torch.ones(1, *x.shape[2:], dtype=torch.bool)
    empty = float(without(model, x, filling(x, "mean", generator), score, everything, batch_size, no_progress)[0])
    said: list[tuple[str, str, float, Tensor | None, float, bool]] = []
    about = f"The explained score is {whole:.3g}; of an even image it is {empty:.3g}."
    said.append((about, "score added by the image", whole - empty, None, math.nan, whole > empty))
    places: list[tuple[str, str, float, Tensor]] = []
    if float(map_.max()) > 0:
        region = peak_region(map_)
        size = float(region.float().mean())
        text = f"The strongest evidence for it lies {_place(region)} of the image, in {size:.1%} of it."
        places.append((text, "share of the image", size, region))
    if mask is not None:
        inside = float(map_.clamp(min=0)[mask.cpu()].sum() / map_.clamp(min=0).sum().clamp(min=1e-12))
        text = (
            f"The marked region takes {float(mask.float().mean()):.1%} of the image and holds {inside:.0%} of the "
            "evidence for it."
        )
        places.append((text, "share of the evidence", inside, mask.cpu()))
    notes = [f"Evidence: occlusion with the mean; checked by removal with the baseline {baseline!r}."]
    for text, quantity, value, region in places:
        others, lacking = elsewhere(x, region, generator)
        notes += [one for one in lacking if one not in notes]
        regions = torch.cat([region[None], others])
        lost = whole - without(model, x, fill, score, regions, batch_size, no_progress)
        drop = float(lost[0])
        sure = chance(drop, lost[1:]) < SURE and drop >= LEAST_DROP * abs(whole - empty)
        said.append((text, quantity, value, region, drop, sure))
    if cohort is None:
        notes.append("Without a cohort nothing can be said about measures of the image.")
    else:
        enough(cohort, 20, "combined_text_saliency")
        found = _unusual(model, x, score, profile, cohort, language, mask, batch_size)
        if not found:
            notes.append("No measure of this image is unusual in the cohort and goes with the model's score.")
        for text, value in found[:most]:
            said.append((text, "share of the cohort with less", value, None, math.nan, True))
    blank = torch.zeros(x.shape[2:], dtype=torch.bool)
    form = Rationale(
        tuple(one[0] for one in said),
        tuple(one[1] for one in said),
        torch.tensor([one[2] for one in said]),
        maps=torch.stack([blank if one[3] is None else one[3] for one in said]),
        drops=torch.tensor([one[4] for one in said]),
        holds=tuple(one[5] for one in said),
        measures={"sentences confirmed": float(sum(one[5] for one in said)), "sentences": float(len(said))},
    )
    cautions = [
        "That a measure goes with the score over the cohort does not show that the model uses it.",
        "The first region was chosen because the score falls there; its check removes it in another way, and is less "
        "strict than one of a region that was chosen beforehand.",
        *([CLAIMS] if language is not None and cohort is not None else []),
    ]
    return Told(form, tuple(notes), tuple(cautions))


def peak_region(map_: Tensor, share: float = 0.5) -> Tensor:
    """Return the connected places around the highest one that reach a share of its value, bool ``(*spatial)``."""
    labels, _ = ndimage.label((map_ >= share * map_.max()).numpy())
    found: Tensor = torch.from_numpy(labels == labels.reshape(-1)[int(map_.argmax())])
    return found


def _place(region: Tensor) -> str:
    """Say where a region lies, by its centre."""
    centre = [float(axis.float().mean()) / side for axis, side in zip(region.nonzero().T, region.shape, strict=True)]
    thirds = [min(2, int(3 * one)) for one in centre]
    flat = thirds[-2:]
    rows, columns = ("at the top", "half-way down", "at the bottom"), ("on the left", "in the middle", "on the right")
    words = f"{rows[flat[0]]}, {columns[flat[1]]}"
    if len(thirds) == 3:
        words = f"in the {('first', 'middle', 'last')[thirds[0]]} third of the slices, {words}"
    return words


def _unusual(
    model: nn.Module,
    x: Tensor,
    score: Score,
    profile: Wired,
    cohort: Cohort,
    language: Language | None,
    mask: Tensor | None,
    batch_size: int,
) -> list[tuple[str, float]]:
    """Return sentences on measures that are unusual here and go with the score, with the share of the cohort below."""
    regions = mask is not None and cohort.masks is not None
    values, names = table(cohort.x, cohort.masks if regions else None)
    own = table(x.cpu(), mask[None].cpu() if mask is not None and regions else None)[0][0]
    what = "region" if regions else "image"
    subjects = [f"The {name} of the {what}" for name in names]
    if language is not None and language.prompts:
        said = [likeness(language, one.to(x), language.prompts, batch_size) for one in (cohort.x, x)]
        every = torch.cat(said).double()
        values, own = torch.cat([values, every[:-1]], 1), torch.cat([own, every[-1]])
        subjects += [f"The likeness of the image to {one!r}" for one in language.prompts]
    scores = asked(model, x, score, profile, batch_size).look(cohort.x)[0].double()
    known = [
        k for k in range(len(own)) if not own[k].isnan() and not values[:, k].isnan().any() and values[:, k].std() > 0
    ]
    if not known or float(scores.std()) == 0:
        return []
    tests = [spearmanr(values[:, k].numpy(), scores.numpy()) for k in known]
    sure = false_discovery_control([float(one.pvalue) for one in tests])
    found = []
    for k, test, p in zip(known, tests, sure, strict=True):
        below = float((values[:, k] < own[k]).double().mean())
        rho = float(test.statistic)
        if p >= SURE or 0.1 < below < 0.9:
            continue
        high = below >= 0.9
        way = "rises" if rho > 0 else "falls"
        speaks = "for" if high == (rho > 0) else "against"
        share = below if high else float((values[:, k] > own[k]).double().mean())
        text = (
            f"{subjects[k]} is {'higher' if high else 'lower'} than in {share:.0%} of the cohort; the score {way} with "
            f"it (rank correlation {rho:+.2f}), so this speaks {speaks} the answer."
        )
        found.append((abs(rho), text, below))
    found.sort(key=lambda one: one[0], reverse=True)
    return [(text, below) for _, text, below in found]


@insight("phrase_grounding")
def phrase_grounding(
    model: nn.Module,  # noqa: ARG001  the vision-language model answers by itself
    x: Tensor,
    score: Score,  # noqa: ARG001  the vision-language model answers by itself
    *,
    window: float = 0.3,
    baseline: str = "mean",
    batch_size: int = 16,
    profile: Wired,  # noqa: ARG001  nothing is read inside
    language: Language,
    reasons: tuple[Reason, ...],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Find the region that each sentence of a text speaks of: where hiding takes most of its likeness to the image.

    What counts is the probability of a sentence against the other sentences, the prompts, and 19 words for things that
    no such image shows. A region is confirmed when the sentence is likelier than by chance, and hiding the region at
    least halves its odds, and takes more of them than the best place takes of any of these words: the same choice of
    the best place is allowed to all.

    Args:
        model: not asked.
        x: image ``(1, C, H, W)``.
        score: not used.
        window: side of what is hidden at a time, as a share of the image's.
        baseline: what a hidden place shows: black, white, mean, organ, blur, noise, zero, inpaint or impute.
        batch_size: images per model call.
        profile: not used.
        language: the vision-language model; its prompts are the sentences where no reasons are given.
        reasons: the sentences of a report.
        generator: of the noise baseline.
        progress: told the images done.
    """
    if not 0 < window <= 1:
        raise TargetError(f"window = {window}: it must be above 0 and at most 1")
    sentences = tuple(one.text for one in reasons) or language.prompts
    if not sentences:
        raise TargetError("there is no sentence to look for; give prompts or a text")
    rest = [*(one for one in language.prompts if one not in sentences), *CONTROLS]
    text = language.encode_text([*sentences, *rest])
    regions = windows(tuple(x.shape[2:]), window)

    known = len(sentences)

    def looked(images: Tensor) -> Tensor:
        """Log odds of every text against all the others, ``(n, W)``."""
        logits = (language.scale * language.encode_image(images) @ text.to(images).T).cpu().double()
        own = torch.eye(len(text), dtype=torch.bool)
        return logits - logits[:, None].expand(-1, len(text), -1).masked_fill(own, -math.inf).logsumexp(2)

    rows = torch.zeros(len(regions), dtype=torch.long)
    with torch.no_grad():
        whole = looked(x)[0]
        asked_ = ask(
            looked,
            x,
            filling(x, baseline, generator),
            lambda answers, rows: answers,  # noqa: ARG005
            rows,
            lambda jobs: ~regions[jobs].to(x.device),
            batch_size,
            progress,
        )
        lost = whole - torch.cat([answers for *_, answers in asked_])  # (windows, words)
    cover = regions.flatten(1).double()
    maps = (lost.T @ cover / cover.sum(0).clamp(min=1)).view(-1, *x.shape[2:])
    best = lost.max(0).values
    others = best[-len(CONTROLS) :]
    likely = whole.sigmoid()
    holds = tuple(
        bool(likely[i] > 1 / len(text)) and float(best[i]) >= HALVED and chance(float(best[i]), others) <= SURE
        for i in range(known)
    )
    form = Rationale(
        sentences,
        ("probability against all other texts",) * known,
        likely[:known],
        maps=torch.stack([peak_region(one) for one in maps[:known]]),
        drops=best[:known],
        holds=holds,
        measures={"sentences with a place": float(sum(holds)), "sentences": float(known)},
    )
    notes = (
        f"{len(regions)} windows, each hidden once; {len(CONTROLS)} words for things that no such image shows, such as "
        f"{CONTROLS[0]}, to compare with. Drops are of the logarithm of the odds.",
    )
    cautions = (
        CLAIMS,
        "It tells where the vision-language model finds what a sentence says, not that it is there, nor why a report "
        "says so.",
    )
    return Told(form, notes, cautions)


def windows(size: Sequence[int], share: float) -> Tensor:
    """Return windows that cover the image, half overlapping, bool ``(N, *size)``."""
    found = []
    starts = []
    for side in size:
        wide = max(1, round(share * side))
        step = max(1, wide // 2)
        starts.append([(a, min(a + wide, side)) for a in range(0, max(1, side - wide + step), step)])
    for ends in itertools.product(*starts):
        region = torch.zeros(tuple(size), dtype=torch.bool)
        region[tuple(slice(a, b) for a, b in ends)] = True
        found.append(region)
    return torch.stack(found)
