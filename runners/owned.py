"""What only the owner of a model can bring: a cohort, examples of concepts, a generator, clinical values, words.

Nothing of it is kept: results hold what an insight shows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

import torch
from torch import Tensor

from runners.images import times
from runners.sized import Pictures, at_size, in_one_size, masks_at_size
from taxonomy.errors import ImageError, TargetError


@dataclass(frozen=True, eq=False)
class Cohort:
    """Images like those the model learned from, each prepared like the image.

    Attributes:
        x: ``(R, C, *spatial)``, or images of several sizes, which only insights registered for ``sizes`` are given.
        labels: ``(R,)`` int64, what each is known to be; None when that is not known.
        label_names: of the label numbers.
        names: what to call each case; never a patient's name.
        features: clinical values ``(R, V)``, NaN where unknown; None without them.
        feature_names: of the V values.
        masks: bool ``(R, *spatial)``, the region of interest of each; None without them.
        notes: what was converted on the way, a sentence each.
    """

    x: Pictures
    labels: Tensor | None = None
    label_names: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    features: Tensor | None = None
    feature_names: tuple[str, ...] = ()
    masks: Pictures | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    @property
    def stack(self) -> Tensor:
        """The images as ``(R, C, *spatial)``."""
        return in_one_size(self.x)

    def label(self, at: int) -> str:
        """Return the label of a case in words; "" when it is not known."""
        if self.labels is None:
            return ""
        number = int(self.labels[at])
        return self.label_names[number] if number < len(self.label_names) else f"label {number}"


@dataclass(frozen=True, eq=False)
class Concept:
    """Examples of something clinicians have a word for.

    Attributes:
        x: images that show it, ``(n, C, *spatial)``.
        masks: bool ``(n, *spatial)``, where they show it; None when only the whole image is known to.
        notes: what was converted on the way, a sentence each.
    """

    x: Pictures
    masks: Pictures | None = None
    notes: tuple[str, ...] = ()

    @property
    def stack(self) -> Tensor:
        """The images as ``(n, C, *spatial)``."""
        return in_one_size(self.x)


_Brought = TypeVar("_Brought", Cohort, Concept)


class Autoencoder(Protocol):
    """A generator of this kind of image that can also be run backwards."""

    def encode(self, x: Tensor, /) -> Tensor:
        """Return codes ``(B, Z)`` of images ``(B, C, *spatial)``; differentiable."""

    def decode(self, z: Tensor, /) -> Tensor:
        """Return images ``(B, C, *spatial)`` of codes; differentiable."""


@dataclass(frozen=True, eq=False)
class Language:
    """A text tower that shares its space with the image tower.

    Attributes:
        encode_text: words to unit vectors ``(n, E)``.
        encode_image: images ``(B, C, *spatial)`` to unit vectors ``(B, E)``; differentiable.
        prompts: what to ask about: short descriptions of findings, in words.
        scale: what a cosine of both is multiplied by to be a logit.
    """

    encode_text: Callable[[list[str]], Tensor]
    encode_image: Callable[[Tensor], Tensor]
    prompts: tuple[str, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Reason:
    """A sentence that gives a reason for the model's answer, written by anyone or anything.

    Attributes:
        text: the sentence.
        region: bool ``(*spatial)``, what of the image it speaks of; None where it cites no place.
    """

    text: str
    region: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Owned:
    """What the owner of a model brought along.

    Attributes:
        cohort: images like those the model learned from.
        concepts: name to examples.
        autoencoder: generator of such images.
        features: clinical values of the image, name to number.
        language: text tower and prompts.
        reasons: sentences about the answer on this image.
        mask: bool ``(*spatial)``, the region of interest in the image.
    """

    cohort: Cohort | None = None
    concepts: Mapping[str, Concept] = field(default_factory=dict)
    autoencoder: Autoencoder | None = None
    features: Mapping[str, float] = field(default_factory=dict)
    language: Language | None = None
    reasons: tuple[Reason, ...] = ()
    mask: Tensor | None = None


ASKED: Final[Mapping[str, tuple[str, str]]] = {
    "training_data": ("cohort", "give a folder of images like those the model learned from (cohort)"),
    "reference_images": ("cohort", "give a folder of images like those the model learned from (cohort)"),
    "labelled_concepts": (
        "concepts",
        "give a folder with one sub-folder of example images per concept (concepts), or a cohort to measure them on",
    ),
    "generator": ("autoencoder", "give a generator of such images, or take a bundled one (autoencoder)"),
    "clinical_features": ("features", "give the clinical values of this case, as name=value (features)"),
    "text_encoder": ("language", "give a vision-language model and prompts (language)"),
    "written_reasons": (
        "reasons",
        "give the sentences to check, a line each, with the region that each cites (rationale)",
    ),
    "mask": ("mask", "give a mask of the region of interest (mask)"),
}
"""Need to what of :class:`Owned` meets it, and the sentence that asks for it."""


def lacking(owned: Owned) -> dict[str, str]:
    """Return the needs that what was brought does not meet, each with what to give."""
    return {need: words for need, (name, words) in ASKED.items() if not _given(owned, name)}


def _given(owned: Owned, name: str) -> bool:
    if name == "concepts" and owned.cohort is not None:
        return True  # measured on it, see runners.beyond.radiomic.measured_concepts
    value = getattr(owned, name)
    return bool(value) if isinstance(value, Mapping | tuple) else value is not None


def checked(owned: Owned, x: Tensor) -> None:
    """Check that what was brought fits the image ``(1, C, *spatial)``.

    Raises:
        ImageError: images have other axes or channels than the one to explain.
        TargetError: labels, names, values or masks do not fit their images.
    """
    shape = tuple(x.shape[1:])
    sets: dict[str, Cohort | Concept] = {f"the concept {name!r}": one for name, one in owned.concepts.items()}
    if owned.cohort is not None:
        sets["the cohort"] = owned.cohort
    for what, one in sets.items():
        size = "*size" if len(one.x) == 0 else tuple(one.x[0].shape)
        if len(one.x) == 0 or any(image.ndim != len(shape) or image.shape[0] != shape[0] for image in one.x):
            axes = ", ".join(["n", str(shape[0]), *"DHW"[-len(shape) + 1 :]])
            raise ImageError(f"{what} has {len(one.x)} images of shape {size}; ({axes}) is needed, n at least 1")
        if not all(bool(torch.isfinite(image).all()) for image in one.x):
            raise ImageError(f"{what} holds NaN or infinite values")
        if one.masks is not None and (
            len(one.masks) != len(one.x)
            or any(mask.shape != image.shape[1:] for mask, image in zip(one.masks, one.x, strict=True))
        ):
            raise TargetError(f"the masks of {what} do not have the shapes of its images; one per image is needed")
    for number, reason in enumerate(owned.reasons, 1):
        region = reason.region
        if region is not None and (tuple(region.shape) != shape[1:] or not region.any()):
            raise TargetError(
                f"the region of sentence {number} has shape {tuple(region.shape)}; {shape[1:]} is needed, with "
                "something marked"
            )
    if owned.mask is not None and (tuple(owned.mask.shape) != shape[1:] or not owned.mask.any()):
        raise TargetError(f"the mask has shape {tuple(owned.mask.shape)}; {shape[1:]} is needed, with something marked")
    if (cohort := owned.cohort) is None:
        return
    count = len(cohort)
    for what, value in (
        ("labels", cohort.labels),
        ("names", cohort.names or None),
        ("clinical values", cohort.features),
    ):
        if value is not None and len(value) != count:
            raise TargetError(f"the cohort has {count} images and {len(value)} {what}; one for each is needed")
    if cohort.features is not None and cohort.features.shape[1:] != (len(cohort.feature_names),):
        raise TargetError(
            f"the clinical values have shape {tuple(cohort.features.shape)} and {len(cohort.feature_names)} names"
        )
    if missing := [name for name in cohort.feature_names if owned.features and name not in owned.features]:
        raise TargetError(f"the case has no value for {', '.join(missing)}, which the cohort has")


def at_one_size(owned: Owned, x: Tensor) -> Owned:
    """Bring a cohort and the examples of concepts to the size of the image ``(1, C, *spatial)``."""
    size = tuple(x.shape[2:])

    def brought(one: _Brought) -> _Brought:
        if not other_sizes(one, x):
            return one
        return replace(one, x=at_size(one.x, size), masks=None if one.masks is None else masks_at_size(one.masks, size))

    cohort = None if owned.cohort is None else brought(owned.cohort)
    return replace(owned, cohort=cohort, concepts={name: brought(one) for name, one in owned.concepts.items()})


def size_notes(owned: Owned, x: Tensor, resized: bool) -> tuple[str, ...]:
    """Say what became of images on their way into the model, and of those whose size is not that of the image."""
    brought = {f"Concept {name}": one for name, one in owned.concepts.items()} | {"Cohort": owned.cohort}
    found = [note for one in brought.values() if one is not None for note in one.notes]
    for what, one in brought.items():
        if one is None or not (other := other_sizes(one, x)):
            continue
        few = ", ".join([times(each) for each in other[:3]] + ["…"] * (len(other) > 3))
        became = (
            f"were resized to {times(x.shape[2:])}, that of this image, as the method compares or mixes them place by "
            "place: how large things are in them has changed"
            if resized
            else f"go into the model as they are; this image has {times(x.shape[2:])}"
        )
        found.append(f"{what}: images of other sizes ({few}) {became}.")
    return tuple(dict.fromkeys(found))


def other_sizes(one: Cohort | Concept, x: Tensor) -> list[tuple[int, ...]]:
    """Return the sizes of images that are not that of the image ``(1, C, *spatial)``."""
    return sorted({tuple(image.shape[1:]) for image in one.x} - {tuple(x.shape[2:])})
