"""Prototypes: cases that stand for a cohort, cases that do not fit, and the learned parts of prototype networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from runners.asking import at_least
from runners.beyond.inside import asked, enough
from runners.beyond.neighbours import gathered, without_itself
from runners.embedding import embedded, embedding_note
from runners.models import Wired, run, upsample
from runners.modes import Codes
from runners.owned import Cohort
from runners.registry import Progress, Score, Told, insight
from taxonomy.errors import RequirementError, TargetError
from taxonomy.requirements import Gap

SETS: Final = ("cohort", "answer")
"""What prototypes stand for: all of the cohort, or its cases that the model answers as the image."""
MOST: Final = 4000
"""Most cases whose kernel matrix is made; of more a draw is taken."""


def likenesses(vectors: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
    """Return the Gaussian kernel of ``(N, D)`` with itself and with others, as wide as the median distance."""
    apart = torch.cdist(vectors, vectors).square()
    between = apart[~torch.eye(len(apart), dtype=torch.bool)]
    wide = float(between.median()) or float(between.mean()) or 1.0
    return tuple((-one / wide).exp() for one in (apart, *(torch.cdist(vectors, one).square() for one in more)))


def _set_of(
    model: nn.Module,
    x: Tensor,
    score: Score,
    cohort: Cohort,
    among: str,
    profile: Wired,
    batch_size: int,
    generator: torch.Generator,
) -> tuple[Tensor, tuple[str, ...]]:
    """Return the numbers of the cases that prototypes are to stand for, and what to say of it."""
    if among not in SETS:
        raise TargetError(f"among={among!r} was given; {' or '.join(SETS)} is allowed")
    rows, notes = torch.arange(len(cohort)), []
    if among == "answer":
        rows = asked(model, x, score, profile, batch_size).look(cohort.x)[1].nonzero()[:, 0]
        notes.append(
            f"Of {len(cohort)} cases the model answers {len(rows)} as explained here; the others are left out."
        )
        if len(rows) < 4:
            raise TargetError(
                f"the model answers {len(rows)} cases of the cohort as explained here; at least 4 are needed"
            )
    if len(rows) > MOST:
        rows = rows[torch.randperm(len(rows), generator=generator)[:MOST]].sort().values
        notes.append(f"{MOST} cases drawn from them are used.")
    return rows, tuple(notes)


@insight("mmd_critic", sizes=True)
def mmd_critic(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    prototypes: int = 5,
    criticisms: int = 3,
    among: str = "cohort",
    layer: str | None = None,
    samples: int = 100,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Show cases that together are spread as the cohort is, and cases that they represent badly (NeurIPS 2016, Kim).

    A Gaussian kernel on the model's embedding. Prototypes are chosen one by one, each the one that brings the maximum
    mean discrepancy to the cohort lowest; criticisms by the size of the witness function, kept apart by the logarithm
    of their kernel's determinant.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        prototypes: Prototypes to show.
        criticisms: Criticisms to show.
        among: What they stand for: cohort, or answer for its cases that the model answers as the image.
        layer: Name of the layer to take the embedding from; None for what the last linear layer reads.
        samples: Random choices to compare with.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Cases to choose from.
        generator: Draws.
        progress: Told what is done.

    Returns:
        The cases with their likeness to the image.
    """
    at_least(1, prototypes=prototypes, samples=samples)
    at_least(0, criticisms=criticisms)
    enough(cohort, 4, "mmd_critic")
    rows, notes = _set_of(model, x, score, cohort, among, profile, batch_size, generator)
    vectors = embedded(model, cohort.x[rows], profile, layer=layer, batch_size=batch_size, progress=progress).double()
    own = embedded(model, x, profile, layer=layer, batch_size=batch_size).double()
    kernel, here = likenesses(vectors, own)
    chosen = spread_alike(kernel, min(prototypes, len(rows)))
    witness = kernel.mean(1) - kernel[:, chosen].mean(1)
    badly = unlike(kernel, witness, chosen, min(criticisms, len(rows) - len(chosen)))
    drawn = [discrepancy(kernel, torch.randperm(len(rows), generator=generator)[: len(chosen)]) for _ in range(samples)]
    nearest = kernel[:, chosen].argmax(1)
    shares = [float((nearest == at).double().mean()) for at in range(len(chosen))]
    measures = {
        "squared mean discrepancy of the prototypes": discrepancy(kernel, chosen),
        "the same of as many random cases, mean": float(np.mean(drawn)),
    }
    if cohort.labels is not None:
        kind = cohort.labels[rows]
        measures["cases whose nearest prototype has their label"] = float(
            (kind[torch.tensor(chosen)[nearest]] == kind).double().mean()
        )
    order = torch.tensor([*chosen, *badly])
    told = [f"Prototype {at + 1} is the nearest of {share:.0%} of the cases." for at, share in enumerate(shares)] + [
        f"Criticism {at + 1}: witness function {float(witness[one]):+.2g}." for at, one in enumerate(badly)
    ]
    weak = RANDOM if no_better(measures["squared mean discrepancy of the prototypes"], drawn) else ()
    form = gathered(
        cohort,
        rows[order],
        here[order, 0],
        "likeness of this image to the case (1: the same to the model)",
        ["prototype"] * len(chosen) + ["criticism"] * len(badly),
        measures,
    )
    cautions = (
        "The cases stand for the cohort as the model sees it; they are not why it answered as it did.",
        "A criticism is a case that the prototypes do not stand for, not an error.",
        *weak,
    )
    return Told(form, (embedding_note(profile, layer), *notes, *told), cautions)


