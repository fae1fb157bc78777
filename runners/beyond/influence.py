"""Cases that made the model answer as it does: influence of what it learned from, estimated without training again.

Every method tells what the presence of a case in the training adds to the explained score: positive supports the
answer. For classifiers with several outputs what all outputs share is taken out of the score first, since it decides
nothing and no case can teach it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from runners.asking import at_least
from runners.beyond.inside import enough
from runners.beyond.neighbours import called, gathered, same_as
from runners.models import Wired, preserved, run
from runners.modes import Codes
from runners.owned import Cohort
from runners.registry import Progress, Score, Told, insight, no_progress
from runners.relevance import slope_of
from runners.sized import Pictures, chunks, in_one_size
from runners.targets import primary
from taxonomy.errors import ModelError, RequirementError, TargetError
from taxonomy.requirements import Gap

SHARED: Final = "share of all influence that the cases shown have"
STANDS_OUT: Final = 1.5
"""How many times their even share the shown cases must have, or the influence is spread evenly."""
RARELY: Final = (
    "The influence of a single case is often smaller than that of chance in training: take it for a hint which cases "
    "to look at."
)
SURE: Final = (
    "Cases that the model has become sure of have next to no loss left and count for little, even if the answer was "
    "learned from them."
)


# --- what was learned -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Truth:
    """What a model was taught about the cases of a cohort.

    Attributes:
        kind: softmax (one label of several), sigmoid (labels by themselves), square (a number) or region.
        values: ``(N, K)`` what each output should be; of regions ``(N, *spatial)``.
        at: of regions, the explained label.
        shares: the outputs are probabilities already, not logits.
        notes: what was assumed.
    """

    kind: str
    values: Pictures
    at: int = 0
    shares: bool = False
    notes: tuple[str, ...] = ()

    def loss(self, outputs: Any, rows: Tensor) -> Tensor:
        """Return the loss on each case, ``(n,)``; ``rows`` ``(n,)`` are their numbers."""
        output = primary(outputs)
        wanted = in_one_size(self.values[rows.cpu()]).to(output)
        match self.kind:
            case "region":
                odds = self.log_odds(output, self.at)
                return F.binary_cross_entropy_with_logits(odds, wanted, reduction="none").flatten(1).mean(1)
            case "softmax":
                return -(wanted * self.log_shares(output)).sum(1)
            case "sigmoid":
                odds = torch.logit(output, 1e-6) if self.shares else output
                return F.binary_cross_entropy_with_logits(odds, wanted, reduction="none").sum(1)
            case _:
                return (output - wanted).square().sum(1) / 2

    def log_shares(self, output: Tensor) -> Tensor:
        """Return the logarithm of the probabilities ``(n, K, *rest)`` of labels of which one holds."""
        return output.clamp(min=1e-12).log() if self.shares else output.log_softmax(1)

    def log_odds(self, output: Tensor, at: int) -> Tensor:
        """Return the log-odds of one label against the others, ``(n, *rest)``."""
        if output.shape[1] == 1 or self.kind == "sigmoid":
            return torch.logit(output[:, at], 1e-6) if self.shares else output[:, at]
        shares = self.log_shares(output)
        rest = torch.cat([shares[:, :at], shares[:, at + 1 :]], 1).logsumexp(1)
        return shares[:, at] - rest

    def given(self, output: Tensor, rows: Tensor) -> Tensor | None:
        """Return the probability that the model gives to each case's known label, ``(n,)``; None without labels."""
        wanted = in_one_size(self.values[rows.cpu()]).to(output)
        if self.kind == "softmax":
            return (wanted * self.log_shares(output).exp()).sum(1)
        if self.kind != "sigmoid":
            return None
        at = wanted.argmax(1)[:, None]
        share = output.gather(1, at) if self.shares else output.gather(1, at).sigmoid()
        return torch.where(wanted.gather(1, at) > 0.5, share, 1 - share)[:, 0]


