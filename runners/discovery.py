"""The gate of insights, explanations that are not a map: the checks of :mod:`runners.gate`, and of what was brought."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from torch import nn

from runners import forms
from runners.beyond.radiomic import measured_concepts
from runners.forms import Form
from runners.gate import Look, chosen_options, counted, first_line, knowledge, versions
from runners.models import Wired, as_input, needed_to_look, preserved, profile, unwrap
from runners.owned import ASKED, Owned, Reason, at_one_size, checked, lacking, size_notes
from runners.registry import Progress, Told, any_size, injected, insights, no_progress, seeded
from runners.targets import Target
from taxonomy.errors import AtlasError, ImageError, ModelError, RequirementError, UnknownIdError
from taxonomy.requirements import Gap, gaps

MEASURED_CONCEPTS: Final = (
    "No concepts were given: each is instead the third of the cohort that has most of one measure of brightness, "
    "texture or shape."
)


@dataclass(frozen=True, eq=False)
class Insight:
    """What a method found that is not a map.

    Attributes:
        form: what was found.
        method: method id of the knowledge base.
        target: what was explained, in words.
        target_score: the value of the explained score on the image.
        notes: what was wired and decided. cautions: how it can mislead.
        parameters: the method's parameters as used, with the seed.
        passes: images that went through the model forwards and backwards.
        seconds: wall time. versions: of the packages involved.
    """

    form: Form
    method: str
    target: str
    target_score: float
    notes: tuple[str, ...]
    cautions: tuple[str, ...]
    parameters: Mapping[str, Any]
    passes: Mapping[str, int]
    seconds: float
    seed: int
    versions: Mapping[str, str] = field(default_factory=dict)


def discover(
    model: nn.Module,
    x: Any,
    method: str,
    target: Target = None,
    *,
    owned: Owned | None = None,
    members: Sequence[nn.Module] = (),
    seed: int = 0,
    task: str | None = None,
    known: Wired | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Insight:
    """Explain what a model computed on one image, by a method whose answer is not a map.

    Args:
        model: any ``torch.nn.Module`` that takes one image tensor.
        x: float ``(1, C, *spatial)``, or an ``Image`` when the model has a card.
        method: a method id with an insight; see ``insights``.
        target: as in ``explain``.
        owned: what the owner of the model brought along. A method that needs concepts and is given none takes those
            that radiomic measures make of the cohort.
        members: further models trained for the same task, or states of this one during its training.
        seed: the same seed gives the same answer.
        task: as in ``explain``.
        known: as in ``explain``.
        progress: called with ``(done, total)``.
        **options: the method's parameters.

    Returns:
        The insight; the model is exactly as before.

    Raises:
        UnknownIdError: there is no such insight.
        RequirementError: the model, or what was brought, lacks something the method needs; all gaps are named.
        ImageError, TargetError, ModelError: the input, the target or the model does not fit.
    """
    if method not in insights:
        raise UnknownIdError(method, insights, "insight")
    function, owned = insights[method], owned or Owned()
    model, x = unwrap(model), as_input(model, x)
    if len(x) != 1:
        raise ImageError(f"{len(x)} images were given; an insight is about one")
    checked(owned, x)
    wired = known or profile(model, x, target if needed_to_look(target) else None, task=task)
    if missing := unmet_by(method, wired, owned, members=members):
        raise RequirementError(method, missing)
    resized = method not in any_size or wired.token_grid is not None  # tokens are laid out on the grid of one size
    needed = {"cohort", "concepts"} & set(injected(function))
    fitted = size_notes(owned, x, resized) if needed else ()
    if "concepts" in needed and not owned.concepts and owned.cohort is not None:
        owned = replace(owned, concepts=measured_concepts(owned.cohort))
        fitted = (MEASURED_CONCEPTS, *fitted)
    if needed and resized:
        owned = at_one_size(owned, x)
    used = chosen_options(method, function, options, x, wired)
    counts = {"forward": 0, "backward": 0}
    look = Look(model, x, target, task)
    with preserved(model, seed):
        resolved, scores = look.now()
        extra = {
            "profile": wired,
            "generator": seeded(seed),
            "progress": progress or no_progress,
            "members": tuple(unwrap(member) for member in members),
            "others": resolved.others,
            "decision": resolved.decision,
            **{name: getattr(owned, name) for name, _ in ASKED.values()},
        }
        given = {name: extra[name] for name in injected(function)}
        start = time.perf_counter()
        try:
            with counted(model, counts):
                found = function(model, x.clone(), look.score, **used, **given)
            told = found if isinstance(found, Told) else Told(found)
            told = replace(told, form=_settled(told.form))
            forms.checked(told.form)
        except AtlasError:
            raise
        except Exception as error:
            raise ModelError(f"{method} failed on this model: {type(error).__name__}: {first_line(error)}") from error
        seconds = time.perf_counter() - start
    return Insight(
        form=told.form,
        method=method,
        target=resolved.text,
        target_score=float(scores[0]),
        notes=(*wired.notes, *fitted, *told.notes),
        cautions=(*resolved.cautions, *told.cautions),
        parameters=used,
        passes=dict(counts),
        seconds=seconds,
        seed=seed,
        versions=versions(),
    )


def check_rationale(model: nn.Module, x: Any, reasons: Sequence[Reason], target: Target = None, **more: Any) -> Insight:
    """Check sentences that anyone wrote about a model's answer: does the score fall without the cited regions?

    Args:
        model: as in ``discover``.
        x: as in ``discover``.
        reasons: the sentences, with the regions they cite.
        target: as in ``discover``.
        **more: as in ``discover``.
    """
    return discover(model, x, "cot_rationale", target, owned=Owned(reasons=tuple(reasons)), **more)


def _settled(form: Form) -> Form:
    """Bring the tensors of a form to the CPU, numbers as float32."""
    _, arrays = forms.packed(form)
    moved: dict[str, Any] = {
        name: (one.float() if one.is_floating_point() else one).detach().cpu().contiguous()
        for name, one in arrays.items()
    }
    return replace(form, **moved)


def unmet_by(method: str, wired: Wired, owned: Owned | None = None, *, members: Sequence[nn.Module] = ()) -> list[Gap]:
    """Return every known reason why an insight is not possible here, each with what to give; none when it is.

    Args:
        method: a method id with an insight.
        wired: what ``profile`` found of the model.
        owned: what the owner brought along.
        members: as in ``discover``.
    """
    kb = knowledge()
    lacks = {need: why for need, why in wired.lacks.items() if need not in ASKED} | lacking(owned or Owned())
    if "members" in injected(insights[method]) and not members:
        lacks["retraining"] = "give further models, or states of this one during its training (members)"
    return gaps(kb.methods[method].requires, replace(wired, lacks=lacks), kb.vocabulary.needs)
