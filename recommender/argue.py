"""The whole answer to a question: beside the ranking a panel, how to check it, what to mind, and what nobody studied.

Whatever is said rests on statements of the knowledge base and cites them, or counts what it holds; advice on what to
compare a score with is ours and cites nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, islice
from typing import Any, Final

from recommender.case import CITED, Case, Measured, case_of, counted, lower, sentence
from recommender.comparing import Comparison, Sentence, compared
from recommender.points import Points
from recommender.query import Query, parse
from recommender.rank import Recommendation, RuledOut, estimate, ranked
from taxonomy import KB, Profile
from taxonomy.graph import methods_of, relatives
from taxonomy.questions import findings
from taxonomy.schema import Criterion, Statement

_NEXT: Final = 8
"""How far down the ranking the next method of the panel is looked for."""

_CHECKS: Final[Mapping[str, tuple[str, str]]] = {
    "randomisation": (
        "Sanity first: measure {} on every method.",
        "Drop a method whose map with random weights, or for a random class, is about as like its map as one of a "
        "slightly disturbed image.",
    ),
    "faithfulness": (
        "Faithfulness: measure {} on several images, not on one.",
        "Keep a method only if it does better than a random map and than the map of the model with random weights.",
    ),
    "robustness": (
        "Robustness: measure {} with disturbances as small as the noise of your images.",
        "Keep a method only if its map moves less than the map of the model with random weights, as long as the "
        "model's answer stays the same.",
    ),
    "localisation": (
        "With a mask of the finding, measure {} too.",
        "Compare with a random map, and with the share of the image that the mask covers: what chance would give.",
    ),
    "segmentation": (
        "Uncertainty: measure {}.",
        "Keep a method only if it tells errors from right answers better than the model's own output does; look at "
        "single images and parts of them as well as at the whole set.",
    ),
    "complexity": (
        "Report {} beside the others, never alone.",
        "It says how concentrated a map is, not whether it is right.",
    ),
    "concept": ("Measure {} of the concepts.", "Compare with random concepts of the same size."),
    "counterfactual": (
        "Measure {} of the changed images.",
        "Compare with the nearest real image that the model judges differently.",
    ),
    "text": ("Measure {} of the texts.", "Compare with the texts of another image's case: what is said of any image."),
    "modality_importance": (
        "Measure {} of the inputs.",
        "Compare with the model with random weights, and with the loss when an input is left out.",
    ),
    "human": (
        "Have {audience} judge the explanations with {}, on cases where the model errs too.",
        "Compare with the same people without explanations.",
    ),
}
"""Property of a metric to the step of the protocol and to what its score is to be compared with, in this order."""

_TRUST: Final[tuple[Criterion, ...]] = ("usefulness", "agreement_with_experts", "sanity", "faithfulness", "robustness")
"""Criteria by which studies found that an explanation was trusted more than it deserves."""

_EXPECTED: Final[tuple[Criterion, ...]] = (*_TRUST, "localisation")
"""Criteria that a field has looked at once it is well studied."""


@dataclass(frozen=True)
class Role:
    """Why a method is in the panel."""

    method: str
    text: str
    cites: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        return {"method": self.method, "text": self.text, "cites": list(self.cites)}


@dataclass(frozen=True)
class Step:
    """One step of the protocol.

    Attributes:
        text: What to do.
        metrics: The metrics to measure.
        accept: What to compare the scores with, and when to keep a method; None where nothing is measured.
        notes: What studies found about these metrics, and their known weaknesses.
        cites: Where the metrics are described.
    """

    text: str
    metrics: tuple[str, ...] = ()
    accept: str | None = None
    notes: tuple[Sentence, ...] = ()
    cites: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the public form."""
        return {
            "text": self.text,
            "metrics": list(self.metrics),
            "accept": self.accept,
            "notes": [note.as_json() for note in self.notes],
            "cites": list(self.cites),
        }


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Attributes:
        query: What was understood.
        recommendations: All methods that can serve, best first.
        panel: Three to five complementary methods to run together; fewer where fewer fit.
        roles: Why each of them is in the panel, in the same order. Where the panel is empty because nothing that fits
            can be run here: the methods that other tools offer.
        ruled_out: Methods that cannot serve, the most promising of them first.
        protocol: How to check the explanations of the methods in ``roles``.
        cautions: What makes explaining hard in the modality, and where those methods were trusted too much.
        tools: Tools that implement them.
        unstudied: What no publication of the knowledge base has looked at.
        comparison: What was found of the methods that are named, side by side; None when none is.
        message: Typos and implied words as they were read, named methods that cannot serve, or what is missing; None
            when there is nothing to say. Words that were not understood stand in ``query.unmatched``.
    """

    query: Query
    recommendations: tuple[Recommendation, ...] = ()
    panel: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    ruled_out: tuple[RuledOut, ...] = ()
    protocol: tuple[Step, ...] = ()
    cautions: tuple[Statement, ...] = ()
    tools: tuple[str, ...] = ()
    unstudied: tuple[Sentence, ...] = ()
    comparison: Comparison | None = None
    message: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the public JSON of ``xai-atlas ask``."""
        return {
            "query": self.query.as_json(),
            "recommendations": [r.as_json() for r in self.recommendations],
            "panel": list(self.panel),
            "roles": [role.as_json() for role in self.roles],
            "ruled_out": [{"method": r.method, "gap": r.gap} for r in self.ruled_out],
            "protocol": [step.as_json() for step in self.protocol],
            "cautions": [{"text": one.text, "cites": list(one.sources)} for one in self.cautions],
            "tools": list(self.tools),
            "unstudied": [one.as_json() for one in self.unstudied],
            "comparison": self.comparison.as_json() if self.comparison else None,
            "message": self.message,
        }