def truth_of(method: str, model: nn.Module, x: Tensor, score: Score, cohort: Cohort, profile: Wired) -> Truth:
    """Read from a cohort what the model was taught about its cases.

    Raises:
        RequirementError: the cohort does not tell.
        TargetError: its labels are not the model's.
    """
    card = getattr(model, "card", None)
    names = tuple(getattr(card, "labels", None) or ())
    with torch.no_grad():
        output = primary(run(model, x.clone()))
    if profile.task == "segmentation":
        if cohort.masks is None:
            raise RequirementError(method, [Gap("training_data", ASK_MASKS)])
        slope = slope_of(score, output, torch.zeros(1, dtype=torch.long, device=x.device)).flatten(2).sum(2)[0]
        note = "The mask of every case is taken for what the model should mark as the explained label."
        return Truth("region", cohort.masks, int(slope.argmax()), _probable(model, x, cohort, profile), (note,))
    if output.ndim != 2:
        raise RequirementError(method, [Gap("task", "it explains models that give some numbers for each image.")])
    single = output.shape[1] == 1
    column = next((n for n in (*names, "target") if n in cohort.feature_names), None)
    if single and column is not None and cohort.features is not None:
        values = cohort.features[:, cohort.feature_names.index(column)]
        if values.isnan().any():
            raise TargetError(
                f"the column {column!r} of the cohort has empty cells; the true value of every case is needed"
            )
        return Truth("square", values[:, None].float(), notes=(f"True values: the column {column!r} of the cohort.",))
    if cohort.labels is None:
        raise RequirementError(method, [Gap("training_data", ASK_VALUES if single else ASK_LABELS)])
    outputs = max(output.shape[1], 2)
    if int(cohort.labels.max()) >= outputs or (
        names and cohort.label_names and len(names) == outputs and names != cohort.label_names
    ):
        known = ", ".join(names) or f"the numbers 0 to {outputs - 1}"
        given = ", ".join(cohort.label_names) or f"numbers up to {int(cohort.labels.max())}"
        raise TargetError(
            f"the cohort's labels are {given}; the model's are {known}: label the cases as the model does"
        )
    shares = _probable(model, x, cohort, profile)
    if single:
        note = "The model has one output: it is taken for the logit of label 1 against label 0."
        return Truth("sigmoid", cohort.labels[:, None].float(), shares=shares, notes=(note,))
    wanted = F.one_hot(cohort.labels, outputs).float()
    if getattr(card, "multilabel", False):
        note = "Labels other than a case's own are taken to be absent in it."
        return Truth("sigmoid", wanted, shares=shares, notes=(note,))
    return Truth("softmax", wanted, shares=shares)


@torch.no_grad()
def _probable(model: nn.Module, x: Tensor, cohort: Cohort, profile: Wired) -> bool:
    """Say whether the outputs are probabilities: never those of a last linear layer."""
    if "embedding" in profile.has:
        return False
    outputs = [primary(run(model, one.to(x, copy=True))) for one in (x, *chunks(cohort.x[:8], 8))]
    return all(bool(((one >= 0) & (one <= 1)).all()) for one in outputs)


ASK_LABELS: Final = (
    "it needs to know what every training image was labelled as; put the images into one sub-folder per label, named "
    "like the model's labels."
)
ASK_VALUES: Final = (
    "it needs the true value of every training image; give it in a column 'target' of the cohort's table, or labels 0 "
    "and 1."
)
ASK_MASKS: Final = "it needs the mask that every training image was taught with; put NAME_mask beside NAME."


def centred(slope: Tensor, kind: str) -> Tensor:
    """Return the slope of the score ``(K,)`` without what all outputs share, where only differences decide."""
    return slope - slope.mean() if kind == "softmax" and len(slope) > 1 else slope


