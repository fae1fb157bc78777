"""Which modality mattered: MR sequences, the image, clinical values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from runners.asking import at_least
from runners.baselines import baseline as content
from runners.beyond.inside import asked, interval, resampled
from runners.forms import Contributions
from runners.joint import Fused, fused
from runners.models import Wired, run
from runners.owned import Cohort
from runners.perturbation import occlusion
from runners.registry import Progress, Score, Told, insight, no_progress
from runners.sequences import MOST, coalitions_of, exact_shapley
from taxonomy.errors import RequirementError, TargetError
from taxonomy.requirements import Gap

COLOURS = ("red", "green", "blue")


@dataclass(frozen=True, eq=False)
class _Case:
    """A case in parts that can be exchanged: channels of the image, or the image, and clinical values.

    Attributes:
        x: ``(1, C, *spatial)``. table: ``(1, V)``, V 0 without clinical values.
        channels: of the image that each part of the image is.
        names: of the parts of the image, then of the clinical values.
        reads: the part of the model that reads the values.
    """

    model: nn.Module
    x: Tensor
    table: Tensor
    score: Score
    channels: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    reads: Fused | None
    batch_size: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the case has of each part, where that is a number; empty without clinical values."""
        values = [f"{value:.4g}" for value in self.table[0].tolist()]
        return (*("as it is" for _ in self.channels), *values) if values else ()

    @torch.no_grad()
    def scores(
        self, kept: Tensor, image: Tensor, table: Tensor, done: Callable[[int], None] = lambda _: None
    ) -> Tensor:
        """Return scores, float64 ``(N,)``, of the case with parts exchanged.

        Args:
            kept: bool ``(N, parts)``, what stays the case's own.
            image: what is shown instead, ``(1 or N, C, *spatial)``.
            table: what is read instead, ``(1 or N, V)``.
            done: told how many were asked.
        """
        found = []
        for jobs in torch.split(torch.arange(len(kept)), self.batch_size):
            own = kept[jobs]
            seen = torch.zeros(len(jobs), self.x.shape[1], dtype=torch.bool)
            for part, channels in enumerate(self.channels):
                seen[:, list(channels)] = own[:, part : part + 1]
            seen = seen.view(*seen.shape, *[1] * (self.x.ndim - 2)).to(self.x.device)
            other = image if len(image) == 1 else image[jobs]
            changed = torch.where(seen, self.x, other.to(self.x))
            rows = torch.zeros(len(jobs), dtype=torch.long)
            if self.reads is None:
                outputs = run(self.model, changed)
            else:
                values = torch.where(
                    own[:, len(self.channels) :], self.table, table if len(table) == 1 else table[jobs]
                )
                with self.reads.reading(values):
                    outputs = run(self.model, changed)
            found.append(self.score(outputs, rows).double().cpu())
            done(len(jobs))
        return torch.cat(found)


def _case(model: nn.Module, x: Tensor, score: Score, batch_size: int, least: int, method: str) -> _Case:
    """Cut a case into parts: each channel by itself, unless they are colours beside clinical values.

    Raises:
        RequirementError: there are fewer parts than ``least``.
    """
    reads = fused(model)
    count, named = x.shape[1], tuple(getattr(getattr(model, "card", None), "sequences", None) or ())
    channels: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    if count == 1 or (count == 3 and reads is not None and not named):
        channels, names = (tuple(range(count)),), ("image",)
    else:
        usual = COLOURS if count == 3 else [f"channel {i + 1}" for i in range(count)]
        channels = tuple((i,) for i in range(count))
        names = tuple(named[i] if i < len(named) else usual[i] for i in range(count))
    table = torch.zeros(1, 0) if reads is None else reads.table.detach().cpu().float().clone()
    found = _Case(model, x, table, score, channels, (*names, *(reads.names if reads else ())), reads, batch_size)
    if len(found.names) < least:
        sentence = (
            "the image has one channel and the model reads no clinical values beside it, so there is nothing to set "
            "against each other."
        )
        raise RequirementError(method, [Gap("modalities", sentence)])
    return found