RANDOM: Final = ("Random cases, as many, stand for it nearly as well as the prototypes do.",)


def no_better(found: float, drawn: Sequence[float]) -> bool:
    """Say whether a discrepancy is hardly below the mean of those of random choices."""
    return found > 0.8 * float(np.mean(drawn))


def spread_alike(kernel: Tensor, count: int) -> list[int]:
    """Return the cases, chosen one by one, whose mean discrepancy to all ``(N, N)`` is least."""
    towards, chosen = kernel.mean(1), list[int]()
    for _ in range(count):
        # of the objective 2 mean k(i, S) - mean k(S, S) with each case added
        size = len(chosen) + 1
        inside = kernel[chosen][:, chosen].sum() + 2 * kernel[:, chosen].sum(1) + kernel.diag()
        gain = 2 * (towards[chosen].sum() + towards) / size - inside / size**2
        gain[chosen] = -torch.inf
        chosen.append(int(gain.argmax()))
    return chosen


def discrepancy(kernel: Tensor, chosen: Sequence[int] | Tensor) -> float:
    """Return the squared maximum mean discrepancy between all cases and the chosen ones."""
    return float(kernel.mean() - 2 * kernel[:, chosen].mean() + kernel[chosen][:, chosen].mean())


def unlike(kernel: Tensor, witness: Tensor, prototypes: Sequence[int], count: int) -> list[int]:
    """Return the cases, chosen one by one, of largest witness function plus log determinant of their kernel."""
    found = list[int]()
    for _ in range(count):
        own = kernel[found][:, found] + 1e-9 * torch.eye(len(found), dtype=kernel.dtype)
        cross = kernel[found]
        left = kernel.diag() - (cross * torch.linalg.solve(own, cross)).sum(0) if found else kernel.diag()
        gain = witness.abs() + left.clamp(min=1e-12).log()
        gain[[*prototypes, *found]] = -torch.inf
        found.append(int(gain.argmax()))
    return found


