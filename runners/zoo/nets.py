"""Architectures of the bundled models, one factory per model card, named like the card.

Every factory takes no arguments and returns a freshly initialised network; the card's weights are loaded into it. They
are written here, in plain PyTorch, so that the committed weights depend on no other package's class layout. On purpose
they have what explainers stumble over: in-place ReLU, skip connections, and attention through the fused kernel, which
returns no attention weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def breast_us_unet() -> nn.Module:
    """U-Net, (B, 1, H, W) → (B, 2, H, W) logits of background and lesion."""
    return UNet(2, 1, 2, (16, 24, 40, 64, 80), nn.BatchNorm2d)


def nuclei_unet() -> nn.Module:
    """U-Net, (B, 3, H, W) → (B, 2, H, W) logits of background and nucleus."""
    return UNet(2, 3, 2, (16, 24, 32, 48, 64), nn.BatchNorm2d)


def hippocampus_unet3d() -> nn.Module:
    """3D U-Net, (B, 1, D, H, W) → (B, 3, D, H, W) logits of background, anterior and posterior hippocampus."""
    return UNet(3, 1, 3, (10, 20, 40, 56), _instance_norm)


def chest_xray_cnn() -> nn.Module:
    """Residual network, (B, 1, H, W) → (B, 2) logits of normal and pneumonia."""
    return ResNet(channels=1, classes=2, widths=(16, 32, 64))


def brain_mri_vit() -> nn.Module:
    """Vision transformer, (B, 1, 96, 96) → (B, 4) logits of glioma, meningioma, no tumour and pituitary tumour."""
    return VisionTransformer(channels=1, size=96, classes=4, width=96, depth=5, heads=4)


def _instance_norm(channels: int) -> nn.Module:
    return nn.InstanceNorm3d(channels, affine=True)


class UNet(nn.Module):
    """A U-Net for images of any size of at least 16 pixels a side, in two or three dimensions.

    Args:
        dims: 2 or 3.
        channels: Input channels.
        classes: Number of logit maps.
        widths: Channels per level, finest first.
        norm: Makes a normalisation layer for a number of channels.
    """

    def __init__(
        self, dims: int, channels: int, classes: int, widths: Sequence[int], norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d

        def level(before: int, after: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for width in (before, after):
                layers += [conv(width, after, 3, padding=1, bias=False), norm(after), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        self.pool = nn.MaxPool2d(2) if dims == 2 else nn.MaxPool3d(2)
        self.mode = "bilinear" if dims == 2 else "trilinear"
        self.down = nn.ModuleList(level(*pair) for pair in zip((channels, *widths), widths, strict=False))
        coarse = list(reversed(widths))
        self.up = nn.ModuleList(level(low + fine, fine) for low, fine in zip(coarse, coarse[1:], strict=False))
        self.head = conv(widths[0], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logit maps ``(B, classes, *spatial)`` of ``(B, channels, *spatial)``."""
        skips = [self.down[0](image)]
        for level in self.down[1:]:
            skips.append(level(self.pool(skips[-1])))
        features = skips.pop()
        for level in self.up:
            skip = skips.pop()
            wide = F.interpolate(features, skip.shape[2:], mode=self.mode, align_corners=False)
            features = level(torch.cat([skip, wide], dim=1))
        logits: Tensor = self.head(features)
        return logits


