"""What a training needs of a card, by part: one step on tensors without storage, followed as they come and go.

The step is the loops' own code under PyTorch's ``FakeTensorMode``, so nothing is computed or allocated. Bytes are
those of distinct storages, views counted once.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainables import diffusion_training, vae_training
from trainables.errors import CapacityError
from trainables.execution import GIB, Execution, autocast_dtype
from trainables.ladder import at_once, described, rungs
from trainables.recipes import Recipe
from trainables.sampling import CHUNK_ON_ACCELERATOR
from trainables.training import update, update_ema
from trainables.unet import UNet
from trainables.vae import Autoencoder

MIB = 2**20

CONTEXT = GIB // 2
"""Memory that CUDA itself takes in each process, outside PyTorch's allocator: a bound, 0.2 to 0.5 GiB by card."""

LIBRARIES = 32 * MIB
"""Workspaces of cuBLAS and cuDNN, which PyTorch's allocator holds: 8 to 32 MiB by card."""

NAMES = {"vae": "autoencoder's training", "diffusion": "denoiser's training"}
"""The trainings by their section of a recipe."""

RESERVE = 1.1
"""What the allocator reserves over what is allocated: its blocks are not cut to measure."""

INCEPTION = int((83 + 32 * 10.2) * MIB)
"""The Inception network: its weights, and 10.2 MiB for each of 32 images (the CPU allocator's peak)."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one training, by part."""

    weights: int
    gradients: int
    optimizer: int
    """AdamW's two moments."""
    average: int
    """The averaged denoiser (EMA), or the best autoencoder."""
    data: int
    """The training set, which lies on the card, and the step's batch."""
    activations: int
    """What autograd keeps of a forward pass, with the weights' copies in the chosen precision."""
    workspace: int
    """Temporaries at the peak beyond the rest, with those of cuBLAS and cuDNN on a card."""
    step: int
    """The peak of a training step, to compare with ``torch.cuda.max_memory_allocated``."""
    measuring: int
    """The peak while the training is measured on the way: validation, sampling, decoding, Inception."""

    @property
    def peak(self) -> int:
        """The most that the training has allocated at any time."""
        return max(self.step, self.measuring)

    @property
    def need(self) -> int:
        """What its process takes of a card: the peak, the allocator's reserve, the CUDA context."""
        return int(self.peak * RESERVE) + CONTEXT


def batch_size(recipe: Recipe, section: str, slices: int = 0) -> int:
    """Samples in an optimiser step of ``section``, of a training split of so many slices (0: not known)."""
    size = recipe.vae.batch_size if section == "vae" else recipe.diffusion.batch_size
    return min(size, slices) if slices else size


def fitted(recipe: Recipe, section: str, execution: Execution, *, slices: int = 0) -> Execution:
    """The first rung of the ladder that is predicted to keep ``execution.memory_gib``; without a limit ``execution``.

    Raises :class:`CapacityError` where no rung does.
    """
    if not execution.memory_gib:
        return execution
    batch = batch_size(recipe, section, slices)
    for rung in rungs(execution, batch):
        memory = predicted(recipe, section, rung, device=execution.device_type, slices=slices)
        if memory.peak * RESERVE <= execution.memory_gib * GIB:
            return rung
    raise CapacityError(refusal(section, memory, described(rung, batch), execution.memory_gib))


def refusal(section: str, memory: Memory, rung: str, limit: float) -> str:
    """Why a training is refused, with the numbers; ``limit`` is what it may allocate, in GiB."""
    return (
        f"the {NAMES[section]} must fit {limit:.2f} GiB of memory and takes {memory.peak * RESERVE / GIB:.2f} GiB "
        f"even with {rung} (a step {memory.step / GIB:.2f}, measuring {memory.measuring / GIB:.2f}); "
        f"use a smaller model, or a larger --card-gib"
    )


