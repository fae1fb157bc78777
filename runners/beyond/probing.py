"""What a layer knows, read by a linear probe against shuffled labels; and how alike two layers or models see cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from scipy.stats import false_discovery_control, rankdata
from torch import Tensor, nn

from runners.asking import at_least
from runners.beyond.inside import enough, interval
from runners.beyond.radiomic import MEASURES, table
from runners.embedding import embedded, embedding_note
from runners.forms import Contributions
from runners.models import Place, Wired, captured, find_place, run
from runners.owned import Cohort
from runners.registry import Progress, Score, Told, insight
from runners.sized import Pictures, at_size, chunks
from taxonomy.errors import RequirementError, TargetError
from taxonomy.requirements import Gap

FOLDS: Final = 5
STRENGTHS: Final = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
"""Penalties of a probe that are tried, as shares of the mean square of the features; each fit chooses its own."""


def spread_places(profile: Wired, count: int) -> list[Place]:
    """Return layers spread evenly over the model, the deepest one last."""
    places = list(profile.places)
    if not places:
        raise RequirementError("layers", [Gap("spatial_features", "no inner layer with features was found.")])
    if count == 1 or len(places) == 1:
        return places[-1:]
    steps = [round(i * (len(places) - 1) / (count - 1)) for i in range(count)]
    return [places[i] for i in dict.fromkeys(steps)]


@torch.no_grad()
def pooled_at(
    model: nn.Module, x: Pictures, places: Sequence[Place], batch_size: int, device: torch.device, progress: Progress
) -> list[Tensor]:
    """Return the features of every place averaged over positions, ``(N, D)`` each, on the CPU.

    One pass per place: a layer that is used more than once is captured at its own call.
    """
    found = []
    for number, place in enumerate(places):
        parts, done = [], number * len(x)
        for part in chunks(x, batch_size):
            with captured(model, place) as kept:
                run(model, part.to(device, copy=True))
            parts.append(place.fold(kept[-1]).flatten(2).mean(2).double().cpu())
            done += len(part)
            progress(done, len(places) * len(x))
        found.append(torch.cat(parts))
    return found


def held_out(features: Tensor, targets: Tensor, folds: Tensor) -> Tensor:
    """Predict every case by a ridge regression on the other folds, ``(N, T)``, each target on its own.

    Args:
        features: ``(N, D)``; scaled within each fit.
        targets: ``(N, T)``.
        folds: ``(N,)`` number of the fold of each case.
    """
    said = torch.zeros_like(targets)
    for fold in sorted(set(folds.tolist())):
        own, rest = (folds == fold).nonzero()[:, 0], (folds != fold).nonzero()[:, 0]
        mean, scale = features[rest].mean(0), features[rest].std(0, correction=0)
        scale = torch.where(scale > 1e-9 * scale.max().clamp(min=1e-300), scale, torch.inf)  # constant: left out
        a, b = (features[rest] - mean) / scale, (features[own] - mean) / scale
        middle = targets[rest].mean(0)
        y = targets[rest] - middle
        values, vectors = torch.linalg.eigh(a @ a.T)
        values = values.clamp(min=0)
        rotated = vectors.T @ y
        unit = values.mean().clamp(min=1e-12)
        best, least = torch.zeros_like(y), torch.full((y.shape[1],), torch.inf, dtype=y.dtype)
        for strength in STRENGTHS:
            shrink = 1 / (values + strength * unit)
            dual = vectors @ (shrink[:, None] * rotated)
            # the error of each case left out, in closed form; 1 / N is the intercept's share
            inverse = (vectors.square() @ shrink) * strength * unit
            error = (strength * unit * dual / (inverse - 1 / len(y)).clamp(min=1e-6)[:, None]).square().mean(0)
            better = error < least
            best, least = torch.where(better, dual, best), torch.where(better, error, least)
        said[own] = (b @ a.T) @ best + middle
    return said


def concordance(said: Tensor, true: Tensor, folds: Tensor) -> Tensor:
    """Return how well each column is put in order, ``(T,)``: 0 is chance and 1 perfect.

    Of a yes/no target 2 AUC - 1, else Spearman's rank correlation; the mean over folds, as predictions of different
    fits cannot be put in one order (that would give less than chance where there is nothing).

    Args:
        said: ``(N, T)``.
        true: likewise, of one kind of target.
        folds: ``(N,)``.
    """
    kinds = sorted(set(true.flatten().tolist()))
    total, weight = torch.zeros(said.shape[1], dtype=torch.float64), torch.zeros(said.shape[1], dtype=torch.float64)
    for fold in sorted(set(folds.tolist())):
        own = folds == fold
        r = torch.from_numpy(rankdata(said[own].numpy(), axis=0))
        if len(kinds) == 2:
            yes = (true[own] == kinds[1]).double()
            n, m = yes.sum(0), (1 - yes).sum(0)
            gap = (r * yes).sum(0) / n.clamp(min=1) - (r * (1 - yes)).sum(0) / m.clamp(min=1)
            one, fits = 2 * gap / len(r), (n > 0) & (m > 0)
        else:
            t = torch.from_numpy(rankdata(true[own].numpy(), axis=0))
            r, t = r - r.mean(0), t - t.mean(0)
            norm = r.norm(dim=0) * t.norm(dim=0)
            one, fits = (r * t).sum(0) / norm.clamp(min=1e-12), norm > 0
        total += torch.where(fits, one * len(r), 0.0)
        weight += fits * len(r)
    return total / weight.clamp(min=1)


def properties(cohort: Cohort) -> tuple[Tensor, tuple[str, ...], str]:
    """Return what is known of the cases, ``(N, P)`` with NaN where unknown, what each is called, and a note.

    Labels and clinical values; measures of the images where there is neither.
    """
    columns, names = [], []
    if cohort.labels is not None:
        kinds = sorted(set(cohort.labels.tolist()))
        for kind in kinds[1:] if len(kinds) == 2 else kinds:
            columns.append((cohort.labels.cpu() == kind).double())
            names.append(cohort.label_names[kind] if kind < len(cohort.label_names) else f"label {kind}")
    if cohort.features is not None:
        columns += list(cohort.features.double().cpu().T)
        names += list(cohort.feature_names)
    note = "Probed: labels and clinical values of the cohort; read: 2 AUC - 1 of a yes or no, rank correlation else."
    if not columns:
        values, measures = table(cohort.x, cohort.masks)
        columns, names = list(values.T), list(measures)
        note = "The cohort has neither labels nor clinical values: measures of the images are probed instead."
    return torch.stack(columns, 1), tuple(names), note


@insight("linear_probing", sizes=True)
def linear_probing(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001  what a layer knows does not hang on the answer
    *,
    layer: str | None = None,
    layers: int = 3,
    samples: int = 500,
    runs: int = 200,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Read what is known of the cases from a layer's features by a linear probe (arXiv 1610.01644, 1909.03368).

    The control task has the same labels shuffled among the cases (an image has no type as a word has, so there are no
    labels per type as in the original control task): the same probe on the same features, cross-validated alike.
    Selectivity is how far the probe does better on the true labels.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for several spread over the model.
        layers: How many layers are read when none is named, the last being the embedding.
        samples: Times the labels are shuffled.
        runs: Bootstrap samples for the confidence interval.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images with labels or clinical values.
        generator: Draws.
        progress: Told what is done.

    Returns:
        Selectivity of each property in each layer, with what the probe reads from this image.
    """
    at_least(1, layers=layers, batch_size=batch_size)
    at_least(20, samples=samples)
    at_least(2, runs=runs)
    enough(cohort, 30, "linear_probing")
    truth, names, probed = properties(cohort)
    places = [] if layer or layers == 1 else spread_places(profile, layers)[:-1]
    both: tuple[Pictures, ...] = (cohort.x, x)
    last = torch.cat(
        [embedded(model, one.to(x), profile, layer=layer, batch_size=batch_size, progress=progress) for one in both]
    ).double()
    each = [pooled_at(model, one, places, batch_size, x.device, progress) for one in both]
    found = [torch.cat(list(one)) for one in zip(*each, strict=True)]
    read = [(place.name, one) for place, one in zip(places, found, strict=True)]
    read.append((layer or "the embedding", last))
    few = [min(n, 8 if x.ndim == 4 else 4) for n in x.shape[2:]]
    pixels = torch.cat([at_size(one.cpu(), few) for one in both]).flatten(1).double()
    lines: list[tuple[str, float, float, float, float, str]] = []
    notes: list[str] = []
    controls: list[float] = []
    for number, name in enumerate(names):
        known = (~truth[:, number].isnan()).nonzero()[:, 0]
        y = truth[known, number]
        kinds = sorted(set(y.tolist()))
        if len(known) < 20 or len(kinds) < 2 or (len(kinds) == 2 and min(int((y == k).sum()) for k in kinds) < FOLDS):
            notes.append(f"{name}: not probed, as too few cases are known to differ in it.")
            continue
        folds = _folds(y, generator)
        shuffled = torch.stack([y[torch.randperm(len(y), generator=generator)] for _ in range(samples)], 1)
        targets = torch.cat([y[:, None], shuffled], 1)
        simple = float(concordance(held_out(pixels[known], y[:, None], folds), y[:, None], folds)[0])
        for where, features in read:
            said = held_out(features[known], targets, folds)
            reached = concordance(said, targets, folds)
            control = float(reached[1:].mean())
            controls.append(control)
            p = (int((reached[1:] >= reached[0]).sum()) + 1) / (samples + 1)
            rows = torch.zeros(len(y), runs, dtype=torch.long)
            for fold in range(FOLDS):
                own_fold = (folds == fold).nonzero()[:, 0]
                rows[own_fold] = own_fold[torch.randint(len(own_fold), (len(own_fold), runs), generator=generator)]
            draws = concordance(said[rows, 0], y[rows], folds)
            low, high = interval(draws[:, None])
            value = float(reached[0]) - max(control, 0.0)
            case = torch.cat([features[known], features[-1:]])
            last_fold = torch.cat([torch.zeros(len(known)), torch.ones(1)]).long()
            own = float(held_out(case, torch.cat([y, y[:1]])[:, None], last_fold)[-1, 0])
            unit = f"{min(max(own, 0.0), 1.0):.0%} yes" if kinds == [0.0, 1.0] else f"{own:.3g}"
            lines.append(
                (
                    f"{name}, in {where}",
                    value,
                    min(float(low[0]) - max(control, 0.0), value),
                    float(high[0]) - max(control, 0.0),
                    p,
                    unit,
                )
            )
            notes.append(
                f"{name}, in {where}: {float(reached[0]):.2f} on cases left out, {control:.2f} with shuffled labels "
                f"(p = {p:.2g} before correction), {simple:.2f} from a coarse image without any model."
            )
    if not lines:
        raise TargetError(
            "nothing that is known of the cohort differs in enough cases to be probed; give labels or clinical values "
            f"of at least 20 cases, {FOLDS} of each kind"
        )
    names_, values, lows, highs, ps, units = zip(*lines, strict=True)
    sure = false_discovery_control(ps) <= 0.05
    form = Contributions(
        names=tuple(names_),
        values=torch.tensor(values),
        what="selectivity: how well it is read from cases left out, above shuffled labels (1 perfect, 0 chance)",
        low=torch.tensor(lows),
        high=torch.maximum(torch.tensor(highs), torch.tensor(values)),
        inputs=tuple(units),
        measures={
            "readings above chance (corrected p up to 0.05)": float(sure.sum()),
            "readings": float(len(lines)),
            "mean reading of shuffled labels (0 is chance)": sum(controls) / len(controls),
        },
    )
    told = [f"{one}: {MEASURES[one].text}" for one in names if one in MEASURES][:5]
    cautions = (
        "That a property can be read from the features does not say that the model uses it for its answer.",
        "What the probe cannot read linearly may still be there.",
    )
    return Told(form, (embedding_note(profile, layer), probed, *notes, *told), cautions)