# --- the last layer, in closed form -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Last:
    """The last linear layer, and what it reads and answers for every case; float64 on the CPU.

    Attributes:
        kind: as in :class:`Truth`.
        features: ``(N, D + 1)``, what it reads, and a one for the bias.
        outputs: ``(N, K)``.
        wanted: ``(N, K)``.
        own: ``(D + 1,)`` of the image. answers: ``(K,)`` of the image.
        slope: ``(K,)`` of the score.
    """

    kind: str
    features: Tensor
    outputs: Tensor
    wanted: Tensor
    own: Tensor
    answers: Tensor
    slope: Tensor

    def shares(self, outputs: Tensor) -> Tensor:
        """Return what the outputs ``(N, K)`` say, in the scale of what is wanted."""
        match self.kind:
            case "softmax":
                return outputs.softmax(1)
            case "sigmoid":
                return outputs.sigmoid()
            case _:
                return outputs

    def loss(self, outputs: Tensor, wanted: Tensor) -> Tensor:
        """Return the loss on each case, ``(N,)``."""
        match self.kind:
            case "softmax":
                return -(wanted * outputs.log_softmax(1)).sum(1)
            case "sigmoid":
                return F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none").sum(1)
            case _:
                return (outputs - wanted).square().sum(1) / 2

    def bent(self, shares: Tensor, push: Tensor) -> Tensor:
        """Return the Hessian of the loss in the outputs times ``push`` ``(N, K)``, case by case."""
        match self.kind:
            case "softmax":
                return shares * (push - (shares * push).sum(1, keepdim=True))
            case "sigmoid":
                return shares * (1 - shares) * push
            case _:
                return push

    def curvature(self) -> float:
        """Return the mean eigenvalue of the Hessian in the weights where every answer is undecided.

        That of the trained layer would be next to nothing where it is sure of all cases.
        """
        outputs = self.outputs.shape[1]
        per = {"softmax": 1 - 1 / outputs, "sigmoid": outputs / 4}.get(self.kind, float(outputs))
        return per * float(self.features.square().sum(1).mean()) / (outputs * self.features.shape[1])

    def solve(self, shares: Tensor, target: Tensor, damping: float, weights: Tensor | None = None) -> Tensor:
        """Return ``(H + damping)⁻¹ target`` for weights of the layer ``(K, D + 1)``, by conjugate gradients."""
        weights = torch.ones(len(shares), dtype=shares.dtype) if weights is None else weights
        features = self.features

        def times(v: Tensor) -> Tensor:
            return (weights[:, None] * self.bent(shares, features @ v.T)).T @ features / len(features) + damping * v

        return conjugate(times, target)

    def refitted(
        self,
        wanted: Tensor,
        offset: Tensor,
        damping: float,
        weights: Tensor | None = None,
        lean: Tensor | float = 0.0,
    ) -> Tensor:
        """Return the ``V`` ``(K, D + 1)`` that makes an objective least, by Newton's method; it is convex.

        The objective is the mean of ``weights`` times the loss of ``offset + features Vᵀ``, plus ``damping |V|² / 2``,
        minus ``lean`` times ``V``. Steps are halved until they help.
        """
        weights = torch.ones(len(offset), dtype=offset.dtype) if weights is None else weights
        v = torch.zeros(offset.shape[1], self.features.shape[1], dtype=offset.dtype)

        def cost(v: Tensor) -> float:
            loss = (weights * self.loss(offset + self.features @ v.T, wanted)).mean()
            return float(loss + damping * v.square().sum() / 2 - (lean * v).sum())

        before = cost(v)
        for _ in range(50):
            shares = self.shares(offset + self.features @ v.T)
            slope = (weights[:, None] * (shares - wanted)).T @ self.features / len(offset) + damping * v - lean
            step = self.solve(shares, slope, damping, weights)
            size, fall = 1.0, float((slope * step).sum())
            while size > 1e-6 and cost(v - size * step) > before - 1e-4 * size * fall:
                size /= 2
            if fall < 1e-16 or size <= 1e-6:
                break
            v = v - size * step
            before = cost(v)
        return v


def conjugate(times: Callable[[Tensor], Tensor], target: Tensor, most: int = 400, tolerance: float = 1e-8) -> Tensor:
    """Solve ``times(v) = target`` for a positive definite linear map."""
    found, left = torch.zeros_like(target), target.clone()
    way, size = left.clone(), float(left.square().sum())
    stop = tolerance**2 * size
    for _ in range(most):
        if size <= stop:
            break
        along = times(way)
        step = size / float((way * along).sum())
        found += step * way
        left -= step * along
        new = float(left.square().sum())
        way, size = left + new / size * way, new
    return found


def last_layer(
    method: str,
    model: nn.Module,
    x: Tensor,
    score: Score,
    cohort: Cohort,
    profile: Wired,
    truth: Truth,
    batch_size: int,
    progress: Progress,
    *,
    scaled: bool = True,
) -> Last:
    """Read what the last linear layer reads and answers; with ``scaled`` the features have a mean square length of 1.

    Raises:
        RequirementError: the model does not end in a linear layer that gives the output.
    """
    if "embedding" not in profile.has:
        raise RequirementError(
            method, [Gap("embedding", "it works on the last linear layer, and this model ends otherwise.")]
        )
    reads, gives = [], []
    parts = [x, *(part.to(x) for part in chunks(cohort.x, batch_size))]
    slope = torch.empty(0)
    for done, part in enumerate(parts):
        with torch.no_grad(), Codes() as seen:
            outputs = primary(run(model, part.clone()))
        if (
            seen.last is None
            or seen.result is None
            or outputs.shape != seen.result.shape
            or not torch.equal(outputs, seen.result)
        ):
            raise RequirementError(method, [Gap("embedding", "its output is not that of its last linear layer.")])
        reads.append(seen.last.flatten(1).double().cpu())
        gives.append(outputs.double().cpu())
        if done == 0:
            rows = torch.zeros(1, dtype=torch.long, device=x.device)
            slope = slope_of(score, outputs, rows)[0].double().cpu()
        progress(done + 1, len(parts))
    features, outputs = torch.cat(reads), torch.cat(gives)
    size = (float(features[1:].square().sum(1).mean().sqrt()) or 1.0) if scaled else 1.0
    features = torch.cat([features / size, torch.ones(len(features), 1, dtype=features.dtype)], 1)
    return Last(
        truth.kind,
        features[1:],
        outputs[1:],
        in_one_size(truth.values).double(),
        features[0],
        outputs[0],
        centred(slope, truth.kind),
    )


# --- what is told -----------------------------------------------------------------------------------------------------


def told(
    cohort: Cohort,
    x: Tensor,
    adds: Tensor,
    what: str,
    count: int,
    measures: dict[str, float],
    notes: Sequence[str],
    cautions: Sequence[str],
    own: Tensor | None = None,
) -> Told:
    """Show the cases that support and oppose the answer most.

    Args:
        cohort: The cases.
        x: The image.
        adds: What each case adds to the score, ``(N,)``.
        what: What that is, as a phrase.
        count: Most cases of either kind.
        measures: Of the explanation.
        notes: What was done.
        cautions: How it can mislead.
        own: What the model gives to the known label of each case, ``(N,)`` 0 to 1.
    """
    adds = adds.double().cpu()
    itself = [f"The image itself is in the cohort: {called(cohort, at)}." for at in same_as(cohort, x).nonzero()[:, 0]]
    order = adds.argsort(descending=True, stable=True)
    supports = [at for at in order[:count].tolist() if adds[at] > 0]
    opposes = [at for at in order.flip(0)[:count].tolist() if adds[at] < 0]
    shown = [*supports, *opposes]
    if not shown:
        raise ModelError("no case of the cohort has any influence on this score")
    total = float(adds.abs().sum())
    share = float(adds[shown].abs().sum()) / total
    stands = share * len(adds) / len(shown)
    warned = list(cautions)
    if stands < STANDS_OUT:
        warned.append(
            f"No case stands out: the {len(shown)} shown have {share:.0%} of all influence, which is spread nearly "
            "evenly over the cohort."
        )
    doubted = [] if own is None else [at for at in shown if float(own[at]) < 0.5]
    look = [f"{called(cohort, at)} ({float(own[at]):.0%})" for at in doubted if own is not None]
    labels = (f"To the known label of {', '.join(look)} the model gives less than half: look at these labels.",)
    form = gathered(
        cohort, torch.tensor(shown), adds[shown], what, ["supports"] * len(supports) + ["opposes"] * len(opposes),
        {SHARED: share, "that, as a multiple of an even share": stands, **measures},
    )  # fmt: skip
    return Told(form, (*notes, *itself, *(labels if look else ())), (*warned, SURE, RARELY))


