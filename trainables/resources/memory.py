"""What a training needs of a card, by part.

The loops' own code runs one step on fake tensors (PyTorch's ``FakeTensorMode``), which have a shape but no memory.
The bytes that real ones would take are added up; views of one storage count once. ``tests/trainables/test_memory.py``
checks activations against the CPU's allocator, and ``tests/trainables/test_gpu.py`` peaks against a card's.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainables.autoencoder import training as vae_training
from trainables.autoencoder.batch import VaeDraws, augment
from trainables.autoencoder.discriminator import Adversary, PatchDiscriminator
from trainables.autoencoder.equivariance import TURNS
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser import training as diffusion_training
from trainables.denoiser.augmentation import label_width
from trainables.denoiser.batch import NoisyBatch
from trainables.denoiser.condition import Condition
from trainables.denoiser.sampling import CHUNK_ON_ACCELERATOR
from trainables.denoiser.unet import denoiser_of
from trainables.errors import CapacityError
from trainables.loop import cards
from trainables.loop.draws import LayerGenerators
from trainables.loop.execution import at_once, computing_dtype, uses_graph
from trainables.loop.precision import WorkingCopy, convert
from trainables.loop.settings import GIB, Execution
from trainables.recipes import Recipe
from trainables.resources.ladder import describe_rung, rungs

MIB = 2**20

CONTEXT = GIB // 2
"""Most that CUDA itself takes in each process, outside PyTorch's allocator: 0.2 to 0.5 GiB by card."""

LIBRARIES = 32 * MIB
"""Most that workspaces of cuBLAS and cuDNN take in PyTorch's allocator: 8 MiB for cuBLAS, 32 on Hopper."""

NAMES = {"vae": "autoencoder's training", "diffusion": "denoiser's training"}
"""The trainings by their section of a recipe."""

RESERVE = 1.1
"""What the allocator reserves for each byte that is allocated: its blocks are larger than asked for."""

INCEPTION = int((83 + 32 * 10.2) * MIB)
"""The Inception network: its weights, and 10.2 MiB for each of 32 images (the CPU allocator's peak)."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one training, by part."""

    weights: int
    """In fp32, and in half precision where the training computes in it."""
    gradients: int
    optimizer: int
    """AdamW's two moments."""
    average: int
    """The averaged denoisers (EMA), one for each length, or the best autoencoder."""
    data: int
    """The training set, which lies on the card, and the step's batch."""
    activations: int
    """What autograd keeps of a forward pass for the backward pass."""
    workspace: int
    """Temporaries at the peak beyond the rest, with those of cuBLAS and cuDNN on a card."""
    step: int
    """The peak of a training step, to compare with ``torch.cuda.max_memory_allocated``."""
    measuring: int
    """The peak while the training is measured on the way: validation, sampling, decoding, Inception."""

    @property
    def peak(self) -> int:
        """The most that is allocated at any time."""
        return max(self.step, self.measuring)

    @property
    def need(self) -> int:
        """What the process takes of a card: the peak, the allocator's reserve, the CUDA context."""
        return int(self.peak * RESERVE) + CONTEXT


def batch_size(recipe: Recipe, section: str, slices: int = 0) -> int:
    """Samples in an optimiser step of ``section``, of a training split with that number of slices (0: not known)."""
    size = recipe.vae.batch_size if section == "vae" else recipe.diffusion.batch_size
    return min(size, slices) if slices else size


def rung_that_fits(recipe: Recipe, section: str, execution: Execution, *, slices: int = 0) -> Execution:
    """The first rung of the ladder whose predicted peak fits ``execution.memory_gib``; without a limit ``execution``
    itself. Raises :class:`CapacityError` where none fits."""
    if not execution.memory_gib:
        return execution
    batch = batch_size(recipe, section, slices)
    for rung in rungs(execution, batch):
        memory = predict_memory(recipe, section, rung, device=execution.device_type, slices=slices)
        if memory.peak * RESERVE <= execution.memory_gib * GIB:
            return rung
    raise CapacityError(refusal(section, memory, describe_rung(rung, batch), execution.memory_gib))


def refusal(section: str, memory: Memory, rung: str, limit: float) -> str:
    """Why a training is refused, with the numbers; it may allocate ``limit`` GiB."""
    return (
        f"the {NAMES[section]} must fit {limit:.2f} GiB of memory and takes {memory.peak * RESERVE / GIB:.2f} GiB "
        f"even with {rung} (a step {memory.step / GIB:.2f}, measuring {memory.measuring / GIB:.2f}); "
        f"use a smaller model, or a larger --card-gib"
    )