def _folds(y: Tensor, generator: torch.Generator) -> Tensor:
    """Return a fold for each case, kinds (or high and low values) spread evenly over them."""
    order = torch.randperm(len(y), generator=generator)
    ranked = order[y[order].argsort(stable=True)]
    folds = torch.zeros(len(y), dtype=torch.long)
    folds[ranked] = torch.arange(len(y)) % FOLDS
    return folds


def hsic(a: Tensor, b: Tensor) -> Tensor:
    """Return the unbiased estimate of the dependence of two sets of features of the same cases (HSIC, linear kernel).

    Args:
        a: Kernel ``(N, N)`` of the first, its diagonal 0.
        b: Likewise of the second.
    """
    n = len(a)
    cross = (a * b).sum()
    whole = a.sum() * b.sum() / ((n - 1) * (n - 2))
    rows = 2 / (n - 2) * (a.sum(0) @ b.sum(0))
    found: Tensor = (cross + whole - rows) / (n * (n - 3))
    return found


def alike(a: Tensor, b: Tensor) -> float:
    """Return the debiased linear CKA of features ``(N, D)`` and ``(N, E)``: 1 for the same up to rotation and scale.

    Around 0 for features that have nothing to do with each other, however few the cases (the biased estimate goes to
    1 there); it may be below 0 by chance.
    """
    k, m = (_kernel(one) for one in (a, b))
    scale = (hsic(k, k).clamp(min=0) * hsic(m, m).clamp(min=0)).sqrt()
    return float(hsic(k, m) / scale) if float(scale) > 0 else 0.0


