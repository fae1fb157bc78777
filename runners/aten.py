"""Give an exported program back its Python functions.

``torch.export`` records operators such as ``aten.relu.default``. Relevance rules and attention capture look for the
public functions (``F.relu``, ``F.linear``, ``F.scaled_dot_product_attention``) through a torch function mode, so each
node is replaced by the function it came from. In-place nodes become ordinary ones. What has no counterpart stays.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

Function = Callable[..., Any]


def in_one_piece(output: Tensor) -> Tensor:
    """Let the gradient of what a batch normalisation gave come back to it in one piece.

    torch on CPUs (2.13 at least) gives a wrong gradient for a single image when that of the output is strided, as it is
    where features become tokens by ``flatten(2).transpose(1, 2)``: a stem of convolution and batch normalisation before
    a transformer.
    """
    if output.requires_grad and not torch.compiler.is_compiling():
        output.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
    return output


def _batch_norm(*args: Any, **kwargs: Any) -> Tensor:
    return in_one_piece(F.batch_norm(*args, **kwargs))


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
    "batch_norm": (_batch_norm, _NORM),
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
    # the exporter already reads a tensor that was changed in place under the name of the change
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


@dataclass(frozen=True)
class _Runs:
    """A value in three runs in step: one image, another image, both as a batch."""

    one: Any
    other: Any
    both: Any

    def batch_axis(self) -> int | None:
        """The axis that carries the batch, alone or merged with others (heads within it, positions around it)."""
        if not (isinstance(self.one, Tensor) and isinstance(self.both, Tensor) and self.one.ndim == self.both.ndim):
            return None
        for axis, side in enumerate(self.one.shape):
            grown = [2 * size if number == axis else size for number, size in enumerate(self.one.shape)]
            if list(self.both.shape) != grown:
                continue
            for around in (number for number in range(1, side + 1) if side % number == 0):
                pair = [value.unflatten(axis, (around, -1)) for value in (self.one, self.other)]
                if torch.allclose(torch.stack(pair, axis + 1).flatten(axis, axis + 2), self.both, atol=1e-4):
                    return axis
        return None


def free_batch(network: nn.Module, one: Tensor, other: Tensor) -> None:
    """Make a network that was exported for one image take any batch, in place.

    Exporters write the batch size into sizes, as in ``x.view(1, 2, 16)`` or ``token.expand(1, -1, -1)``. Two images
    are run singly and together, in step; at each such size the axis is sought for which the batch equals the single
    runs. Several may fit, so the caller compares the outputs of another batch.

    Args:
        network: an ``UnflattenedModule`` after :func:`to_functions`.
        one: an input ``(1, C, *spatial)``.
        other: another one of the same shape.

    Raises:
        RuntimeError: when the graph cannot be freed; it may have been changed in part and is of no further use.
    """
    _free(network, [_Runs(one, other, torch.cat([one, other]))])


def _free(module: nn.Module, given: list[_Runs]) -> Any:
    graph = module.graph
    assert isinstance(graph, fx.Graph)
    runs: dict[fx.Node, Any] = {}
    inputs = iter(given)

    def pick(arguments: Any, which: str) -> Any:
        return fx.node.map_arg(arguments, lambda node: getattr(runs[node], which))

    for node in list(graph.nodes):
        if node.op == "placeholder":
            runs[node] = next(inputs)
        elif node.op == "get_attr":
            value = functools.reduce(getattr, str(node.target).split("."), module)
            runs[node] = _Runs(value, value, value)
        elif node.op == "call_module":
            runs[node] = _free(module.get_submodule(str(node.target)), [runs[argument] for argument in node.args])
        elif node.op == "call_function":
            function: Any = node.target
            if function in (Tensor.view, torch.reshape, Tensor.reshape, Tensor.expand, Tensor.repeat):
                _resize(graph, node, runs, pick)
            called = [
                function(*pick(node.args, which), **pick(node.kwargs, which)) for which in ("one", "other", "both")
            ]
            runs[node] = _Runs(*called)
        else:
            result = _Runs(*(pick(node.args[0], which) for which in ("one", "other", "both")))
    finalize: Callable[[], None] = module.finalize  # type: ignore[assignment]
    finalize()
    return result


def _resize(graph: fx.Graph, node: fx.Node, runs: dict[fx.Node, Any], pick: Callable[[Any, str], Any]) -> None:
    """Replace the batch size in the literal sizes of one node."""
    source, sizes = node.args[0], node.args[1]
    assert isinstance(source, fx.Node)
    if not isinstance(sizes, (list, tuple)) or not all(isinstance(size, int) for size in sizes):
        return
    function: Any = node.target
    one, other = (function(pick(source, which), sizes) for which in ("one", "other"))
    if function in (Tensor.expand, Tensor.repeat):
        if sizes[0] != 1 or runs[source].batch_axis() is not None:
            return
        carrier = next((earlier for earlier, value in runs.items() if _carries(value)), None)
        if carrier is None:
            raise RuntimeError("no tensor carries the batch size")
        with graph.inserting_before(node):
            size = graph.call_function(torch.ops.aten.sym_size.int, (carrier, runs[carrier].batch_axis()))
        runs[size] = _Runs(1, 1, 2)
        node.args = (source, [size, *sizes[1:]])
        return
    # several axes may fit: one of its own is likeliest, then the one that carried the batch before; features come last
    before = runs[source].batch_axis()
    for axis in sorted(range(one.ndim), key=lambda axis: (one.shape[axis] != 1, axis == one.ndim - 1, axis != before)):
        trial = [-1 if number == axis else size for number, size in enumerate(one.shape)]
        try:
            both = function(runs[source].both, trial)
        except RuntimeError:
            continue
        if _Runs(one, other, both).batch_axis() == axis:
            node.args = (source, trial)
            return


def _carries(value: Any) -> bool:
    axis = value.batch_axis() if isinstance(value, _Runs) else None
    return axis is not None and value.one.shape[axis] == 1
