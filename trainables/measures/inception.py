"""Inception features for FID and KID: the 2015-12-05 network on slices as clean-fid resizes them.

Parmar et al. 2022 (clean-fid) take Szegedy et al.'s Inception v3 as TensorFlow published it on 2015-12-05 and resize
with an antialiased bicubic filter, unquantised. Here the same weights are in a network of our own, with batch
normalisation folded into the convolutions and channels last: about 60 % of the TorchScript file's time on a CPU.

Legend: B images in a batch; features are (N, 2048).
"""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

import trainables.measures.torchvision_operators  # noqa: F401  # isort: skip
from trainables.config import fingerprint
from trainables.errors import DataError, WeightsError
from trainables.loop.watchdog import beat
from trainables.measures.weights import NEXT_STEP, InceptionWeights

CPU_BATCH, CARD_BATCH = 8, 32
RESIZER = "clean-fid clean: bicubic to 299x299"


class InceptionExtractor:
    """Features of grey slices; ``id`` identifies the network and the resizer.

    All passes have the same number of images, the last one filled up with zeros, so that an image's features don't
    depend on the others. The network is on a card only while features are computed.
    """

    def __init__(self, weights: InceptionWeights, device: str | torch.device = "cpu") -> None:
        from cleanfid.resize import build_resizer

        self.device = torch.device(device)
        self._network = _Network(_script_layers(weights))
        self._resize = build_resizer("clean")
        self.id = fingerprint({"network": self._network.sha256, "resizer": RESIZER})

    def features(
        self,
        images: npt.NDArray[np.uint8],
        *,
        batch_size: int = CARD_BATCH,
        progress: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Features (N, 2048) of ``images`` (N, H, W) uint8, as clean-fid takes them from grey PNG files.

        ``progress`` is called with (images done, N) after each batch. ``batch_size`` is for accelerators; a CPU takes
        ``CPU_BATCH`` images a pass, since more gain nothing and oneDNN sums in another order from 16 on.
        Raises :class:`DataError` for another shape or type.
        """
        if images.ndim != 3 or images.dtype != np.uint8:
            raise DataError(
                f"Inception features need images (N, H, W) of uint8, got {images.shape} of {images.dtype}: "
                "convert them to 8-bit grey first"
            )
        size = CPU_BATCH if self.device.type == "cpu" else batch_size
        network = self._network.on(self.device)
        features = np.empty((len(images), 2048), dtype=np.float32)
        for start in range(0, len(images), size):
            count = len(images[start : start + size])
            batch = np.zeros((size, 299, 299), dtype=np.float32)
            batch[:count] = self.resize(images[start : start + size])
            exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
            with torch.inference_mode(), exact:
                values = network(torch.from_numpy(batch).to(self.device))
            features[start : start + count] = values[:count].cpu().numpy()
            beat()
            if progress is not None:
                progress(start + count, len(images))
        return features

    def resize(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """``images`` (B, H, W) in clean-fid's size, (B, 299, 299) in [0, 255]: three are one picture's channels."""
        resized = np.empty((len(images), 299, 299), dtype=np.float32)
        for start in range(0, len(images), 3):
            picture = np.take(images, range(start, start + 3), axis=0, mode="clip").transpose(1, 2, 0)
            count = len(resized[start : start + 3])
            resized[start : start + 3] = self._resize(picture).transpose(2, 0, 1)[:count]
        return resized


def _script_layers(weights: InceptionWeights) -> torch.jit.ScriptModule:
    """The layers of the TorchScript file, from bytes whose SHA-256 is checked again."""
    data = weights.path.read_bytes()
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise WeightsError(f"the Inception weights {weights.path} have changed since they were checked; {NEXT_STEP}")
    module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    layers: torch.jit.ScriptModule = getattr(module, "net", module).layers
    return layers


class _Network:
    """Inception v3 (Szegedy et al. 2016) up to its pooled features, as it was published on 2015-12-05."""

    def __init__(self, layers: torch.jit.ScriptModule) -> None:
        self._convolutions: dict[str, tuple[Tensor, Tensor, int, int | list[int]]] = {}
        digest = hashlib.sha256()
        for name, layer in layers.named_modules():
            if hasattr(layer, "beta"):
                self._convolutions[name] = (*_folded(layer), layer.stride, layer.padding)
                for parameter in (layer.weight, layer.beta, layer.mean, layer.var):
                    digest.update(name.encode() + parameter.detach().numpy().tobytes())
        self.sha256 = digest.hexdigest()

    def on(self, device: torch.device) -> _Network:
        """The network on the CPU, or a copy of it on a card."""
        if device.type == "cpu":
            return self
        there = copy.copy(self)
        there._convolutions = {
            name: (weight.to(device), bias.to(device), stride, padding)
            for name, (weight, bias, stride, padding) in self._convolutions.items()
        }
        return there

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 299, 299) in [0, 255] → (B, 2048)."""
        x = ((images - 128) / 128)[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(self._chain(x, "conv", "conv_1", "conv_2"), 3, 2)
        x = F.max_pool2d(self._chain(x, "conv_3", "conv_4"), 3, 2)
        for block in ("mixed", "mixed_1", "mixed_2"):
            x = self._mix(x, block, tower=2, tower_1=3)
        x = self._reduce(x, "mixed_3", conv=1, tower=3)
        for block in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):
            x = self._mix(x, block, tower=3, tower_1=5)
        x = self._reduce(x, "mixed_8", tower=2, tower_1=4)
        x = self._fork(x, "mixed_9", _average(x))
        x = self._fork(x, "mixed_10", F.max_pool2d(x, 3, 1, 1))
        return x.mean((2, 3))

    def _chain(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            weight, bias, stride, padding = self._convolutions[name]
            x = F.conv2d(x, weight, bias, stride, padding).relu_()
        return x

    def _towers(self, x: Tensor, block: str, lengths: dict[str, int]) -> list[Tensor]:
        """The results of a block's branches: one convolution ``conv``, and towers of ``lengths`` convolutions."""
        names = {
            name: [name] if name == "conv" else [f"{name}.conv{f'_{i}' if i else ''}" for i in range(length)]
            for name, length in lengths.items()
        }
        return [self._chain(x, *(f"{block}.{layer}" for layer in layers)) for layers in names.values()]

    def _mix(self, x: Tensor, block: str, **towers: int) -> Tensor:
        pooled = self._chain(_average(x), f"{block}.tower_2.conv")
        return torch.cat([*self._towers(x, block, {"conv": 1, **towers}), pooled], 1)

    def _reduce(self, x: Tensor, block: str, **towers: int) -> Tensor:
        """Halves the side."""
        return torch.cat([*self._towers(x, block, towers), F.max_pool2d(x, 3, 2)], 1)

    def _fork(self, x: Tensor, block: str, pooled: Tensor) -> Tensor:
        parts = [self._chain(x, f"{block}.conv")]
        for stem in (("tower_conv",), ("tower_1_conv", "tower_1_conv_1")):
            trunk = self._chain(x, *(f"{block}.{name}" for name in stem))
            prefix = stem[0].removesuffix("conv")
            parts += [self._chain(trunk, f"{block}.{prefix}mixed_conv{end}") for end in ("", "_1")]
        return torch.cat([*parts, self._chain(pooled, f"{block}.tower_2_conv")], 1)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _folded(layer: torch.jit.ScriptModule) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch normalisation (ε = 1e-3, no scale) folded in."""
    scale = (layer.var.detach().double() + 1e-3).rsqrt()
    weight = (layer.weight.detach().double() * scale[:, None, None, None]).float()
    bias = (layer.beta.detach().double() - layer.mean.detach().double() * scale).float()
    return weight.contiguous(memory_format=torch.channels_last), bias
