"""Counterfactuals drawn by a generator: along the gradient, a code value, a direction of the cohort, or by a search."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from runners.asking import at_least
from runners.beyond.directions import others as unlike
from runners.beyond.drawing import (
    Asked,
    Drawn,
    ask_for,
    drawn,
    drawn_notes,
    odd_frames,
    swept,
    told,
    unit,
    walked,
)
from runners.beyond.inside import asked as asked_anywhere
from runners.beyond.inside import enough
from runners.models import Wired, run
from runners.owned import Autoencoder, Cohort, Concept
from runners.registry import Progress, Score, Told, insight
from runners.targets import primary
from taxonomy.errors import TargetError


@insight("latent_shift")
def latent_shift(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    goal: float | None = None,
    detail: bool = True,
    reach: float = 1.0,
    frames: int = 11,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    autoencoder: Autoencoder,
    cohort: Cohort | None,
    progress: Progress,
) -> Told:
    """Shift the code of a generator along the gradient of the score and draw what comes (arXiv 2102.09475).

    The series goes as far against what is wanted as it goes towards it. The end is where the answer changes; it is
    found by trying, not by a chosen length of the shift.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        goal: Score to reach; None for another answer, or half of the score where nothing is decided.
        detail: Add what the generator cannot draw of the image to every frame; else the generator alone is shown.
        reach: Most that the image may change, as root mean square over its standard deviation.
        frames: Images of the series, made odd.
        batch_size: Images per call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        autoencoder: The generator.
        cohort: Images to judge the drawn ones by, where there are some.
        progress: Told what is done.

    Returns:
        The series with the scores of the model; the last image is the counterfactual.
    """
    odd_frames(frames)
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=goal, batch_size=batch_size
    )
    one = drawn(autoencoder, x, detail, batch_size)
    slope = _slope(asked, one) * asked.sign
    progress(1, 3)
    if not slope.any():
        return _nothing(asked, one, cohort, "The score has no gradient in the code: it depends on nothing drawn here.")
    way = unit(slope)
    end, _ = walked(asked, one, way, reach)
    progress(2, 3)
    images, start, chosen = swept(one, way, end, frames)
    found = told(asked, images, start, chosen, one, cohort, drawn_notes(one))
    progress(3, 3)
    return found


def _slope(asked: Asked, one: Drawn) -> Tensor:
    """Return the gradient ``(Z,)`` of the score in the code."""
    with torch.enable_grad():
        code = one.code.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(asked.scored(one.images(code)).sum(), code, allow_unused=True)
    return torch.zeros_like(one.code[0]) if slope is None else slope[0].detach()


def _nothing(asked: Asked, one: Drawn, cohort: Cohort | None, why: str) -> Told:
    """Return the image alone: nothing changes the score."""
    images = one.series(one.code.expand(3, -1))
    return told(asked, images, 1, 2, one, cohort, drawn_notes(one), (why,))


# ---------------------------------------------------------------- one value of the code, or one direction


@insight("vae_latent")
def vae_latent(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    value: int | None = None,
    spread: float = 3.0,
    tried: int = 64,
    detail: bool = True,
    frames: int = 11,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    autoencoder: Autoencoder,
    cohort: Cohort,
    progress: Progress,
) -> Told:
    """Change one value of the code at a time and show the one that moves the score most (arXiv 1312.6114).

    Every value goes as far from its place as its spread in the cohort says, to both sides.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        value: Number of the value to show, from 1; None for the one that moves the score most.
        spread: How far a value goes, in standard deviations of the cohort.
        tried: Most values tried: those that vary most in the cohort.
        detail: Add what the generator cannot draw of the image to every frame; else the generator alone is shown.
        frames: Images of the series, made odd.
        batch_size: Images per call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        autoencoder: The generator.
        cohort: Images like those the model learned from.
        progress: Told what is done.

    Returns:
        The series along one value; the notes name the five that count most.
    """
    odd_frames(frames)
    enough(cohort, 4, "vae_latent")
    codes = codes_of(autoencoder, cohort, batch_size)
    spreads = codes.std(0, correction=0)
    if value is not None and not 1 <= value <= len(spreads):
        raise TargetError(f"value = {value}: the code has the values 1 to {len(spreads)}")
    order = spreads.argsort(descending=True, stable=True)[:tried] if value is None else torch.tensor([value - 1])
    ways = torch.eye(len(spreads), dtype=codes.dtype, device=codes.device)[order] * spreads[order, None]
    names = [f"value {at + 1}" for at in order.tolist()]
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=None, batch_size=batch_size
    )
    one = drawn(autoencoder, x, detail, batch_size)
    caution = (
        "A value of the code need not stand for one thing a clinician has a word for, nor for the same thing after "
        "another training of the generator."
    )
    return _along(asked, one, cohort, ways, names, spread, frames, caution, progress)


@insight("ganspace")
def ganspace(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    component: int | None = None,
    components: int = 20,
    spread: float = 3.0,
    detail: bool = True,
    frames: int = 11,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    autoencoder: Autoencoder,
    cohort: Cohort,
    progress: Progress,
) -> Told:
    """Go along principal components of the cohort's codes; show the one that moves the score most (arXiv 2004.02546).

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        component: Number of the component to show, from 1; None for the one that moves the score most.
        components: Components tried.
        spread: How far to go, in standard deviations of the cohort along the component.
        detail: Add what the generator cannot draw of the image to every frame; else the generator alone is shown.
        frames: Images of the series, made odd.
        batch_size: Images per call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        autoencoder: The generator.
        cohort: Images like those the model learned from.
        progress: Told what is done.

    Returns:
        The series along one component; the notes name the five that count most.
    """
    odd_frames(frames)
    at_least(1, components=components)
    enough(cohort, 4, "ganspace")
    codes = codes_of(autoencoder, cohort, batch_size).double()
    _, values, rows = torch.linalg.svd(codes - codes.mean(0), full_matrices=False)
    rows = rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()  # the sign of a component is free: fix it
    ways = (rows * values[:, None] / math.sqrt(len(codes)))[: min(components, len(codes) - 1)].to(x)
    if component is not None and not 1 <= component <= len(ways):
        raise TargetError(f"component = {component}: there are 1 to {len(ways)}")
    names = [f"component {at + 1}" for at in range(len(ways))]
    if component is not None:
        ways, names = ways[component - 1 : component], names[component - 1 : component]
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=None, batch_size=batch_size
    )
    one = drawn(autoencoder, x, detail, batch_size)
    share = float(values[: len(ways)].square().sum() / values.square().sum().clamp(min=1e-12))
    caution = f"The components tried hold {share:.0%} of the variance of the codes; one may mix several things."
    return _along(asked, one, cohort, ways, names, spread, frames, caution, progress)


@torch.no_grad()
def codes_of(autoencoder: Autoencoder, cohort: Cohort, batch_size: int) -> Tensor:
    """Return the codes of a cohort, ``(R, Z)``."""
    return torch.cat([autoencoder.encode(part) for part in torch.split(cohort.stack, batch_size)])


def _along(
    asked: Asked,
    one: Drawn,
    cohort: Cohort,
    ways: Tensor,
    names: list[str],
    spread: float,
    frames: int,
    caution: str,
    progress: Progress,
) -> Told:
    """Try directions ``(K, Z)``, each as long as its spread, to both sides; show the one that moves the score most."""
    at_least(0.1, spread=spread)
    ends = []
    for number, way in enumerate(ways, 1):
        pair = one.code + spread * torch.stack([-way, way])
        ends.append(asked.look(one.series(pair))[0])
        progress(number, len(ways))
    effects = torch.stack(ends)[:, 1] - torch.stack(ends)[:, 0]
    order = effects.abs().argsort(descending=True, stable=True)
    told_of = ", ".join(f"{names[at]} {float(effects[at]):+.3g}" for at in order[:5].tolist())
    best = int(order[0])
    towards = 1.0 if float(effects[best]) * asked.sign >= 0 else -1.0
    way = ways[best] * towards * spread
    half = max(1, frames // 2)
    places = torch.linspace(-1, 1, 2 * half + 1, device=way.device)
    images = one.series(one.code + places[:, None] * way)
    there = asked.look(images)[1]
    ahead = [at for at in range(half + 1, 2 * half + 1) if bool(there[at])]
    notes = (
        f"Shown: {names[best]}, from {-spread:g} to {spread:g} standard deviations of the cohort.",
        f"Change of the score from end to end: {told_of}.",
        *drawn_notes(one),
    )
    total = float(effects.abs().sum())
    more = {"share of the score's movement by the one shown": float(effects[best].abs()) / total} if total > 0 else {}
    return told(asked, images, half, ahead[0] if ahead else 2 * half, one, cohort, notes, (caution,), more)


@insight("interfacegan")
def interfacegan(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    label: bool = False,
    penalty: float = 1.0,
    detail: bool = True,
    reach: float = 1.0,
    frames: int = 11,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    autoencoder: Autoencoder,
    cohort: Cohort,
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Go across the linear border between codes that the model answers so and otherwise (arXiv 1907.10786).

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        label: Take the border of the cohort's known label that the model gives to the image most often, instead of
            that of the model's answers.
        penalty: Weight of the data against the size of the border's normal (scikit-learn's C).
        detail: Add what the generator cannot draw of the image to every frame; else the generator alone is shown.
        reach: Most that the image may change, as root mean square over its standard deviation.
        frames: Images of the series, made odd.
        batch_size: Images per call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        autoencoder: The generator.
        cohort: Images like those the model learned from.
        generator: Draws which cases are held out.
        progress: Told what is done.

    Returns:
        The series along the border's normal, with the accuracy of the border on held-out cases.
    """
    odd_frames(frames)
    enough(cohort, 8, "interfacegan")
    anywhere = asked_anywhere(model, x, score, profile, batch_size)
    scores, own, _ = anywhere.look(cohort.stack, progress)
    y, what = own, "the model's own answers"
    if profile.task != "classification":
        y, what = scores > scores.median(), "whether the score is above the median"
    if label:
        if cohort.labels is None:
            raise TargetError("label = True: the cohort has no labels; give them as sub-folders or in cohort.csv")
        known = cohort.labels.long()
        most = int(torch.bincount(known[own] if own.any() else known).argmax())
        y, what = known == most, f"the known label {cohort.label(int((known == most).nonzero()[0, 0]))}"
    if int(y.sum()) < 4 or int((~y).sum()) < 4:
        raise TargetError(
            f"the model answers {int(y.sum())} of {len(y)} cases of the cohort as explained here; at least 4 on either "
            "side are needed to place a border"
        )
    codes = codes_of(autoencoder, cohort, batch_size).double().cpu()
    mean, width = codes.mean(0), codes.std(0, correction=0).clamp(min=1e-9)
    table = ((codes - mean) / width).numpy()

    def fitted(rows: Tensor) -> LogisticRegression:
        border = LogisticRegression(C=penalty / table.shape[1], class_weight="balanced", max_iter=500)
        return border.fit(table[rows.numpy()], y[rows].numpy())

    order = torch.randperm(len(y), generator=generator)
    right = torch.zeros(len(y))
    for fold in range(4):
        out = order[fold::4]
        rest = torch.tensor([at for at in order.tolist() if at not in set(out.tolist())])
        if y[rest].any() and not y[rest].all():
            right[out] = torch.from_numpy(fitted(rest).predict(table[out.numpy()]) == y[out].numpy()).float()
    accuracy = float((right[y].mean() + right[~y].mean()) / 2)
    normal = torch.from_numpy(fitted(torch.arange(len(y))).coef_[0]) * width
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=None, batch_size=batch_size
    )
    one = drawn(autoencoder, x, detail, batch_size)
    way = unit(normal.to(x)) * asked.sign
    end, _ = walked(asked, one, way, reach)
    images, start, chosen = swept(one, way, end, frames)
    notes = (f"Border: between the codes of {len(y)} cases, by {what}.", *drawn_notes(one))
    cautions = [
        "What goes along with the answer in the cohort goes along with it here, whether the model uses it or not."
    ]
    if accuracy < 0.65:
        cautions.insert(0, f"The border tells held-out cases apart in {accuracy:.0%}: it hardly means anything.")
    more = {"balanced accuracy of the border on held-out cases": accuracy}
    return told(asked, images, start, chosen, one, cohort, notes, cautions, more)