@functools.lru_cache(maxsize=256)
def predicted(recipe: Recipe, section: str, execution: Execution, *, device: str, slices: int = 0) -> Memory:
    """What a training of ``section`` ("vae" or "diffusion") takes on ``device`` ("cpu" or "cuda").

    ``slices`` is the size of the training split, which the loops keep on the device. Without CUDA, a card's
    'auto' precision counts as bf16.
    """
    batch = batch_size(recipe, section, slices)
    samples = at_once(execution, batch)
    # A second share shows the peak of all that follow: the gradients of the first are there.
    shares = [slice(0, samples), slice(batch - samples, batch)][: 1 + (samples < batch)]
    training = _Autoencoder(recipe) if section == "vae" else _Denoiser(recipe)
    dtype = precision_on(training.config.precision, device)
    libraries = LIBRARIES if device == "cuda" else 0
    with torch.device("meta"):
        model, average = training.network(), training.network()
    with FakeTensorMode(allow_non_fake_inputs=True), Storages() as storages:
        data = training.load(slices, batch)
        held = storages.live
        for network in (model, average):
            _fill(network)
        weights = (storages.live - held) // 2
        model.checkpointing = execution.checkpoint_activations
        if device == "cuda":
            _cast_as_cuda_does(model)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
        for parameter in model.parameters():
            moments = {name: torch.empty_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {"step": torch.tensor(0.0), **moments}
        before = storages.peak = storages.live
        scaler = Watch(storages)
        training.accumulate(model, data, shares, scaler, dtype)
        update(model, optimizer, scaler, training.config.gradient_clip)
        training.averaged(average, model)
        step, between = storages.peak, storages.live
        storages.peak = storages.live
        training.measured(average)
        measuring = storages.peak
    activations = scaler.after_forward - before
    if execution.workers > 1:
        step = max(step, before + 2 * weights)  # the one message that carries all gradients
    there = before + max(activations + (weights if len(shares) > 1 else 0), weights)
    return Memory(
        weights=weights,
        gradients=weights,
        optimizer=before - held - 2 * weights,
        average=weights,
        data=held,
        activations=activations,
        workspace=step - there + libraries,
        step=step + libraries,
        measuring=max(measuring, between + training.network_of_metrics) + libraries,
    )


def precision_on(precision: str, device: str) -> torch.dtype:
    """As :func:`~trainables.execution.autocast_dtype`, also for a card that isn't here."""
    if precision == "auto" and device == "cuda" and not torch.cuda.is_available():
        return torch.bfloat16
    return autocast_dtype(precision, torch.device(device))


def _fill(network: nn.Module) -> None:
    """Gives a network from the meta device parameters that follow the mode."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape)))


def _cast_as_cuda_does(network: nn.Module) -> None:
    """Autocast as on a card: for these networks it differs from the CPU's in that GroupNorm is computed in fp32."""

    def in_fp32(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].float(),) if torch.is_autocast_enabled("cpu") else inputs

    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(in_fp32)


class _Autoencoder:
    """The autoencoder's training on tensors without storage."""

    network_of_metrics = 0

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.config = recipe, recipe.vae

    def network(self) -> Autoencoder:
        return Autoencoder(self.config)

    def load(self, slices: int, batch: int) -> tuple[Tensor, ...]:
        """The training slices; a batch of them and the posterior's noise."""
        side, small = self.recipe.data.image_size, self.recipe.latent_size
        return (
            torch.empty(slices, side, side, dtype=torch.uint8),
            torch.empty(batch, 1, side, side),
            torch.empty(batch, self.config.latent_channels, small, small),
        )

    def accumulate(
        self, model: Any, data: tuple[Tensor, ...], shares: list[slice], scaler: Watch, dtype: torch.dtype
    ) -> None:
        vae_training.accumulate(self.config, model, data[1], data[2], shares, scaler, dtype, 1.0)

    def averaged(self, average: Any, model: Any) -> None:
        """The best weights are copied in place."""

    @torch.no_grad()
    def measured(self, model: Any) -> None:
        """A validation: reconstructions of a chunk."""
        side = self.recipe.data.image_size
        model.decode(model.encode(torch.empty(vae_training.CHUNK, 1, side, side))[0])


class _Denoiser:
    """The denoiser's training on tensors without storage."""

    network_of_metrics = INCEPTION

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.config = recipe, recipe.diffusion
        with torch.device("meta"):
            self.autoencoder = Autoencoder(recipe.vae)
        self.shape = (recipe.vae.latent_channels, recipe.latent_size, recipe.latent_size)

    def network(self) -> UNet:
        return UNet(self.recipe.vae.latent_channels, self.config)

    def load(self, slices: int, batch: int) -> tuple[Tensor, ...]:
        """The training posteriors (mean, log-variance); z_t, t and target of a batch; the schedule."""
        return (
            torch.empty(2, slices, *self.shape, dtype=torch.float16),
            torch.empty(batch, *self.shape),
            torch.empty(batch, dtype=torch.int64),
            torch.empty(batch, *self.shape),
            torch.empty(self.config.timesteps),
        )

    def accumulate(
        self, model: Any, data: tuple[Tensor, ...], shares: list[slice], scaler: Watch, dtype: torch.dtype
    ) -> None:
        _, z_t, t, wanted, schedule = data
        diffusion_training.accumulate(self.config, model, (z_t, t, wanted), schedule, shares, scaler, dtype, 0)

    def averaged(self, average: Any, model: Any) -> None:
        update_ema(average, model, 0, self.config.ema_decay, self.config.ema_warmup)

    @torch.no_grad()
    def measured(self, model: Any) -> None:
        """Images on the way: a chunk of samples, and their decoding."""
        count = min(CHUNK_ON_ACCELERATOR, self.recipe.evaluation.samples)
        _fill(self.autoencoder)
        latents = torch.empty(count, *self.shape)
        model(latents, torch.empty(count, dtype=torch.int64))
        self.autoencoder.decode(latents[: vae_training.DECODED_AT_ONCE])


class Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the distinct storages that are alive, of those that operators made under this mode, and the peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        self._known[storage._cdata] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, storage: int) -> None:
        self.live -= self._known.pop(storage)


class Watch(torch.amp.GradScaler):
    """A gradient scaler that scales nothing, and notes what is alive after the first forward pass."""

    def __init__(self, storages: Storages) -> None:
        super().__init__("cpu", enabled=False)
        self.storages, self.after_forward = storages, 0

    def scale(self, outputs: Any) -> Any:
        self.after_forward = self.after_forward or self.storages.live
        return outputs
