"""The step of one denoiser, or of several whose weights are stacked: the same words for both."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.losses import FREQUENCY_LOSSES, min_snr_weights
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.unet import UNet
from trainables.loop.draws import generator
from trainables.recipes import Recipe

WARM_UP = 3
"""Steps before a capture, in which libraries and the allocator find what they need; they count as steps."""

DECAY = 0.999
"""Of the averaged weights."""


@dataclass(frozen=True)
class Batch:
    """What a step of K trials sees; K is left out for one that isn't stacked."""

    z_t: Tensor
    """(K, B, C, h, w)."""
    t: Tensor
    """(K, B) int64."""
    wanted: Tensor
    """The prediction's target, as ``z_t``."""
    weights: Tensor
    """Min-SNR weights, (K, B)."""

    @classmethod
    def made_up(cls, recipe: Recipe, seeds: Sequence[int], number: int, device: torch.device) -> Batch:
        """Batch ``number`` of the trials with these seeds."""
        diffusion, side = recipe.diffusion, recipe.latent_size
        schedule, parts = alphas_cumprod(diffusion), []
        for seed in seeds:
            random = generator(seed, "batch", number)
            shape = (diffusion.batch_size, recipe.vae.latent_channels, side, side)
            z_t, wanted = torch.randn(shape, generator=random), torch.randn(shape, generator=random)
            t = torch.randint(diffusion.timesteps, shape[:1], generator=random)
            parts.append(
                (z_t, t, wanted, min_snr_weights(schedule[t], diffusion.min_snr_gamma, diffusion.prediction))
            )
        return cls(*(torch.stack(each).to(device) for each in zip(*parts, strict=True)))

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four."""
        return self.z_t, self.t, self.wanted, self.weights


class Stepper:
    """AdamW's steps for K trials: loss, gradients, each trial's norm cut, update, average.

    ``loss`` gives the K losses (K,) of four tensors as in :class:`Batch`; ``leading`` says that ``weights`` have the
    K trials in front. With ``graphed`` the steps after the first three are one CUDA graph, launched anew.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        weights: Sequence[Tensor],
        config: DiffusionConfig,
        *,
        leading: bool,
        dtype: torch.dtype,
        graphed: bool,
    ) -> None:
        self.loss, self.weights, self.config = loss, list(weights), config
        self.leading, self.dtype, self.graphed = leading, dtype, graphed
        self.averages = [weight.detach().clone() for weight in self.weights]
        self.optimizer = torch.optim.AdamW(
            self.weights, config.learning_rate, weight_decay=config.weight_decay, fused=True, capturable=graphed
        )
        self.seen: tuple[Tensor, ...] = ()
        self.losses = torch.empty(0)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.steps = 0

    def take(self, batch: Batch) -> Tensor:
        """One step; the losses (K,) before it, which the next step may overwrite."""
        if self.steps == 0:
            self.seen = tuple(tensor.clone() for tensor in batch.tensors)
        for seen, tensor in zip(self.seen, batch.tensors, strict=True):
            seen.copy_(tensor)
        self.steps += 1
        if not self.graphed:
            self._step()
        elif self.steps <= WARM_UP:
            self._step_aside()
        else:
            self._replay()
        return self.losses

    def _step(self) -> None:
        with torch.autocast("cuda", self.dtype, enabled=self.dtype != torch.float32, cache_enabled=False):
            losses = self.loss(*self.seen)
        self.optimizer.zero_grad()
        # Not autograd.grad: this leaves gradients in the weights' own layout, which the fused update asks for.
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self._clip([weight.grad for weight in self.weights if weight.grad is not None])
        self.optimizer.step()
        torch._foreach_lerp_(self.averages, [weight.detach() for weight in self.weights], 1 - DECAY)
        self.losses = losses.detach()

    def _clip(self, gradients: Sequence[Tensor]) -> None:
        """Each trial's gradient to at most the configuration's norm."""
        if self.leading:
            norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
            factors = (self.config.gradient_clip / (norms + 1e-6)).clamp(max=1)
            for gradient in gradients:
                gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
        else:
            norm = torch.nn.utils.get_total_norm(gradients)
            torch.nn.utils.clip_grads_with_norm_(self.weights, self.config.gradient_clip, norm)

    def _step_aside(self) -> None:
        """A step on another stream, as a capture asks for."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._step()
        torch.cuda.current_stream().wait_stream(side)

    def _replay(self) -> None:
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._step()
        self.graph.replay()


def alone(network: UNet, config: DiffusionConfig, dtype: torch.dtype, *, graphed: bool) -> Stepper:
    """The steps of one denoiser as a module; its batches have K = 1."""

    def loss(z_t: Tensor, t: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
        return loss_of(config, network(z_t[0], t[0]), wanted[0], weights[0])[None]

    return Stepper(loss, list(network.parameters()), config, leading=False, dtype=dtype, graphed=graphed)


def together(networks: Sequence[UNet], config: DiffusionConfig, dtype: torch.dtype, *, graphed: bool) -> Stepper:
    """The steps of several denoisers as one, by their stacked weights."""
    skeleton = copy.deepcopy(networks[0]).to("meta")
    weights, _ = stack_module_state(list(networks))

    def loss_of_one(own: dict[str, Tensor], z_t: Tensor, t: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
        return loss_of(config, functional_call(skeleton, own, (z_t, t)), wanted, weight)

    def loss(z_t: Tensor, t: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
        losses: Tensor = vmap(loss_of_one)(weights, z_t, t, wanted, weight)
        return losses

    return Stepper(loss, list(weights.values()), config, leading=True, dtype=dtype, graphed=graphed)


def loss_of(config: DiffusionConfig, output: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """The training's loss, a scalar: weighted MSE and frequency loss, means over the batch."""
    output = output.float()
    mse = (output - wanted).square().mean(dim=(1, 2, 3))
    frequency = FREQUENCY_LOSSES[config.frequency_loss](output, wanted, config.frequency_norm)
    if config.frequency_weighting == "loss":
        frequency = weights * frequency
    return (weights * mse + config.frequency_weight * frequency).mean()