@insight("cav_counterfactual")
def cav_counterfactual(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    concept: str = "",
    detail: bool = True,
    reach: float = 1.0,
    frames: int = 11,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    autoencoder: Autoencoder,
    concepts: Mapping[str, Concept],
    cohort: Cohort | None,
    progress: Progress,
) -> Told:
    """Move the code of a generator along the direction of a concept and draw what comes (arXiv 2506.04058).

    The direction is the difference between the mean code of the concept's examples and that of other images: the
    cohort, or the other concepts' examples where there is none.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        concept: Name of the concept; empty for the one whose direction changes the score most.
        detail: Add what the generator cannot draw of the image to every frame; else the generator alone is shown.
        reach: Most that the image may change, as root mean square over its standard deviation.
        frames: Images of the series, made odd.
        batch_size: Images per call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        autoencoder: The generator.
        concepts: Examples of every concept.
        cohort: Images without the concepts, where there are some.
        progress: Told what is done.

    Returns:
        The series along one concept, more of it to the side where the answer changes; the notes compare the concepts.
    """
    odd_frames(frames)
    if concept and concept not in concepts:
        raise TargetError(f"concept = {concept!r}: given are {', '.join(concepts)}")
    if cohort is None and len(concepts) < 2:
        raise TargetError("one concept was given and no cohort; give either, for images that do not show the concept")
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=None, batch_size=batch_size
    )
    one = drawn(autoencoder, x, detail, batch_size)
    with torch.no_grad():
        codes = {
            name: torch.cat([autoencoder.encode(part) for part in torch.split(each.stack, batch_size)]).double().cpu()
            for name, each in concepts.items()
        }
    ways = {}
    for name, own in codes.items():
        if cohort is not None:
            rest = unlike(codes_of(autoencoder, cohort, batch_size).double().cpu(), own)
        else:
            rest = torch.cat([each for key, each in codes.items() if key != name])
        ways[name] = (own.mean(0) - rest.mean(0)).to(x)
    rises = {}
    for number, (name, way) in enumerate(ways.items(), 1):
        less, more = asked.look(one.series(one.code + torch.stack([-way, way])))[0].tolist()
        rises[name] = more - less
        progress(number, len(ways))
    chosen_name = concept or max(rises, key=lambda name: abs(rises[name]))
    towards = 1.0 if rises[chosen_name] * asked.sign >= 0 else -1.0
    way = unit(ways[chosen_name]) * towards
    if not way.any():
        return _nothing(asked, one, cohort, f"The examples of {chosen_name!r} have the same code as the others.")
    end, _ = walked(asked, one, way, reach)
    images, start, chosen = swept(one, way, end, frames)
    compared = ", ".join(f"{name} {rise:+.3g}" for name, rise in sorted(rises.items(), key=lambda one: -abs(one[1])))
    notes = (
        f"Shown: {'more' if towards > 0 else 'less'} of {chosen_name!r} towards the end.",
        f"Change of the score from less to more of a concept, by the usual difference to both sides: {compared}.",
        *drawn_notes(one),
    )
    caution = "What the examples of the concept have in common beside it changes along with it."
    return told(asked, images, start, chosen, one, cohort, notes, (caution,))