def predict_memory(recipe: Recipe, section: str, execution: Execution, *, device: str, slices: int = 0) -> Memory:
    """What a training of ``section`` ("vae", "diffusion") takes on ``device`` ("cpu", "cuda").

    ``slices`` is as for :func:`batch_size`. Without CUDA, a card's 'auto' precision counts as bf16.
    """
    batch = batch_size(recipe, section, slices)
    samples = at_once(execution, batch)
    with torch.device("meta"):
        network, *rivals = _networks(recipe, section)
        weights, rival = _bytes(network.parameters()), sum(_bytes(each.parameters()) for each in rivals)
        copies = _copies(recipe, section, device)
        data = _bytes((*_batch(recipe, section, batch), *_split(recipe, section, slices)))
    activations, there, peak = _pass(recipe, section, samples, batch, execution.checkpoint_activations, device)
    peak = max(peak, _warp(recipe, batch)) if section == "vae" else peak
    kept = 1 + len(recipe.diffusion.ema_lengths) + bool(recipe.diffusion.guide_share) if section == "diffusion" else 1
    made = section == "diffusion" and recipe.sampling.ema_length not in (0.0, *recipe.diffusion.ema_lengths)
    persistent = (3 + kept) * weights + 3 * rival + copies + data
    # The update works in place; with several workers there is also the message that carries all gradients.
    update = weights * (2 if execution.workers > 1 else 1) + rival
    step = persistent + max(peak, update)
    # A graph keeps the memory that its step took.
    graph = max(peak, update) if uses_graph(execution, torch.device(device), batch) else 0
    libraries = LIBRARIES if device == "cuda" else 0
    return Memory(
        weights=weights + rival + copies,
        gradients=weights + rival,
        optimizer=2 * (weights + rival),
        average=kept * weights,
        data=data,
        activations=activations,
        workspace=step - persistent - max(there, weights + rival) + libraries,
        step=step + libraries,
        measuring=persistent
        + max(graph, weights + rival)
        + made * weights  # the average that is made of others
        + _measuring(recipe, section, device)
        + libraries,
    )


@functools.lru_cache(maxsize=256)
def _pass(
    recipe: Recipe, section: str, samples: int, batch: int, checkpointing: bool, device: str
) -> tuple[int, int, int]:
    """Bytes of a forward pass's activations, of all that is alive after it, and of the most that is alive in a step.

    The latter two are without weights and batch, and with the gradients of an earlier share where there is one.
    """
    with torch.device("meta"):
        networks = _networks(recipe, section)
    model = networks[0]
    model.checkpointing = checkpointing
    dtype = precision_on(getattr(recipe, section).precision, device)
    with FakeTensorMode(allow_non_fake_inputs=True), Storages() as storages:
        for network in networks:
            _fill(network)
        working, *opposing = (WorkingCopy(network, dtype, device) for network in networks)
        tensors = _batch(recipe, section, batch)
        # What the denoiser is told of the samples: some tens of bytes for each.
        position = torch.empty(batch) if recipe.diffusion.position_condition else None
        width = label_width(recipe.diffusion)
        lesion = torch.zeros(batch) if recipe.diffusion.lesion_condition else None
        named = len(recipe.diffusion.label_condition)
        told = Condition(
            position,
            torch.empty(batch, width) if width else None,
            lesion=lesion,
            categories=torch.zeros(batch, named) if named else None,
        )
        held = storages.live
        if samples < batch:
            for parameter in (parameter for network in networks for parameter in network.parameters()):
                parameter.grad = torch.empty_like(parameter)
        before = storages.peak = storages.live
        watch = Watch(storages)
        share = slice(0, samples)
        if isinstance(model, Autoencoder):
            images, noise, *disturbance = tensors
            adversary = Adversary(recipe.vae, opposing[0] if opposing else None)
            adversary.active = True
            turns = torch.empty(batch, TURNS, dtype=torch.bool) if recipe.vae.equivariance_weight else None
            given = disturbance[0] if disturbance else None
            draws = VaeDraws(torch.empty(0), torch.empty(0), noise, torch.ones(()), given, turns)
            vae_training.accumulate(recipe.vae, working, images, draws, [share], watch, adversary)
        else:
            z_t, t, wanted, schedule = tensors
            noisy = NoisyBatch(z_t, t, wanted, told)
            dropout = LayerGenerators()
            diffusion_training.accumulate(recipe.diffusion, working, noisy, schedule, [share], watch, dropout)
    return watch.after_forward - before, watch.after_forward - held, storages.peak - held


@functools.lru_cache(maxsize=256)
def _warp(recipe: Recipe, batch: int) -> int:
    """Bytes of the most that is alive while a batch of slices is warped, at ``vae.warp_size``, and reduced."""
    size = recipe.data.image_size
    side = recipe.vae.warp_size or size
    with FakeTensorMode(), Storages() as storages:
        slices, maps = torch.empty(recipe.data.shape(batch, side), dtype=torch.uint8), torch.empty(batch, 2, 3)
        held = storages.live
        augment(slices, maps, size)
        peak: int = storages.peak - held
    return peak