def _alike_for_all(adds: Tensor, usual: Tensor) -> tuple[dict[str, float], list[str]]:
    """Compare the influence on the image with that on a usual case of the cohort."""
    rank = float(spearmanr(adds.numpy(), usual.numpy()).statistic) if len(adds) > 2 else float("nan")
    said = []
    if rank > 0.9:
        said.append(
            f"The ranking is nearly that for the mean case of the cohort (rank correlation {rank:.2f}): it tells of "
            "the class, hardly of this image."
        )
    return {"rank correlation with the influence on the mean case": rank}, said


# --- the methods ------------------------------------------------------------------------------------------------------


@insight("influence_functions", sizes=True)
def influence_functions(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    count: int = 4,
    damping: float = 0.1,
    refits: int = 8,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    progress: Progress,
) -> Told:
    """Estimate how the score would change if a case had not been learned from, in the last layer (arXiv 1703.04730).

    Only the last linear layer is taken to learn: there the loss is convex, its exact Hessian is at hand and the inverse
    is applied by conjugate gradients. For the strongest cases the last layer is really fitted again without them, and
    the estimates are compared with that.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        count: Cases that support, and that oppose, to show at most.
        damping: Added to the Hessian, in units of its mean eigenvalue were every answer undecided.
        refits: Cases without which the layer is fitted again.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: The training images with their labels.
        progress: Told what is done.

    Returns:
        How far the score would fall without each case, to first order.
    """
    at_least(1, count=count)
    at_least(0, refits=refits)
    at_least(1e-9, damping=damping)
    enough(cohort, 4, "influence_functions")
    truth = truth_of("influence_functions", model, x, score, cohort, profile)
    last = last_layer("influence_functions", model, x, score, cohort, profile, truth, batch_size, progress)
    shares = last.shares(last.outputs)
    size = damping * last.curvature()
    adds = _influence(last, shares, last.own, size)
    usual = _influence(last, shares, last.features.mean(0), size)
    generic, said = _alike_for_all(adds, usual)
    measures = {}
    chosen = adds.abs().argsort(descending=True, stable=True)[:refits].tolist()
    if chosen:
        # training is taken to have ended where the layer is: what still pulls at it there is balanced
        pull = (shares - last.wanted).T @ last.features / len(adds)
        falls = []
        for at in chosen:
            weights = torch.ones(len(adds), dtype=adds.dtype)
            weights[at] = 0
            without = last.refitted(last.wanted, last.outputs, size, weights, pull)
            falls.append(-float(last.slope @ (without @ last.own)))
        real, estimated = np.array(falls), adds[chosen].numpy()
        error = float(np.abs(real - estimated).sum() / max(np.abs(real).sum(), 1e-30))
        measures["mean error against fitting the last layer again without the case, as a share"] = error
        if error > 0.3:
            said.append(
                f"Against fitting the last layer again the estimates are wrong by {error:.0%} on average: the order of "
                "the cases can be trusted more than the numbers."
            )
        if len(chosen) > 2 and real.std() > 0 and estimated.std() > 0:
            measures["correlation with fitting again"] = float(np.corrcoef(real, estimated)[0, 1])
    notes = (
        f"Last linear layer only, exact Hessian, damping {size:.2g}; influence through earlier layers is left out. The "
        "cohort is taken for all that the model learned from: of a part of it, a case seems to count for more.",
        *truth.notes,
    )
    what = "fall of the score without the case, estimated"
    return told(
        cohort,
        x,
        adds,
        what,
        count,
        measures | generic,
        notes,
        said,
        truth.given(last.outputs, torch.arange(len(cohort))),
    )


def _influence(last: Last, shares: Tensor, features: Tensor, damping: float) -> Tensor:
    """Return how far the score would fall for an image of these features without each case, ``(N,)``."""
    way = last.solve(shares, last.slope[:, None] * features[None], damping)
    return -((shares - last.wanted) * (last.features @ way.T)).sum(1) / len(shares)