@insight("protodash", sizes=True)
def protodash(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    count: int = 6,
    represents: str = "cohort",
    among: str = "cohort",
    layer: str | None = None,
    samples: int = 20,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Choose few cases with weights that summarise the cohort, or stand for the image (arXiv 1707.01212).

    A Gaussian kernel on the model's embedding. The case of steepest gain is added, then all weights, none negative, are
    set to their best again.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        count: Most prototypes; fewer where a further one would get no weight.
        represents: What the prototypes stand for: cohort or image.
        among: Where they come from: cohort, or answer for its cases that the model answers as the image.
        layer: Name of the layer to take the embedding from; None for what the last linear layer reads.
        samples: Random choices to compare with.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Cases to choose from.
        generator: Draws.
        progress: Told what is done.

    Returns:
        The cases with their weights, which sum to one.
    """
    at_least(1, count=count, samples=samples)
    if represents not in ("cohort", "image"):
        raise TargetError(f"represents={represents!r} was given; cohort or image is allowed")
    enough(cohort, 4, "protodash")
    rows, notes = _set_of(model, x, score, cohort, among, profile, batch_size, generator)
    if represents == "image":
        other, said = without_itself(cohort, x)
        rows, notes = rows[other[rows]], (*notes, *said)
        enough(Cohort(cohort.x[rows]), 4, "protodash")
    vectors = embedded(model, cohort.x[rows], profile, layer=layer, batch_size=batch_size, progress=progress).double()
    own = embedded(model, x, profile, layer=layer, batch_size=batch_size).double()
    kernel, here = likenesses(vectors, own)
    towards, itself = (here[:, 0], 1.0) if represents == "image" else (kernel.mean(1), float(kernel.mean()))
    chosen, weights = weighted(kernel, towards, min(count, len(rows)))

    def apart(chosen: Sequence[int], weights: Tensor) -> float:
        return float(itself - 2 * weights @ towards[chosen] + weights @ kernel[chosen][:, chosen] @ weights)

    drawn = []
    for _ in range(samples):
        some = torch.randperm(len(rows), generator=generator)[: len(chosen)].tolist()
        drawn.append(apart(some, _best(kernel, towards, some)))
    measures = {
        "squared mean discrepancy of the weighted prototypes": apart(chosen, weights),
        "the same of as many random cases, weighted as well as can be, mean": float(np.mean(drawn)),
    }
    order = weights.argsort(descending=True, stable=True)
    index = rows[torch.tensor(chosen)[order]]
    what = "the image" if represents == "image" else "the cohort" + (", of this answer" if among == "answer" else "")
    form = gathered(
        cohort, index, (weights / weights.sum())[order], f"weight of the case in the summary of {what}",
        ["prototype"] * len(index), measures,
    )  # fmt: skip
    cautions = [
        "A weight says how much of the summary a case stands for, not how strongly it moved the model.",
        *(RANDOM if no_better(apart(chosen, weights), drawn) else ()),
    ]
    summed = f"The weights, {float(weights.sum()):.2g} together, are given as shares."
    return Told(form, (embedding_note(profile, layer), *notes, summed), tuple(cautions))


def weighted(kernel: Tensor, towards: Tensor, count: int) -> tuple[list[int], Tensor]:
    """Choose cases and weights ``w >= 0`` that make ``w·towards - w·kernel·w / 2`` large, one case at a time."""
    chosen, weights = list[int](), torch.zeros(0, dtype=kernel.dtype)
    for _ in range(count):
        slope = towards - kernel[:, chosen] @ weights
        slope[chosen] = -torch.inf
        if float(slope.max()) <= 1e-9:
            break
        chosen.append(int(slope.argmax()))
        weights = _best(kernel, towards, chosen)
    kept = (weights > 1e-9).nonzero()[:, 0].tolist()
    return [chosen[at] for at in kept], weights[kept]


def _best(kernel: Tensor, towards: Tensor, chosen: Sequence[int]) -> Tensor:
    """Return the best weights of the chosen cases, none negative."""
    own = kernel[chosen][:, chosen] + 1e-10 * torch.eye(len(chosen), dtype=kernel.dtype)
    lower = torch.linalg.cholesky(own)
    goal = torch.linalg.solve_triangular(lower, towards[chosen][:, None], upper=False)[:, 0]
    return torch.from_numpy(nnls(lower.T.numpy(), goal.numpy())[0])


# --- networks that have prototypes ------------------------------------------------------------------------------------

_SIMILARITY: Final[tuple[Callable[[Tensor], Tensor], ...]] = (
    lambda values: values,
    lambda values: -values,
    lambda values: ((values + 1) / (values + 1e-4)).log(),
    lambda values: (-values).exp(),
)
"""What prototype networks make of a map of likeness or of distance before they take its best position."""


class _Maps(TorchFunctionMode):
    """Keep every tensor with one map for each of ``count`` prototypes."""

    def __init__(self, count: int, dims: int) -> None:
        super().__init__()
        self.count, self.dims, self.found = count, dims, list[Tensor]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        fits = isinstance(result, Tensor) and result.ndim == self.dims + 2 and result.shape[1] == self.count
        if fits and result.is_floating_point() and result[0, 0].numel() > 1:
            self.found.append(result.detach().clone())
        return result


def parts_of(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return how well each of K prototypes matches images, ``(B, K)``, and where, ``(B, K, *grid)``; None without any.

    A model has prototypes when it owns a tensor with a vector for each number that its last linear layer reads, outside
    of an ordinary layer, and each of these numbers is that of the best position of a map of likeness or distance.
    """
    with torch.no_grad():
        with Codes() as seen:
            run(model, x.clone())
        if seen.last is None or seen.last.ndim != 2 or len(seen.last) != len(x):
            return None
        scores = seen.last.detach().clone()
        if not _owns_vectors(model, scores.shape[1]):
            return None
        with _Maps(scores.shape[1], x.ndim - 2) as maps:
            run(model, x.clone())
        for found in reversed(maps.found):
            for make in _SIMILARITY:
                likeness = make(found)
                if torch.allclose(likeness.flatten(2).amax(2), scores, rtol=1e-3, atol=1e-4):
                    return scores, likeness
    return None


def _owns_vectors(model: nn.Module, count: int) -> bool:
    ordinary = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    return any(
        tensor.ndim >= 2 and tensor.shape[0] == count and tensor.is_floating_point()
        for module in model.modules()
        if not isinstance(module, ordinary)
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    )


@insight("protopnet")
def protopnet(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    count: int = 5,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    progress: Progress,
) -> Told:
    """Show which learned parts a prototype network found in the image, where, and what each adds (arXiv 1806.10574).

    For networks that already have prototypes, of this family: a map of likeness or distance for each, its best
    position, and a linear layer on these. Each prototype is shown by the case of the cohort that matches it best; where
    the network was trained with projection and the cohort holds the training images, that is the patch it stands for.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        count: Prototypes to show.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: Cases to show the prototypes by.
        progress: Told what is done.

    Returns:
        What each prototype adds to the score; where it is in the image, and in the case.
    """
    at_least(1, count=count)
    found = parts_of(model, x) if "embedding" in profile.has else None
    if found is None:
        raise RequirementError("protopnet", [Gap("prototypes", NO_PROTOTYPES)])
    scores, maps = found
    weights = _weights(model, x, score)
    adds = (scores[0] * weights).cpu()
    shown = adds.abs().argsort(descending=True, stable=True)[:count]
    shown = shown[adds[shown].argsort(descending=True, stable=True)]
    other, notes = without_itself(cohort, x)
    rows, matches, there = other.nonzero()[:, 0], list[Tensor](), dict[int, tuple[float, int, Tensor]]()
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        looked = parts_of(model, cohort.stack[part].to(x))
        assert looked is not None
        match, where = (one.cpu() for one in looked)
        matches.append(match)
        for k in shown.tolist():
            best = int(match[:, k].argmax())
            if k not in there or float(match[best, k]) > there[k][0]:
                there[k] = (float(match[best, k]), int(part[best]), where[best, k])
        progress(start + len(part), len(rows))
    every, size = torch.cat(matches), tuple(x.shape[2:])
    own = scores[0].cpu()
    told = [
        f"Prototype {k + 1}: match here {float(own[k]):.3g}, in the case shown {there[k][0]:.3g}; "
        f"{float((every[:, k] < own[k]).double().mean()):.0%} of the cohort match less."
        for k in shown.tolist()
    ]
    form = gathered(
        cohort,
        torch.tensor([there[k][1] for k in shown.tolist()]),
        adds[shown],
        "added to the score: match of the prototype times its weight",
        [f"prototype {k + 1}, {'for' if adds[k] > 0 else 'against'}" for k in shown.tolist()],
        {
            "added by all prototypes": float(adds.sum()),
            "share of that size in those shown": float(adds[shown].abs().sum() / adds.abs().sum().clamp(min=1e-30)),
        },
        upsample(maps[0].cpu()[shown].float(), size),
        upsample(torch.stack([there[k][2] for k in shown.tolist()]).float(), size),
    )
    cautions = (
        "The network sees more than the marked part: a position of the map can depend on the whole image.",
        "Alike to the network need not be alike to the eye; noise or compression can change the best match.",
        "The case shown is the best match in this cohort; without the training images the prototype can stand for "
        "something else.",
    )
    return Told(form, (f"{len(adds)} prototypes were found in the model.", *notes, *told), cautions)


NO_PROTOTYPES: Final = (
    "it shows the prototypes of a network that was built and trained with them (similarity maps, their best position, "
    "a linear layer); none were found in this model."
)


def _weights(model: nn.Module, x: Tensor, score: Score) -> Tensor:
    """Return the derivative of the score with respect to what the last linear layer reads, ``(K,)``."""
    with torch.enable_grad():
        with Codes() as seen:
            outputs = run(model, x.clone().requires_grad_())
        assert seen.last is not None
        value = score(outputs, torch.zeros(1, dtype=torch.long, device=x.device)).sum()
        slope: Tensor = torch.autograd.grad(value, seen.last)[0][0]
    return slope
