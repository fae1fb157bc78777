"""What a model can offer, found by running it, and where its features and tokens are.

``profile(model, x)`` runs the model once forwards and once backwards and looks: which modules gave feature maps or
token sequences that the score depends on, which functions ran, whether attention can be read. No layer name is ever
asked of the user.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from runners.aten import in_one_piece
from runners.detection import Box, found_by
from runners.joint import prompted
from runners.modes import ACTIVATIONS, GATES, RELU_LIKE, Recorder
from runners.targets import Resolved, Target, primary, resolve, task_of
from runners.writing import written
from taxonomy.errors import AtlasError, ImageError, ModelError
from taxonomy.requirements import Profile

Layout = Literal["channels_first", "channels_last", "tokens", "tokens_first"]
MAX_PREFIX = 16
"""Class, distillation and register tokens that may stand before the image tokens."""
POOLS = ("AvgPool", "MaxPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "Dropout", "Flatten")


@dataclass(frozen=True)
class Place:
    """A module whose output holds spatial features.

    Attributes:
        name: dotted module name.
        layout: how the output is laid out: ``(B, C, *grid)``, ``(B, *grid, C)``, ``(B, prefix + prod(grid), C)`` or
            ``(prefix + prod(grid), B, C)``.
        grid: spatial shape of the features.
        prefix: tokens before the image tokens.
        call: which call of the module, when it is used more than once.
    """

    name: str
    layout: Layout
    grid: tuple[int, ...]
    channels: int
    prefix: int = 0
    call: int = 0

    def fold(self, tensor: Tensor) -> Tensor:
        """Bring the module's output (or its gradient) to ``(B, C, *grid)``."""
        if self.layout == "channels_last":
            return tensor.movedim(-1, 1)
        if self.layout == "tokens_first":
            tensor = tensor.transpose(0, 1)
        if self.layout.startswith("tokens"):
            return tensor[:, self.prefix :].transpose(1, 2).reshape(len(tensor), self.channels, *self.grid)
        return tensor

    def put(self, features: Tensor, output: Tensor) -> Tensor:
        """Return the module's output with its features replaced by ``(B, C, *grid)``, the inverse of :meth:`fold`."""
        if self.layout == "channels_last":
            return features.movedim(1, -1)
        if not self.layout.startswith("tokens"):
            return features
        tokens = features.flatten(2).transpose(1, 2)
        if self.layout == "tokens_first":
            return torch.cat([output[: self.prefix], tokens.transpose(0, 1)])
        return torch.cat([output[:, : self.prefix], tokens], 1)

    def text(self) -> str:
        """Say where the features are, for a note."""
        shape = "×".join(map(str, self.grid))
        kind = "tokens" if self.layout.startswith("tokens") else "features"
        return f"{self.name or 'the model'} ({kind} {shape}, {self.channels} channels)"


@dataclass(frozen=True)
class Wired(Profile):
    """A profile with what the explainers need to know about the model's inside.

    Attributes:
        places: modules with spatial features that the score depends on, in order of execution.
        place: the one that class activation maps use by default.
        place_reason: why.
        token_grid: grid of the token sequence that runs through all attention blocks.
        prefix: tokens before the image tokens in that sequence.
        blocks: number of attention blocks.
        readout: positions in the last sequence that the score reads (the class token, or the pooled image tokens).
        source: the image tokens that the text of a report reads.
        outputs: number of output channels.
        bytes_per_image: what the layers' outputs take for one image of this shape; 0 where nobody looked inside.
    """

    places: tuple[Place, ...] = ()
    place: Place | None = None
    place_reason: str = ""
    token_grid: tuple[int, ...] | None = None
    prefix: int = 0
    blocks: int = 0
    readout: tuple[int, ...] = ()
    source: Place | None = None
    outputs: int = 0
    bytes_per_image: int = 0

    @property
    def place_notes(self) -> tuple[str, ...]:
        """Where class activation maps take their features from by default, and why; empty without such a place."""
        return (f"Features: {self.place.text()}, {self.place_reason}.",) if self.place is not None else ()


_CACHE: WeakKeyDictionary[nn.Module, dict[Any, Wired]] = WeakKeyDictionary()


class Scripted(nn.Module):
    """A TorchScript module inside an ordinary one, which takes hooks."""

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        """Return what the network returns."""
        return self.network(x)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside ``torch.compile`` and ``DataParallel`` wrappers; TorchScript is put into a module."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return Scripted(model) if isinstance(model, torch.jit.ScriptModule) else model
        model = inner