# ---------------------------------------------------------------- searches


@insight("wachter_counterfactual")
def wachter_counterfactual(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    goal: float | None = None,
    steps: int = 60,
    rounds: int = 6,
    rate: float = 0.05,
    detail: bool = True,
    frames: int = 9,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    autoencoder: Autoencoder,
    cohort: Cohort | None,
    progress: Progress,
) -> Told:
    """Search the nearest image that the model answers otherwise (arXiv 1711.00399), among those a generator can draw.

    The loss is the distance to what is wanted, weighted, and the mean absolute change of the image; the weight grows
    until it is reached, then the smallest change is kept. Searched in pixels this would give an adversarial pattern.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        goal: Score to reach; None for another answer, or half of the score where nothing is decided.
        steps: Steps of each round.
        rounds: Rounds, each with ten times the weight until the answer changes.
        rate: Length of a step, in units of the code's spread.
        detail: Add what the generator cannot draw of the image to every frame; else the generator alone is shown.
        frames: Images of the series from the image to the counterfactual.
        batch_size: Images per call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        autoencoder: The generator.
        cohort: Images to judge the drawn ones by, where there are some.
        progress: Told the steps done.

    Returns:
        The series on the straight way between both codes.
    """
    odd_frames(frames)
    at_least(1, steps=steps, rounds=rounds)
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=goal, batch_size=batch_size
    )
    one = drawn(autoencoder, x, detail, batch_size)
    found, note = _searched(asked, one, steps, rounds, rate, progress)
    caution = "The nearest image can differ by less than an eye sees: then the answer hangs on little, not on a sign."
    return _between(asked, one, found, frames, cohort, (note, *drawn_notes(one)), (caution,))


