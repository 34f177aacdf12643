"""A network of the Inception network's shape with a sixteenth of its channels, for tests of what jobs do.

The real one takes an eighth of a second of a core for each image, which is more than all else that a small trial
does. Features of this one are as many and as reproducible, and mean nothing: what is said of scores is tested with
the real one. ``python tests/thin_network.py`` makes the file anew.
"""

from __future__ import annotations

import torch
from command_line import THIN

THINNER = 16
"""Divides all numbers of channels, but those of an image and of the features."""
FEATURES = (
    "conv",
    "tower_mixed_conv",
    "tower_mixed_conv_1",
    "tower_1_mixed_conv",
    "tower_1_mixed_conv_1",
    "tower_2_conv",
)
"""The layers of the last block that give the features."""


class Layer(torch.nn.Module):
    """A convolution and the numbers of its batch normalisation, by the names that the real network has."""

    def __init__(self, shape: list[int], stride: list[int], padding: list[int], random: torch.Generator) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        scale = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        signs = torch.randint(2, shape, generator=random) * 2.0 - 1  # which git keeps in a bit each
        self.weight = torch.nn.Parameter(scale * signs)
        for name, value in (("beta", 0.05), ("mean", 0.0), ("var", 1.0)):
            self.register_buffer(name, torch.full((shape[0],), value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(x, self.weight, None, self.stride, self.padding)


def thinned(name: str, shape: list[int]) -> list[int]:
    """The shape (out, in, height, width) of the layer ``name``, where the real one has ``shape``."""
    out, into, *kernel = shape
    block, _, own = name.partition(".")
    last = block == "mixed_10" and own in FEATURES
    return [out if last else out // THINNER, into if into == 3 else into // THINNER, *kernel]


def make(real: torch.nn.Module) -> torch.nn.Module:
    """A thin network with the layers of a ``real`` one."""
    random, root = torch.Generator().manual_seed(0), torch.nn.Module()
    for name, layer in real.named_modules():
        if hasattr(layer, "beta"):
            *folders, own = ["layers", *name.split(".")]
            parent = root
            for folder in folders:
                if not hasattr(parent, folder):
                    parent.add_module(folder, torch.nn.Module())
                parent = getattr(parent, folder)
            numbers = [[n, n] if isinstance(n, int) else list(n) for n in (layer.stride, layer.padding)]
            parent.add_module(own, Layer(thinned(name, list(layer.weight.shape)), *numbers, random))
    return root


if __name__ == "__main__":
    from trainables.measures.inception import _script_layers
    from trainables.measures.weights import find_weights

    torch.jit.script(make(_script_layers(find_weights())).eval()).save(THIN[1])