@contextlib.contextmanager
def preserved(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Evaluation mode, no parameter gradients, a fixed seed inside; all as before afterwards, also after an error.

    Gradients through batch normalisation are right inside, see :func:`runners.aten.in_one_piece`.

    Restored: modes, ``requires_grad``, ``.grad``, buffers, hooks, and the random state of torch, NumPy and Python.
    """
    modules = list(model.modules())
    training = [m for m in modules if m.training]
    hooks = {(id(hooked), key) for hooked in _hooked_in(modules) for key in hooked}
    # model.parameters() and model.buffers() would each walk a deep model again, for as long as a tenth of a pass
    weights = {id(p): p for m in modules for p in m._parameters.values() if p is not None}.values()
    parameters = [(p, p.requires_grad, p.grad) for p in weights]
    own = {id(b): b for m in modules for b in m._buffers.values() if b is not None}.values()
    buffers = [(b, None if b.is_inference() else b._version, b.detach().clone()) for b in own]
    states = (torch.get_rng_state(), np.random.get_state(), random.getstate())
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    try:
        for m in training:
            m.training = False  # not .eval(): exported graphs refuse it
        for p, required, _ in parameters:
            if required:
                p.requires_grad_(False)
        for m in modules:
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.register_forward_hook(_in_one_piece)
        _reseed(seed)
        with torch.inference_mode(False):  # the caller may be inside torch.inference_mode()
            yield
    finally:
        for m in modules:
            if m.training:
                m.training = False
        for m in training:
            m.training = True
        for hooked in _hooked_in(modules):
            # a model may hook itself in its first forward pass, once and for all; such hooks stay
            for extra in [k for k in hooked if (id(hooked), k) not in hooks and _ours(hooked[k])]:
                del hooked[extra]
        for p, required, grad in parameters:
            if p.requires_grad is not required:
                p.requires_grad_(required)
            if p.grad is not grad:
                p.grad = grad
        with torch.no_grad():
            for buffer, version, before in buffers:
                if version is None or buffer._version != version:  # comparing the values would wait for a device
                    buffer.copy_(before)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def _in_one_piece(_module: nn.Module, _given: Any, output: Tensor) -> None:
    in_one_piece(output)


_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def _hooked_in(modules: Sequence[nn.Module]) -> list[dict[int, Any]]:
    """Return the modules' dictionaries of hooks that are not empty."""
    return [hooks for m in modules for key in _HOOKS if (hooks := m.__dict__.get(key))]


def _ours(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("runners.")


def _reseed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def run(model: Callable[[Tensor], Any], x: Tensor) -> Any:
    """Run the model and turn whatever it raises into one sentence.

    Raises:
        ModelError: the forward pass failed.
    """
    try:
        if len(x) == 1 and x.requires_grad and x.device.type == "cpu" and _hides_norms(model):
            # see in_one_piece: nothing can be hooked there, but two images get their gradients right
            return tree_map_only(Tensor, lambda one: one[:1], model(torch.cat([x, x])))
        return model(x)
    except AtlasError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        raise ModelError(
            f"the model's forward pass failed on an input of shape {tuple(x.shape)}: "
            f"{type(error).__name__}: {first[:300]}"
        ) from error


_HIDES: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _hides_norms(model: Callable[[Tensor], Any]) -> bool:
    """Whether a model has batch normalisation inside TorchScript."""
    if not isinstance(model, nn.Module):
        return False
    if model not in _HIDES:
        _HIDES[model] = any(
            isinstance(one, torch.jit.ScriptModule) and str(one.original_name).startswith("BatchNorm")
            for one in model.modules()
        )
    return _HIDES[model]


def joined(outputs: Sequence[Any]) -> Any:
    """Join the outputs of single images along the batch, whatever their structure."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(list(outputs))
    if isinstance(first, dict):
        return {key: joined([output[key] for output in outputs]) for key in first}
    if isinstance(first, (tuple, list)):
        return type(first)(joined([output[number] for output in outputs]) for number in range(len(first)))
    raise ModelError(f"The network gives {type(first).__name__} for one image, which cannot be joined into a batch.")


def _precision(model: nn.Module) -> torch.dtype:
    """float32, or what the model's weights are stored in."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def as_input(model: nn.Module, given: Any) -> Tensor:
    """Return what the model is to see as ``(B, C, *spatial)``, in the precision of its weights.

    An ``Image`` is prepared by the model's card.

    Raises:
        ImageError: it is not such an input, or holds NaN or infinite values.
    """
    if not isinstance(given, Tensor):
        prepare = getattr(model, "prepare", None)
        if prepare is None:
            raise ImageError(
                f"{type(given).__name__} was given; a float tensor (B, C, H, W) or (B, C, D, H, W) is needed "
                "(an Image works with a model from load_model, which knows how to prepare it)"
            )
        given = prepare(given)
    x: Tensor = given
    if x.ndim not in (4, 5):
        raise ImageError(f"the input has shape {tuple(x.shape)}; (B, C, H, W) or (B, C, D, H, W) is needed")
    if x.numel() == 0:
        raise ImageError(f"the input of shape {tuple(x.shape)} is empty")
    if x.is_complex():
        raise ImageError("the input is complex; give magnitude and phase as channels")
    x = x.detach().to(_precision(model))
    if not finite(x):
        bad = int((~torch.isfinite(x)).sum())
        raise ImageError(f"the input holds {bad} values that are NaN or infinite; replace them before explaining")
    return x


def finite(t: Tensor) -> bool:
    """Say whether a tensor holds no NaN and nothing infinite; the sum tells it in one pass unless it overflows."""
    return bool(torch.isfinite(t.sum())) or bool(torch.isfinite(t).all())


def leaf(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(leaf, input)``: a leaf that collects the gradient, and a copy that in-place models may change."""
    source = x.detach().clone().requires_grad_()
    return source, source.clone()


def profile(
    model: nn.Module,
    x: Any,
    target: Target = None,
    *,
    task: str | None = None,
    architecture: str | None = None,
    black_box: str | None = None,
) -> Wired:
    """Find out what a model can offer, by running it once forwards and once backwards on ``x``.

    Args:
        model: any module that takes one image tensor.
        x: ``(B, C, H, W)`` or ``(B, C, D, H, W)``, or an ``Image`` when the model has a card; only the first image of a
            batch is used.
        target: as in ``explain``, when the outputs need a callable target.
        task: "classification", "segmentation" or "regression", when it is known better than the output's shape tells.
        architecture: an architecture id of the knowledge base, when it is known.
        black_box: the reason why only outputs can be had, when that is known.

    Returns:
        A profile; the model is left exactly as it was.

    Raises:
        ImageError: the input does not fit.
        ModelError: the forward pass fails or its outputs are not understood.
    """
    x = as_input(model, x)
    card = getattr(model, "card", None)
    task = task or getattr(card, "task", None)
    architecture = architecture or getattr(card, "architecture", None)
    if black_box is None and getattr(model, "black_box", False):
        black_box = "it runs as a black box: only its outputs can be had"
    key = (tuple(x.shape[1:]), task, architecture, black_box, _structure(model))
    known = _CACHE.setdefault(model, {})
    if needed_to_look(target) or key not in known:
        with preserved(model):
            found = _profile(unwrap(model), x[:1].clone(), target, task, architecture, black_box)
        if needed_to_look(target):
            return found  # another target may read other outputs
        known.clear()
        known[key] = found
    return known[key]


def needed_to_look(target: Target) -> bool:
    """Say whether a model can only be profiled with this target: a function of its outputs, or a box of one image."""
    return callable(target) or isinstance(target, Box)


def _structure(model: nn.Module) -> int:
    return hash(tuple(id(m) for m in model.modules()))


@dataclass
class _Seen:
    """One output of one module during the profiling run."""

    name: str
    module: nn.Module
    tensor: Tensor
    call: int


@dataclass
class _Trace:
    outputs: Any
    seen: list[_Seen]
    recorder: Recorder
    gradients: list[Tensor | None] = field(default_factory=list)


def _profile(
    model: nn.Module, x: Tensor, target: Target, task: str | None, architecture: str | None, black_box: str | None
) -> Wired:
    dims = x.ndim - 2
    notes: list[str] = []
    read = prompted(model) is not None
    lacks: dict[str, str] = {} if read else {"text_encoder": "the model takes an image only"}
    if written(model) is None:
        lacks["text_decoder"] = "the model writes no text"
    if black_box:
        with torch.no_grad():
            outputs = run(model, x)
        resolve(target, outputs, x, task)  # outputs that are not understood are told here
        task = task or _task(outputs, x, target)
        lacks |= dict.fromkeys(_INSIDE, black_box)
        return Wired(frozenset(), lacks, task, dims, architecture, tuple(notes), outputs=_channels(outputs, x, target))
    trace, resolved, source = _run(model, x, target, task)
    found_task = task or _task(trace.outputs, x, target)
    channels = _channels(trace.outputs, x, target)
    notes += _output_notes(trace, found_task, channels, task)
    score = resolved.score(trace.outputs, torch.arange(1))
    hidden = _hidden(model, score)  # before the backward pass frees the graph
    gradient_problem = _gradient_problem(score, source, trace)
    has = set() if gradient_problem else {"gradients"}
    has |= {"text_encoder"} if read else set()
    if gradient_problem:
        lacks |= dict.fromkeys(_INSIDE, gradient_problem)
    if _scripted(model):
        lacks |= dict.fromkeys(_HIDDEN, _SCRIPTED)
    if gradient_problem or _scripted(model):
        return Wired(frozenset(has), lacks, found_task, dims, architecture, tuple(notes), outputs=channels)
    wiring = _wire(trace, x, found_task or "")
    if wiring["place"] is not None:
        has.add("spatial_features")
    else:
        lacks["spatial_features"] = "no layer with more than one position was found that the score depends on"
    _judge_attention(trace, wiring, has, lacks)
    _judge_activations(trace, hidden, has, lacks)
    _judge_head(trace, wiring, has, lacks)
    _judge_text(model, trace, wiring, has, lacks)
    _judge_dropout(model, trace, has, lacks)
    return Wired(
        frozenset(has),
        lacks,
        found_task,
        dims,
        architecture or _architecture(trace, wiring, found_task),
        tuple(notes),
        outputs=channels,
        bytes_per_image=_bytes(trace),
        **wiring,
    )


_INSIDE = (
    "gradients",
    "spatial_features",
    "attention_weights",
    "tokens",
    "relu_only",
    "elementwise_activations",
    "linear_head",
    "embedding",
    "dropout",
)
_HIDDEN = tuple(need for need in _INSIDE if need != "gradients")
_SCRIPTED = "TorchScript hides its layers; load the model as .pt2, or as a state dict with its Python code"


def _scripted(model: nn.Module) -> bool:
    inner: Any = getattr(model, "network", model)
    return isinstance(inner, torch.jit.ScriptModule)


def _run(model: nn.Module, x: Tensor, target: Target, task: str | None) -> tuple[_Trace, Resolved, Tensor]:
    seen: list[_Seen] = []
    calls: dict[str, int] = {}
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) and output and isinstance(output[0], Tensor) else output
            if isinstance(tensor, Tensor) and tensor.requires_grad and tensor.is_floating_point():
                seen.append(_Seen(name, module, tensor, calls.get(name, 0)))
            calls[name] = calls.get(name, 0) + 1

        handles.append(module.register_forward_hook(hook))

    text = written(model)
    telling = set() if text is None else set(text.decoder.modules())  # what reads text has no layout of the image
    for name, module in model.named_modules():
        if name and module not in telling and not isinstance(module, torch.jit.ScriptModule):  # scripts take no hooks
            watch(name, module)
    recorder = Recorder()
    source, entry = leaf(x)
    try:
        with torch.enable_grad(), recorder:
            outputs = run(model, entry)
    finally:
        for handle in handles:
            handle.remove()
    resolved = resolve(target, outputs, x, task)
    return _Trace(outputs, seen, recorder), resolved, source


def _task(outputs: Any, x: Tensor, target: Target) -> str | None:
    return None if callable(target) else task_of(outputs, x)


def _channels(outputs: Any, x: Tensor, target: Target) -> int:
    if callable(target) or found_by(outputs, x.shape[2:]) is not None:
        return 0
    output = primary(outputs)
    return output.shape[1] if output.ndim > 1 else 1


def _output_notes(trace: _Trace, task: str | None, channels: int, told: str | None) -> list[str]:
    notes: list[str] = []
    if task in (None, "detection"):
        return notes
    output = primary(trace.outputs).detach()
    if task == "regression" and channels == 1 and told is None:
        notes.append(
            "The model has one output: it is explained as a number (regression, or the logit of a binary classifier)."
        )
    if task == "regression" or channels == 0:
        return notes
    inside = bool(((output >= 0) & (output <= 1)).all())
    if inside and channels > 1 and torch.allclose(output.sum(1), torch.ones(()), atol=1e-4):
        notes.append(
            "The outputs sum to one (softmax inside the model): gradients are small where the model is certain."
        )
    elif inside and trace.recorder.last in ("sigmoid", "hardsigmoid"):
        notes.append(
            "The outputs are probabilities (sigmoid inside the model): multi-label, each label explained by itself."
        )
    if not isinstance(trace.outputs, Tensor):
        kind = type(trace.outputs).__name__
        notes.append(f"The model returns a {kind}; its output of shape {tuple(output.shape)} is explained.")
    return notes


def _gradient_problem(score: Tensor, source: Tensor, trace: _Trace) -> str:
    if not score.requires_grad:
        return "its output does not depend on the input in a differentiable way"
    wanted = [source] + [s.tensor for s in trace.seen]
    try:
        grads = torch.autograd.grad(score.sum(), wanted, allow_unused=True)
    except RuntimeError as error:
        return f"its backward pass fails: {str(error).splitlines()[0][:200]}"
    trace.gradients = list(grads[1:])
    if grads[0] is None:
        return "its output does not depend on the input in a differentiable way"
    if not torch.isfinite(grads[0]).all():
        return "its gradient is not finite"
    return ""


def _bytes(trace: _Trace) -> int:
    """Return the size of all different tensors that layers gave, which a backward pass has to keep."""
    own = {s.tensor.untyped_storage().data_ptr(): s.tensor.untyped_storage().nbytes() for s in trace.seen}
    return sum(own.values())


def _fits(grid: Sequence[int], spatial: Sequence[int]) -> bool:
    """Is this grid the image at one common stride (rounding allowed)?

    One axis of a volume may have a stride of its own: thick slices and the frames of a video are thinned out less.
    """
    strides = [s / g for s, g in zip(spatial, grid, strict=True)]
    if min(strides) < 0.999:
        return False
    slack = max(1.0 / g for g in grid)
    pairs = itertools.combinations(strides, 2)
    return any(max(pair) / min(pair) <= 1.0 + 1.5 * slack for pair in pairs)


def _token_grid(
    count: int, spatial: Sequence[int], known: Sequence[tuple[int, ...]]
) -> tuple[tuple[int, ...], int] | None:
    """Find the grid and the number of prefix tokens of a sequence of ``count`` tokens."""
    for grid in known:  # a feature map seen in this run, e.g. of the patch embedding
        prefix = count - int(np.prod(grid))
        if 0 <= prefix <= MAX_PREFIX:
            return grid, prefix
    best: tuple[tuple[int, ...], int] | None = None
    for patch in range(1, min(spatial) + 1):
        for rounding in (0, patch - 1):
            grid = tuple((s + rounding) // patch for s in spatial)
            prefix = count - int(np.prod(grid))
            if 0 <= prefix <= MAX_PREFIX and (best is None or prefix < best[1]):
                best = (grid, prefix)
    return best


def _places(trace: _Trace, x: Tensor) -> list[tuple[Place, Tensor, Tensor]]:
    """All module outputs with spatial features, with the gradient of the score, in order of execution."""
    spatial = tuple(x.shape[2:])
    dims = len(spatial)
    output = None if isinstance(trace.outputs, int) else _maybe_primary(trace.outputs)
    final = {id(output)} if output is not None else set()
    maps = [
        tuple(s.tensor.shape[2:])
        for s in trace.seen
        if s.tensor.ndim == dims + 2 and _fits(s.tensor.shape[2:], spatial)
    ]
    known = sorted(set(maps), key=lambda g: -int(np.prod(g)))
    # a flattened feature map is a sequence too, of channels: tokens exist where something treats rows as tokens
    tokens = trace.recorder.attends or any(
        isinstance(s.module, nn.LayerNorm) and s.tensor.ndim == 3 for s in trace.seen
    )
    found = []
    for seen, grad in zip(trace.seen, trace.gradients, strict=True):
        t = seen.tensor
        if grad is None or id(t) in final or isinstance(seen.module, nn.ModuleList | nn.ModuleDict):
            continue
        turned = tokens and t.ndim == 3 and len(t) > 3 and t.shape[1] == len(x)
        if len(t) != len(x) and not turned:
            continue
        if type(seen.module).__name__.startswith(POOLS) and not type(seen.module).__name__.startswith("MaxPool"):
            continue
        place: Place | None = None
        if t.ndim == dims + 2:
            first, last = tuple(t.shape[2:]), tuple(t.shape[1:-1])
            norm_last = isinstance(seen.module, nn.LayerNorm) and seen.module.normalized_shape == (t.shape[-1],)
            if int(np.prod(first)) > 1 and _fits(first, spatial) and not (norm_last and _fits(last, spatial)):
                place = Place(seen.name, "channels_first", first, t.shape[1], call=seen.call)
            elif int(np.prod(last)) > 1 and _fits(last, spatial):
                place = Place(seen.name, "channels_last", last, t.shape[-1], call=seen.call)
        elif tokens and t.ndim == 3 and (turned or t.shape[1] > 3):
            grid = _token_grid(t.shape[0 if turned else 1], spatial, [g for g in known if int(np.prod(g)) > 1])
            if grid is not None:
                layout: Layout = "tokens_first" if turned else "tokens"
                place = Place(seen.name, layout, grid[0], t.shape[2], grid[1], seen.call)
        if place is not None and bool((place.fold(grad) != 0).any()):
            found.append((place, t, grad))
    return found


def _maybe_primary(outputs: Any) -> Tensor | None:
    try:
        return primary(outputs)
    except ModelError:
        return None


def _wire(trace: _Trace, x: Tensor, task: str) -> dict[str, Any]:
    found = _places(trace, x)
    places = tuple(p for p, _, _ in found)
    wiring: dict[str, Any] = {"places": places, "place": None, "place_reason": ""}
    tokens = [(p, t, g) for p, t, g in found if p.layout.startswith("tokens")]
    if tokens:
        widths = [p.channels for p, _, _ in tokens]
        width = max(set(widths), key=widths.count)  # the residual stream; q, k, v and MLP layers are wider
        tokens = [entry for entry in tokens if entry[0].channels == width]
        places_used = [p for p in places if not p.layout.startswith("tokens") or p.channels == width]
        # a linear layer inside a block is no step of the stream of tokens (keys and values may be as wide as it is)
        linear = {s.name for s in trace.seen if isinstance(s.module, nn.Linear)}
        places_used = [
            p for p in places_used if p.name not in linear or not p.layout.startswith("tokens")
        ] or places_used
    else:
        places_used = list(places)
    square = trace.recorder.attentions
    if tokens and square and not trace.recorder.reduced:
        lengths = {shape[-1] for shape in square}
        last = tokens[-1][0]
        total = last.prefix + int(np.prod(last.grid))
        # windows stand in the batch dimension: 4-D weights must have one row per image
        whole = all(shape[0] == len(x) for shape in square if len(shape) == 4)
        if lengths == {total} and whole:
            wiring |= {"token_grid": last.grid, "prefix": last.prefix, "blocks": len(square)}
            wiring["readout"] = _readout(trace, total)
    if not places_used:
        return wiring
    if task == "segmentation":
        channels = _channels(trace.outputs, x, None)
        # a layer with one feature per label is the answer itself, before it is enlarged
        places_used = [p for p in places_used if p.channels != channels] or places_used
        smallest = min(int(np.prod(p.grid)) for p in places_used)
        largest = max(int(np.prod(p.grid)) for p in places_used)
        chosen = [p for p in places_used if int(np.prod(p.grid)) == smallest][-1]
        if smallest < largest:
            reason = "the deepest features, before the decoder; the output layer would only repeat the prediction"
        else:
            reason = "the last features before the output layer, which would only repeat the prediction"
    else:
        chosen = places_used[-1]
        reason = "the last layer with spatial features that the score depends on"
        if task == "detection":
            # where the score is read at one position, a map could only mark that position
            wide = {p for p, _, g in found if int((p.fold(g) != 0).any(1).sum()) > 1}
            chosen = next((p for p in reversed(places_used) if p in wide), chosen)
            reason = "the last features of which more than the box's own position reaches its score"
        if chosen.layout.startswith("tokens"):
            reason = "the last token sequence in which the image tokens, not only the class token, reach the score"
    wiring["place"], wiring["place_reason"] = chosen, reason
    return wiring


def _readout(trace: _Trace, total: int) -> tuple[int, ...]:
    """Which tokens of the last sequence of the whole network the score reads."""
    for grad in reversed(trace.gradients):
        if grad is None or grad.ndim != 3 or total not in grad.shape[:2]:
            continue
        rows = grad[0] if grad.shape[1] == total else grad[:, 0]
        used = (rows != 0).any(-1).nonzero()[:, 0]
        if len(used):
            return tuple(used.tolist())
    return ()


def _judge_attention(trace: _Trace, wiring: Mapping[str, Any], has: set[str], lacks: dict[str, str]) -> None:
    if not trace.recorder.attends:
        lacks["attention_weights"] = "no self-attention was seen while it ran"
        lacks["tokens"] = "it has no token sequence"
        return
    has.add("attention_weights")
    if wiring.get("token_grid") is not None:
        has.add("tokens")
    elif trace.recorder.reduced:
        queries, keys = trace.recorder.reduced[0][-2:]
        lacks["tokens"] = f"its attention reads a reduced sequence, {keys} tokens for {queries}"
    else:
        lengths = sorted({shape[-1] for shape in trace.recorder.attentions})
        lacks["tokens"] = (
            f"its attention works on windows or stages of {', '.join(map(str, lengths[:4]))} tokens, "
            "not on one sequence of image tokens through all blocks"
        )


def _hidden(model: nn.Module, score: Tensor) -> str:
    """Say what of the computation a function mode cannot see: scripted modules and custom autograd functions."""
    scripted = [name for name, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        return f"its part {scripted[0]!r} is TorchScript, which hides what it computes"
    seen, waiting = set(), [score.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return f"no propagation rule is known for its own function {node.name().removesuffix('Backward')}"
        waiting += [parent for parent, _ in node.next_functions]
    return ""


def _judge_activations(trace: _Trace, hidden: str, has: set[str], lacks: dict[str, str]) -> None:
    recorder = trace.recorder
    names = recorder.functions & ACTIVATIONS
    other = sorted(names - RELU_LIKE - GATES)
    if hidden:
        lacks["relu_only"] = lacks["elementwise_activations"] = hidden
        return
    if recorder.attends:
        lacks["relu_only"] = "it has attention" + (f" and {', '.join(other)}" if other else "")
    elif other:
        lacks["relu_only"] = f"it uses {', '.join(other)}"
    elif not names & RELU_LIKE:
        lacks["relu_only"] = "it has no ReLU, so the result would be the plain gradient"
    else:
        has.add("relu_only")
    if recorder.attends:
        lacks["elementwise_activations"] = "it has attention, whose softmax mixes positions"
    elif recorder.unknown:
        lacks["elementwise_activations"] = f"no propagation rule is known for {', '.join(sorted(recorder.unknown))}"
    else:
        has.add("elementwise_activations")


def _judge_head(trace: _Trace, wiring: Mapping[str, Any], has: set[str], lacks: dict[str, str]) -> None:
    if trace.recorder.last != "linear":
        return  # unknown: the output may still be linear in something
    has.add("embedding")
    output, place = _maybe_primary(trace.outputs), wiring["place"]
    heads = [s.module for s in trace.seen if s.tensor is output and isinstance(s.module, nn.Linear)]
    if heads and place is not None and place.layout == "channels_first" and heads[-1].in_features == place.channels:
        has.add("linear_head")
    else:
        lacks["linear_head"] = "its last layer does not read one pooled value per feature map"


def _judge_text(model: nn.Module, trace: _Trace, wiring: dict[str, Any], has: set[str], lacks: dict[str, str]) -> None:
    if (own := written(model)) is None:
        return
    has.add("text_decoder")
    lacks["embedding"] = "it writes from many image tokens, not from one vector"
    lacks["linear_head"] = "it writes text"
    lacks["tokens"] = "its text reads the image by attention of its own"
    names = {name for name, module in model.named_modules() if module is own.encoder}
    source = next((place for place in wiring["places"] if place.name in names), None)
    lengths = {shape[-1] for shape in trace.recorder.reduced}
    if source is not None and source.prefix + int(np.prod(source.grid)) in lengths:
        wiring["source"] = source
    else:
        has.discard("attention_weights")
        lacks["attention_weights"] = "its text does not read image tokens by attention that can be seen"


def _judge_dropout(model: nn.Module, trace: _Trace, has: set[str], lacks: dict[str, str]) -> None:
    layers = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    if any(layer.p > 0 for layer in layers) or trace.recorder.drops:
        has.add("dropout")
    else:
        lacks["dropout"] = "every dropout rate is 0" if layers else ""


def _architecture(trace: _Trace, wiring: Mapping[str, Any], task: str | None) -> str | None:
    if trace.recorder.reduced:
        return "unet" if task == "segmentation" else "vit"
    if trace.recorder.attends:
        return "vit" if wiring.get("token_grid") is not None else "swin"
    if not any(name.startswith("conv") for name in trace.recorder.functions):
        return None
    return "unet" if task == "segmentation" else "cnn"


def find_place(wired: Wired, layer: str | None) -> tuple[Place, tuple[str, ...]]:
    """Return the place that a class activation map uses: the chosen one, or the module that the user names.

    Raises:
        ModelError: the named module has no spatial features that the score depends on.
    """
    if layer is None:
        if wired.place is None:
            raise ModelError("the model has no spatial features")
        return wired.place, wired.place_notes
    named = [p for p in wired.places if p.name == layer]
    if not named:
        near = ", ".join(p.name for p in wired.places[-8:])
        raise ModelError(f"layer {layer!r} gives no spatial features that the score depends on; layers that do: {near}")
    return named[-1], (f"Features: {named[-1].text()}, named by the user.",)


def upsample(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bring maps ``(B, *grid)`` to ``(B, *size)``, bilinear or trilinear."""
    mode = "trilinear" if len(size) == 3 else "bilinear"
    return F.interpolate(maps[:, None], size=size, mode=mode, align_corners=False)[:, 0]


@contextlib.contextmanager
def watched(model: nn.Module, place: Place, act: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Show the output of a place to ``act`` in one forward pass; what it returns, if anything, takes its place."""
    calls = 0

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls - 1 != place.call:
            return None
        changed = act(output[0] if isinstance(output, tuple) else output)
        return (changed, *output[1:]) if isinstance(output, tuple) and changed is not None else changed

    handle = unwrap(model).get_submodule(place.name).register_forward_hook(hook, prepend=True)  # before its own
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def captured(model: nn.Module, place: Place, *, cut: bool = False) -> Iterator[list[Tensor]]:
    """Collect the output of a place during one forward pass: the list's last entry.

    With ``cut`` gradients end there: nothing is kept for a backward pass through what comes before.
    """
    kept: list[Tensor] = []

    def start(features: Tensor) -> Tensor:
        kept.append(features.detach().requires_grad_().clone())  # no leaf: what follows may work in place
        return kept[-1]

    with watched(model, place, start if cut else kept.append):
        yield kept


@contextlib.contextmanager
def thinned(model: nn.Module, place: Place, channels: Tensor) -> Iterator[None]:
    """Set one feature of each row, ``channels`` ``(B,)``, to zero at a place, everywhere in the image."""

    def thin(features: Tensor) -> Tensor:
        axis = 1 if place.layout == "channels_first" else -1
        changed = features.movedim(axis, -1).clone()
        rows = torch.arange(len(channels), device=changed.device)
        if place.layout == "tokens_first":
            changed[:, rows, channels.to(changed.device)] = 0
        else:
            changed[rows, ..., channels.to(changed.device)] = 0
        return changed.movedim(-1, axis)

    with watched(model, place, thin):
        yield


def twin_of(model: nn.Module) -> nn.Module:
    """Return a copy of a model, to be changed.

    Raises:
        ModelError: it cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"a copy of the model is needed to randomise it, and copying it failed: {error}") from error


@torch.no_grad()
def randomise(weights: Sequence[nn.Parameter], generator: torch.Generator) -> None:
    """Fill every tensor with normal numbers of its own mean and spread; a lone number spreads by its size."""
    for weight in weights:
        spread = weight.std(correction=0) if weight.numel() > 1 else weight.abs()
        weight.copy_(weight.mean() + spread * torch.randn(weight.shape, generator=generator).to(weight))


@contextlib.contextmanager
def dimmed(model: nn.Module, place: Place, mask: Tensor) -> Iterator[None]:
    """Multiply all features of a position by ``mask`` ``(B, *grid)``; tokens that stand for no position stay."""
    flat = mask.flatten(1)
    if place.layout.startswith("tokens"):
        flat = torch.cat([flat.new_ones(len(flat), place.prefix), flat], 1)

    def dim(features: Tensor) -> Tensor:
        match place.layout:
            case "channels_first":
                return features * mask[:, None]
            case "channels_last":
                return features * mask[..., None]
            case "tokens_first":
                return features * flat.T[..., None]
            case _:
                return features * flat[..., None]

    with watched(model, place, dim):
        yield


@contextlib.contextmanager
def replaced(model: nn.Module, place: Place, make: Callable[[], Tensor]) -> Iterator[None]:
    """Put what ``make()`` returns in the place of the output of a place during one forward pass."""
    with watched(model, place, lambda _: make()):
        yield