def answer(
    question: str | Query,
    kb: KB,
    *,
    profile: Profile | None = None,
    measured: Iterable[Measured] = (),
    runnable: Iterable[str] = (),
    top: int | None = None,
) -> Answer:
    """Answer a question in full.

    Args:
        question: Words, or a query.
        kb: The knowledge base.
        profile: What the real model offers; it wins over what the question says.
        measured: Scores measured on the asker's model and images.
        runnable: Ids of methods, and of metrics, that can be run here; when given, the panel holds only such methods,
            and such metrics come first.
        top: How many recommendations to keep; None for all.

    Raises:
        UnknownIdError: As for :func:`recommend`.
    """
    query = parse(question, kb) if isinstance(question, str) else question
    case = case_of(query, kb, profile, measured, runnable)
    found, out = ranked(case)
    panel = _panel(case, found, here=bool(case.runnable))
    chosen = panel or _panel(case, found, here=False)
    return Answer(
        query=query,
        recommendations=tuple(found if top is None else found[:top]),
        panel=tuple(r.method for r in panel),
        roles=tuple(_roles(case, chosen, found)),
        ruled_out=tuple(out),
        protocol=tuple(_protocol(case, chosen)),
        cautions=tuple(_cautions(case, chosen)) if found else (),
        tools=tuple(dict.fromkeys(t for r in chosen for t in r.tools)),
        unstudied=tuple(_unstudied(case, chosen, found)),
        comparison=compared(case, query.methods) if query.methods else None,
        message=_message(case, found, out, panel),
    )


def panel_for(profile: Profile, modality: str | None, kb: KB, *, able: Iterable[str]) -> tuple[str, ...]:
    """Return the panel for a real model: complementary methods that can be run on it.

    Args:
        profile: What the model offers, with its task and dimensions.
        modality: Modality id of the image, if it is known.
        kb: The knowledge base.
        able: Ids of methods that can explain it here.
    """
    query = Query(
        modality=(modality,) if modality else (), task=profile.task, dimension="3d" if profile.dims == 3 else "2d"
    )
    return answer(query, kb, profile=profile, runnable=able).panel