@insight("clue")
def clue(
    model: nn.Module,
    x: Tensor,
    score: Score,  # noqa: ARG001
    *,
    share: float = 0.5,
    steps: int = 60,
    rounds: int = 6,
    rate: float = 0.05,
    detail: bool = True,
    frames: int = 9,
    batch_size: int = 16,
    autoencoder: Autoencoder,
    cohort: Cohort | None,
    progress: Progress,
) -> Told:
    """Search the smallest change, among what a generator can draw, that makes an unsure answer sure (arXiv 2006.06848).

    The scores of the series are the entropy of the model's answer, in nats: what is unsure about the image is what
    changes where the entropy falls.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        share: Of the entropy that may be left.
        steps: Steps of each round.
        rounds: Rounds, each with ten times the weight of the entropy until it is low enough.
        rate: Length of a step, in units of the code's spread.
        detail: Add what the generator cannot draw of the image to every frame; else the generator alone is shown.
        frames: Images of the series from the image to the sure one.
        batch_size: Images per call.
        autoencoder: The generator.
        cohort: Images to judge the drawn ones by, where there are some.
        progress: Told the steps done.

    Returns:
        The series on the straight way between both codes.
    """
    odd_frames(frames)
    at_least(1, steps=steps, rounds=rounds)
    several = bool(getattr(getattr(model, "card", None), "multilabel", False))

    def entropy(outputs: object, rows: Tensor) -> Tensor:  # noqa: ARG001
        values = primary(outputs).flatten(1)
        if several or values.shape[1] == 1:
            values = torch.stack([values, torch.zeros_like(values)], -1)  # yes or no, of every label
        return -(values.softmax(-1) * values.log_softmax(-1)).flatten(1).sum(1)

    with torch.no_grad():
        outputs = run(model, x.clone())
        before = float(entropy(outputs, torch.zeros(1))[0])
        most = math.log(max(2, primary(outputs).flatten(1).shape[1]))
    asked = Asked(model, x, entropy, (), None, before, True, share * before, batch_size)
    one = drawn(autoencoder, x, detail, batch_size)
    if before < 0.02 * most:
        why = f"The model is sure already: its entropy is {before:.2g} of at most {most:.2g} nats."
        return _nothing(asked, one, cohort, why)
    found, note = _searched(asked, one, steps, rounds, rate, progress)
    caution = "A model can be sure and wrong: this shows what it is unsure about, not what is right."
    notes = ("Score: entropy of the answer, in nats.", note, *drawn_notes(one))
    return _between(asked, one, found, frames, cohort, notes, (caution,))


