"""Lesion masks as a second channel of the autoencoder: the loss's formula, and that masks are learned."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.autoencoder.batch import augment
from trainables.autoencoder.losses import Fidelity, pixel_loss, trained_names, vae_loss, vae_loss_names
from trainables.autoencoder.settings import VaeConfig
from trainables.autoencoder.training import decode_to_bytes, encode_slices, train_vae
from trainables.autoencoder.vae import Autoencoder
from trainables.data.images import decided, lesions, reduce_area, to_bytes, to_unit
from trainables.errors import DataError
from trainables.loop.settings import Execution
from trainables.measures.overlap import dice, evaluate_masks
from trainables.measures.structure import mask_loss
from trainables.recipes import SMOKE

CPU = torch.device("cpu")
TINY = SMOKE.vae.replace(
    widths=(8, 16),
    latent_channels=4,
    batch_size=8,
    max_steps=150,
    validations=2,
    kl_weight=1e-6,
    mask_weight=1.0,
    precision="fp32",
)


def discs(count: int, side: int = 32, *, seed: int = 0) -> torch.Tensor:
    """Grey slices, of which four in five have a bright disc, and the mask of the disc: uint8 (N, 2, S, S)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    found = np.zeros((count, 2, side, side), np.uint8)
    for number in range(count):
        y, x, radius = random.uniform(8, side - 8), random.uniform(8, side - 8), random.uniform(3, 6)
        disc = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2) & (number % 5 > 0)
        found[number, 0] = 60 + 120 * disc + random.integers(0, 20, (side, side))
        found[number, 1] = 255 * disc
    return torch.from_numpy(found)


def test_the_masks_loss_is_one_minus_dice_and_the_cross_entropy() -> None:
    truth = torch.tensor([[1.0, 1.0, -1.0, -1.0]]).reshape(1, 1, 2, 2)
    logits = torch.tensor([[math.log(3.0), 0.0, 0.0, -math.log(3.0)]]).reshape(1, 1, 2, 2)
    p = [0.75, 0.5, 0.5, 0.25]
    overlap = (2 * (p[0] + p[1]) + 1) / (sum(p) + 2 + 1)
    entropy = -(math.log(p[0]) + math.log(p[1]) + math.log(1 - p[2]) + math.log(1 - p[3])) / 4
    assert mask_loss(logits, truth).item() == pytest.approx(1 - overlap + entropy, rel=1e-6)


def test_a_mask_that_is_found_has_no_loss_also_where_it_is_empty() -> None:
    truth = torch.full((2, 1, 4, 4), -1.0)
    truth[0, 0, 1:3] = 1
    assert mask_loss(50 * truth, truth).item() == pytest.approx(0, abs=1e-6)


def test_the_masks_loss_of_a_batch_is_the_mean_of_its_slices() -> None:
    logits, truth = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8).sign()
    each = torch.stack([mask_loss(logits[i : i + 1], truth[i : i + 1]) for i in range(4)])
    assert mask_loss(logits, truth).item() == pytest.approx(each.mean().item(), rel=1e-5)


def test_the_loss_with_masks_is_that_of_the_slices_and_the_weighted_one_of_the_masks() -> None:
    config = VaeConfig(mask_weight=0.3, reconstruction_loss="l1")
    images, shown = torch.rand(2, 2, 8, 8).round() * 2 - 1, torch.randn(2, 2, 8, 8)
    mean, log_variance = torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2)
    alone = vae_loss(config, images[:, :1], shown[:, :1], mean, log_variance, kl_weight=0.1)
    joint = vae_loss(config, images, shown, mean, log_variance, kl_weight=0.1)
    assert tuple(alone) == vae_loss_names(config)
    assert tuple(joint) == vae_loss_names(config, masks=True) == trained_names(config, masks=True)
    assert {name: joint[name] for name in alone if name != "loss"} == {n: v for n, v in alone.items() if n != "loss"}
    assert joint["mask"] == mask_loss(shown[:, 1:], images[:, 1:])
    assert joint["loss"].item() == pytest.approx((alone["loss"] + 0.3 * joint["mask"]).item())


def test_warps_move_slice_and_mask_alike_and_leave_masks_of_two_values() -> None:
    images = discs(6)
    maps = torch.tensor([[0.9, 0.1, 0.05], [-0.1, 0.9, 0.1]]).repeat(6, 1, 1)
    moved = augment(images, maps, 16)
    assert moved.shape == (6, 2, 16, 16)
    assert set(moved[:, 1].unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(moved[:, :1], augment(images[:, 0].contiguous(), maps, 16))
    bright = moved[:, 0] > 0
    assert (bright == (moved[:, 1] > 0)).float().mean() > 0.97, "the disc is where its mask is"


def test_a_pixel_that_is_half_lesion_is_none_in_slices_and_in_warps() -> None:
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, :2, :2], mask[0, 2:, 3] = 1, 1
    reduced = lesions(mask, 2)
    assert reduced.tolist() == [[[255, 0], [0, 0]]]
    both = to_unit(torch.from_numpy(np.stack([mask * 0, mask * 255], axis=1)))
    assert (decided(reduce_area(both, 2))[:, 1].numpy() > 0).tolist() == (reduced > 0).tolist()


def test_the_equivariance_term_takes_the_loss_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def noting(config: VaeConfig) -> Fidelity:
        taken.append(config)
        return pixel_loss(config)

    monkeypatch.setattr("trainables.autoencoder.training.pixel_loss", noting)
    config = SMOKE.vae.replace(widths=(8, 16), max_steps=1, validations=1, equivariance_weight=0.5)
    images = torch.zeros(8, 16, 16, dtype=torch.uint8)
    train_vae(config, images, images, seed=0, folder=tmp_path, execution=Execution())
    assert taken


def test_images_with_masks_are_the_same_as_bytes_again() -> None:
    images = discs(3)
    assert torch.equal(to_bytes(to_unit(images)), images)


def test_dice_is_that_of_counted_pixels_and_nothing_where_both_masks_are_empty() -> None:
    truth, found = np.zeros((3, 2, 4), np.uint8), np.zeros((3, 2, 4), np.uint8)
    truth[0, 0], found[0, 0, 2:], found[0, 1, 2:] = 255, 1, 1
    found[1, 0, 0] = 255
    assert dice(truth, found)[:2].tolist() == [0.5, 0.0]
    assert math.isnan(dice(truth, found)[2])
    assert evaluate_masks(truth, found) == {"recon/mask_dice": 0.5, "recon/mask_invented": 0.5}
    assert evaluate_masks(truth[1:], truth[1:]) == {"recon/mask_invented": 0.0}
    with pytest.raises(DataError, match="masks must be as many"):
        dice(truth, found[1:])


def test_an_autoencoder_without_masks_has_the_weights_that_it_had() -> None:
    torch.manual_seed(0)
    alone = Autoencoder(TINY).state_dict()
    torch.manual_seed(0)
    joint = Autoencoder(TINY, masks=True).state_dict()
    other = {name for name in alone if alone[name].shape != joint[name].shape}
    assert len(other) == 3, "the first convolution, and the weight and bias of the last"


@pytest.mark.slow
def test_a_tiny_autoencoder_learns_discs_and_their_masks(tmp_path: Path) -> None:
    training, held_out = discs(64), discs(20, seed=1)
    model, records = train_vae(
        TINY, training, held_out, seed=0, folder=tmp_path, execution=Execution(device="cpu", threads=1)
    )
    assert records[-1]["val/mask"] < records[0]["val/mask"] / 3
    decoded = decode_to_bytes(model, encode_slices(model, held_out, CPU)[0], CPU)
    assert decoded.shape == held_out.shape
    assert set(decoded[:, 1].unique().tolist()) == {0, 255}
    assert evaluate_masks(held_out[:, 1].numpy(), decoded[:, 1].numpy())["recon/mask_dice"] > 0.8
    assert (decoded[:, 0].float() - held_out[:, 0].float()).abs().mean() < 20