# --- the panel -------------------------------------------------------------------------------------------------------


def _panel(case: Case, found: Sequence[Recommendation], *, here: bool) -> list[Recommendation]:
    """Choose methods that complement each other, of those that can be run here or of all.

    One of a family, at most four, then up to three a second of one; those first that share the fewest weaknesses with
    the ones chosen before. A fifth is added where it answers in another way than by a map, of which multimodal methods
    are none where there is one modality.
    """

    def fits(r: Recommendation) -> bool:
        method = case.kb.methods[r.method]
        if here and not r.runnable:
            return False
        if not (r.runnable or r.method in case.kb.index.tools or r.method in case.query.methods):
            return False
        seconds = estimate(method, case.profile.dims)
        dear = case.query.budget is not None and (seconds is None or seconds > case.query.budget)
        return not dear and (method.stage == "post_hoc" or r.method in case.query.methods or case.query.intrinsic)

    def doubtful(r: Recommendation) -> bool:
        """Whether it rests on what the owner must bring or few models offer, and nobody asked for just that."""
        method = case.kb.methods[r.method]
        unknown = set(method.requires.needs) - case.profile.has
        return not case.aims_at(method) and any(n in Points.EFFORT or Points.NEEDS[n] <= -0.2 for n in unknown)

    aim = case.kb.vocabulary.goals.get(case.query.goal or "where")

    def serves(r: Recommendation) -> bool:
        if case.query.families:
            return bool(set(case.families(case.kb.methods[r.method])) & set(case.query.families))
        return (
            aim is None
            or r.family in aim.families
            or (not aim.families and case.kb.methods[r.method].output in aim.outputs)
        )

    fitting = list(filter(fits, found))
    chosen = [r for r in sorted(fitting, key=doubtful) if r.method in case.query.methods][:5]
    ready = [r for r in fitting if serves(r)]
    sure = [r for r in ready if not doubtful(r)]
    concerning = _concerning(case)

    @cache
    def weaknesses(method: str) -> list[str]:
        """The challenges of the modality, and the general ones, that a method suffers from."""
        return [c for c in concerning if case.effect(c, method, eases=False)]

    def best(candidates: Sequence[Recommendation], new_family: bool) -> Recommendation | None:
        """The best ranked of them, less what it shares with those chosen."""
        taken = {c.family for c in chosen}
        weak = [challenge for c in chosen for challenge in weaknesses(c.method)]
        free = [r for r in candidates if r not in chosen and not (new_family and r.family in taken)][:_NEXT]

        def worth(r: Recommendation) -> float:
            return r.score - Points.CHALLENGE * sum(map(weak.count, weaknesses(r.method)))

        return max(free, key=worth, default=None)

    for candidates, most, new_family in ((sure, 4, True), (ready, 4, True), (sure, 3, False), (ready, 3, False)):
        while len(chosen) < most and (one := best(candidates, new_family)):
            chosen.append(one)
    if chosen and not (case.query.goal or case.query.families or case.query.methods):
        branches = {c.branch for c in chosen} | ({"multimodal"} if len(case.query.modality) < 2 else set())
        other = [r for r in fitting if r.branch not in branches and not doubtful(r) and r.score > 0]
        chosen += other[: 1 if len(chosen) < 5 else 0]
    return chosen