def _values_of(cohort: Cohort, case: _Case) -> Tensor:
    """Return the clinical values of the cohort in the order of the model, ``(R, V)``; unknown ones are the median.

    Raises:
        TargetError: a value is missing in all cases.
    """
    if case.reads is None:
        return torch.zeros(len(cohort), 0)
    missing = [name for name in case.reads.names if name not in cohort.feature_names]
    if cohort.features is None or missing:
        raise TargetError(
            f"the cohort has no {', '.join(missing or case.reads.names)}; give them as columns of its cohort.csv"
        )
    values = cohort.features[:, [cohort.feature_names.index(name) for name in case.reads.names]].float()
    middle = values.nanmedian(0).values
    if middle.isnan().any():
        raise TargetError("a clinical value is unknown in all cases of the cohort")
    return torch.where(values.isnan(), middle, values)


def _instead(
    case: _Case, cohort: Cohort | None, baseline: str, references: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, str]:
    """Return what absent parts show: images ``(R, C, *spatial)``, values ``(R, V)``, and a note.

    Raises:
        TargetError: clinical values have no reference without a cohort.
    """
    if cohort is not None:
        index = torch.randperm(len(cohort), generator=generator)[:references]
        note = f"Absent parts are those of {len(index)} cases of the cohort, one after the other."
        return cohort.stack[index], _values_of(cohort, case)[index], note
    if case.reads is not None:
        raise TargetError(
            "what an absent clinical value is replaced by must be known: give a folder of images with a table "
            f"cohort.csv that has the columns {', '.join(case.reads.names)} (cohort)"
        )
    return content(case.x, baseline, generator), case.table, f"Absent parts show the baseline {baseline!r}."


