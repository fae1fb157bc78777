"""A report that a model writes, sentence by sentence: where in the image each rests, and whether it does."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor, nn

from runners.baselines import Fill, filling
from runners.beyond.sentences import HALVED, SURE, chance, elsewhere, peak_region, windows, without
from runners.forms import Rationale
from runners.models import Wired, run
from runners.regions import PLACEMENTS
from runners.registry import Progress, Score, Told, insight
from runners.targets import primary
from runners.writing import written
from taxonomy.errors import TargetError

SHARES: Final = (0.7, 0.5, 0.35, 0.25)
"""Of the map's peak: what a region reaches, from small regions to large ones."""
ENOUGH: Final = 0.9
"""The smallest region is taken that takes this share of what the most costly of them takes."""

QUANTITY: Final = "probability of a word piece, on average"


@insight("report_generation")
def report_generation(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001  every sentence is explained
    *,
    window: float = 0.3,
    baseline: str = "inpaint",
    batch_size: int = 16,
    profile: Wired,  # noqa: ARG001  nothing is read inside
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Give the report of a model with, for each sentence, the region without which it becomes less likely.

    The region lies where hiding windows (with the mean) takes most from the sentence, and is as small as it can be. It
    is then hidden in another way: the sentence rests on it when its probability at least halves, and falls more than
    without 95 % of regions of the same size and shape elsewhere. No region is shown without which it does not halve.

    Args:
        model: a writer with a report.
        x: image ``(1, C, H, W)``.
        score: not used.
        window: side of what is hidden at a time, as a share of the image's.
        baseline: what a hidden region shows in the check: black, white, mean, organ, blur, noise, zero, inpaint or
            impute.
        batch_size: images per model call.
        profile: not used.
        generator: draws the places of the controls.
        progress: told the images done.
    """
    if not 0 < window <= 1:
        raise TargetError(f"window = {window}: it must be above 0 and at most 1")
    own = written(model)
    assert own is not None  # the need text_decoder says so
    sizes = torch.tensor(own.sizes, dtype=torch.double)

    def hidden(fill: Fill, regions: Tensor) -> Tensor:
        """Log-probabilities of the sentences without each region, ``(N, S)``."""
        return without(model, x, fill, _every, regions, batch_size, progress) * sizes

    with torch.no_grad():
        each = primary(run(model, x.clone()))[0].double().cpu()
        whole = each * sizes
        tried = windows(tuple(x.shape[2:]), window)
        lost = whole - hidden(filling(x, "mean", generator), tried)
        cover = tried.flatten(1).double()
        maps = (lost.T @ cover / cover.sum(0).clamp(min=1)).view(-1, *x.shape[2:])
        fill, lacking = filling(x, baseline, generator), list[str]()
        regions, drops, holds = [], [], []
        for at, one in enumerate(maps):
            around = torch.stack([peak_region(one, share) for share in SHARES])
            cost = (whole - hidden(fill, around))[:, at]
            region = around[int((cost >= ENOUGH * cost.max()).int().argmax())]
            if float(cost.max()) < HALVED:  # of no place worth showing
                regions.append(torch.zeros_like(region))
                drops.append(math.nan)
                holds.append(False)
                continue
            others, told = elsewhere(x, region, generator)
            fell = (whole - hidden(fill, torch.cat([region[None], others])))[:, at]
            lacking += told
            regions.append(region)
            drops.append(float(fell[0]))
            holds.append(float(fell[0]) >= HALVED and chance(float(fell[0]), fell[1:]) <= SURE)
    form = Rationale(
        own.sentences,
        tuple(QUANTITY if region.any() else f"rests on no region that was found; {QUANTITY}" for region in regions),
        each.exp(),
        maps=torch.stack(regions),
        drops=torch.tensor(drops),
        holds=tuple(holds),
        measures={"sentences with a region": float(sum(holds)), "sentences": float(len(holds))},
    )
    notes = (
        f"{len(tried)} windows hidden once each to find the regions; then each region hidden as a whole (baseline "
        f"{baseline!r}), and {PLACEMENTS} like it elsewhere. Drops are of the "
        "natural logarithm of the sentence's probability: 0.7 halves it.",
        *dict.fromkeys(lacking),
    )
    cautions = (
        "It shows what the model writes from, not that the sentence is true.",
        "A sentence is judged given the text before it: what that makes likely anyhow needs no image. One that says "
        "that something is absent often has no region.",
        "A region was chosen because hiding it counts; its check hides it in another way, and is less strict than one "
        "of a region that was chosen beforehand.",
    )
    return Told(form, notes, cautions)


def _every(outputs: Any, rows: Tensor) -> Tensor:  # noqa: ARG001
    return primary(outputs)
