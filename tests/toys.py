"""Toy models of every kind that the explainers must serve, small and untrained, made from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runners import Tiled
from runners.joint import Prompted
from runners.writing import Written


def _conv(dims: int) -> type[nn.Module]:
    return nn.Conv2d if dims == 2 else nn.Conv3d


class CNN(nn.Module):
    """Convolutions with batch normalisation, a residual sum, max pooling, global pooling and a linear head."""

    def __init__(self, dims: int = 2, channels: int = 1, labels: int = 3, inplace: bool = False) -> None:
        super().__init__()
        conv, norm = _conv(dims), (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)
        self.stem = nn.Sequential(conv(channels, 8, 3, padding=1), norm(8), nn.ReLU(inplace))
        self.pool = nn.MaxPool2d(2) if dims == 2 else nn.MaxPool3d(2)
        self.block = nn.Sequential(conv(8, 8, 3, padding=1), norm(8))
        self.relu = nn.ReLU(inplace)
        self.last = conv(8, 12, 3, padding=1)
        self.head = nn.Linear(12, labels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        out = self.block(x)
        out += x
        x = self.relu(out)
        x = self.relu(self.last(x))
        return self.head(x.flatten(2).mean(2))


class FunctionalCNN(nn.Module):
    """No activation modules at all: functional and in-place ReLUs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        F.relu_(x)
        x = torch.relu(self.second(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Gated(nn.Module):
    """Squeeze and excitation with SiLU, as in EfficientNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.SiLU())
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = F.silu(self.last(x * gate))
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, kind: str) -> None:
        super().__init__()
        self.heads, self.kind = heads, kind
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if self.kind == "fused":
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            weights = (q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5).softmax(-1)
            mixed = weights @ v
        return self.out(mixed.transpose(1, 2).reshape(b, n, d))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, kind: str) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, heads, kind)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer; ``kind`` is fused, handwritten, module or tokens_first; without prefix it pools."""

    def __init__(
        self,
        size: tuple[int, ...] = (32, 32),
        kind: str = "fused",
        prefix: int = 1,
        width: int = 16,
        depth: int = 3,
        labels: int = 3,
    ) -> None:
        super().__init__()
        dims, patch = len(size), 8
        self.embed = _conv(dims)(1, width, patch, patch)
        count = 1
        for s in size:
            count *= s // patch
        self.prefix, self.kind = prefix, kind
        self.extra = nn.Parameter(torch.randn(1, prefix, width)) if prefix else None
        self.position = nn.Parameter(0.1 * torch.randn(1, count + prefix, width))
        if kind == "module":
            layer = nn.TransformerEncoderLayer(
                width, 4, 2 * width, batch_first=True, activation="gelu", norm_first=True
            )
            self.blocks: nn.Module = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        elif kind == "tokens_first":
            layer = nn.TransformerEncoderLayer(width, 4, 2 * width, activation="gelu", norm_first=True)
            self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        else:
            self.blocks = nn.Sequential(*[Block(width, 4, kind) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, labels)

    def forward(self, x: Tensor) -> Tensor:
        t = self.embed(x).flatten(2).transpose(1, 2)
        if self.extra is not None:
            t = torch.cat([self.extra.expand(len(t), -1, -1), t], 1)
        t = t + self.position
        first = self.kind == "tokens_first"
        t = self.norm(self.blocks(t.transpose(0, 1)).transpose(0, 1) if first else self.blocks(t))
        return self.head(t[:, 0] if self.prefix else t.mean(1))


class Seeing(ViT):
    """The tokens of a vision transformer."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.extra is not None
        t = self.embed(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.extra.expand(len(t), -1, -1), t], 1) + self.position
        return self.norm(self.blocks(t))


class Telling(nn.Module):
    """A decoder of two layers: word pieces read those before them, and the image."""

    def __init__(self, width: int = 16, words: int = 8, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.head = nn.Linear(width, words)

    def forward(self, ids: Tensor, tokens: Tensor) -> Tensor:
        t = self.embed(ids)
        later = torch.ones(t.shape[1], t.shape[1], dtype=torch.bool, device=t.device).triu(1)
        for layer in self.layers:
            t = layer(t, tokens, tgt_mask=later)
        return self.head(t)


class Swin(nn.Module):
    """Windowed attention on channel-last features in two stages, as in Swin."""

    def __init__(self, width: int = 12, window: int = 4) -> None:
        super().__init__()
        self.window = window
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.stage1, self.stage2 = Block(width, 2, "fused"), Block(2 * width, 2, "fused")
        self.merge = nn.Linear(4 * width, 2 * width)
        self.norm, self.head = nn.LayerNorm(2 * width), nn.Linear(2 * width, 5)

    def _windows(self, block: nn.Module, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        s = self.window
        t = x.view(b, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)
        t = block(t).view(b, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5)
        return t.reshape(b, h, w, c)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        x = self._windows(self.stage1, x)
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
        x = self._windows(self.stage2, self.merge(x))
        return self.head(self.norm(x).mean((1, 2)))


class UNet(nn.Module):
    """Two levels, skip connection, transposed convolution, instance normalisation, one logit or several."""

    def __init__(
        self, dims: int = 2, channels: int = 1, labels: int = 2, inplace: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        conv = _conv(dims)
        norm = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        up = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
        self.down = nn.Sequential(conv(channels, 8, 3, padding=1), norm(8, affine=True), nn.ReLU(inplace))
        self.bottom = nn.Sequential(conv(8, 16, 3, stride=2, padding=1), norm(16, affine=True), nn.ReLU(inplace))
        self.up = up(16, 8, 2, 2)
        self.join = nn.Sequential(conv(16, 8, 3, padding=1), nn.ReLU(inplace))
        self.drop = nn.Dropout(dropout)
        self.out = conv(8, labels, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        return self.out(self.drop(self.join(torch.cat([skip, self.up(self.bottom(skip))], 1))))


class Detector(nn.Module):
    """One box per cell of a coarse grid; the surest are returned as torchvision's detectors do, or as DETR does."""

    def __init__(self, dims: int = 2, kind: str = "list", keep: int = 5) -> None:
        super().__init__()
        conv = _conv(dims)
        self.features = nn.Sequential(
            conv(1, 8, 3, stride=2, padding=1), nn.ReLU(), conv(8, 8, 3, stride=2, padding=1), nn.ReLU()
        )
        self.score, self.size = conv(8, 2, 1), conv(8, dims, 1)
        self.dims, self.kind, self.keep = dims, kind, keep

    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        logits = self.score(features).flatten(2).transpose(1, 2)
        sides = self.size(features).flatten(2).transpose(1, 2).sigmoid() * 8 + 4
        axes = [torch.arange(n, device=x.device) * 4.0 + 2 for n in features.shape[2:]]
        centres = torch.stack([c.flatten() for c in torch.meshgrid(*axes, indexing="ij")], -1).flip(-1)
        if self.kind == "detr":
            size = torch.tensor([float(s) for s in reversed(x.shape[2:])], device=x.device, dtype=x.dtype)
            nothing = torch.zeros_like(logits[..., :1])
            boxes = torch.cat([centres.to(x).expand(len(x), -1, -1), sides], -1) / size.repeat(2)
            return SetPrediction(torch.cat([logits, nothing], -1), boxes)
        found = []
        for row, side in zip(logits, sides, strict=True):
            scores, labels = row.sigmoid().max(-1)
            top = scores.topk(self.keep).indices
            boxes = torch.cat([centres[top] - side[top] / 2, centres[top] + side[top] / 2], -1)
            found.append({"boxes": boxes, "labels": labels[top], "scores": scores[top]})
        return found


@dataclass
class SetPrediction:
    """What DETR returns."""

    logits: Tensor
    pred_boxes: Tensor


@dataclass
class Answer:
    """A dataclass output with the logits not first."""

    features: Any
    logits: Tensor


class ABMIL(nn.Module):
    """Gated attention pooling over a bag of tiles, with one attention branch or one per label, as in ABMIL and CLAM."""

    def __init__(self, labels: int = 3, branches: int = 1, channels: int = 1, width: int = 12, dims: int = 2) -> None:
        super().__init__()
        self.branches = branches
        self.encoder = nn.Sequential(_conv(dims)(channels, width, 3, padding=1), nn.ReLU())
        self.values, self.gates = nn.Linear(width, 8), nn.Linear(width, 8)
        self.weigh = nn.Linear(8, branches)
        self.heads = (
            nn.Linear(width, labels) if branches == 1 else nn.ModuleList(nn.Linear(width, 1) for _ in range(labels))
        )

    def forward(self, bag: Tensor) -> Tensor:
        h = self.encoder(bag).flatten(2).mean(2)
        a = self.weigh(torch.tanh(self.values(h)) * torch.sigmoid(self.gates(h)))
        pooled = torch.mm(torch.softmax(torch.transpose(a, 1, 0), dim=1), h)
        if self.branches == 1:
            return self.heads(pooled)
        return torch.cat([head(pooled[k : k + 1]) for k, head in enumerate(self.heads)], 1)


class MultiOutput(nn.Module):
    """Wraps a model to return a tuple, a dict or a dataclass."""

    def __init__(self, inner: nn.Module, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = inner, kind

    def forward(self, x: Tensor) -> Any:
        y = self.inner(x)
        if self.kind == "tuple":
            return y, [x]
        if self.kind == "dict":
            return {"aux": y[:, :1], "logits": y}
        return Answer({"x": x}, y)


class Box(nn.Module):
    """A model whose outputs carry no gradient."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.inner(x)


class Linear(nn.Module):
    """score = weight · x + bias, one output per label: every method has an exact answer."""

    def __init__(self, shape: tuple[int, ...], labels: int = 2) -> None:
        super().__init__()
        count = 1
        for s in shape:
            count *= s
        self.layer = nn.Linear(count, labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


class Split(nn.Module):
    """Features, and a head that is not the same at every position."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.dims = dims
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.features = nn.Sequential(conv(1, 5, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(5 * 4**dims, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


def setting(dims: int) -> tuple[Split, Tensor, Tensor, Tensor]:
    """A model, two images, their features and the gradient of label 2 with respect to them, taken by hand."""
    torch.manual_seed(1)
    model, x = Split(dims).eval(), torch.rand(2, 1, *[8] * dims)
    a = model.features(x).detach()
    g = model.head.weight[2].detach().view(1, *a.shape[1:]).expand_as(a)
    return model, x, a, g


def up(maps: Tensor, x: Tensor) -> Tensor:
    """Enlarge maps ``(B, *grid)`` to the size of the images."""
    return F.interpolate(maps[:, None], x.shape[2:], mode="bilinear" if x.ndim == 4 else "trilinear")[:, 0]


@dataclass(frozen=True)
class Toy:
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    task: str
    architecture: str | None
    explainable: bool = True


TOYS: dict[str, Toy] = {
    "cnn2d": Toy(lambda: CNN(2), (1, 32, 32), "classification", "cnn"),
    "cnn2d_inplace": Toy(lambda: CNN(2, 3, inplace=True), (3, 28, 36), "classification", "cnn"),
    "cnn2d_functional": Toy(FunctionalCNN, (1, 32, 32), "classification", "cnn"),
    "cnn2d_gated": Toy(Gated, (3, 32, 32), "classification", "cnn"),
    "cnn2d_regression": Toy(lambda: CNN(2, labels=1), (1, 32, 32), "regression", "cnn"),
    "cnn3d": Toy(lambda: CNN(3), (1, 16, 16, 16), "classification", "cnn"),
    "cnn3d_regression": Toy(lambda: CNN(3, labels=1), (1, 16, 16, 16), "regression", "cnn"),
    "vit_fused": Toy(lambda: ViT(), (1, 32, 32), "classification", "vit"),
    "vit_handwritten": Toy(lambda: ViT(kind="handwritten"), (1, 32, 32), "classification", "vit"),
    "vit_module": Toy(lambda: ViT(kind="module"), (1, 32, 32), "classification", "vit"),
    "vit_tokens_first": Toy(lambda: ViT(kind="tokens_first"), (1, 32, 32), "classification", "vit"),
    "vit_pooled": Toy(lambda: ViT(prefix=0), (1, 32, 32), "classification", "vit"),
    "vit_registers": Toy(lambda: ViT((32, 48), prefix=5), (1, 32, 48), "classification", "vit"),
    "vit_3d": Toy(lambda: ViT((16, 16, 24)), (1, 16, 16, 24), "classification", "vit"),
    "vit_prompted": Toy(
        lambda: Prompted(ViT(labels=8), F.normalize(torch.randn(3, 8), dim=1), 10.0),
        (1, 32, 32),
        "classification",
        "vit",
    ),
    "vit_writer": Toy(
        lambda: Written(Seeing(), Telling(), [0, 3, 4, 5, 6, 2], [(1, 4), (4, 6)], ["a b c", "d e"]),
        (1, 32, 32),
        "classification",
        "vit",
    ),
    "swin": Toy(Swin, (3, 32, 32), "classification", "swin"),
    "unet2d": Toy(lambda: UNet(2), (1, 32, 32), "segmentation", "unet"),
    "unet2d_one_logit": Toy(lambda: UNet(2, labels=1), (1, 32, 32), "segmentation", "unet"),
    "unet2d_dropout": Toy(lambda: UNet(2, labels=3, dropout=0.3), (1, 32, 32), "segmentation", "unet"),
    "unet3d": Toy(lambda: UNet(3, labels=3), (1, 16, 16, 16), "segmentation", "unet"),
    "detector": Toy(Detector, (1, 32, 32), "detection", "cnn"),
    "detector_3d": Toy(lambda: Detector(3), (1, 16, 16, 16), "detection", "cnn"),
    "detr": Toy(lambda: Detector(kind="detr"), (1, 32, 32), "detection", "cnn"),
    "tuple": Toy(lambda: MultiOutput(CNN(2), "tuple"), (1, 32, 32), "classification", "cnn"),
    "dict": Toy(lambda: MultiOutput(CNN(2), "dict"), (1, 32, 32), "classification", "cnn"),
    "dataclass": Toy(lambda: MultiOutput(ViT(), "dataclass"), (1, 32, 32), "classification", "vit"),
    "mil": Toy(lambda: Tiled(ABMIL(), 8), (1, 32, 32), "classification", "cnn"),
    "box": Toy(lambda: Box(CNN(2)), (1, 32, 32), "classification", None),
}


def make(name: str, seed: int = 7) -> nn.Module:
    """Build a toy model from a seed, in evaluation mode, its batch statistics made plausible by a few passes."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = TOYS[name].make()
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(4, *TOYS[name].shape))
    torch.set_rng_state(state)
    return model.eval()


def images(name: str, batch: int = 2) -> Tensor:
    """Random images for a toy model, each with a bright blob so that features are not all alike."""
    generator = torch.Generator().manual_seed(11)
    x = 0.5 * torch.rand(batch, *TOYS[name].shape, generator=generator)
    for i in range(batch):
        where = tuple(slice(4 + 4 * i, 12 + 4 * i) for _ in TOYS[name].shape[1:])
        x[(i, slice(None), *where)] += 1.0
    return x
