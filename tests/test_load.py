"""Reading models: every format on small networks made here, and everything that must be refused."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image as Pillow
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from runners import load
from runners.images import Image, load_image
from runners.load import BlackBox, ModelCard, Normalise, OneByOne, bundled, load_model, read_card
from taxonomy.errors import ImageError, ModelError

pytestmark = [  # exporting is the tests' own doing; reading is silent
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),
]


class Cnn(nn.Module):
    """Residual block, batch norm, in-place activations: what exporters rewrite."""

    def __init__(self, dims: int = 2, channels: int = 1, classes: int = 3) -> None:
        super().__init__()
        conv, norm = getattr(nn, f"Conv{dims}d"), getattr(nn, f"BatchNorm{dims}d")
        self.stem = conv(channels, 4, 3, padding=1)
        self.body = nn.Sequential(conv(4, 4, 3, padding=1), norm(4))
        self.act = nn.ReLU(inplace=True)
        self.pool = getattr(nn, f"MaxPool{dims}d")(2)
        self.head = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        y = self.body(x)
        y += x
        y = self.pool(self.act(y))
        return self.head(y.flatten(2).mean(2))


class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True, norm_first=True)
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.rand(1, 1, 16))
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        return self.head(self.blocks(x)[:, 0])


class Seen(TorchFunctionMode):
    """The public functions that a forward pass calls."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ARG002
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