@insight("representer_points", sizes=True)
def representer_points(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    count: int = 4,
    penalty: float = 0.001,
    refit: str = "answers",
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    progress: Progress,
) -> Told:
    """Write the score as a sum over training cases, each with a signed weight (arXiv 1811.09720).

    The last linear layer is fitted again with a penalty on its weights, to the model's own answers or to the known
    labels. At its optimum the score is the sum over the cases of: slope of the loss on the case, over minus twice the
    penalty times their number, times the product of the case's and the image's features.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        count: Cases that support, and that oppose, to show at most.
        penalty: On the squared weights, for features of mean square length 1.
        refit: To what the layer is fitted: answers (of the model, as the paper does for a given model) or labels.
        batch_size: Images per model call.
        profile: What is known of the model.
        cohort: The training images; with their labels for refit=labels.
        progress: Told what is done.

    Returns:
        What each case adds to the score of the fitted layer; all together add up to it.
    """
    at_least(1, count=count)
    at_least(1e-12, penalty=penalty)
    enough(cohort, 4, "representer_points")
    if refit not in ("answers", "labels"):
        raise TargetError(f"refit={refit!r} was given; answers or labels is allowed")
    if refit == "labels":
        truth = truth_of("representer_points", model, x, score, cohort, profile)
    else:
        several = bool(getattr(getattr(model, "card", None), "multilabel", False))
        one = max(profile.outputs, 1) == 1
        kind = "square" if one and profile.task == "regression" else "sigmoid" if one or several else "softmax"
        truth = Truth(kind, torch.zeros(len(cohort), max(profile.outputs, 1)))
    last = last_layer("representer_points", model, x, score, cohort, profile, truth, batch_size, progress)
    wanted = last.wanted if refit == "labels" else last.shares(last.outputs)
    fitted = last.refitted(wanted, torch.zeros_like(last.outputs), 2 * penalty)
    outputs = last.features @ fitted.T
    alphas = -(last.shares(outputs) - wanted) / (2 * penalty * len(outputs))  # (N, K)
    pull = alphas @ last.slope
    adds = pull * (last.features @ last.own)
    usual = pull * (last.features @ last.features.mean(0))
    generic, said = _alike_for_all(adds, usual)
    before, after = last.outputs @ last.slope, outputs @ last.slope
    fidelity = float(torch.corrcoef(torch.stack([before, after]))[0, 1])
    measures = {
        "correlation of the fitted layer's score with the model's": fidelity,
        "score of the image, without what all outputs share": float(last.answers @ last.slope),
        "the same from the fitted layer": float(adds.sum()),
        **generic,
    }
    if not fidelity > 0.9:
        said.append("The fitted layer answers differently from the model: what is shown explains the fitted layer.")
    notes = (
        f"Last linear layer, fitted again to the {'labels' if refit == 'labels' else 'answers of the model'}.",
        *truth.notes,
    )
    what = "added to the score of the fitted last layer"
    return told(cohort, x, adds, what, count, measures, notes, said)


WEIGHTS: Final = ("all", "last")
"""Which weights learn: every one, or those of the last linear layer."""


