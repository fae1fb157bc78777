"""Counterfactuals inside the model: cells of features swapped with those of another case, concepts added or taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from runners.asking import at_least
from runners.beyond.directions import COUNTER, direction
from runners.beyond.directions import others as unlike
from runners.beyond.drawing import NONE, Asked, ask_for, judged
from runners.beyond.inside import Inside, cut, enough, settled
from runners.forms import Concepts, Counterfactual
from runners.models import Wired
from runners.owned import Cohort, Concept
from runners.registry import Progress, Score, Told, insight
from taxonomy.errors import TargetError

CELLS = 1024
"""Cells of a grid beyond which swaps are not compared."""


@insight("counterfactual_visual")
def counterfactual_visual(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    edits: int = 20,
    distractors: int = 3,
    tried: int = 16,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    cohort: Cohort,
    progress: Progress,
) -> Told:
    """Swap as few cells of the features as possible with those of a case answered otherwise (arXiv 1904.07451).

    Cells are swapped one after the other, each time the pair that helps most; which pairs are tried is decided by the
    gradient, which of these is taken by the model. Of several cases the one that needs fewest swaps is shown.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest one whose features decide the score.
        edits: Most swaps.
        distractors: Cases of the cohort to try: those answered otherwise that are nearest in the features.
        tried: Swaps that the model is asked about at each step.
        batch_size: Images per model call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        cohort: Images to swap with.
        progress: Told what is done.

    Returns:
        The image with the parts under the cells copied, one more in every frame; the scores are of the model with
        these features.
    """
    at_least(1, edits=edits, distractors=distractors, tried=tried)
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=None, batch_size=batch_size
    )
    candidates = asked.look(cohort.stack)[1].nonzero()[:, 0]
    if not len(candidates):
        raise TargetError(f"the cohort has no case to swap with. {asked.wanted()} Give cases that it answers so")
    inside, cautions = settled(
        cut(model, x, score, profile, batch_size, layer), x, cohort.stack[candidates], profile, layer
    )
    own = inside.features(x)
    if (cells := math.prod(own.shape[2:])) > CELLS:
        raise TargetError(f"the layer has {cells} cells; name a deeper one with at most {CELLS} (layer)")
    there = inside.features(cohort.stack[candidates])
    near = (there.flatten(2).mean(2) - own.flatten(2).mean(2)).norm(dim=1).argsort(stable=True)[:distractors]
    best: tuple[bool, int, float, list[tuple[int, int]], list[float], int] | None = None
    for number, at in enumerate(near.tolist(), 1):
        pairs, scores, valid = _swaps(asked, inside, own, there[at], edits, tried)
        rank = (not valid, len(pairs) if valid else 0, -scores[-1] * asked.sign)
        if best is None or rank < best[:3]:
            best = (*rank, pairs, scores, int(candidates[at]))
        progress(number, len(near))
    assert best is not None
    missed, _, _, pairs, scores, case = best
    frames = [x[0]]
    for to, start in pairs:
        frames.append(_pasted(frames[-1], cohort.stack[case], to, start, own.shape[2:]))
    images = torch.stack(frames)
    drawn = asked.look(images[-1:])[1]
    measures = judged(x[0], images[-1], not missed) | {
        "share of the cells that were swapped": len(pairs) / cells,
        "validity of the drawn image itself": float(drawn[0]),
    }
    label = f", {cohort.label(case)}" if cohort.label(case) else ""
    notes = (
        asked.wanted(),
        f"Swapped with {cohort.names[case] if cohort.names else f'case {case + 1} of the cohort'}{label}: "
        f"{len(pairs)} of {cells} cells.",
        "Scores are of the model with these features swapped; the image only shows where they come from.",
        *inside.notes,
    )
    said = [
        "A cell sees more of the image than lies under it, and the parts that were swapped need not be the same organ.",
        *cautions,
    ]
    if missed:
        said.insert(0, NONE)
    form = Counterfactual(images, torch.tensor(scores), 0, len(images) - 1, x[0], measures)
    return Told(form, notes, tuple(said))


def _swaps(
    asked: Asked, inside: Inside, own: Tensor, there: Tensor, edits: int, tried: int
) -> tuple[list[tuple[int, int]], list[float], bool]:
    """Return pairs of cells (of the image, of the other case), the scores before and after each, and if it is reached.

    Args:
        asked: what is asked.
        inside: the cut model.
        own: features of the image, ``(1, D, *grid)``.
        there: features of the other case, ``(D, *grid)``.
        edits: most swaps.
        tried: swaps asked about at each step.
    """
    grid, other = own.shape[2:], there.flatten(1)
    now = own.clone()
    scores = [asked.before]
    pairs: list[tuple[int, int]] = []
    free = torch.ones(other.shape[1], dtype=torch.bool)
    for _ in range(min(edits, other.shape[1])):
        _, slope = _far(asked, inside, now, slope=True)
        flat, slope = now.flatten(2)[0], slope.flatten(2)[0]
        # how far the distance falls, to first order, when cell j takes what cell i of the other has
        gain = (slope * flat).sum(0)[:, None] - slope.T @ other
        gain[~free] = -torch.inf
        top = gain.flatten().topk(min(tried, int(free.sum()) * other.shape[1])).indices
        to, start = top // other.shape[1], top % other.shape[1]
        made = flat.repeat(len(top), 1, 1)
        made[torch.arange(len(top)), :, to] = other[:, start].T
        made = made.view(len(top), -1, *grid)
        far, _ = _far(asked, inside, made)
        chosen = int(far.argmin())
        now = made[[chosen]]
        free[to[chosen]] = False
        pairs.append((int(to[chosen]), int(start[chosen])))
        value, reached = _read(asked, inside, now)
        scores.append(value)
        if reached:
            return pairs, scores, True
    return pairs, scores, False


def _far(asked: Asked, inside: Inside, features: Tensor, *, slope: bool = False) -> tuple[Tensor, Tensor]:
    """Return how far the answers on features ``(N, D, *grid)`` are from what is wanted, and the gradient if wished."""
    found, slopes = [], []
    for part in torch.split(features, asked.batch_size):
        with torch.set_grad_enabled(slope):
            leaf = part.clone().requires_grad_(slope)
            outputs = inside.outputs_behind(asked.x.expand(len(part), *asked.x.shape[1:]), leaf)
            far = asked.far(outputs, torch.zeros(len(part), dtype=torch.long, device=asked.x.device))
            if slope:
                (one,) = torch.autograd.grad(far.sum(), leaf, allow_unused=True)
                slopes.append(torch.zeros_like(part) if one is None else one)
        found.append(far.detach().cpu())
    return torch.cat(found), torch.cat(slopes) if slope else features


@torch.no_grad()
def _read(asked: Asked, inside: Inside, features: Tensor) -> tuple[float, bool]:
    outputs = inside.outputs_behind(asked.x, features)
    scores, there = asked.read(outputs, torch.zeros(1, dtype=torch.long, device=asked.x.device))
    return float(scores[0]), bool(there[0])


def _pasted(image: Tensor, other: Tensor, to: int, start: int, grid: Sequence[int]) -> Tensor:
    """Copy what lies under a cell of another image to that under a cell of this one, ``(C, *spatial)``."""
    size = image.shape[1:]

    def corner(cell: int) -> list[int]:
        found = []
        for side, cells in zip(reversed(size), reversed(list(grid)), strict=True):
            cell, at = divmod(cell, cells)
            found.append(round(at * side / cells))
        return found[::-1]

    into, out = corner(to), corner(start)
    sides = [
        min(math.ceil(side / cells), side - a, side - b)
        for side, cells, a, b in zip(size, grid, into, out, strict=True)
    ]
    made = image.clone()
    put = (slice(None), *(slice(a, a + n) for a, n in zip(into, sides, strict=True)))
    made[put] = other[(slice(None), *(slice(a, a + n) for a, n in zip(out, sides, strict=True)))].to(made)
    return made


@insight("conceptual_counterfactual")
def conceptual_counterfactual(
    model: nn.Module,
    x: Tensor,
    score: Score,
    *,
    layer: str | None = None,
    most: float = 1.5,
    sparse: float = 0.1,
    steps: int = 60,
    rounds: int = 6,
    randoms: int = 5,
    batch_size: int = 16,
    profile: Wired,
    others: tuple[Score, ...],
    decision: Score | None,
    cohort: Cohort,
    concepts: Mapping[str, Concept],
    generator: torch.Generator,
    progress: Progress,
) -> Told:
    """Find which concepts, added to the image's features or taken away, change the answer (arXiv 2106.12723).

    Weights of all concepts are fitted together, as few and as small as possible (elastic net), each within what images
    have. One unit is the way from the features of the cohort to those of the concept's examples, on average. Random
    sets of the cohort compete as further concepts: what does not exceed them is not told from chance.

    Args:
        model: Network in eval mode.
        x: Image ``(1, C, *spatial)``, 2D or 3D.
        score: One number per output row.
        layer: Name of the layer; None for the deepest one whose features decide the score.
        most: Largest weight, to both sides.
        sparse: Weight of the sum of the weights; ten times that of their squares.
        steps: Steps of each round.
        rounds: Rounds, each with three times the weight of the answer until it changes.
        randoms: Random sets that compete.
        batch_size: Images per model call.
        profile: What is known of the model.
        others: Scores of the other answers.
        decision: Whether the model decides for the explained answer.
        cohort: Images to draw counter-examples and random sets from.
        concepts: Examples of every concept.
        generator: Draws.
        progress: Told the steps done.

    Returns:
        The weight of every concept: above 0 there has to be more of it, below 0 less.
    """
    at_least(1, steps=steps, rounds=rounds, randoms=randoms)
    enough(cohort, 8, "conceptual_counterfactual")
    asked = ask_for(
        model, x, score, profile=profile, others=others, decision=decision, goal=None, batch_size=batch_size
    )
    inside, cautions = settled(cut(model, x, score, profile, batch_size, layer), x, cohort.stack, profile, layer)
    pool = inside.features(cohort.stack).flatten(2).mean(2)
    examples = {name: inside.features(each.x).flatten(2).mean(2) for name, each in concepts.items()}
    size = min(len(pool) // 2, round(sum(map(len, examples.values())) / len(examples)))
    ways = []
    for own in examples.values():
        rest = unlike(pool, own)
        rest = rest[torch.randperm(len(rest), generator=generator)[:COUNTER]]
        ways.append(direction(own, rest, "pattern") * (own.mean(0) - rest.mean(0)).norm())
    for _ in range(randoms):
        order = torch.randperm(len(pool), generator=generator)
        own, rest = pool[order[:size]], pool[order[size:]]
        # as long as a concept's way: a random set is not to lose by being short
        ways.append(direction(own, rest, "pattern") * torch.stack(ways[: len(examples)]).norm(dim=1).mean())
    steps_of = torch.stack(ways)
    here = inside.features(x)
    weights, reached = _weighted(asked, inside, here, steps_of, most, sparse, steps, rounds, progress)
    after, _ = _read(asked, inside, _moved(here, weights, steps_of))
    count = len(examples)
    chance = float(weights[count:].abs().max())
    names = tuple(examples)
    used = weights[:count].abs() > max(chance, 0.02)
    measures = {
        "cf_validity": float(reached),
        "cf_proximity": float(weights[:count].abs().sum()),
        "cf_sparsity": float((weights[:count].abs() < 0.02).double().mean()),
        "largest weight of a random set": chance,
    }
    notes = (
        asked.wanted(),
        f"Score: from {asked.before:.4g} to {after:.4g} with all weights together.",
        f"Weights above {max(chance, 0.02):.2g} exceed those of {randoms} random sets: "
        f"{', '.join(name for name, one in zip(names, used.tolist(), strict=True) if one) or 'none'}.",
        *inside.notes,
    )
    said = [
        "Concepts that are not among those given cannot be named, and one that is may stand in for them.",
        *cautions,
    ]
    if not reached:
        said.insert(0, "No mixture of these concepts changes the answer: the weights show how far the search got.")
    elif not used.any():
        said.insert(0, "No concept exceeds random sets of images: none of them is what would change the answer.")
    what = "how much more of it there has to be (below 0: less), in usual differences to the cohort"
    return Told(Concepts(names, weights[:count], what, neutral=0.0, measures=measures), notes, tuple(said))


def _moved(here: Tensor, weights: Tensor, ways: Tensor) -> Tensor:
    return here + (weights @ ways).view(1, -1, *[1] * (here.ndim - 2))


def _weighted(
    asked: Asked,
    inside: Inside,
    here: Tensor,
    ways: Tensor,
    most: float,
    sparse: float,
    steps: int,
    rounds: int,
    progress: Progress,
) -> tuple[Tensor, bool]:
    """Return the weights ``(K,)`` of an elastic net that change the answer, and whether they do (proximal gradient)."""
    start, slope = _far(asked, inside, here, slope=True)
    size = max(float(start[0].abs()), 1e-9)
    slopes = (slope.flatten(2).sum(2)[0] @ ways.T).abs()
    if float(slopes.max()) <= 1e-9 * size:
        return torch.zeros(len(ways)), False
    rate = 0.3 * size / float(slopes.max())
    push = 3 * sparse
    best = (math.inf, torch.zeros(len(ways)))
    for turn in range(rounds):
        weights = torch.zeros(len(ways))
        pace = rate / max(1.0, push)
        for step in range(steps):
            far, slope = _far(asked, inside, _moved(here, weights, ways), slope=True)
            if float(far[0]) < best[0]:
                best = (float(far[0]), weights.clone())
            if float(far[0]) <= 0 and _read(asked, inside, _moved(here, weights, ways))[1]:
                progress(rounds * steps, rounds * steps)
                return weights, True
            gradient = push * (slope.flatten(2).sum(2)[0] @ ways.T) / size + 0.2 * sparse * weights
            weights = weights - pace * gradient
            weights = (weights.sign() * (weights.abs() - pace * sparse).relu()).clamp(-most, most)
            progress(turn * steps + step + 1, rounds * steps)
        push *= 3
    progress(rounds * steps, rounds * steps)
    return best[1], False