def made(network: nn.Module) -> nn.Module:
    """Fixed random weights and lively batch statistics."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.data = torch.rand(buffer.shape, generator=generator) + 0.5
    return network.eval()


def rand(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def batches(model: nn.Module, network: nn.Module, x: Tensor) -> None:
    """Outputs and gradients are those of the network, for any batch."""
    for count in (1, len(x)):
        given = x[:count].clone().requires_grad_()
        expected, found = network(given), model(given)
        assert torch.allclose(found, expected, atol=1e-5)
        left, right = (torch.autograd.grad(out.square().sum(), given)[0] for out in (found, expected))
        assert torch.allclose(left, right, atol=1e-5)


# --- TorchScript ---


@pytest.mark.parametrize("dims", [2, 3])
def test_torchscript(tmp_path: Path, dims: int) -> None:
    network = made(Cnn(dims))
    path = tmp_path / "net.pt"
    torch.jit.script(network).save(path)
    model = load_model(path, task="classification", labels=["a", "b", "c"])
    batches(model, network, rand(3, 1, *[8] * dims))
    assert (model.card.channels, model.card.dims, model.card.labels) == (1, dims, ["a", "b", "c"])
    assert model.card.id == "net"
    assert len(model.sha256) == 64
    assert any("TorchScript" in note for note in model.notes)
    assert not model.training


# --- torch.export ---


def exported(network: nn.Module, x: Tensor, path: Path, **options: Any) -> Path:
    torch.export.save(torch.export.export(network, (x,), **options), path)
    return path


@pytest.mark.parametrize("dims", [2, 3])
def test_export_of_a_cnn_with_a_fixed_batch(tmp_path: Path, dims: int) -> None:
    network = made(Cnn(dims))
    model = load_model(exported(network, rand(1, 1, *[8] * dims), tmp_path / "net.pt2"))
    batches(model, network, rand(3, 1, *[8] * dims))
    assert (model.card.channels, model.card.dims, model.card.size) == (1, dims, [8] * dims)
    assert not model.one_by_one
    assert {"stem", "body.0", "act", "head"} <= {name for name, _ in model.network.named_modules()}
    with Seen() as seen:
        model(rand(1, 1, *[8] * dims))
    convolution = getattr(F, f"conv{dims}d")
    assert seen.functions.count(convolution) == 2
    assert seen.functions.count(F.relu) == 2
    assert F.linear in seen.functions
    assert F.batch_norm in seen.functions
    assert not any(isinstance(function, torch._ops.OpOverload) for function in seen.functions)


def test_export_of_a_vit_shows_its_attention(tmp_path: Path) -> None:
    network = made(Vit())
    fixed = load_model(exported(network, rand(1, 3, 16, 16), tmp_path / "fixed.pt2"))
    dynamic = load_model(
        exported(network, rand(2, 3, 16, 16), tmp_path / "any.pt2", dynamic_shapes=({0: torch.export.Dim("batch")},))
    )
    for model in (fixed, dynamic):
        batches(model, network, rand(3, 3, 16, 16))
        with Seen() as seen:
            model(rand(1, 3, 16, 16))
        assert seen.functions.count(F.scaled_dot_product_attention) == 2
        assert {F.gelu, F.layer_norm, F.linear} <= set(seen.functions)
    # the batch size that was written into the graph is freed
    assert any("was freed" in note for note in fixed.notes)
    assert not fixed.one_by_one
    assert not dynamic.notes


def test_export_with_a_tensor_changed_in_place(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            before = y.mean((2, 3))
            torch.relu_(y)  # from here on, y is the changed one
            return torch.cat([y.mean((2, 3)), before], 1)

    network = made(Net())
    model = load_model(exported(network, rand(1, 1, 8, 8), tmp_path / "net.pt2"))
    assert not model.notes
    batches(model, network, rand(3, 1, 8, 8))


def test_export_whose_batch_cannot_be_freed_runs_image_by_image(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x - x.mean()).flatten(2).mean(2)  # the mean is over the whole batch

    network = made(Net())
    model = load_model(exported(network, rand(1, 1, 8, 8), tmp_path / "net.pt2"))
    assert model.one_by_one
    assert any("image by image" in note for note in model.notes)
    x = rand(3, 1, 8, 8)
    assert torch.allclose(model(x), torch.cat([network(image[None]) for image in x]), atol=1e-6)


def test_export_of_attention_written_out_takes_any_batch(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 16, 4, 4)
            self.first = nn.MultiheadAttention(16, 4)  # length first: batch and heads share an axis
            self.qkv, self.head = nn.Linear(16, 48), nn.Linear(16, 2)
            self.token = nn.Parameter(torch.rand(1, 1, 16))

        def forward(self, x: Tensor) -> Tensor:
            x = self.patch(x)
            count, width, rows, columns = x.shape
            x = x.reshape(count, width, rows * columns).permute(2, 0, 1)
            x = self.first(x, x, x)[0].permute(1, 0, 2)
            x = torch.cat([self.token.repeat(count, 1, 1), x], 1)
            q, k, v = self.qkv(x).reshape(count, -1, 3, 2, 8).permute(2, 0, 3, 1, 4)
            x = (q @ k.transpose(-2, -1)).softmax(-1) @ v
            return self.head(x.transpose(1, 2).reshape(count, -1, 16).mean(1))

    network = made(Net())
    model = load_model(exported(network, rand(1, 3, 16, 16), tmp_path / "net.pt2"))
    assert not model.one_by_one
    batches(model, network, rand(4, 3, 16, 16))


def test_export_of_a_unet_like_network(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.LeakyReLU(0.2, inplace=True)
            )
            self.mid = nn.Sequential(
                nn.AvgPool2d(2), nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.SiLU(inplace=True), nn.ELU()
            )
            self.up = nn.ConvTranspose2d(4, 4, 2, 2)
            self.out = nn.Conv2d(12, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.down(x)
            y = self.mid(x)
            wide = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            return self.out(torch.cat([x, self.up(y), F.dropout(wide, 0.5, self.training)], 1)).softmax(1)

    network = made(Net())
    model = load_model(exported(network, rand(1, 1, 8, 8), tmp_path / "unet.pt2"))
    batches(model, network, rand(2, 1, 8, 8))
    with Seen() as seen:
        model(rand(1, 1, 8, 8))
    assert {F.conv_transpose2d, F.interpolate, F.group_norm, F.instance_norm, F.leaky_relu, F.silu} <= set(
        seen.functions
    )


def test_export_in_training_mode_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(0.5)).train()
    with pytest.raises(ModelError, match="training mode"):
        load_model(exported(network, rand(1, 1, 8, 8), tmp_path / "net.pt2"))


def _rewritten(path: Path, change: Any) -> Path:
    """A copy of an archive with some members changed."""
    copy = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            for target, content in change(name, old.read(name)):
                new.writestr(target, content)
    return copy


class Trap:
    """Says so when it is unpickled."""

    sprung = False

    def __reduce__(self) -> Any:
        return _spring, ()


def _spring() -> None:
    Trap.sprung = True


def test_export_cannot_smuggle_code(tmp_path: Path) -> None:
    path = exported(made(Cnn()), rand(1, 1, 8, 8), tmp_path / "net.pt2")
    trap = io.BytesIO()
    torch.save({"a": Trap()}, trap)

    def pickled(name: str, content: bytes) -> Any:
        yield name, content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)

    def sample(name: str, content: bytes) -> Any:
        yield name, trap.getvalue() if name.endswith("model.pt") else content

    def compiled(name: str, content: bytes) -> Any:
        yield name, content
        if name.endswith("model.json"):
            yield name.replace("models/model.json", "data/aotinductor/model/x.so"), b"\x7fELF"

    def expression(code: str) -> Any:
        def change(name: str, content: bytes) -> Any:
            if name.endswith("models/model.json"):
                content = json.dumps({**json.loads(content), "expr_str": code}).encode()
            yield name, content

        return change

    for change in (pickled, sample, compiled):
        with pytest.raises(ModelError, match="(pickled objects|compiled code): loading that would run code"):
            load_model(_rewritten(path, change))
    for code in ("().__class__.__base__", "open('x')", "Symbol('a b')", "[x for x in y]", "Max(__import__)", "1 +"):
        with pytest.raises(ModelError, match="not a size"):
            load_model(_rewritten(path, expression(code)))
    assert not Trap.sprung


# --- ONNX ---


def onnx_file(network: nn.Module, x: Tensor, path: Path, *, dynamic: bool = True, opset: int = 17) -> Path:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    options = {"dynamic_axes": {"x": {0: "b"}, "y": {0: "b"}}} if dynamic else {}
    torch.onnx.export(
        network, (x,), path, input_names=["x"], output_names=["y"], dynamo=False, opset_version=opset, **options
    )
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_onnx_becomes_modules(tmp_path: Path, dims: int, dynamic: bool) -> None:
    if importlib.util.find_spec("onnx2torch") is None:
        pytest.skip("onnx2torch is not installed")
    network = made(Cnn(dims))
    model = load_model(onnx_file(network, rand(1, 1, *[8] * dims), tmp_path / "net.onnx", dynamic=dynamic))
    assert not model.black_box
    batches(model, network, rand(3, 1, *[8] * dims))
    assert any(isinstance(module, getattr(nn, f"Conv{dims}d")) for module in model.network.modules())
    assert (model.card.channels, model.card.dims) == (1, dims)
    stub = sys.modules.get("torchvision")
    assert stub is None or stub.__spec__ is not None  # no stand-in is left behind


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("dynamic", [True, False])
def test_onnx_that_cannot_be_converted_is_a_black_box(tmp_path: Path, dynamic: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.det(self.conv(x)[..., :3, :3])  # Det: onnxruntime knows it, onnx2torch does not

    network = made(Net())
    model = load_model(onnx_file(network, rand(1, 1, 8, 8), tmp_path / "net.onnx", dynamic=dynamic))
    assert model.black_box
    assert isinstance(model.network, BlackBox if dynamic else OneByOne)
    assert any("black box" in note and "Det" in note for note in model.notes)
    x = rand(3, 1, 8, 8)
    assert torch.allclose(model(x), network(x), atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning")
def test_onnx_converted_wrongly_is_a_black_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("onnx2torch") is None:
        pytest.skip("onnx2torch is not installed")
    network = made(Cnn())
    path = onnx_file(network, rand(1, 1, 8, 8), tmp_path / "net.onnx")
    load_model(path)  # imports onnx2torch
    monkeypatch.setattr(sys.modules["onnx2torch"], "convert", lambda _: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    model = load_model(path)
    assert model.black_box
    assert any("its outputs differ" in note for note in model.notes)
    assert torch.allclose(model(rand(2, 1, 8, 8)), network(rand(2, 1, 8, 8)), atol=1e-5)


def test_onnx_damaged(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    path.write_bytes(b"this is not a protobuf at all")
    with pytest.raises(ModelError, match=r"net\.onnx"):
        load_model(path)


# --- weights and factories ---

FACTORY = """
from torch import nn
def build(classes=3):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
def wrong():
    return 5