@insight("tracin", sizes=True)
def tracin(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    count: int = 4,
    weights: str = "all",
    relative: bool = False,
    batch_size: int = 16,
    profile: Wired,
    cohort: Cohort,
    members: tuple[nn.Module, ...],
    progress: Progress,
) -> Told:
    """Say how much one step of training on each case would raise the score (arXiv 2002.08484).

    The product of the gradient of the score and of the loss on the case, negated, at the model and at every state of it
    during training that is given, all steps counted as equally large.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        count: Cases that support, and that oppose, to show at most.
        weights: Whose gradients: all, or last for the last linear layer (one forward pass a case).
        relative: Divide by the length of the case's gradient, so that cases of a large loss do not count for all.
        batch_size: Images per model call, for the last layer.
        profile: What is known of the model.
        cohort: The training images with their labels or masks.
        members: States of the model during training.
        progress: Told what is done.

    Returns:
        Shares of the influence of all cases.
    """
    at_least(1, count=count)
    enough(cohort, 4, "tracin")
    if weights not in WEIGHTS:
        raise TargetError(f"weights={weights!r} was given; {' or '.join(WEIGHTS)} is allowed")
    truth = truth_of("tracin", model, x, score, cohort, profile)
    states, adds, own = (model, *members), torch.zeros(len(cohort), dtype=torch.float64), None
    for done, state in enumerate(states):

        def tell(at: int, of: int, done: int = done) -> None:
            progress(done * of + at, len(states) * of)

        with preserved(state):
            if weights == "last":
                last = last_layer("tracin", state, x, score, cohort, profile, truth, batch_size, tell, scaled=False)
                slopes = last.shares(last.outputs) - last.wanted
                dots = (slopes @ last.slope) * (last.features @ last.own)
                sizes = slopes.norm(dim=1) * last.features.norm(dim=1)
                shares = truth.given(last.outputs, torch.arange(len(cohort)))
            else:
                dots, sizes, shares = _dots(state, x, score, cohort, truth, tell)
        adds -= dots / sizes.clamp(min=1e-30) if relative else dots
        own = shares if own is None else own
    total = float(adds.abs().sum())
    adds = adds / total if total > 0 else adds
    notes = (
        f"Gradients of {'all weights' if weights == 'all' else 'the last linear layer'} at "
        + (f"{len(states)} states of the model." if members else "the model as it is, the only state given."),
        *truth.notes,
    )
    cautions = [
        "Cases with a large loss (rare, hard or wrongly labelled) count for much, whether like the image or not.",
        *(
            []
            if members
            else ["With the trained state alone, what was learned early in training is missed; give earlier states."]
        ),
    ]
    return told(cohort, x, adds, "share of all influence, by steps of training", count, {}, notes, cautions, own)