def _kernel(a: Tensor) -> Tensor:
    a = a.double() - a.double().mean(0)
    a = a / a.norm().clamp(min=1e-300)
    return (a @ a.T).fill_diagonal_(0)


@insight("cka", sizes=True)
def cka(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001  what layers see alike does not hang on the answer
    *,
    layer: str | None = None,
    layers: int = 6,
    runs: int = 50,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    members: tuple[nn.Module, ...],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Compare how layers, or models, arrange the same cases: debiased linear CKA (arXiv 1905.00414, 2010.15327).

    With further models of the same build each layer is compared with the same layer of those, else with the layer that
    is named. Features are averaged over positions.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Layer that the others are compared with; None for the deepest.
        layers: How many layers are compared, spread over the model.
        runs: Samples of half the cases, for the confidence interval, and of shuffled cases, for chance.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Images to compare on.
        members: Further models, or none.
        generator: Draws.
        progress: Told the images seen.

    Returns:
        Similarity of each layer, with a confidence interval.
    """
    at_least(1, layers=layers, batch_size=batch_size)
    at_least(10, runs=runs)
    enough(cohort, 20, "cka")
    places = spread_places(profile, layers)
    own = pooled_at(model, cohort.x, places, batch_size, x.device, progress)
    pairs: list[tuple[str, Tensor, Tensor]] = []
    if members:
        for number, member in enumerate(members, 1):
            try:
                other = pooled_at(member, cohort.x, places, batch_size, x.device, progress)
            except (AttributeError, KeyError) as error:
                raise TargetError(
                    f"further model {number} has no layer like those of the model ({error}); give models of one build"
                ) from error
            which = f"further model {number}" if len(members) > 1 else "the further model"
            pairs += [
                (f"{p.name or 'the model'}, with that of {which}", a, b)
                for p, a, b in zip(places, own, other, strict=True)
            ]
    else:
        chosen = find_place(profile, layer)[0] if layer else places[-1]
        (goal,) = pooled_at(model, cohort.x, [chosen], batch_size, x.device, progress)
        pairs += [
            (f"{p.name or 'the model'}, with {chosen.name or 'the model'}", a, goal)
            for p, a in zip(places, own, strict=True)
            if p != chosen
        ]
    if not pairs:
        raise TargetError("the model has one layer with features only; give further models to compare it with")
    values, lows, highs, chance = [], [], [], []
    half = len(cohort) // 2
    for _, a, b in pairs:
        value = alike(a, b)
        parts = [torch.randperm(len(a), generator=generator) for _ in range(runs)]
        # two draws of half the cases differ about as much as one of all differs from the truth
        draws = torch.tensor([alike(a[one[:half]], b[one[:half]]) for one in parts])
        spread = 1.96 * float(draws.std())
        values.append(value)
        lows.append(value - spread)
        highs.append(value + spread)
        chance += [alike(a, b[one]) for one in parts]
    form = Contributions(
        names=tuple(name for name, _, _ in pairs),
        values=torch.tensor(values),
        what="similarity (debiased CKA; 1 alike, 0 nothing in common)",
        low=torch.tensor(lows),
        high=torch.tensor(highs),
        measures={"similarity of shuffled cases (95th percentile)": float(torch.tensor(chance).quantile(0.95))},
    )
    notes = (
        f"{len(cohort)} images of the cohort; features averaged over positions.",
        "The interval is from samples of half the cases, whose spread is about the error on all.",
    )
    cautions = ("Few odd cases can dominate this similarity, and a high one does not say that the answers are alike.",)
    return Told(form, notes, cautions)
