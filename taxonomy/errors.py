"""The exceptions of XAI Atlas. Faces catch :class:`AtlasError` and show its message as it is.

AtlasError
├── KBError            the knowledge base breaks its own rules
├── UnknownIdError     an id, name or word that is not in the knowledge base or a registry
├── RequirementError   a method asks for something the model or its owner does not have
├── ImageError         an image that cannot be read or does not fit
├── ModelError         a model that cannot be read, run or wired
└── TargetError        a target or parameter that does not fit the model's output
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taxonomy.requirements import Gap


class AtlasError(Exception):
    """Base class: the message says what was given, what is allowed and what to do."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let an error travel between processes, whatever its class is made from."""
        return AtlasError.__new__, (type(self), *self.args), self.__dict__


class KBError(AtlasError):
    """The knowledge base has problems; ``problems`` lists them all as ``file:line: field: given: allowed``."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class UnknownIdError(AtlasError):
    """An id that does not exist; the message names the nearest ones."""

    def __init__(self, given: str, allowed: Iterable[str], what: str = "id") -> None:
        names = sorted(allowed)
        near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else f"allowed: {', '.join(names[:12])}{' …' if len(names) > 12 else ''}"
        )
        super().__init__(f"unknown {what} {given!r}: {hint}")


class RequirementError(AtlasError):
    """A method cannot explain this model; ``gaps`` holds every reason."""

    def __init__(self, method: str, gaps: Sequence[Gap]) -> None:
        self.method = method
        self.gaps = tuple(gaps)
        super().__init__(f"{method} cannot explain this model: " + " ".join(gap.sentence for gap in self.gaps))


class ImageError(AtlasError):
    """An image file or array that cannot be used."""


class ModelError(AtlasError):
    """A model that cannot be loaded, run or wired."""


class TargetError(AtlasError):
    """A target or a parameter that does not fit."""
