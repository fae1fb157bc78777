"""The Model Context Protocol: what the tools return, that an assistant reads errors, and the command itself."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mcp_server
from taxonomy import AtlasError, load_kb

ROOT = Path(__file__).resolve().parent.parent

CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("ask", {"question": "which method for ultrasound segmentation?", "top": 2}, "recommendations"),
    ("show", {"entity": "Grad-CAM"}, "limitations"),
    ("search", {"text": "speckle", "limit": 3}, "hits"),
    ("compare", {"methods": ["Grad-CAM", "SHAP"], "question": "dermoscopy"}, "verdict"),
    ("why_not", {"method": "LIME", "question": "brain MRI with a ViT"}, "setbacks"),
]


def cites(value: Any) -> Iterator[str]:
    """Yield what stands under "cites" or "sources" as a list, wherever it is."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key in ("cites", "sources") and isinstance(one, list):
                yield from one
            else:
                yield from cites(one)
    elif isinstance(value, list):
        for one in value:
            yield from cites(one)


@pytest.mark.parametrize(("tool", "given", "key"), CALLS, ids=[call[0] for call in CALLS])
def test_every_tool_returns_data_with_its_sources(tool: str, given: dict[str, Any], key: str) -> None:
    found = json.loads(json.dumps(getattr(mcp_server, tool)(**given)))
    assert found[key]
    assert set(cites(found)) <= set(found["sources"])
    publications = load_kb().publications
    for one, paper in found["sources"].items():
        assert paper["title"] == publications[one].title
        assert paper["link"].startswith("http")


def test_tools_are_those_promised() -> None:
    assert {tool.__name__ for tool in mcp_server.TOOLS} == {call[0] for call in CALLS}
    assert all(tool.__doc__ for tool in mcp_server.TOOLS)


def test_ask_is_short_enough_for_an_assistant() -> None:
    found = mcp_server.ask("MRI", top=3)
    assert len(found["recommendations"]) == 3
    assert len(found["ruled_out"]) <= 3
    assert mcp_server.ask("MRI of a florbly")["not_understood"]


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("show", {"entity": "grad_cammm"}),
        ("compare", {"methods": []}),
        ("compare", {"methods": ["nothing of the kind"]}),
        ("ask", {"question": "MRI", "top": 0}),
        ("search", {"text": "MRI", "limit": -1}),
        ("why_not", {"method": "ultrasound", "question": "MRI"}),
    ],
)
def test_wrong_arguments_are_told(tool: str, given: dict[str, Any]) -> None:
    with pytest.raises(AtlasError):
        getattr(mcp_server, tool)(**given)


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    with pytest.raises(AtlasError, match=r"pip install 'xai-atlas\[mcp\]'"):
        mcp_server.serve()


def test_a_client_in_memory() -> None:
    mcp = pytest.importorskip("mcp")

    async def talk() -> None:
        async with mcp.Client(mcp_server.server()) as client:
            listed = (await client.list_tools()).tools
            assert {tool.name for tool in listed} == {call[0] for call in CALLS}
            assert all(tool.description for tool in listed)
            for tool, given, key in CALLS:
                result = await client.call_tool(tool, given)
                assert not result.is_error
                assert result.structured_content[key]
            wrong = await client.call_tool("show", {"entity": "grad_cammm"})
            assert wrong.is_error
            assert "grad_cam" in wrong.content[0].text

    asyncio.run(talk())


def test_the_command_on_standard_input_and_output() -> None:
    mcp = pytest.importorskip("mcp")
    command = mcp.StdioServerParameters(
        command=sys.executable, args=[str(ROOT / "cli.py"), "mcp"], cwd=str(ROOT), env=dict(os.environ)
    )

    async def talk() -> None:
        async with mcp.Client(command) as client:
            result = await client.call_tool("ask", {"question": "ultrasound segmentation", "top": 1})
            assert result.structured_content["recommendations"][0]["method"] in load_kb().methods

    asyncio.run(talk())