@functools.lru_cache(maxsize=256)
def _measuring(recipe: Recipe, section: str, device: str) -> int:
    """Bytes that measuring on the way takes beside the training: validation, or sampling, decoding and Inception."""
    with torch.device("meta"):
        autoencoder = Autoencoder(recipe.vae, recipe.data.mask)
        denoiser = denoiser_of(recipe.vae.latent_channels, recipe.diffusion)
    side, small = recipe.data.image_size, recipe.latent_size
    count = min(CHUNK_ON_ACCELERATOR, recipe.evaluation.samples)
    with FakeTensorMode(allow_non_fake_inputs=True), Storages() as storages, torch.no_grad():
        _fill(denoiser)
        ours = storages.live  # the average, which counts elsewhere
        _fill(autoencoder)
        weights = storages.live - ours
        if section == "vae":
            mean, _ = autoencoder.encode(torch.empty(vae_training.CHUNK, recipe.data.channels, side, side))
            autoencoder.decode(mean)
            validation: int = storages.peak - ours - weights
            return validation
        latents = torch.empty(count, recipe.vae.latent_channels, small, small)
        networks = [denoiser] * (2 if recipe.sampling.autoguidance != 1 else 1)
        sampling = [convert(each, precision_on(recipe.sampling.precision, device), device) for each in networks]
        told = Condition(estimate=torch.empty_like(latents) if recipe.diffusion.self_conditioning else None)
        sampling[0](latents, torch.empty(count, dtype=torch.int64), condition=told)
        autoencoder.decode(latents[: vae_training.DECODED_AT_ONCE])
    images: int = max(storages.peak - ours, weights + INCEPTION)
    return images


def precision_on(precision: str, device: str) -> torch.dtype:
    """As :func:`~trainables.loop.execution.computing_dtype`, also for a card that isn't here."""
    if precision == "auto" and device == "cuda" and not cards.available():
        return torch.bfloat16
    return computing_dtype(precision, torch.device(device))


def _copies(recipe: Recipe, section: str, device: str) -> int:
    """Bytes of the half-precision weights that the training computes with."""
    dtype = precision_on(getattr(recipe, section).precision, device)
    with torch.device("meta"):
        pairs = [(network, convert(network, dtype, device)) for network in _networks(recipe, section)]
    shared = {id(weight) for network, _ in pairs for weight in network.parameters()}
    return _bytes(weight for _, copied in pairs for weight in copied.parameters() if id(weight) not in shared)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _networks(recipe: Recipe, section: str) -> list[Any]:
    """The network that the training is for, and then the discriminator where the training has one."""
    if section == "diffusion":
        return [denoiser_of(recipe.vae.latent_channels, recipe.diffusion)]
    return [
        Autoencoder(recipe.vae, recipe.data.mask),
        *([PatchDiscriminator(recipe.vae.adversarial_width)] if recipe.vae.adversarial_weight else []),
    ]


def _batch(recipe: Recipe, section: str, batch: int) -> tuple[Tensor, ...]:
    """What a step holds: slices, the posterior's noise and the decoder's; or z_t, t, target and the schedule."""
    side = recipe.data.image_size
    latents = torch.empty(batch, recipe.vae.latent_channels, recipe.latent_size, recipe.latent_size)
    if section == "vae":
        disturbance = [torch.empty_like(latents)] if recipe.vae.latent_noise else []
        return torch.empty(batch, recipe.data.channels, side, side), latents, *disturbance
    t = torch.empty(batch, dtype=torch.int64)
    return latents, t, torch.empty_like(latents), torch.empty(recipe.diffusion.timesteps)


def _split(recipe: Recipe, section: str, slices: int) -> tuple[Tensor, ...]:
    """The training split as the loops hold it: slices, or means and log-variances of all versions, positions."""
    side, small = recipe.data.image_size, recipe.latent_size
    if section == "vae":
        side = recipe.vae.warp_size or side
        return (torch.empty(recipe.data.shape(slices, side), dtype=torch.uint8),)
    slices *= recipe.diffusion.versions
    positions = (torch.empty(slices),) if recipe.diffusion.position_condition else ()
    lesions = (torch.empty(slices),) if recipe.diffusion.lesion_condition else ()
    named = len(recipe.diffusion.label_condition)
    categories = (torch.empty(slices, named),) if named else ()
    labels = (torch.empty(slices, label_width(recipe.diffusion)),) if recipe.diffusion.copies else ()
    return (
        torch.empty(2, slices, recipe.vae.latent_channels, small, small, dtype=torch.float16),
        *positions,
        *lesions,
        *categories,
        *labels,
    )


def _fill(network: nn.Module) -> None:
    """Gives a network from the meta device parameters and buffers that :class:`Storages` counts."""
    for module in network.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(buffer.shape))
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape)))


class Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operators make under this mode: those alive now, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: int = 0
        self.peak: int = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for storage in [each.untyped_storage() for each in tree_leaves(result) if isinstance(each, Tensor)]:
            if storage._cdata not in self._known:
                self._known[storage._cdata] = storage.nbytes()
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._forget, storage._cdata)
        return result

    def _forget(self, storage: int) -> None:
        self.live -= self._known.pop(storage)


class Watch(torch.amp.GradScaler):
    """A gradient scaler that scales nothing, and notes the bytes alive after the first forward pass."""

    def __init__(self, storages: Storages) -> None:
        super().__init__("cpu", enabled=False)
        self.storages, self.after_forward = storages, 0

    def scale(self, outputs: Any) -> Any:
        self.after_forward = self.after_forward or self.storages.live
        return outputs