def _roles(case: Case, chosen: Sequence[Recommendation], found: Sequence[Recommendation]) -> Iterator[Role]:
    """Say what each method adds to those before it."""
    for number, one in enumerate(chosen):
        before = chosen[:number]
        parts = [_difference(case, one, before, found)]
        cites: list[str] = []
        spared = _spared(case, one, before)
        if spared:
            parts.append(spared.text)
            cites += spared.cites
        inside = {"gradients", "spatial_features", "attention_weights"}
        reads = [bool(inside & set(case.kb.methods[r.method].requires.needs)) for r in (one, *before)]
        if before and not reads[0] and all(reads[1:]):
            parts.append("it asks the model for its output alone, so it checks those that read its inside")
        good = [r for r in one.reasons if r.points > 0 and r.criterion != "challenge"]
        close = (r for r in good if any(case.places[c][0] != "far" for c in r.cites))
        told = next(close, None) or next((r for r in good if r.cites), None)
        silent = next((r for r in one.reasons if r.criterion == "evidence"), None)
        evidence = told or silent
        if evidence:
            text = evidence.text.rstrip(".")
            parts.append(text if text[1:2].isupper() else text[:1].lower() + text[1:])
            cites += evidence.cites
        yield Role(one.method, sentence("; ".join(parts)), tuple(dict.fromkeys(cites)))


def _difference(
    case: Case, one: Recommendation, before: Sequence[Recommendation], found: Sequence[Recommendation]
) -> str:
    families, branches = case.kb.vocabulary.families, case.kb.vocabulary.branches
    family = families[one.family]
    if one.method in case.query.methods:
        return "You named it"
    if one == found[0]:
        return "It leads the ranking"
    what = f"{lower(family.name)}" + (f" ({lower(family.definition).rstrip('.')})" if family.definition else "")
    if not before:
        return f"It ranks highest of those that can be run and fit your question: {what}"
    if one.branch not in {c.branch for c in before}:
        return f"It answers in another way ({lower(branches[case.kb.branch(one.method)].name)}): {what}"
    if one.family not in {c.family for c in before}:
        return f"It works in another way than the ones before: {what}"
    kin = next(c for c in before if c.family == one.family)
    return f"No method of a further family fits; it is of one family with {kin.name}, {lower(family.name)}"


def _spared(case: Case, one: Recommendation, before: Sequence[Recommendation]) -> Sentence | None:
    """A challenge of the modality that a method before it suffers from, and that it eases or is not known to share."""
    for challenge_id in case.challenges:
        name = lower(case.kb.challenges[challenge_id].name)
        for other in before:
            hurt = case.effect(challenge_id, other.method, eases=False)
            if hurt is None or case.effect(challenge_id, one.method, eases=False):
                continue
            ease = case.effect(challenge_id, one.method, eases=True)
            cites = (*ease.sources, *hurt.sources) if ease else tuple(hurt.sources)
            told = f"it eases “{name}”, from which {other.name} suffers"
            if not ease:
                told = f"unlike {other.name}, it is not known to suffer from “{name}”"
            text = case.said_of(told, cites)
            return Sentence(text.rstrip("."), cites)
    return None


# --- the protocol ----------------------------------------------------------------------------------------------------


def _protocol(case: Case, chosen: Sequence[Recommendation]) -> Iterator[Step]:
    """How to check the panel's explanations, step by step."""
    if not chosen:
        return
    kb = case.kb
    if len(chosen) > 1:
        yield _together(case, chosen)
    by_property: dict[str, list[str]] = {name: [] for name in _CHECKS}
    for metric_id in dict.fromkeys(m for r in chosen for m in r.metrics):
        by_property.setdefault(kb.metrics[metric_id].property, []).append(metric_id)
    audience = kb.vocabulary.audiences[case.query.audience] if case.query.audience else None
    if audience and {"agreement_with_experts", "usefulness"} & set(audience.criteria):
        by_property["human"] = (by_property["human"] or _human(case))[:2]
    told: set[str] = set()
    for name, metrics in by_property.items():
        if metrics and name in _CHECKS:
            step, accept = _CHECKS[name]
            names = _and([kb.metrics[m].name for m in metrics])
            who = lower(audience.name) if audience else "people who would use them"
            notes = tuple(_notes(case, metrics, told))
            cites = dict.fromkeys(source for m in metrics if (source := kb.metrics[m].source))
            yield Step(step.format(names, audience=who), tuple(metrics), accept, notes, tuple(cites))


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _together(case: Case, chosen: Sequence[Recommendation]) -> Step:
    """Run all on the same images, with what that costs and why it is worth it."""
    text = f"Run {_and([r.name for r in chosen])} on the same images and look where they disagree."
    each = [estimate(case.kb.methods[r.method], case.profile.dims) for r in chosen]
    known = [seconds for seconds in each if seconds is not None]
    if known:
        rest = f", {len(each) - len(known)} of unknown cost not counted" if len(known) < len(each) else ""
        text += f" By the usual cost of a model pass this takes some {sum(known):.2g} s per image{rest}."
    disagree = case.kb.challenges.get("methods_disagree")
    notes = [Sentence(case.said_of(disagree.definition, disagree.sources), tuple(disagree.sources))] if disagree else []
    return Step(text, notes=tuple(notes))


