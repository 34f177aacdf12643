"""Blocks that the autoencoder and the UNet share; feature maps are (B, C, H, W)."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from trainables.loop.draws import Masks

Layer = TypeVar("Layer", bound=nn.Module)

HEAD_CHANNELS = 64
"""Channels of an attention head, where the width is a multiple of it."""


def norm_groups(channels: int) -> int:
    """Groups of a GroupNorm: at most 32, of at least 4 channels each where the width allows it."""
    largest = max(1, min(32, channels // 4))
    return next(groups for groups in range(largest, 0, -1) if channels % groups == 0)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm (Wu & He 2018) with :func:`norm_groups` groups."""
    return nn.GroupNorm(norm_groups(channels), channels)


def zero_init(layer: Layer) -> Layer:
    """``layer`` with weights and bias at 0, so that its branch adds nothing at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def run(layer: nn.Module, *inputs: object, checkpointing: bool, random: bool = False) -> Tensor:
    """``layer(*inputs)``; with ``checkpointing`` only the inputs are kept, and the backward pass computes the layer
    again (Chen et al. 2016). ``random`` says that the layer draws from the global generator."""
    if not checkpointing or not torch.is_grad_enabled():
        return layer(*inputs)  # type: ignore[no-any-return]
    return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=random)  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3×3 convolution, twice, around a skip: (B, in, H, W) → (B, out, H, W).

    With a ``modulation`` the second norm is conditional, :func:`conditional_norm`. ``place`` is the layer's number in
    the network, for its dropout's masks.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.0, place: int = 0) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.dropout, self.place = dropout, place
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, modulation: Tensor | None = None, masks: Masks | None = None) -> Tensor:
        """``modulation`` is (B, 2·out), scale then shift; the result has the side of ``x``.

        In training, dropout takes ``masks``; without them it draws from the global generator.
        """
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(self.norm2(h) if modulation is None else conditional_norm(self.norm2, h, modulation))
        if self.dropout and self.training:
            h = F.dropout(h, self.dropout) if masks is None else masks.drop(h, self.dropout, self.place)
        skip = x if self.skip is None else self.skip(x)
        return skip + self.conv2(h)  # type: ignore[no-any-return]


def conditional_norm(norm: nn.GroupNorm, h: Tensor, modulation: Tensor) -> Tensor:
    """GroupNorm(h)·(1 + scale) + shift (Dhariwal & Nichol 2021, eq. 7): (B, C, H, W) and (B, 2·C) → (B, C, H, W).

    Every sample has its own weights and biases, so the kernel gets the batch as one sample of B·C channels.
    """
    scale, shift = modulation.chunk(2, dim=1)
    weight = norm.weight * (1 + scale)
    bias = norm.bias * (1 + scale) + shift
    apart = h.reshape(1, -1, *h.shape[2:])
    return F.group_norm(apart, len(h) * norm.num_groups, weight.flatten(), bias.flatten(), norm.eps).view_as(h)


class SelfAttention(nn.Module):
    """Self-attention over the H·W positions, around a skip: (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_CHANNELS if channels % HEAD_CHANNELS == 0 else 1
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        # PyTorch's fused attention kernels need channels last within a head.
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        qkv = self.qkv(tokens).view(batch, height * width, 3, self.heads, channels // self.heads)
        attended = attention(*qkv.permute(2, 0, 3, 1, 4).unbind()).transpose(1, 2).flatten(2)
        return x + self.project(attended).transpose(1, 2).view_as(x)  # type: ignore[no-any-return]


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention over (B, heads, positions, channels) (Vaswani et al. 2017, eq. 1).

    On a card by the fused kernel; on the CPU by plain products, as fast in fp32 and four times faster in bf16.
    """
    if query.device.type == "cuda":
        return F.scaled_dot_product_attention(query, key, value)
    weights: Tensor = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return weights.softmax(-1, dtype=query.dtype) @ value
