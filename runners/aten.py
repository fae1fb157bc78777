"""Give an exported program back its Python functions.

``torch.export`` records operators such as ``aten.relu.default``. Relevance rules and attention capture look for the
public functions (``F.relu``, ``F.linear``, ``F.scaled_dot_product_attention``) through a torch function mode, so each
node is replaced by the function it came from. In-place nodes become ordinary ones. What has no counterpart stays.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

Function = Callable[..., Any]

# Python functions, and where their arguments are named otherwise than the operator's; None: the function has no such.
_NORM: dict[str, str | None] = {"cudnn_enable": None, "cudnn_enabled": None}
_SAME: dict[str, str | None] = {}
_FUNCTIONS: dict[str, tuple[Function, dict[str, str | None]]] = {
    **{
        name: (getattr(F, name), _SAME)
        for name in (
            "relu", "relu6", "silu", "mish", "selu", "celu", "leaky_relu", "hardtanh", "hardswish", "hardsigmoid",
            "softmax", "log_softmax", "pad", "group_norm", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
            "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
            "max_pool1d", "max_pool2d", "max_pool3d", "alpha_dropout",
        )
    },
    "elu": (F.elu, {"scale": None, "input_scale": None}),
    "dropout": (F.dropout, {"train": "training"}),
    "feature_dropout": (F.dropout2d, {"train": "training"}),
    "embedding": (F.embedding, {"indices": "input"}),
    "layer_norm": (F.layer_norm, _NORM),
    "group_norm": (F.group_norm, _NORM),
    "batch_norm": (F.batch_norm, _NORM),
    "instance_norm": (F.instance_norm, _NORM),
    **{
        f"upsample_{mode}": (F.interpolate, {"output_size": "size", "scale_factors": "scale_factor"})
        for mode in ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "bicubic2d", "trilinear3d")
    },
}  # fmt: skip


def to_functions(network: nn.Module) -> int:
    """Replace operator nodes by functions in every graph of an exported network, in place.

    Args:
        network: an ``UnflattenedModule`` or a ``GraphModule``.

    Returns:
        How many operator nodes are left without a function.
    """
    left = 0
    for module in network.modules():
        graph = getattr(module, "graph", None)
        if not isinstance(graph, fx.Graph):
            continue
        for node in list(graph.nodes):
            if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
                left += not _replace(graph, node)
        graph.lint()
        if isinstance(module, fx.GraphModule):
            module.recompile()
        else:
            finalize: Callable[[], None] = module.finalize  # type: ignore[assignment]  # interpreter modules cache their code
            finalize()
    return left


def _replace(graph: fx.Graph, node: fx.Node) -> bool:
    operator = node.target
    assert isinstance(operator, torch._ops.OpOverload)
    if operator.namespace != "aten":
        return False
    name = operator._schema.name.removeprefix("aten::")
    in_place = name.endswith("_") and not name.endswith("__")
    name = name.rstrip("_") if in_place else name
    found = _call(name, operator, node)
    if found is None:
        return False
    function, args, kwargs = found
    with graph.inserting_before(node):
        new = graph.call_function(function, args, kwargs)
    new.meta = node.meta
    if in_place and isinstance(node.args[0], fx.Node):
        # who reads the changed tensor under its old name must read the new one
        before = set()
        for earlier in graph.nodes:
            if earlier is node:
                break
            before.add(earlier)
        node.args[0].replace_all_uses_with(
            new, delete_user_cb=lambda user: user not in before and user not in (node, new)
        )
    node.replace_all_uses_with(new)
    graph.erase_node(node)
    return True


def _call(
    name: str, operator: torch._ops.OpOverload, node: fx.Node
) -> tuple[Function, tuple[Any, ...], dict[str, Any]] | None:
    names = [argument.name for argument in operator._schema.arguments]
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    if name in _FUNCTIONS:
        function, renamed = _FUNCTIONS[name]
        if name == "elu" and (given.get("scale", 1) != 1 or given.get("input_scale", 1) != 1):
            return None
        keys = {"self": "input", **renamed}
        kwargs: dict[str, Any] = {}
        for key, value in given.items():
            new = keys.get(key, key)
            if new is not None:
                kwargs[new] = value
        if name.startswith("upsample_"):
            kwargs["mode"] = name.removeprefix("upsample_")[:-2]
            if operator._overloadname != "vec":  # the other forms repeat the scale per axis
                kwargs = {key: value for key, value in kwargs.items() if not key.startswith("scales")}
        if "max_pool" in name and kwargs.get("stride") == []:
            del kwargs["stride"]
        return function, (kwargs.pop("input"),), kwargs
    for owner in (F, torch, Tensor):
        found: Any = getattr(owner, name, None)
        # functions written in C share the operator's signature; those written in Python need not
        if isinstance(found, (types.BuiltinFunctionType, types.MethodDescriptorType)):
            return found, node.args, dict(node.kwargs)
    return None