def _human(case: Case) -> list[str]:
    """Metrics with people: those that the challenges name first, then by id."""
    kb = case.kb
    named = [s.metric for c in _concerning(case) for s in kb.challenges[c].shown_by]
    human = [m for m, entity in kb.metrics.items() if entity.property == "human"]
    return sorted(human, key=lambda m: (-named.count(m), m))


def _concerning(case: Case) -> list[str]:
    """The challenges of the modality, then the general ones."""
    general = (c for c, challenge in case.kb.challenges.items() if challenge.general and c not in case.challenges)
    return [*case.challenges, *general]


def _notes(case: Case, metrics: Sequence[str], told: set[str]) -> Iterator[Sentence]:
    """What challenges say about metrics, then one known weakness; nothing that was told before."""
    kb, number = case.kb, 0
    for challenge_id in _concerning(case):
        for shown in kb.challenges[challenge_id].shown_by:
            if shown.metric in metrics and shown.text and shown.text not in told and number < 2:
                told.add(shown.text)
                number += 1
                text = f"{kb.metrics[shown.metric].name}, for “{lower(kb.challenges[challenge_id].name)}”: {shown.text}"
                yield Sentence(case.said_of(text, shown.sources), tuple(shown.sources))
    for metric in metrics:
        for weakness in kb.metrics[metric].weaknesses:
            if weakness.text not in told:
                told.add(weakness.text)
                text = f"{kb.metrics[metric].name}, weakness: {weakness.text}"
                yield Sentence(case.said_of(text, weakness.sources), tuple(weakness.sources))
                return


# --- cautions --------------------------------------------------------------------------------------------------------


def _cautions(case: Case, chosen: Sequence[Recommendation]) -> Iterator[Statement]:
    """What makes explaining hard in the modality; where the panel is known to mislead; what was trusted too much."""
    kb = case.kb
    told = dict[str, str]()
    for modality in case.query.modality:
        at: str | None = modality
        while at:
            for difficulty in kb.modalities[at].challenges:
                challenge = kb.challenges[difficulty.challenge]
                note = f" (said of {lower(case.label(at))})" if len(case.query.modality) > 1 or at != modality else ""
                if difficulty.challenge not in told:
                    told[difficulty.challenge] = at
                    text = sentence(difficulty.text or challenge.definition)
                    yield Statement(text=f"{challenge.name}: {text}{note}", sources=difficulty.sources)
            at = kb.modalities[at].parent
    for named in case.challenges:
        if named not in told:
            challenge = kb.challenges[named]
            text = case.said_of(f"{challenge.name}: {challenge.definition}", challenge.sources)
            yield Statement(text=text, sources=challenge.sources)
    for one in chosen:
        for general in (c for c in _concerning(case) if c not in case.challenges):
            effect = case.effect(general, one.method, eases=False)
            if effect:
                text = f"{one.name} is known for “{lower(kb.challenges[general].name)}”: {effect.text}"
                yield Statement(text=case.said_of(text, effect.sources), sources=effect.sources)
                break
    yield from _overtrusted(case, chosen)