@contextlib.contextmanager
def _learning(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Let the weights take gradients."""
    weights = [one for one in model.parameters() if one.is_floating_point()]
    before = [one.requires_grad for one in weights]
    try:
        for one in weights:
            one.requires_grad_(True)
        with torch.enable_grad():
            yield weights
    finally:
        for one, was in zip(weights, before, strict=True):
            one.requires_grad_(was)


def _slope_in(value: Tensor, weights: list[nn.Parameter]) -> Tensor:
    """Return the gradient of a number in all weights, as one vector."""
    if not value.requires_grad:
        raise ModelError("the model's output does not depend on its weights in a differentiable way")
    slopes = torch.autograd.grad(value, weights, allow_unused=True)
    parts = [w.new_zeros(w.numel()) if g is None else g.reshape(-1) for g, w in zip(slopes, weights, strict=True)]
    return torch.cat(parts)


def explained(outputs: Any, score: Score, kind: str) -> Tensor:
    """Return a number whose gradient is that of the score, without what all outputs share."""
    output = primary(outputs)
    rows = torch.zeros(len(output), dtype=torch.long, device=output.device)
    if kind != "softmax":
        return score(outputs, rows).sum()
    return (centred(slope_of(score, output, rows)[0], kind) * output).sum()


def _dots(
    model: nn.Module, x: Tensor, score: Score, cohort: Cohort, truth: Truth, progress: Progress
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the product of the score's and each case's gradient, the length of the latter, and the label's share."""
    dots, sizes, shares = [], [], []
    with _learning(model) as weights:
        way = _slope_in(explained(run(model, x.clone()), score, truth.kind), weights)
        for at in range(len(cohort)):
            outputs = run(model, cohort.x[at][None].to(x, copy=True))
            slope = _slope_in(truth.loss(outputs, torch.tensor([at])).sum(), weights)
            dots.append(float(slope.double() @ way.double()))
            sizes.append(float(slope.double().norm()))
            if (share := truth.given(primary(outputs).detach(), torch.tensor([at]))) is not None:
                shares.append(float(share))
            progress(at + 1, len(cohort))
    return torch.tensor(dots).double(), torch.tensor(sizes).double(), torch.tensor(shares) if shares else None


@insight("trak", sizes=True)
def trak(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    count: int = 4,
    width: int = 2048,
    damping: float = 0.1,
    profile: Wired,
    cohort: Cohort,
    members: tuple[nn.Module, ...],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Estimate the influence of cases from randomly projected gradients of the margin (arXiv 2303.14186).

    The network is taken as linear in its weights. Gradients of the log-odds of each case's own label, projected, are
    the features of a regression that stands for the network; a case's influence is its leverage on the image, times the
    probability that its label does not get. Leverage and probability are averaged over the model and further models of
    its kind, trained anew, where given. The projection is sparse: every weight goes to one of ``width`` numbers with a
    random sign. The soft threshold of the paper is left out, as the strongest cases are shown anyway.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        count: Cases that support, and that oppose, to show at most.
        width: Numbers that a gradient is projected on.
        damping: Added to the kernel of the cases, in units of its mean eigenvalue.
        profile: What is known of the model.
        cohort: The training images with their labels.
        members: Further models trained for the same task.
        generator: Draws the projection.
        progress: Told what is done.

    Returns:
        Shares of the influence of all cases.
    """
    at_least(1, count=count, width=width)
    at_least(1e-9, damping=damping)
    enough(cohort, 4, "trak")
    truth = truth_of("trak", model, x, score, cohort, profile)
    if truth.kind not in ("softmax", "sigmoid"):
        raise RequirementError(
            "trak", [Gap("task", "it explains answers that have a probability; this model gives a number.")]
        )
    states, levers, doubts = (model, *members), [], []
    for done, state in enumerate(states):

        def tell(at: int, of: int, done: int = done) -> None:
            progress(done * of + at, len(states) * of)

        with preserved(state):
            lever, doubt = _levers(state, x, score, cohort, truth, width, damping, generator, tell)
        levers.append(lever)
        doubts.append(doubt)
    adds = torch.stack(levers).mean(0) * torch.stack(doubts).mean(0)
    total = float(adds.abs().sum())
    adds = adds / total if total > 0 else adds
    notes = (
        f"Gradients of all weights of {len(states)} model{'s' if members else ''}, projected on {width} numbers each.",
        *truth.notes,
    )
    cautions = (
        []
        if members
        else ["One model alone carries the chance of its training; give more, trained anew, to average it out."]
    )
    return told(cohort, x, adds, "share of all influence, by leverage", count, {}, notes, cautions, 1 - doubts[0])


def _levers(
    model: nn.Module,
    x: Tensor,
    score: Score,
    cohort: Cohort,
    truth: Truth,
    width: int,
    damping: float,
    generator: torch.Generator,
    progress: Progress = no_progress,
) -> tuple[Tensor, Tensor]:
    """Return the leverage of each case on the image, and the probability that its own label does not get, ``(N,)``."""
    with _learning(model) as weights:
        total = sum(one.numel() for one in weights)
        slots = torch.randint(width, (total,), generator=generator).to(x.device)
        signs = (torch.randint(2, (total,), generator=generator, dtype=torch.int8) * 2 - 1).to(x.device)

        def projected(value: Tensor) -> Tensor:
            slope = _slope_in(value, weights) * signs
            return slope.new_zeros(width).index_add_(0, slots, slope).double().cpu()

        own = projected(explained(run(model, x.clone()), score, truth.kind))
        features, doubts = [], []
        for at in range(len(cohort)):
            output = primary(run(model, cohort.x[at][None].to(x, copy=True)))
            label = int(truth.values[at].argmax())
            sign = 1 if float(truth.values[at][label]) > 0.5 else -1  # a single output has a label 0 as well
            margin = sign * truth.log_odds(output, label).sum()
            features.append(projected(margin))
            doubts.append(float(torch.sigmoid(-margin.detach().double())))
            progress(at + 1, len(cohort))
    rows = torch.stack(features)
    kernel = rows @ rows.T
    ridge = damping * float(kernel.diag().mean()) or damping
    ridged = kernel + ridge * torch.eye(len(rows), dtype=rows.dtype)
    return torch.linalg.solve(ridged, rows @ own), torch.tensor(doubts, dtype=torch.float64)
