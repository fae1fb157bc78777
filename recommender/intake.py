"""What a title and an abstract name, read by the parser of questions."""

from __future__ import annotations

from recommender.query import parse
from taxonomy import KB
from taxonomy.intake import Reference, Understood

MOST_METHODS = 12
"""Methods proposed at most; an abstract that names more lists them in passing."""


def understand(reference: Reference, kb: KB) -> Understood:
    """Return the modalities, methods, task, architecture and anatomy that a paper's title and abstract name.

    The title decides where it names something; the abstract fills in the rest. Nothing is guessed: a word that is no
    name in the knowledge base adds nothing, and what is only implied ("polyp" for endoscopy) counts as named.
    """
    title = parse(reference.title or "", kb)
    whole = parse(" . ".join(filter(None, (reference.title, reference.abstract))), kb)
    return Understood(
        modalities=title.modality or whole.modality,
        methods=tuple(dict.fromkeys((*title.methods, *whole.methods)))[:MOST_METHODS],
        task=title.task or whole.task,
        architecture=title.architecture or whole.architecture,
        anatomy=next(iter(title.anatomy or whole.anatomy), None),
    )