@insight("sequence_shapley")
def sequence_shapley(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    baseline: str = "mean",
    references: int = 8,
    orders: int = 200,
    runs: int = 1000,
    batch_size: int = 16,
    profile: Wired,  # noqa: ARG001  any model can be asked
    cohort: Cohort | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Share the score among sequences, or image and clinical values, by Shapley values (arXiv 2203.06487).

    Up to 10 parts every coalition is asked, so that the values are exact; beyond, orders of adding are drawn, each
    with its reverse.

    Args:
        model: network in eval mode.
        x: image ``(1, C, *spatial)``, 2D or 3D.
        score: one number per output row.
        baseline: what an absent channel shows without a cohort.
        references: cases of the cohort whose parts stand in for absent ones.
        orders: orders that are drawn when there are more than 10 parts.
        runs: bootstrap samples for the confidence interval.
        batch_size: images per model call.
        profile: what is known of the model.
        cohort: where absent parts come from; None for the baseline.
        generator: draws.
        progress: told the model rows done.

    Returns:
        What each part adds to the score, against a case of the cohort or the baseline. Where the model reads clinical
        values, the map is that of occlusion of the image, with the values as they are.
    """
    at_least(1, references=references, orders=orders)
    at_least(2, runs=runs)
    case = _case(model, x, score, batch_size, 2, "sequence_shapley")
    images, tables, note = _instead(case, cohort, baseline, references, generator)
    count, exact = len(case.names), len(case.names) <= MOST
    walks = coalitions_of(count) if exact else _walks(count, orders, generator)
    asked_, total = 0, len(walks) * len(images)

    def done(n: int) -> None:
        nonlocal asked_
        asked_ += n
        progress(asked_, total)

    scores = torch.stack(
        [case.scores(walks, images[r : r + 1], tables[r : r + 1], done) for r in range(len(images))], 1
    )
    if exact:
        each = exact_shapley(scores)
        full, empty = scores[-1], scores[0]
        alone = torch.stack([scores[2 ** (count - 1 - part)] - empty for part in range(count)], 1)
        together = float((full - empty - alone.sum(1)).mean())
        about = f"Exact: all {len(walks)} coalitions of {count} parts."
    else:
        each = _along(walks, scores, count)
        full, empty = scores[count], scores[0]
        together = math.nan
        about = f"Estimated from {len(walks) // (count + 1)} orders of adding {count} parts."
    low = high = None
    if len(each) > 1:
        low, high = interval(resampled(each, runs, generator))
    values = each.mean(0)
    measures = {
        "score of the case": float(full.mean()),
        "score with all parts absent": float(empty.mean()),
        "added only together": together,
    }
    cautions = [
        "It depends on what absent parts are replaced by: such mixtures may be unlike any case the model knows."
    ]
    if math.isfinite(together) and abs(together) > 0.2 * max(float(values.abs().sum()), 1e-12):
        cautions.append(
            "Much is added by parts only together; shared out equally, it looks as if each part did it by itself."
        )
    map_ = None
    if case.reads is not None:
        map_ = occlusion(model, x, score, batch_size=batch_size, progress=no_progress, generator=generator).values[0]
        about += " The map is occlusion of the image, with the clinical values as they are."
    form = Contributions(
        case.names,
        values,
        "adds to the score",
        low=None if low is None else torch.minimum(low, values),
        high=None if high is None else torch.maximum(high, values),
        inputs=case.inputs,
        map=map_,
        measures=measures,
    )
    return Told(form, (note, about), tuple(cautions))


def _walks(count: int, orders: int, generator: torch.Generator) -> Tensor:
    """Return the coalitions along orders of adding parts, each order followed by its reverse, ``(N, count)`` bool."""
    found = []
    for _ in range(max(1, orders // 2)):
        order = torch.randperm(count, generator=generator)
        for way in (order, order.flip(0)):
            place = torch.empty(count, dtype=torch.long)
            place[way] = torch.arange(count)
            found.append(place < torch.arange(count + 1)[:, None])
    return torch.cat(found)


def _along(walks: Tensor, scores: Tensor, count: int) -> Tensor:
    """Return what each part added along every pair of orders, averaged over references: ``(pairs, count)``."""
    steps = scores.mean(1).view(-1, count + 1).diff(dim=1)
    joined = walks.view(-1, count + 1, count).int().diff(dim=1).argmax(1)  # (orders, count): at which step a part came
    return steps.gather(1, joined).view(-1, 2, count).mean(1)


@insight("modality_occlusion")
def modality_occlusion(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    baseline: str = "mean",
    cells: int = 1,
    references: int = 8,
    batch_size: int = 16,
    profile: Wired,  # noqa: ARG001  any model can be asked
    cohort: Cohort | None,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Hide one modality after the other, whole or in parts: how much of all change is each one's (arXiv 2503.01904).

    Args:
        model: network in eval mode.
        x: image ``(1, C, *spatial)``, 2D or 3D.
        score: one number per output row.
        baseline: what is shown instead without a cohort.
        cells: parts per axis that an image is hidden in, one after the other; 1 hides it whole. Above 1 clinical values
            are hidden one by one, else together.
        references: cases of the cohort whose parts stand in for hidden ones.
        batch_size: images per model call.
        profile: what is known of the model.
        cohort: where what is shown instead comes from; None for the baseline.
        generator: draws.
        progress: told the model rows done.

    Returns:
        Of each modality the size of the change as a share of the changes of all.
    """
    at_least(1, cells=cells, references=references)
    case = _case(model, x, score, batch_size, 2, "modality_occlusion")
    images, tables, note = _instead(case, cohort, baseline, references, generator)
    sides = len(case.channels)
    names = (*case.names[:sides], *(("clinical data",) if case.reads else ()))
    blocks = _blocks(tuple(x.shape[2:]), cells)
    whole = float(case.scores(torch.ones(1, len(case.names), dtype=torch.bool), x, case.table)[0])
    size, signed = torch.zeros(len(names)), torch.zeros(len(names))
    for number in range(len(names)):
        if number < sides:
            hidden = torch.zeros(1, len(case.names), dtype=torch.bool)
            hidden[0, number] = True
            jobs = [(hidden, block) for block in blocks]
        else:
            rows = torch.zeros(1, len(case.names), dtype=torch.bool)
            rows[0, sides:] = True
            single = torch.eye(len(case.names), dtype=torch.bool)[sides:]
            jobs = [(one[None], blocks[0]) for one in (single if cells > 1 else rows)]
        changes = []
        for hidden, block in jobs:
            shown = torch.where(block.to(x.device), images.to(x), x)
            answers = case.scores(~hidden.expand(len(images), -1), shown, tables)
            changes.append(whole - answers.mean())
        found = torch.stack(changes)
        size[number], signed[number] = found.abs().sum(), found.sum()
        progress(number + 1, len(names))
    total = float(size.sum())
    told = ", ".join(f"{name} {float(one):+.3g}" for name, one in zip(names, signed, strict=True))
    notes = (note, f"The score falls when hidden, by: {told} (of {whole:.3g}).")
    cautions = ["What two modalities do only together is in neither share, or in both."]
    if total <= 1e-9 * max(1.0, abs(whole)):
        cautions.append("The score did not change, whatever was hidden: all shares are 0.")
    shares = size / total if total > 1e-9 * max(1.0, abs(whole)) else torch.zeros_like(size)
    form = Contributions(names, shares, "share of all change", measures={"sum of the changes": total})
    return Told(form, notes, tuple(cautions))


def _blocks(size: tuple[int, ...], cells: int) -> list[Tensor]:
    """Cut the image into blocks, ``cells`` per axis: bool ``(*spatial)`` each."""
    found = []
    sides = [min(cells, length) for length in size]
    for at in np.ndindex(*sides):
        block = torch.zeros(size, dtype=torch.bool)
        block[
            tuple(
                slice(a * length // side, (a + 1) * length // side)
                for a, side, length in zip(at, sides, size, strict=True)
            )
        ] = True
        found.append(block)
    return found


@insight("modality_swap")
def modality_swap(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    cases: int = 30,
    runs: int = 1000,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Exchange one modality with that of cases of another label: how far the score falls (arXiv 2508.00171).

    Args:
        model: network in eval mode.
        x: image ``(1, C, *spatial)``, 2D or 3D.
        score: one number per output row.
        cases: cases of another label that are drawn from the cohort.
        runs: bootstrap samples for the confidence interval.
        batch_size: images per model call.
        profile: what is known of the model.
        cohort: labelled cases; those that are known to be other than the model's answer here are taken.
        generator: draws.
        progress: told the model rows done.

    Returns:
        Of each modality how far the score falls on average when it is another's.
    """
    at_least(2, cases=cases, runs=runs)
    case = _case(model, x, score, batch_size, 2, "modality_swap")
    if cohort.labels is None:
        raise TargetError("the cohort has no labels; put its images into sub-folders named like them, or add a table")
    answer = int(asked(model, x, score, profile, batch_size).look(x)[2][0])
    others = (cohort.labels != answer).nonzero()[:, 0]
    if len(others) < 2:
        raise TargetError(
            f"the cohort has {len(others)} cases of another label than the model's answer here (label {answer}); at "
            "least 2 are needed"
        )
    index = others[torch.randperm(len(others), generator=generator)[:cases]]
    images, tables = cohort.stack[index], _values_of(cohort, case)[index]
    sides = len(case.channels)
    groups = [torch.tensor([i]) for i in range(sides)]
    groups += [torch.arange(sides, len(case.names))] if case.reads else []
    names = (*case.names[:sides], *(("clinical data",) if case.reads else ()))
    whole = case.scores(torch.ones(1, len(case.names), dtype=torch.bool), x, case.table)[0]
    falls, turned = [], []
    for number, group in enumerate(groups):
        kept = torch.ones(len(index), len(case.names), dtype=torch.bool)
        kept[:, group] = False
        falls.append(whole - case.scores(kept, images, tables))
        turned.append(_turned(case, kept, images, tables, profile, answer))
        progress(number + 1, len(groups))
    each = torch.stack(falls, 1)
    low, high = interval(resampled(each, runs, generator))
    measures = {f"answers changed by {name}": share for name, share in zip(names, turned, strict=True)}
    note = f"Each modality was exchanged with that of {len(index)} cases known to be something else."
    caution = "A case with the image of one patient and the values of another may be unlike any that the model knows."
    form = Contributions(names, each.mean(0), "score falls by", low=low, high=high, measures=measures)
    return Told(form, (note,), (caution,))


def _turned(case: _Case, kept: Tensor, images: Tensor, tables: Tensor, profile: Wired, answer: int) -> float:
    """Return how often the answer becomes another one."""
    decided = asked(case.model, case.x, case.score, profile, case.batch_size).decided
    asking = replace(case, score=lambda outputs, rows: decided(outputs))  # noqa: ARG005
    return float((asking.scores(kept, images, tables) != answer).double().mean())