class Residual(nn.Module):
    """Two convolutions of 3 pixels a side with a shortcut; the first may halve the image."""

    def __init__(self, before: int, after: int, stride: int, dims: int = 2) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv1 = conv(before, after, 3, stride, 1, bias=False)
        self.bn1 = norm(after)
        self.conv2 = conv(after, after, 3, 1, 1, bias=False)
        self.bn2 = norm(after)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(conv(before, after, 1, stride, bias=False), norm(after))

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, after, *spatial / stride)`` of ``(B, before, *spatial)``."""
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features)))))
        out: Tensor = self.relu(inner + self.shortcut(features))
        return out


class ResNet(nn.Module):
    """A small residual classifier; its last feature map is 16 times coarser than the image (8 times for volumes).

    Args:
        channels: Input channels.
        classes: Number of output logits.
        widths: Channels of the three stages of two blocks each.
        dims: 2 or 3.
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int], dims: int = 2) -> None:
        super().__init__()
        flat = dims == 2
        stem, side = (nn.Conv2d, 5) if flat else (nn.Conv3d, 3)
        self.stem = nn.Sequential(
            stem(channels, widths[0], side, stride=2, padding=side // 2, bias=False),
            nn.BatchNorm2d(widths[0]) if flat else nn.BatchNorm3d(widths[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2) if flat else nn.MaxPool3d(2),
        )
        self.stages = nn.Sequential()
        for before, after in zip((widths[0], *widths), widths, strict=False):
            stride = 2 if len(self.stages) == 1 or (len(self.stages) > 1 and flat) else 1
            self.stages.append(nn.Sequential(Residual(before, after, stride, dims), Residual(after, after, 1, dims)))
        self.pool = nn.AdaptiveAvgPool2d(1) if flat else nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(B, classes)`` of ``(B, channels, *spatial)``."""
        logits: Tensor = self.fc(self.pool(self.stages(self.stem(image))).flatten(1))
        return logits


class Attention(nn.Module):
    """Multi-head self-attention over (B, N, width) through the fused kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return mixed tokens ``(B, N, width)``."""
        batch, count, width = tokens.shape
        query, key, value = self.qkv(tokens).view(batch, count, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return out


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens ``(B, N, width)``."""
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class VisionTransformer(nn.Module):
    """A small vision transformer: convolutional patch embedding (stride 8), class token, learned positions.

    The three-step embedding in place of one 8×8 convolution is what lets it learn from under two thousand images.

    Args:
        channels: Input channels.
        size: Sides of the input in pixels, a multiple of 8.
        classes: Number of output logits.
        width: Token width.
        depth: Number of blocks.
        heads: Attention heads per block.
        dims: 2 or 3.
    """

    def __init__(
        self, channels: int, size: int, classes: int, width: int, depth: int, heads: int, dims: int = 2
    ) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        steps = (channels, width // 4, width // 2, width)
        self.patch_embed = nn.Sequential()
        for before, after in zip(steps, steps[1:], strict=False):
            self.patch_embed.append(conv(before, after, 3, stride=2, padding=1, bias=False))
            self.patch_embed.append(norm(after))
            self.patch_embed.append(nn.GELU())
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + (size // 8) ** dims, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(B, classes)`` of ``(B, channels, *spatial)``."""
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], dim=1) + self.pos_embed
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


class Windows(nn.Module):
    """A transformer block whose attention stays within windows, shifted by half a window or not.

    As in Swin; simpler in that a shifted window may span the border of the picture, without a mask, and that it has no
    relative position bias: the patch embedding's padding tells positions.

    Args:
        width: Channels.
        heads: Attention heads.
        window: Side of a window in tokens.
        shift: Tokens by which windows are shifted.
    """

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.block, self.window, self.shift = Block(width, heads), window, shift

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, *grid, width)``, channels last, of the same."""
        axes = list(range(1, features.ndim - 1))
        if self.shift:
            features = features.roll([-self.shift] * len(axes), axes)
        batch, *grid, width = features.shape
        cut = [part for side in grid for part in (side // self.window, self.window)]
        outer = [1 + 2 * axis for axis in range(len(grid))]
        order = [0, *outer, *(axis + 1 for axis in outer), len(cut) + 1]
        windows = features.reshape(batch, *cut, width).permute(order)
        mixed = self.block(windows.reshape(-1, self.window ** len(grid), width)).view(windows.shape)
        back = [order.index(axis) for axis in range(len(order))]
        features = mixed.permute(back).reshape(batch, *grid, width)
        return features.roll([self.shift] * len(axes), axes) if self.shift else features


class Swin(nn.Module):
    """A small Swin-like transformer: two stages of plain and shifted windows, patches merged in between.

    Args:
        channels: Input channels.
        classes: Number of output logits, or of logit maps.
        width: Channels of the first stage; the second has twice as many.
        heads: Attention heads of the first stage; the second has twice as many.
        dims: 2 or 3.
        window: Side of a window in tokens; the input is a multiple of 8 windows a side (4 without merging).
        maps: Whether to return logit maps: then a convolutional decoder with skips stands in place of the pooling. It
            ends at half the resolution, and its maps are enlarged.
    """

    def __init__(
        self, channels: int, classes: int, width: int, heads: int, dims: int = 2, window: int = 4, maps: bool = False
    ) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.patch_embed = nn.Sequential(
            conv(channels, width // 2, 3, stride=2, padding=1), nn.GELU(), conv(width // 2, width, 3, 2, 1)
        )
        self.stage1 = nn.Sequential(Windows(width, heads, window, 0), Windows(width, heads, window, window // 2))
        self.merge = nn.Linear(2**dims * width, 2 * width)
        self.stage2 = nn.Sequential(
            Windows(2 * width, 2 * heads, window, 0), Windows(2 * width, 2 * heads, window, window // 2)
        )
        self.norm = nn.LayerNorm(2 * width)
        self.mode = "bilinear" if dims == 2 else "trilinear"
        self.head: nn.Module = nn.Linear(2 * width, classes)
        self.maps = maps
        if maps:
            norm = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d

            def step(before: int, after: int) -> nn.Module:
                return nn.Sequential(conv(before, after, 3, padding=1), norm(after, affine=True), nn.GELU())

            half = width // 2
            self.up = nn.ModuleList([step(3 * width, width), step(width + half, half)])
            self.head = conv(half, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(B, classes)``, or maps ``(B, classes, *spatial)``, of ``(B, channels, *spatial)``."""
        first = self.patch_embed[1](self.patch_embed[0](image))
        fine = self.stage1(self.patch_embed[2](first).movedim(1, -1))
        corners = [fine]
        for axis in range(1, fine.ndim - 1):  # patches merge: neighbours become channels
            corners = [each.unflatten(axis, (-1, 2)).select(axis + 1, half) for each in corners for half in (0, 1)]
        features = self.norm(self.stage2(self.merge(torch.cat(corners, -1))))
        if not self.maps:
            logits: Tensor = self.head(features.flatten(1, -2).mean(1))
            return logits
        features = features.movedim(-1, 1)
        for step, skip in zip(self.up, (fine.movedim(-1, 1), first), strict=True):
            wide = F.interpolate(features, skip.shape[2:], mode=self.mode, align_corners=False)
            features = step(torch.cat([wide, skip], 1))
        return F.interpolate(self.head(features), image.shape[2:], mode=self.mode, align_corners=False)


class Autoencoder(nn.Module):
    """A small variational autoencoder: images in, a short code, images out; what counterfactuals are drawn with.

    It works on a grid of its own, to which images are resized. The spread of a code is the same for every image, one
    number per value of the code, so that it needs no layer of its own (as in arXiv 1903.12436).

    Args:
        dims: 2 or 3.
        channels: Image channels.
        grid: Sides of the grid it works on.
        widths: Channels per level; every level halves the grid.
        code: Numbers of the code; 0 for one without a dense layer, as many channels as ``local`` at every place of
            the coarsest grid, so that a number speaks of one place only.
        local: Channels of the coarsest features.
    """

    def __init__(
        self, dims: int, channels: int, grid: Sequence[int], widths: Sequence[int], code: int, local: int
    ) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.mode = "bilinear" if dims == 2 else "trilinear"
        self.grids = [tuple(grid)]
        for _ in widths:
            self.grids.append(tuple(-(-side // 2) for side in self.grids[-1]))

        def step(before: int, after: int, stride: int) -> nn.Sequential:
            return nn.Sequential(conv(before, after, 3, stride, 1, bias=False), norm(after), nn.GELU())

        self.down = nn.Sequential(*(step(*pair, 2) for pair in zip((channels, *widths), widths, strict=False)))
        self.narrow = conv(widths[-1], local, 1)
        total = local * math.prod(self.grids[-1])
        self.to_code: nn.Module = nn.Linear(total, code) if code else nn.Identity()
        self.from_code: nn.Module = nn.Linear(code, total) if code else nn.Identity()
        self.local = local
        coarse = list(reversed(widths))
        self.widen = step(local, coarse[0], 1)
        self.up = nn.ModuleList(step(*pair, 1) for pair in zip(coarse, (*coarse[1:], widths[0]), strict=True))
        self.head = conv(widths[0], channels, 3, padding=1)
        self.log_variance = nn.Parameter(torch.full((code or total,), -2.0))

    def encode(self, image: Tensor) -> Tensor:
        """Return codes ``(B, Z)`` of images ``(B, channels, *spatial)``: the means."""
        if tuple(image.shape[2:]) != self.grids[0]:
            smooth = self.mode == "bilinear"  # only that one has antialiasing
            image = F.interpolate(image, self.grids[0], mode=self.mode, align_corners=False, antialias=smooth)
        code: Tensor = self.to_code(self.narrow(self.down(image)).flatten(1))
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Return images ``(B, channels, *grid)`` of codes ``(B, Z)``."""
        features = self.widen(self.from_code(code).view(len(code), self.local, *self.grids[-1]))
        for level, grid in zip(self.up, reversed(self.grids[:-1]), strict=True):
            features = level(F.interpolate(features, grid, mode=self.mode, align_corners=False))
        image: Tensor = self.head(features)
        return image

    def forward(self, image: Tensor) -> Tensor:
        """Return reconstructions ``(B, channels, *grid)``."""
        return self.decode(self.encode(image))
