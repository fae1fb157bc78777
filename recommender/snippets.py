"""The code that does what an answer recommends, to copy and run: our runners in Python, and the shell command.

It is text; nothing of ``runners`` is imported here. Which methods and metrics can be run is handed in by the face.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import Final

from recommender.argue import Answer
from taxonomy import KB

BROUGHT: Final = {
    "training_data": ("--cohort", "FOLDER"),
    "labelled_concepts": ("--concepts", "CONCEPTS"),
    "clinical_features": ("--feature", "age=63"),
    "text_encoder": ("--language", "CLIP", "--prompt", "TEXT"),
    "written_reasons": ("--rationale", "FILE"),
}
"""Need to the options of ``xai-atlas explain`` that meet it."""
_REFERENCE: Final = {"training_data", "reference_images"}
"""Needs that ``reference=`` of a runner meets."""


def snippet(
    found: Answer,
    kb: KB,
    *,
    runnable: Collection[str],
    model: str | None = None,
    image: str | None = None,
) -> str:
    """Return Python that explains an image with the methods of the answer's roles and checks the maps.

    The shell command that does the same stands below it as a comment.

    Args:
        found: The answer.
        kb: The knowledge base.
        runnable: Ids of methods and of metrics that can be run here.
        model: What ``load_model`` takes; None for a placeholder.
        image: File of the image; None for a placeholder that fits the modality.

    Returns:
        Code; only comments when none of the methods can be run here. They name a tool for each that cannot.
    """
    able = {role.method: role.method in runnable for role in found.roles}
    methods = [method for method, here in able.items() if here and kb.methods[method].output == "map"]
    metrics = [
        m
        for step in found.protocol
        for m in step.metrics
        if m in runnable and not {"mask", "explainer"} & set(kb.metrics[m].needs)
    ]
    lines = _python(kb, methods, metrics, model, image or _placeholder(found, kb), image is None) if methods else []
    for method, here in able.items():
        if method not in methods:
            given = image or _placeholder(found, kb)
            lines.append(_beyond(kb, method, model, given) if here else _elsewhere(kb, method, found))
    return "\n".join(lines) + "\n" if lines else ""


def _python(kb: KB, methods: list[str], metrics: list[str], model: str | None, image: str, yours: bool) -> list[str]:
    needs = {need for m in methods for need in kb.methods[m].requires.needs}
    load = f"model = load_model({model or 'model.pt'!r})".replace("'", '"')
    lines = [
        f"from runners import explain, load_image, load_model{', measure' if metrics else ''}",
        "",
        load
        + ("" if model else "  # YOUR MODEL: file, folder, timm:NAME, hf:NAME or a bundled one (xai-atlas models)"),
        f'x = model.prepare(load_image("{image}"))' + ("  # YOUR IMAGE" if yours else ""),
    ]
    more = ", random_check=True"
    if needs & _REFERENCE:
        lines.append('reference = model.prepare(load_image("other.png"))  # YOUR IMAGES like those of the training set')
        more += ", reference=reference"
    lines += [
        "",
        f"for method in {_list(methods)}:",
        f"    found = explain(model, x, method{more})",
        '    print(method, "explains", found.target, dict(found.checks))',
    ]
    if metrics:
        lines += [
            f"    for metric in {_list(metrics)}:",
            '        print("   ", metric, measure(metric, model, x, found).score)',
        ]
    words = ["xai-atlas", "explain", image, "--model", model or "model.pt"]
    words += [word for m in methods for word in ("--method", m)] + [word for m in metrics for word in ("--metric", m)]
    words += ["--reference", "other.png"] if needs & _REFERENCE else []
    return [
        *lines,
        "",
        "# The same in the shell, with pictures and a report:",
        f"# {shlex.join(words)} --random-check --out explained",
    ]


def _list(ids: list[str]) -> str:
    return "[" + ", ".join(f'"{one}"' for one in ids) + "]"


def _placeholder(found: Answer, kb: KB) -> str:
    """A file name as images of the modality have it."""
    formats = {form for m in found.query.modality for form in kb.modalities[m].formats}
    if "NIfTI" in formats and found.query.dimension != "2d":
        return "image.nii.gz"
    return "image.dcm" if "DICOM" in formats else "image.png"


def _beyond(kb: KB, method: str, model: str | None, image: str) -> str:
    """Return the command of a method whose answer is no map, with what has to be brought."""
    needs = kb.methods[method].requires.needs
    words = ["xai-atlas", "explain", image, "--model", model or "model.pt", "--method", method]
    words += [word for need, brought in BROUGHT.items() if need in needs for word in brought if word not in words]
    return f"# {kb.methods[method].name} gives another answer than a map: {shlex.join(words)}"


def _elsewhere(kb: KB, method: str, found: Answer) -> str:
    """Name the tool to run a method with, the one that fits the question best."""
    name = kb.methods[method].name
    tools = next((r.tools for r in found.recommendations if r.method == method), ())
    for tool_id in tools:
        tool = kb.tools[tool_id]
        where = next((i.object for i in kb.methods[method].implementations if i.tool == tool_id), None)
        how = f"pip install {tool.package}" if tool.package else tool.repository
        if how:
            return f"# {name} is not run here; {tool.name} has it{f' as {where}' if where else ''}: {how}"
    return f"# {name} is not run here, and no tool of the knowledge base can be named for it."