def broken():
    raise RuntimeError("no weights today")
"""


@pytest.fixture
def factory(tmp_path: Path) -> str:
    path = tmp_path / "my nets.py"
    path.write_text(FACTORY)
    return f"{path}:build"


def plain() -> nn.Module:
    return made(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))


@pytest.mark.parametrize(
    "wrap", ["bare", "state_dict", "model_state_dict", "module.", "model.", "_orig_mod.module.", "safetensors"]
)
def test_state_dicts(tmp_path: Path, factory: str, wrap: str) -> None:
    network = plain()
    weights: dict[str, Any] = dict(network.state_dict())
    path = tmp_path / "weights.pth"
    if wrap == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(weights, path)
    elif wrap.endswith("."):
        torch.save({"state_dict": {wrap + key: value for key, value in weights.items()}, "epoch": 3}, path)
    elif wrap == "bare":
        torch.save(weights, path)
    else:
        torch.save({wrap: weights, "epoch": 3}, path)
    model = load_model(path, factory=factory, normalise={"scale": [0, 255], "mean": [0.5], "std": [0.25]})
    batches(model, network, rand(3, 1, 8, 8))
    assert model.card.normalise == Normalise(scale=[0, 255], mean=[0.5], std=[0.25])
    assert any("prefix" in note for note in model.notes) == wrap.endswith(".")


def test_weights_that_do_not_fit(tmp_path: Path, factory: str) -> None:
    path = tmp_path / "weights.safetensors"
    weights = plain().state_dict()
    save_file({("stem.weight" if key == "0.weight" else key): value for key, value in weights.items()}, path)
    with pytest.raises(ModelError, match=r"1 missing \(0\.weight\); 1 unexpected \(stem\.weight\)"):
        load_model(path, factory=factory)
    save_file(dict(weights), path)
    with pytest.raises(ModelError, match=r"4\.bias is 3 in the file and 7 in the network"):
        load_model(path, factory=factory, kwargs={"classes": 7})
    with pytest.raises(ModelError, match=r'factory="path/to/file\.py:function"'):
        load_model(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nets.py:wrong", "gave int"),
        ("nets.py:broken", "no weights today"),
        ("nets.py:absent", "absent"),
        ("elsewhere.py:build", "no factory file"),
        ("no.such.package:build", "No module named"),
        ("just words", "A factory is"),
    ],
)
def test_factories_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(FACTORY)
    save_file(plain().state_dict(), "weights.safetensors")
    with pytest.raises(ModelError, match=message):
        load_model("weights.safetensors", factory=name)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_modules_are_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save(plain(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"pickled Python objects.*would run code.*torch\.export") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(pickle.dumps({"weights": Trap()}))
    with pytest.raises(ModelError, match="pickled Python objects|damaged"):
        load_model(path)
    torch.save({"state_dict": plain().state_dict(), "hparams": Trap()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="pickled Python objects"):
        load_model(path)
    assert not Trap.sprung


def test_damaged_files(tmp_path: Path, factory: str) -> None:
    network = plain()
    files = {
        "w.pt": lambda path: torch.save(network.state_dict(), path),
        "w.safetensors": lambda path: save_file(network.state_dict(), path),
    }
    files["s.pt"] = lambda path: torch.jit.script(network).save(path)
    files["e.pt2"] = lambda path: exported(network, rand(1, 1, 8, 8), path)
    for name, write in files.items():
        path = tmp_path / name
        write(path)
        data = path.read_bytes()
        for keep in (0, 0.3, 0.9):
            path.write_bytes(data[: int(keep * len(data))])
            with pytest.raises(ModelError) as caught:
                load_model(path, factory=factory)
            assert "\n" not in str(caught.value)
    (tmp_path / "model.pt").write_text("hello")
    with pytest.raises(ModelError, match="not a model file that is known"):
        load_model(tmp_path / "model.pt")
    with pytest.raises(ModelError, match="no model file, folder or bundled model 'nowhere'"):
        load_model("nowhere")
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelError, match="ONNX"):
        load_model(tmp_path / "keras.h5")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(ModelError, match="holds no weights"):
        load_model(tmp_path / "none.pt", factory=factory)


# --- folders ---


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    monai = pytest.importorskip("monai.networks.nets")
    folder = tmp_path / "spleen_bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    inference = {
        "imports": ["$import os"],
        "spilled": f"$open({str(tmp_path / 'spilled')!r}, 'w').close()",  # an expression that nobody asked for
        "width": 1,
        "network_def": {"_target_": "UNet", **arguments, "num_res_units": "@width"},
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    network = made(monai.UNet(**arguments, num_res_units=1))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    metadata = {
        "name": "Toy spleen",
        "network_data_format": {
            "inputs": {"image": {"num_channels": 1, "spatial_shape": [96, 96, 96], "modality": "CT"}},
            "outputs": {"pred": {"format": "segmentation", "channel_def": {"0": "background", "1": "spleen"}}},
        },
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return folder


def test_monai_bundle(bundle: Path, tmp_path: Path) -> None:
    from monai.networks.nets import UNet

    model = load_model(bundle, multiple_of=2)
    network = UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=[4, 8], strides=[2], num_res_units=1)
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    batches(model, network.eval(), rand(2, 1, 8, 8, 8))
    card = model.card
    assert (card.name, card.channels, card.dims, card.task) == ("Toy spleen", 1, 3, "segmentation")
    assert (card.labels, card.modality, card.size) == (["background", "spleen"], "ct", None)
    assert not (tmp_path / "spilled").exists()


def test_broken_bundles(bundle: Path) -> None:
    (bundle / "models" / "model.pt").rename(bundle / "models" / "other.pt")
    with pytest.raises(ModelError, match=r"no models/model\.pt"):
        load_model(bundle)
    (bundle / "configs" / "inference.json").write_text(json.dumps({"network_def": {"_target_": "NoSuchNet"}}))
    with pytest.raises(ModelError, match="cannot be built"):
        load_model(bundle)
    (bundle / "configs" / "inference.json").write_text("{}")
    with pytest.raises(ModelError, match="names no network_def"):
        load_model(bundle)


def test_bioimage_folder(tmp_path: Path) -> None:
    network = made(Cnn())
    torch.jit.script(network).save(tmp_path / "weights.pt")
    resource = {
        "name": "Toy nuclei",
        "inputs": [{"axes": "bcyx", "preprocessing": [{"name": "zero_mean_unit_variance"}]}],
        "weights": {"torchscript": {"source": "weights.pt"}},
    }
    (tmp_path / "rdf.yaml").write_text(yaml.safe_dump(resource))
    model = load_model(tmp_path)
    batches(model, network, rand(2, 1, 8, 8))
    assert (model.card.name, model.card.dims, model.card.normalise.scale) == ("Toy nuclei", 2, "zscore")
    (tmp_path / "rdf.yaml").write_text(yaml.safe_dump({**resource, "weights": {"keras_hdf5": {"source": "w.h5"}}}))
    with pytest.raises(ModelError, match="offers keras_hdf5 weights"):
        load_model(tmp_path)


def test_unknown_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none that is known"):
        load_model(tmp_path)


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except Exception:  # a torchvision built for another torch raises RuntimeError
        return False
    return True


@pytest.mark.parametrize(
    ("source", "module", "extra"), [("timm:resnet18", "timm", "timm"), ("hf:org/net", "transformers", "huggingface")]
)
def test_missing_extras_say_how_to_install(source: str, module: str, extra: str) -> None:
    if _importable(module):
        pytest.skip(f"{module} is installed here")
    with pytest.raises(ModelError, match=rf"xai-atlas\[{extra}\]|cannot be used here"):
        load_model(source)


def test_timm_folder(tmp_path: Path) -> None:
    if not _importable("timm"):
        pytest.skip("timm cannot be imported here (it needs torchvision)")
    import timm

    network = made(timm.create_model("resnet10t", num_classes=2))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "resnet10t", "num_classes": 2, "label_names": ["a", "b"],
              "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.2] * 3}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_model(tmp_path)
    batches(model, network, rand(2, 3, 64, 64))
    assert (model.card.size, model.card.labels) == ([64, 64], ["a", "b"])


def test_hugging_face_folder(tmp_path: Path) -> None:
    if not _importable("transformers"):
        pytest.skip("transformers is not installed here")
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    ViTForImageClassification(config).save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert model.card.size == [32, 32]
    assert model(rand(2, 3, 32, 32)).logits.shape == (2, 2)


# --- cards ---

CARD = {"name": "Toy", "task": "classification", "dims": 2, "channels": 1, "labels": ["a", "b"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "colour: Extra inputs"),
        ({"dims": 4}, "dims"),
        ({"channels": "1"}, "channels"),
        ({"size": [8]}, "size needs 2 numbers"),
        ({"size": [8, 8], "multiple_of": 4}, "not both"),
        ({"normalise": {"scale": [5, 5]}}, "low < high"),
        ({"normalise": {"mean": [0.5]}}, "same length"),
        ({"normalise": {"mean": [0.5, 0.5], "std": [1, 1]}}, "needs 1 or 1 numbers"),
    ],
)
def test_cards_are_strict(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(CARD))
    assert read_card(path).id == "toy"
    path.write_text(yaml.safe_dump({**CARD, **change}))
    with pytest.raises(ModelError, match=message) as caught:
        read_card(path)
    assert "\n" not in str(caught.value)


def test_bundled_models_load_and_run() -> None:
    cards = bundled()
    assert cards
    for card in cards:
        model = load_model(card.id)
        assert model.card == card
        assert card.dims is not None
        side = card.size or [max(32, card.multiple_of or 1)] * card.dims
        output = model(model.prepare(rand(card.channels or 1, *side) * 255))
        assert torch.isfinite(output).all()
        assert output.shape[1] == len(card.labels)


def test_bundled_weights_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = bundled()[0]
    data = (load.ZOO / f"{card.id}.safetensors").read_bytes()
    monkeypatch.setattr(load, "ZOO", tmp_path)
    monkeypatch.setattr(load, "_bundled", lambda: {card.id: card.model_copy(update={"sha256": "0" * 64})})
    with pytest.raises(ModelError, match="weights of the bundled model .* are missing"):
        load_model(card.id)
    (tmp_path / f"{card.id}.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="sha256 differs"):
        load_model(card.id)


def test_user_may_overrule_the_card() -> None:
    with pytest.raises(ModelError, match="size"):
        load_model(plain(), size=[0, 3])
    model = load_model(plain(), size=[9, 9], channels=1, task="regression")
    assert (model.card.size, model.card.task, model.card.dims) == ([9, 9], "regression", 2)
    assert model.card.id == "sequential"


# --- preparing images ---


def picture(array: np.ndarray) -> Image:
    buffer = io.BytesIO()
    Pillow.fromarray(array).save(buffer, "PNG")
    return load_image(buffer.getvalue())


def modelled(**options: Any) -> Any:
    return load_model(nn.Identity(), **options)


def test_prepare_by_default_gives_0_to_1() -> None:
    array = np.array([[0, 51], [102, 255]], np.uint8)
    assert torch.allclose(modelled().prepare(picture(array)), torch.tensor([[[[0, 0.2], [0.4, 1]]]]))


def test_prepare_converts_channels() -> None:
    grey = np.full((4, 5), 51, np.uint8)
    fitted = modelled(channels=3).fit(picture(grey))
    assert fitted.x.shape == (1, 3, 4, 5)
    assert any("repeated" in note for note in fitted.notes)
    colour = np.dstack([np.full((4, 5), level, np.uint8) for level in (255, 0, 0)])
    fitted = modelled(channels=1).fit(picture(colour))
    assert fitted.x.unique().item() == pytest.approx(0.299, abs=1e-4)
    with pytest.raises(ImageError, match="5 channels, Identity reads 3"):
        modelled(channels=3, dims=2).prepare(torch.zeros(5, 8, 8))


def test_prepare_scales_as_the_card_says() -> None:
    values = torch.tensor([[[0.0, 100], [200, 400]]])
    scaled = {
        "minmax": values / 400,
        "none": values,
        "zscore": (values - 175) / torch.tensor([0.0, 100, 200, 400]).std(correction=0),
    }
    for scale, expected in scaled.items():
        assert torch.allclose(modelled(dims=2, normalise={"scale": scale}).prepare(values)[0], expected, atol=1e-5)
    window = modelled(dims=2, normalise={"scale": [100, 300], "mean": [0.5], "std": [0.5]})
    assert window.prepare(values).flatten().tolist() == [-1, -1, 0, 1]
    percentile = modelled(dims=2, normalise={"scale": "percentile"}).prepare(values)
    assert percentile.min() == 0
    assert percentile.max() == 1
    constant = modelled(dims=2, normalise={"scale": "zscore"}).prepare(torch.full((1, 3, 3), 7.0))
    assert constant.abs().max() == 0


def test_8_bit_cards_take_what_is_displayed_of_deeper_images() -> None:
    deep = picture(np.array([[0, 30000], [45000, 60000]], np.uint16))
    fitted = modelled(normalise={"scale": [0, 255]}).fit(deep)
    assert fitted.x.min() == 0
    assert fitted.x.max() == 1
    assert 0.4 < fitted.x[0, 0, 0, 1] < 0.6
    assert any("8-bit" in note for note in fitted.notes)
    assert not modelled(normalise={"scale": [0, 255]}).fit(picture(np.zeros((3, 3), np.uint8))).notes


@pytest.mark.parametrize("dims", [2, 3])
def test_resizing_and_its_return(dims: int) -> None:
    shape, size = (30, 20, 12)[:dims], (15, 16, 12)[:dims]
    model = modelled(dims=dims, size=size, normalise={"scale": "none"})
    ramp = torch.linspace(0, 1, 30).view(1, 30, *[1] * (dims - 1)).expand(1, *shape).contiguous()
    fitted = model.fit(ramp)
    assert fitted.x.shape == (1, 1, *size)
    assert any("Resized" in note for note in fitted.notes)
    back = model.restore(fitted.x[:, 0], ramp)
    assert back.shape == (1, *shape)
    assert (back[0] - ramp[0]).abs().max() < 0.05


@pytest.mark.parametrize("dims", [2, 3])
def test_padding_and_its_return(dims: int) -> None:
    model = modelled(dims=dims, multiple_of=8, normalise={"scale": "none"})
    image = rand(1, *(9, 16, 13)[:dims])
    fitted = model.fit(image)
    assert fitted.x.shape == (1, 1, *(16, 16, 16)[:dims])
    assert torch.equal(model.restore(fitted.x[:, 0], image)[0], image[0])
    assert fitted.x.sum() == pytest.approx(float(image.sum()))


def test_dims_must_fit() -> None:
    with pytest.raises(ImageError, match="NaN"):
        modelled(dims=2).prepare(torch.full((1, 4, 4), torch.nan))
    volume = Image(torch.zeros(1, 4, 4, 4), (0, 1), "", "NIfTI")
    with pytest.raises(ImageError, match=r"3D, Identity reads 2D images; take a slice"):
        modelled(dims=2).prepare(volume)
    assert modelled(dims=2).prepare(volume.slice()).shape == (1, 1, 4, 4)


def test_card_of_given_module_reads_its_first_convolution() -> None:
    card: ModelCard = load_model(Cnn(dims=3, channels=2)).card
    assert (card.channels, card.dims, card.name) == (2, 3, "Cnn")