def _overtrusted(case: Case, chosen: Sequence[Recommendation]) -> Iterator[Statement]:
    """Findings that a method of the panel convinced without being right, useful or faithful; the nearest first."""
    order = ("same", "near", "far")
    found: dict[str, tuple[tuple[int, int, str], Statement]] = {}
    for one in chosen:
        for finding in findings(case.kb, one.method):
            claim = finding.claim
            doubted = one.method in claim.methods and (finding.side < 0 or claim.outcome == "mixed")
            if claim.criterion in _TRUST and doubted and claim.text not in found:
                publication = case.kb.publications[finding.publication]
                near = order.index(case.places[finding.publication][0])
                how = "mixed findings" if claim.outcome == "mixed" else "found against it"
                text = f"{one.name}, {how}: {case.in_words(publication, claim)}"
                rank = (near, _TRUST.index(claim.criterion), finding.publication)
                found[claim.text] = (rank, Statement(text=text, sources=[finding.publication]))
    yield from (statement for _, statement in sorted(found.values(), key=lambda pair: pair[0])[:4])


# --- what nobody studied ---------------------------------------------------------------------------------------------


def _unstudied(case: Case, chosen: Sequence[Recommendation], found: Sequence[Recommendation]) -> Iterator[Sentence]:
    """The blanks of the literature that bear on this question."""
    kb = case.kb
    if not found or not (case.query.modality or case.profile.task):
        return
    where = case.where(("same", True))
    studies = [
        p for p, spot in case.places.items() if spot == ("same", True) and kb.publications[p].study and not _gone(kb, p)
    ]
    studies.sort(key=lambda p: (-(kb.publications[p].year or 0), p))
    cites = tuple(studies[:CITED])
    if not studies:
        yield Sentence(f"No study {where} is in the knowledge base.")
    else:
        yield from _blank_families(case, studies, found, where, cites)
        yield from _blank_criteria(case, studies, where, cites)
    if case.query.modality and len(chosen) > 1:
        yield from _blank_pairs(case, chosen)
    for modality in case.query.modality[:1]:
        yield from islice(_untried(case, modality, found), 2)


def _untried(case: Case, modality: str, found: Sequence[Recommendation]) -> Iterator[Sentence]:
    """Methods that rank high here although nobody tried them on the modality, with where they were tried instead."""
    coverage = case.kb.index.coverage
    parts = [modality, *(m for m, one in case.kb.modalities.items() if one.parent == modality)]
    others = [m for m, _ in relatives(case.kb, modality) if m not in parts]
    for one in found[:20]:
        if any((one.method, part) in coverage for part in parts):
            continue
        near = [(m, coverage[one.method, m]) for m in others if (one.method, m) in coverage][:3]
        if near:
            names = ", ".join(f"{lower(case.label(m))} ({counted(len(papers), 'study')})" for m, papers in near)
            cites = dict.fromkeys(paper for _, papers in near for paper in papers[:2])
            text = f"No study tried {one.name} on {lower(case.label(modality))}, though on {names}."
            yield Sentence(text, tuple(cites))


def _gone(kb: KB, publication: str) -> bool:
    return bool(kb.publications[publication].retracted)


def _blank_families(
    case: Case, studies: Sequence[str], found: Sequence[Recommendation], where: str, cites: tuple[str, ...]
) -> Iterator[Sentence]:
    """Families of methods that could serve and that no study tried."""
    kb = case.kb
    used = {kb.methods[m].family for p in studies for m in methods_of(kb.publications[p])}
    names = [lower(kb.vocabulary.families[f].name) for f in dict.fromkeys(r.family for r in found) if f not in used]
    if names:
        more = f" and {counted(len(names) - 6, 'further family')}" if len(names) > 6 else ""
        text = f"None of the {counted(len(studies), 'study')} {where} tried {', '.join(names[:6])}{more}."
        yield Sentence(_one(text), cites)


