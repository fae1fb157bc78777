"""The knowledge base for assistants over the Model Context Protocol, so that they cite it instead of inventing.

Every tool returns plain data with ``sources``: title, year, DOI or arXiv id and address of each publication it names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Literal

import recommender
from runners import computable, executable
from taxonomy import KB, AtlasError, load_kb
from taxonomy.citations import cited
from taxonomy.search import search as find

INSTRUCTIONS = (
    "XAI Atlas holds what publications found about explanation methods for biomedical imaging. Every statement names "
    "publication ids; 'sources' gives their DOI or address. Cite those, add none of your own, and say so where the "
    "knowledge base knows nothing ('unstudied', 'not_understood'). It is for research, not for clinical use."
)

Kind = Literal["methods", "modalities", "challenges", "metrics", "tools", "publications"]


def ask(question: str, top: int = 5) -> dict[str, Any]:
    """Recommend explanation methods for a question in plain words, with reasons, a panel, a protocol and sources.

    Args:
        question: As a person would ask: "which method for ultrasound segmentation with a U-Net, for clinicians?"
        top: How many methods to return.
    """
    kb = _kb()
    able = computable()
    found = recommender.answer(question, kb, runnable=able, top=_positive(top, "top"))
    back = recommender.clarify(found.query, kb, runnable=able)
    data = found.as_json()
    data["ruled_out"] = data["ruled_out"][:top]
    data["not_understood"] = list(found.query.unmatched)
    data["clarify"] = back.as_json() if back else None
    return {
        **data,
        "snippet": recommender.snippet(found, kb, runnable=able),
        "sources": cited(data, kb),
    }


def show(entity: str) -> dict[str, Any]:
    """Return all that is known of one method, modality, challenge, metric, tool or publication.

    Args:
        entity: Its id, name or an alias: "grad_cam", "Grad-CAM", "chest X-ray".
    """
    from taxonomy.questions import about

    kb = _kb()
    data = about(kb, kb.find_by_name(entity))
    if data["kind"] == "methods":
        data["runnable"] = data["id"] in executable()
    return {**data, "sources": cited(data, kb)}


def search(text: str, kind: Kind | None = None, limit: int = 20) -> dict[str, Any]:
    """Find entities of the knowledge base by words; use show for what is known of one.

    Args:
        text: Words; the last letters of each may be left out.
        kind: Only entities of this kind.
        limit: How many to return.
    """
    kb = _kb()
    found = find(kb, text, {"kind": [kind]} if kind else None, limit=_positive(limit, "limit"))
    data = {"total": found.total, "loose": found.loose, "hits": [hit._asdict() for hit in found.hits]}
    return {**data, "sources": cited(data, kb)}


def compare(methods: list[str], question: str = "") -> dict[str, Any]:
    """Put the findings about methods side by side: head to head, then each one's, with a verdict.

    Args:
        methods: Ids, names or aliases, one or more: ["Grad-CAM", "SHAP"].
        question: What they are wanted for, in plain words; tells which studies are near.
    """
    kb = _kb()
    if not methods:
        raise AtlasError("methods is empty: give the ids or names of one method or more")
    ids = [kb.find_by_name(one, "methods") for one in methods]
    data = recommender.compare(ids, recommender.parse(question, kb), kb).as_json()
    return {**data, "sources": cited(data, kb)}


def why_not(method: str, question: str) -> dict[str, Any]:
    """Say why a method is not the first choice for a question: its gap, or what puts it below the first.

    Args:
        method: Id, name or alias of the method.
        question: The question in plain words.
    """
    kb = _kb()
    query = recommender.parse(question, kb)
    data = recommender.why_not(kb.find_by_name(method, "methods"), query, kb, runnable=computable()).as_json()
    return {**data, "sources": cited(data, kb)}


@cache
def _kb() -> KB:
    return recommender.ready(load_kb())


TOOLS = (ask, show, search, compare, why_not)


def _positive(number: int, name: str) -> int:
    if number < 1:
        raise AtlasError(f"{name} is {number}: give 1 or more")
    return number


def server() -> Any:
    """Return the server with all tools.

    Raises:
        AtlasError: The SDK is not installed.
    """
    try:
        from mcp.server.mcpserver import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
    except ImportError as error:
        raise AtlasError(
            "the Model Context Protocol needs the package mcp, version 2 or newer: pip install 'xai-atlas[mcp]'"
        ) from error

    def telling(tool: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """Hand our sentences to the assistant; the SDK hides the words of errors it does not know."""

        @wraps(tool)
        def told(**given: Any) -> dict[str, Any]:
            try:
                return tool(**given)
            except AtlasError as error:
                raise ToolError(str(error)) from error

        return told

    made = MCPServer("xai-atlas", instructions=INSTRUCTIONS, version=_kb().about.version, log_level="WARNING")
    for tool in TOOLS:
        made.add_tool(telling(tool))
    return made


def serve() -> None:
    """Serve on standard input and output until the input ends.

    Raises:
        AtlasError: The SDK is not installed.
    """
    server().run("stdio")
