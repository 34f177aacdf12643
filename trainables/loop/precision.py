"""Mixed precision: a network computes in half precision, and its weights are kept and updated in fp32.

Micikevicius et al. 2018, section 3.1 (master weights). All weights are converted together, once a step, and so are
the gradients: on a card, a conversion of each tensor by itself costs a launch each.
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

PRODUCTS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""The layers of our networks that are products of matrices."""


def convert(network: Network, dtype: torch.dtype, device_type: str | None = None) -> Network:
    """A copy of ``network`` with weights in ``dtype``; the network itself where they are in it already.

    On a card all weights are converted. On the CPU only those of convolutions and linear layers are, as under
    PyTorch's autocast; the copy shares the rest with ``network``. It always shares buffers. ``device_type`` is by
    default that of the weights.
    """
    weights: list[Tensor] = list(network.parameters())
    if all(weight.dtype == dtype for weight in weights):
        return network
    if (device_type or weights[0].device.type) == "cpu":
        products = (module for module in network.modules() if isinstance(module, PRODUCTS))
        weights = [weight for product in products for weight in product.parameters()]
    converted = [torch.empty_like(weight, dtype=dtype) for weight in weights]
    with torch.no_grad():
        torch._foreach_copy_(converted, weights)
    known: dict[int, object] = {id(kept): kept for kept in (*network.parameters(), *network.buffers())}
    for weight, tensor in zip(weights, converted, strict=True):
        known[id(weight)] = nn.Parameter(tensor, weight.requires_grad)
    return copy.deepcopy(network, known)


def dtype_of(network: nn.Module) -> torch.dtype:
    """What ``network`` computes in: the dtype of its first layer's weights."""
    return next(network.parameters()).dtype


class WorkingCopy(Generic[Network]):
    """The network that computes in ``dtype`` for a ``master`` in fp32, which gets its gradients.

    Call :meth:`refresh` first in each step, and :meth:`collect` after each backward pass. In fp32 the master itself
    computes, and both do nothing.
    """

    def __init__(self, master: Network, dtype: torch.dtype, device_type: str | None = None) -> None:
        self.master, self.network = master, convert(master, dtype, device_type)
        both = zip(master.parameters(), self.network.parameters(), strict=True)
        self._pairs = [(kept, working) for kept, working in both if kept is not working]

    @torch.no_grad()
    def refresh(self) -> None:
        """Copies the master's weights."""
        if self._pairs:
            masters, copies = zip(*self._pairs, strict=True)
            torch._foreach_copy_(copies, masters)

    @torch.no_grad()
    def collect(self) -> None:
        """Moves the gradients to the master, where they are added to those of earlier passes."""
        first, later = [], []
        for master, working in self._pairs:
            if working.grad is None:
                continue
            if master.grad is None:
                master.grad = torch.empty_like(master)
                first.append((master.grad, working.grad))
            else:
                later.append((master.grad, working.grad))
            working.grad = None
        for combine, pairs in ((torch._foreach_copy_, first), (torch._foreach_add_, later)):
            if pairs:
                kept, new = zip(*pairs, strict=True)
                combine(kept, new)