def _blank_criteria(case: Case, studies: Sequence[str], where: str, cites: tuple[str, ...]) -> Iterator[Sentence]:
    """Qualities that no study looked at, and whether clinicians did."""
    kb = case.kb
    looked = {claim.criterion for p in studies for claim in kb.publications[p].claims}
    blank = [lower(kb.vocabulary.criteria[c].name) for c in _EXPECTED if c not in looked]
    if blank:
        text = f"None of the {counted(len(studies), 'study')} {where} found anything on {', '.join(blank)}."
        yield Sentence(_one(text), cites)
    if not any(kb.publications[p].clinicians for p in studies):
        text = f"In none of the {counted(len(studies), 'study')} {where} are experts known to have judged explanations."
        yield Sentence(_one(text), cites)
    architecture = case.profile.architecture
    if architecture and not any(
        s and s.architecture == architecture for s in (kb.publications[p].study for p in studies)
    ):
        name = kb.vocabulary.architectures[architecture].name
        text = f"None of the {counted(len(studies), 'study')} {where} is known to have explained such a model ({name})."
        yield Sentence(_one(text), cites)


def _one(text: str) -> str:
    """Say "the only study" where a sentence speaks of one."""
    return text.replace("None of the 1 study", "Not the only study").replace(
        "In none of the 1 study", "Not in the only study"
    )


def _blank_pairs(case: Case, chosen: Sequence[Recommendation]) -> Iterator[Sentence]:
    """Pairs of the panel that no study set against each other on the modality."""
    index = case.kb.index
    met = {
        frozenset((one, other))
        for method in (r.method for r in chosen)
        for pub, claim in (*index.claims.get(method, ()), *index.versus.get(method, ()))
        if case.places[pub][0] == "same"
        for one in claim.methods
        for other in claim.versus
    }
    pairs = list(combinations(chosen, 2))
    blank = [(a, b) for a, b in pairs if frozenset((a.method, b.method)) not in met]
    if len(blank) == len(pairs):
        yield Sentence(f"No study on {case.modality_names} compares any two methods of the panel with each other.")
    elif blank:
        text = "; ".join(f"{a.name} and {b.name}" for a, b in blank[:4])
        more = f" and {counted(len(blank) - 4, 'further pair')}" if len(blank) > 4 else ""
        yield Sentence(f"No study on {case.modality_names} compares these of the panel: {text}{more}.")


# --- the message -----------------------------------------------------------------------------------------------------


def _message(
    case: Case, found: Sequence[Recommendation], out: Sequence[RuledOut], chosen: Sequence[Recommendation]
) -> str | None:
    """What to tell the asker beside the answer."""
    query, parts = case.query, []
    taken = [f"“{typed}” as “{word}”" for typed, word in query.corrections.items()]
    if taken:
        parts.append(f"Read {', '.join(taken)}.")
    if "modality" in query.implied:
        parts.append(f"Took {case.modality_names} from “{query.spans['modality']}”.")
    kb = case.kb
    parts += [r.gap for r in out if r.method in query.methods]
    for method_id in query.methods:
        umbrella = kb.methods[method_id].umbrella
        if umbrella and not any(method_id in case.umbrellas(m) for m in kb.methods):
            parts.append(
                f"{kb.methods[method_id].name} is a name for several methods; studies that use it do not say which."
            )
    if query.empty and case.given is None:
        some = ", ".join(lower(m.name) for m in list(case.kb.modalities.values())[:6])
        parts.append(
            "Nothing was found to rest a recommendation on. Name an imaging modality "
            f"({some}, …), a task (classification, segmentation, …), a model (CNN, ViT, U-Net, black box) or a method, "
            "as in “which method for ultrasound segmentation?”"
        )
    elif not found:
        parts.append("No method of the knowledge base can serve this; the reasons are listed under what is ruled out.")
    elif not chosen and case.runnable:
        limit = f" within your budget of {query.budget:g} s" if query.budget is not None else ""
        parts.append(
            f"None of the methods that can be run here serves this{limit}; the ranking names tools for those that do."
        )
    return " ".join(parts) or None