def _searched(asked: Asked, one: Drawn, steps: int, rounds: int, rate: float, progress: Progress) -> tuple[Tensor, str]:
    """Return the code ``(1, Z)`` of the smallest change found that reaches what is wanted, and a note."""
    best: tuple[float, Tensor] | None = None
    nearest = (math.inf, one.code)
    with torch.no_grad():
        weight = 0.1 / max(float(asked.towards(one.images(one.code))[0].abs()), 1e-6)
    width = float(one.x.std()) or 1.0
    length = rate * max(float(one.code.std()), 1e-3)
    for turn in range(rounds):
        code = one.code.detach().clone().requires_grad_()
        adam = torch.optim.Adam([code], length)
        for step in range(steps):
            with torch.enable_grad():
                image = one.images(code)
                gap = asked.towards(image)[0]
                size = (image - one.x).abs().mean() / width
                loss = weight * gap.relu() + size
                adam.zero_grad()
                (code.grad,) = torch.autograd.grad(loss, code, allow_unused=True)
            far, long = float(gap.detach()), float(size.detach())
            if step and far <= 0 and bool(asked.look(image.detach())[1][0]):
                if best is None or long < best[0]:
                    best = (long, code.detach().clone())
            elif far < nearest[0]:
                nearest = (far, code.detach().clone())
            if code.grad is None:
                break
            adam.step()
            progress(turn * steps + step + 1, rounds * steps)
        if best is not None:
            break
        weight *= 10
    progress(rounds * steps, rounds * steps)
    said = f"{'Reached' if best else 'Not reached'} in {turn + 1} of {rounds} rounds of {steps} steps."
    return (best[1] if best else nearest[1]), said


def _between(
    asked: Asked,
    one: Drawn,
    code: Tensor,
    frames: int,
    cohort: Cohort | None,
    notes: tuple[str, ...],
    cautions: tuple[str, ...] = (),
) -> Told:
    """Return the series from the image to a code."""
    places = torch.linspace(0, 1, frames, device=code.device)[:, None]
    images = one.series(torch.lerp(one.code, code, places))
    return told(asked, images, 0, frames - 1, one, cohort, notes, cautions)
