"""Ask back: the one missing answer that would change the ranking most, with the answers to choose from.

Nothing is guessed about which answer is likely: shares of the studies of the modality weigh the answers, and a
yes-or-no question about what is at hand counts both alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, cast

from recommender.case import ARCHITECTURES, case_of
from recommender.query import Dimension, Query
from recommender.rank import Recommendation, ranked
from taxonomy import KB, Profile
from taxonomy.graph import methods_of
from taxonomy.schema import Publication

TOP, FIRST = 5, 3
"""How many of the ranking are compared, and how many of them must move for a question to be worth asking."""

_MOST: Final = 5
"""Answers to choose from, at most."""

_RARE: Final = 0.03
"""Share of the studies below which an answer is not offered."""

_OWNED: Final = {
    "training_data": "Are the training images, or others like them, at hand?",
    "mask": "Is there a mask of the finding?",
    "retraining": "May the model be trained anew?",
}
"""Need to the question whether its owner can bring it."""


class Choice(NamedTuple):
    """An answer to choose, and the question with it filled in."""

    label: str
    query: Query


@dataclass(frozen=True)
class Clarification:
    """The question to ask back.

    Attributes:
        field: What it asks for: a field of the query, or a need.
        text: The question.
        choices: Its answers, the most usual first.
        change: How many of the first five an answer replaces on average.
    """

    field: str
    text: str
    choices: tuple[Choice, ...]
    change: float

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        choices = [{"label": one.label, "query": one.query.as_json()} for one in self.choices]
        return {"field": self.field, "text": self.text, "choices": choices, "change": self.change}


class _Asked(NamedTuple):
    field: str
    text: str
    answers: list[tuple[str, Query, float]]
    """(label, changed question, weight)."""


def clarify(
    query: Query, kb: KB, *, profile: Profile | None = None, runnable: Iterable[str] = ()
) -> Clarification | None:
    """Find the missing answer that would change the ranking most.

    Every field that the question leaves open is filled with each plausible answer and ranked again, among the methods
    that lead the whole ranking or their family in it.

    Args:
        query: The question.
        kb: The knowledge base.
        profile: What the real model offers; nothing that it tells is asked.
        runnable: As for :func:`recommender.recommend`.

    Returns:
        The question with the largest expected change; None when the question says nothing to rank by, or no answer
        would change the first three.

    Raises:
        UnknownIdError: As for :func:`recommender.recommend`.
    """
    able = tuple(runnable)
    found, _ = ranked(case_of(query, kb, profile, (), able))
    if not found:
        return None
    leading = _leaders(found)
    now = [r.method for r in found[:TOP]]
    best: Clarification | None = None
    for asked in _open(query, kb, profile):
        if len(asked.answers) < 2:  # with one answer there is nothing to choose
            continue
        total = sum(weight for _, _, weight in asked.answers)
        change, moves = 0.0, False
        for _, changed, weight in asked.answers:
            then = [r.method for r in ranked(case_of(changed, kb, profile, (), able), leading)[0][:TOP]]
            change += weight / total * len(set(now) - set(then))
            moves |= set(now[:FIRST]) != set(then[:FIRST])
        if moves and change > (best.change if best else 0.0):
            choices = tuple(Choice(label, changed) for label, changed, _ in asked.answers)
            best = Clarification(asked.field, asked.text, choices, round(change, 2))
    return best


def _leaders(found: list[Recommendation]) -> frozenset[str]:
    """Return the methods that could come first: the best of all and the best of every family."""
    chosen, families = set(), Counter[str]()
    for rank, one in enumerate(found):
        families[one.family] += 1
        if rank < 3 * TOP or families[one.family] <= FIRST:
            chosen.add(one.method)
    return frozenset(chosen)


def _open(query: Query, kb: KB, profile: Profile | None) -> Iterator[_Asked]:
    """Yield the questions that are open, with their answers."""
    words = kb.vocabulary
    studies = [
        p
        for p in kb.publications.values()
        if p.study and not p.retracted and (not query.modality or set(query.modality) & set(p.study.modalities))
    ]

    def shares(of: Callable[[Publication], Iterable[str | None]]) -> list[tuple[str, float]]:
        counts = Counter(one for p in studies for one in of(p) if one and one != "other")
        total = counts.total()
        common = [(one, number / total) for one, number in counts.most_common(_MOST)]
        return [(one, share) for one, share in common if share >= _RARE]

    known = profile or Profile()
    at_hand = {*query.has, *query.lacks, *known.has, *known.lacks}
    if not query.modality:
        answers = [
            (kb.modalities[m].name, replace(query, modality=(m,)), w) for m, w in shares(lambda p: _study(p).modalities)
        ]
        yield _Asked("modality", "Which images are they?", answers)
    if not query.task and not known.task:
        answers = [(words.tasks[t].name, replace(query, task=t), w) for t, w in shares(lambda p: [_study(p).task])]
        yield _Asked("task", "What does the model do?", answers)
    if not query.access and not query.architecture and profile is None and "gradients" not in at_hand:
        answers = [
            ("Yes, the whole model", replace(query, has=query.has | {"gradients"}), 0.5),
            ("No, only its outputs", replace(query, access="black_box"), 0.5),
        ]
        yield _Asked("access", "Can you reach the model's gradients?", answers)
    if not query.access and not query.architecture and not known.architecture:
        answers = [
            (words.architectures[a].name, replace(query, architecture=a), w)
            for a, w in shares(lambda p: [_study(p).architecture])
            if a in ARCHITECTURES
        ]
        yield _Asked("architecture", "What kind of model is it?", answers)
    if not query.dimension and not known.dims:
        answers = [
            (f"{d[0]}D", replace(query, dimension=cast("Dimension", d)), w)
            for d, w in shares(lambda p: [f"{d}d" for d in _study(p).dims or ()])
        ]
        yield _Asked("dimension", "Single images or volumes?", answers)
    if not query.goal and not query.methods and not query.families and not query.intrinsic:
        aims: dict[str, str] = {}
        for goal_id, goal in words.goals.items():
            aims |= {family: goal_id for family in goal.families if family not in aims}
        answers = [
            (words.goals[g].name, replace(query, goal=g), w)
            for g, w in shares(lambda p: dict.fromkeys(aims.get(kb.methods[m].family) for m in methods_of(p)))
        ]
        yield _Asked("goal", "What do you want to know?", answers)
    for need, text in _OWNED.items():
        if need not in at_hand and not (need == "retraining" and query.access):
            answers = [
                ("Yes", replace(query, has=query.has | {need}), 0.5),
                ("No", replace(query, lacks=query.lacks | {need}), 0.5),
            ]
            yield _Asked(need, text, answers)


def _study(publication: Publication) -> Any:
    return publication.study
