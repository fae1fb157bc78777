"""Architectures of the bundled models, one factory per model card, named like the card.

Every factory takes no arguments and returns a freshly initialised network; the card's weights are loaded into it. The
convolutional ones are MONAI networks (in-place ReLU, batch or instance norm); the transformer is written here so that
its attention runs through the fused kernel, which returns no attention weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet, DenseNet
from torch import Tensor, nn

RELU = ("relu", {"inplace": True})


def _unet(dims: int, channels: int, classes: int, features: tuple[int, ...], norm: str) -> nn.Module:
    """A five-level U-Net that takes any image of at least 16 pixels a side and returns ``classes`` logit maps."""
    return BasicUNet(
        spatial_dims=dims,
        in_channels=channels,
        out_channels=classes,
        features=features,
        act=RELU,
        norm=(norm, {"affine": True}),
        upsample="nontrainable",
    )


def breast_us_unet() -> nn.Module:
    """U-Net, (B, 1, H, W) → (B, 2, H, W) logits of background and lesion."""
    return _unet(2, 1, 2, (16, 24, 40, 64, 96, 16), "batch")


def nuclei_unet() -> nn.Module:
    """U-Net, (B, 3, H, W) → (B, 2, H, W) logits of background and nucleus."""
    return _unet(2, 3, 2, (16, 24, 32, 48, 64, 16), "batch")


def larynx_unet() -> nn.Module:
    """U-Net, (B, 3, H, W) → (B, 4, H, W) logits of background, vocal folds, glottal space and surgical tool."""
    return _unet(2, 3, 4, (16, 24, 40, 64, 96, 16), "batch")


def hippocampus_unet3d() -> nn.Module:
    """3D U-Net, (B, 1, D, H, W) → (B, 3, D, H, W) logits of background, anterior and posterior hippocampus."""
    return _unet(3, 1, 3, (12, 16, 24, 40, 56, 12), "instance")


def chest_xray_cnn() -> nn.Module:
    """Small DenseNet, (B, 1, H, W) → (B, 2) logits of normal and pneumonia."""
    return DenseNet(
        spatial_dims=2, in_channels=1, out_channels=2, init_features=24, growth_rate=12, block_config=(4, 6, 8)
    )


def lung_histology_cnn() -> nn.Module:
    """Small DenseNet, (B, 3, H, W) → (B, 3) logits of normal lung, adenocarcinoma and squamous cell carcinoma."""
    return DenseNet(
        spatial_dims=2, in_channels=3, out_channels=3, init_features=24, growth_rate=12, block_config=(4, 4, 6)
    )


def brain_mri_vit() -> nn.Module:
    """Vision transformer, (B, 1, 96, 96) → (B, 4) logits of glioma, meningioma, no tumour and pituitary tumour."""
    return VisionTransformer(channels=1, size=96, classes=4, width=96, depth=5, heads=4)


class Attention(nn.Module):
    """Multi-head self-attention over (B, N, width) through the fused kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
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
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class VisionTransformer(nn.Module):
    """A small vision transformer: convolutional patch embedding (stride 8), class token, learned positions.

    The three-step embedding in place of one 8×8 convolution is what lets it learn from under two thousand images.

    Args:
        channels: Input channels.
        size: Height and width of the input in pixels, a multiple of 8.
        classes: Number of output logits.
        width: Token width.
        depth: Number of blocks.
        heads: Attention heads per block.
    """

    def __init__(self, channels: int, size: int, classes: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        steps = (channels, width // 4, width // 2, width)
        self.patch_embed = nn.Sequential()
        for before, after in zip(steps, steps[1:], strict=False):
            self.patch_embed.append(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False))
            self.patch_embed.append(nn.BatchNorm2d(after))
            self.patch_embed.append(nn.GELU())
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + (size // 8) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], dim=1) + self.pos_embed
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits
