"""What the denoiser is told: positions reach it in training and sampling, and cost nothing where they aren't used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from trainables.denoiser.batch import draw_step, noisy_batch
from trainables.denoiser.condition import Condition, draw_positions
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import NO_WHITENING, Latents
from trainables.denoiser.sampling import SamplingTrace, initial_noise, sample
from trainables.denoiser.sampling_settings import SamplingConfig
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.training import train_denoiser
from trainables.denoiser.unet import UNet
from trainables.errors import ConfigError, DataError
from trainables.loop.checkpoint import load_tensors, save_tensors
from trainables.loop.records import Record, ignore_report
from trainables.loop.settings import Execution
from trainables.recipes import PAPER, RECIPES

TINY = DiffusionConfig(
    widths=(8, 8),
    blocks=1,
    attention_levels=(),
    embedding_channels=16,
    dropout=0.5,
    batch_size=4,
    steps=12,
    validations=3,
    ema_decay=0.0,
    learning_rate=1e-3,
    precision="fp32",
)
CONDITIONED = TINY.replace(position_condition=True, condition_dropout=0.5)
ALL = CONDITIONED.replace(augmentation_probability=0.5)
SHAPE = (2, 8, 8)
NEW_FIELDS = {"position_condition", "condition_dropout", "augmentation_probability", "guidance"}


class KilledError(Exception):
    """Stands for a kill right after a checkpoint."""


def latents(count: int, *, positions: torch.Tensor | None = None) -> Latents:
    mean = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(2)).half()
    places = torch.linspace(0, 1, count) if positions is None else positions
    return Latents(mean, torch.full_like(mean, -3), NO_WHITENING, places)


def trained(folder: Path, config: DiffusionConfig = ALL, report: Any = ignore_report, **execution: Any) -> Any:
    """The averaged denoiser, which is the last step's, and its records without their time."""
    folder.mkdir(exist_ok=True)
    averages, records = train_denoiser(
        config, latents(12), latents(5), seed=3, folder=folder, execution=Execution(**execution), report=report
    )
    return averages.own, [{name: value for name, value in record.items() if name != "time"} for record in records]


def assert_equal_up_to_order(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=2e-5)


def randomised(config: DiffusionConfig) -> UNet:
    """A UNet with no zero weights left, as a trained one."""
    torch.manual_seed(0)
    model = UNet(SHAPE[0], config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def test_at_their_defaults_the_fields_are_no_part_of_an_identity() -> None:
    for recipe in RECIPES.values():
        assert not NEW_FIELDS & {*recipe.diffusion.identity(), *recipe.sampling.identity()}
    used = PAPER.replace(**{"diffusion.position_condition": True, "sampling.guidance": 2.0})
    assert "position_condition" in used.diffusion.identity()
    assert used.sampling.identity()["guidance"] == 2.0
    assert "guidance" not in used.diffusion.identity(), "another weight takes no other training"


def test_all_other_weights_start_the_same_with_the_condition() -> None:
    torch.manual_seed(5)
    plain = UNet(SHAPE[0], TINY).state_dict()
    torch.manual_seed(5)
    conditioned = UNet(SHAPE[0], ALL).state_dict()
    assert all(torch.equal(conditioned[name], value) for name, value in plain.items())
    assert {name.partition(".")[0] for name in conditioned.keys() - plain.keys()} == {"position", "augmentation"}


def test_a_batch_is_the_same_with_and_without_the_condition() -> None:
    schedule = alphas_cumprod(TINY).float()
    data = latents(12)
    plain, told_too = (
        noisy_batch(config, data, schedule, draw_step(config, data, 7, 3)) for config in (TINY, CONDITIONED)
    )
    assert plain[3].position is None
    assert told_too[3].position is not None
    assert all(torch.equal(one, other) for one, other in zip(plain[:3], told_too[:3], strict=True))


def test_the_share_asked_for_is_left_out_and_the_rest_is_each_samples_own() -> None:
    data, config = latents(2000), CONDITIONED.replace(condition_dropout=0.1, batch_size=2000)
    schedule, draws = alphas_cumprod(TINY).float(), draw_step(config, data, 0, 3)
    positions = noisy_batch(config, data, schedule, draws).condition.position
    assert positions is not None
    dropped = positions.isnan()
    assert dropped.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert data.positions is not None
    assert torch.equal(positions[~dropped], data.positions[draws.indices][~dropped])
    again = draw_step(config, data, 1, 3).dropped
    assert again is not None
    assert not torch.equal(again, dropped), "another step, other samples"


def test_the_output_depends_on_the_position_and_an_unknown_one_is_the_null_embedding() -> None:
    model = randomised(CONDITIONED)
    z, t = torch.randn(1, *SHAPE).expand(4, -1, -1, -1), torch.full((4,), 7)
    output = model(z, t, condition=Condition(torch.tensor([0.0, 0.5, 1.0, torch.nan])))
    assert torch.pdist(output.flatten(1)).min() > 1e-3
    torch.testing.assert_close(model(z, t)[3], output[3])


def test_every_weight_of_the_condition_is_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, _ = trained(tmp_path / "run")
    for part in (model.position, model.augmentation):
        for name, parameter in part.named_parameters():
            assert parameter.abs().sum() > 0, name


def test_a_run_that_was_killed_and_continued_equals_one_that_was_not(tmp_path: Path) -> None:
    expected, records = trained(tmp_path / "whole")

    def kill(heard: Sequence[Record]) -> None:
        if heard[-1]["step"] >= 8:
            raise KilledError

    with pytest.raises(KilledError):
        trained(tmp_path / "broken", report=kill)
    model, again = trained(tmp_path / "broken")
    assert again == records
    assert all(torch.equal(model.state_dict()[name], value) for name, value in expected.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("rung", [{"micro_batch": 1}, {"micro_batch": 3}, {"checkpoint_activations": True}], ids=str)
def test_a_rung_of_the_ladder_changes_nothing_but_the_order_of_sums(rung: dict[str, Any], tmp_path: Path) -> None:
    expected, _ = trained(tmp_path / "whole")
    model, _ = trained(tmp_path / "rung", **rung)
    assert_equal_up_to_order(model.state_dict(), expected.state_dict())


def worker(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    model, _ = trained(folder / str(rank), workers=2)
    if rank == 0:
        save_tensors(folder / "weights", model.state_dict())
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_train_as_one(tmp_path: Path) -> None:
    expected, _ = trained(tmp_path / "alone")
    torch.multiprocessing.spawn(worker, (tmp_path,), nprocs=2)
    assert_equal_up_to_order(load_tensors(tmp_path / "weights")[0], expected.state_dict())


@pytest.mark.parametrize("positions", [None, torch.full((6,), torch.nan)], ids=["none", "single pictures"])
def test_without_positions_the_condition_is_refused_in_one_line(
    positions: torch.Tensor | None, tmp_path: Path
) -> None:
    data = Latents(torch.zeros(6, *SHAPE), torch.zeros(6, *SHAPE), NO_WHITENING, positions)
    with pytest.raises(DataError, match="single picture; leave") as caught:
        train_denoiser(CONDITIONED, data, data, seed=0, folder=tmp_path, execution=Execution())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{}, {"diffusion.position_condition": True, "diffusion.condition_dropout": 0.0}], ids=str
)
def test_guidance_of_a_denoiser_that_was_not_taught_both_sides_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"sampling\.guidance other than 1 needs .* got guidance 2:") as caught:
        PAPER.replace(**changes, **{"sampling.guidance": 2.0})
    assert "\n" not in str(caught.value)


def test_a_position_is_drawn_by_each_seed_alone_from_those_of_the_training_split() -> None:
    known = torch.tensor([0.0, 0.25, 0.25, 1.0])
    drawn = draw_positions(range(400), known)
    assert set(drawn.tolist()) == {0.0, 0.25, 1.0}
    assert (drawn == 0.25).float().mean().item() == pytest.approx(0.5, abs=0.07)
    assert draw_positions([7, 300, 2], known).tolist() == drawn[[7, 300, 2]].tolist()


def draw(model: UNet, seeds: Sequence[int], config: SamplingConfig, positions: torch.Tensor | None) -> SamplingTrace:
    places = None if positions is None else draw_positions(seeds, positions)
    noise = initial_noise(seeds, SHAPE)
    return sample(model, noise, seeds=seeds, diffusion=CONDITIONED, config=config, positions=places)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_an_image_of_a_seed_is_the_same_bits_in_any_batch(guidance: float) -> None:
    model, places = randomised(CONDITIONED), torch.linspace(0, 1, 9)
    config = SamplingConfig(
        steps=6, guidance=guidance, early_stop_rule="x0_change", early_stop_threshold=0.0, precision="fp32"
    )
    whole = draw(model, range(20), config, places)
    # A threshold that some samples of the batch reach and others do not, so that some leave early.
    config = config.replace(early_stop_threshold=whole.measures[:, 4].median().item())
    reference = draw(model, range(20), config, places)
    assert len(reference.steps_used.unique()) > 1
    for seeds in ([7], [3, 19, 7]):
        assert torch.equal(draw(model, seeds, config, places).latents[0], reference.latents[0][seeds])
    assert reference.steps_used.max() <= config.steps, "an evaluation with guidance counts once"


@pytest.mark.slow
def test_samples_follow_their_positions_and_guidance_takes_them_further(tmp_path: Path) -> None:
    """A denoiser of latents whose mean is their position's sign, and that vary around it."""
    config = CONDITIONED.replace(
        dropout=0.0, condition_dropout=0.2, batch_size=32, steps=250, prediction="v", frequency_weight=0.0,
        cutmix_probability=0.0, ema_decay=0.9, warmup_steps=10, learning_rate=5e-3, posterior="mean",
    )  # fmt: skip
    random = torch.Generator().manual_seed(0)
    places = torch.arange(64).remainder(2).float()
    mean = torch.randn(64, *SHAPE, generator=random) * 0.5 + (2 * places - 1).view(-1, 1, 1, 1) * 0.5
    data = Latents(mean, torch.full_like(mean, -9), NO_WHITENING, places)
    model = train_denoiser(config, data, data, seed=0, folder=tmp_path, execution=Execution())[0].own

    def means(guidance: float) -> tuple[float, float]:
        sampling = SamplingConfig(steps=10, guidance=guidance, early_stop_threshold=0.0, precision="fp32")
        drawn = []
        for place in (0.0, 1.0):
            here, noise = torch.full((16,), place), initial_noise(range(16), SHAPE)
            trace = sample(model, noise, seeds=range(16), diffusion=config, config=sampling, positions=here)
            drawn.append(trace.latents.mean().item())
        return drawn[0], drawn[1]

    low, high = means(1.0)
    assert low < -0.25
    assert high > 0.25
    lower, higher = means(4.0)
    assert lower < low - 0.1
    assert higher > high + 0.1
