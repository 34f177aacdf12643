"""The loops: golden losses, continuing bit for bit, several workers as one, divergence."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from trainables.autoencoder import training as vae_training
from trainables.autoencoder.training import train_vae
from trainables.denoiser import training as denoiser_training
from trainables.denoiser.averages import Averages
from trainables.denoiser.batch import Draws
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import ChannelStatistics, Latents
from trainables.denoiser.training import Scorer, train_denoiser
from trainables.errors import DivergenceError
from trainables.loop import execution as loop
from trainables.loop.checkpoint import load_tensors, save_tensors
from trainables.loop.draws import Masks
from trainables.loop.files import CHECKPOINT
from trainables.loop.optimiser import update
from trainables.loop.records import Record, Report, even_steps, ignore_report
from trainables.loop.settings import Execution
from trainables.recipes import SMOKE, Recipe

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
TINY = SMOKE.replace(
    **{
        "data.image_size": 16,
        "vae.widths": (8, 8),
        "vae.max_steps": 20,
        "vae.batch_size": 4,
        "vae.reconstruction_loss": "mse",
        "vae.rotation_degrees": 10.0,
        "vae.translation": 0.05,
        "vae.scaling": 0.05,
        "vae.precision": "fp32",
        "diffusion.widths": (8, 8),
        "diffusion.attention_levels": (1,),
        "diffusion.embedding_channels": 16,
        "diffusion.batch_size": 4,
        "diffusion.steps": 20,
        "diffusion.dropout": 0.1,
        "diffusion.cutmix_labelled": False,
        "diffusion.precision": "fp32",
        "diffusion.frequency_weight": 0.1,
        "diffusion.frequency_weighting": "none",
    }
)


class KilledError(Exception):
    """Stands for a kill right after a checkpoint."""


def slices(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def latents(count: int) -> Latents:
    random = torch.Generator().manual_seed(2)
    mean = torch.randn(count, 4, 8, 8, generator=random).half()
    log_variance = torch.randn(count, 4, 8, 8, generator=random).half() - 3
    return Latents(mean, log_variance, ChannelStatistics.of(mean, log_variance))


def vae_records(
    folder: Path, recipe: Recipe = TINY, report: Report = ignore_report, **execution: int
) -> list[Record]:
    _, records = train_vae(
        recipe.vae, slices(12), slices(5), seed=3, folder=folder, execution=Execution(**execution), report=report
    )
    return records


def denoiser_records(
    folder: Path, recipe: Recipe = TINY, report=lambda records: None, **execution: int
) -> list[Record]:  # type: ignore[no-untyped-def]
    _, records = train_denoiser(
        recipe.diffusion,
        latents(12),
        latents(5),
        seed=3,
        folder=folder,
        execution=Execution(**execution),
        report=report,
    )
    return records


OPPOSED = TINY.replace(**{"vae.adversarial_weight": 0.05, "vae.adversarial_start": 0.31, "vae.validations": 10})
"""With a discriminator from step 6 of 20 on, and a checkpoint after every second step."""


def opposed_records(folder: Path, recipe: Recipe = TINY, **rest: Any) -> list[Record]:
    """A training of the autoencoder with a discriminator."""
    names = ("adversarial_weight", "adversarial_start", "validations")
    changes = {f"vae.{name}": getattr(OPPOSED.vae, name) for name in names}
    return vae_records(folder, recipe.replace(**changes), **rest)


LOOPS = {"vae": vae_records, "denoiser": denoiser_records}
CONTINUED = LOOPS | {"opposed": opposed_records}


def without_time(records: Sequence[Record]) -> list[Record]:
    return [{name: value for name, value in record.items() if name != "time"} for record in records]


@pytest.mark.parametrize("name", LOOPS)
def test_the_first_losses_are_what_they_were(name: str, tmp_path: Path) -> None:
    """``LATENTSWEEP_REWRITE_GOLDEN=1`` writes them anew, for a change that is meant to change them."""
    losses = [record["train/loss"] for record in LOOPS[name](tmp_path) if "train/loss" in record]
    assert len(losses) == 20
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("LATENTSWEEP_REWRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(golden | {name: losses}, indent=1))
        golden[name] = losses
    assert losses == pytest.approx(golden[name], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", CONTINUED)
def test_a_run_that_was_killed_and_continued_equals_one_that_was_not(
    name: str, precision: str, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    recipe = TINY.replace(**{"vae.precision": precision, "diffusion.precision": precision})
    expected = without_time(CONTINUED[name](whole, recipe))

    def kill(records: Sequence[Record]) -> None:
        if records[-1]["step"] >= 10:
            raise KilledError

    with pytest.raises(KilledError):
        CONTINUED[name](broken, recipe, report=kill)
    heard: list[Record] = []
    continued = CONTINUED[name](broken, recipe, report=lambda records: heard.extend(records))
    assert without_time(continued) == expected
    assert without_time(heard) == expected, "what came before the kill is reported again"


VALIDATED = {"vae": (vae_training, "validation_loss"), "denoiser": (denoiser_training, "validation_mse")}
"""Where each loop has what it validates by."""


def checkpointed(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that are trained, and their averages."""
    tensors, _ = load_tensors(folder / CHECKPOINT)
    return {name: tensor for name, tensor in tensors.items() if name.startswith(("model/", "average/"))}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_the_untrained_network_is_validated_first_as_it_is_later(name: str, tmp_path: Path) -> None:
    metric = {"vae": "val/loss", "denoiser": "val/mse"}[name]
    section = {"vae": "vae", "denoiser": "diffusion"}[name]
    untouched, trained = tmp_path / "untouched", tmp_path / "trained"
    untouched.mkdir(), trained.mkdir()
    still = TINY.replace(**{f"{section}.learning_rate": 0.0})
    values = [record[metric] for record in LOOPS[name](untouched, still) if metric in record]
    assert len(values) == getattr(TINY, section).validations + 1
    assert values == pytest.approx([values[0]] * len(values), rel=1e-6), "the same images, timesteps and noise"
    first, *later = LOOPS[name](trained)
    assert (first["step"], first[metric]) == (0, values[0])
    assert all(record["step"] > 0 for record in later)
    assert not any(each.startswith(("train/", "rung/")) for each in first)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_validating_the_untrained_network_changes_nothing_after_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, unseen = tmp_path / "seen", tmp_path / "unseen"
    seen.mkdir(), unseen.mkdir()
    expected = without_time(LOOPS[name](seen))
    loop, function = VALIDATED[name]
    validate, calls = getattr(loop, function), [0]

    def none_at_first(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] > 1:
            return validate(*args)
        return {"val/loss": 0.0} if name == "vae" else 0.0

    monkeypatch.setattr(loop, function, none_at_first)
    assert without_time(LOOPS[name](unseen))[1:] == expected[1:]
    weights = checkpointed(unseen)
    assert all(torch.equal(weights[key], value) for key, value in checkpointed(seen).items())


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_a_training_that_an_older_version_began_goes_on_without_the_untrained_loss(name: str, tmp_path: Path) -> None:
    def kill(records: Sequence[Record]) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        LOOPS[name](tmp_path, report=kill)
    tensors, state = load_tensors(tmp_path / CHECKPOINT)
    untrained, *state["records"] = state["records"]
    assert untrained["step"] == 0
    save_tensors(tmp_path / CHECKPOINT, tensors, state)
    (tmp_path / "whole").mkdir()
    assert without_time(LOOPS[name](tmp_path)) == without_time(LOOPS[name](tmp_path / "whole"))[1:]


def test_the_untrained_autoencoder_is_never_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([0.1, *(3.0 - 0.1 * number for number in range(TINY.vae.validations))])
    monkeypatch.setattr(vae_training, "validation_loss", lambda *args: {"val/loss": next(losses)})
    records = vae_records(tmp_path)
    held = load_tensors(tmp_path / CHECKPOINT)[1]["extra"]["best"]
    assert held == min(record["val/loss"] for record in records[1:] if "val/loss" in record) > 0.1


@pytest.mark.parametrize("name", LOOPS)
def test_a_damaged_checkpoint_costs_time_and_not_the_result(name: str, tmp_path: Path) -> None:
    expected = without_time(LOOPS[name](tmp_path))
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    assert without_time(LOOPS[name](tmp_path)) == expected


DROPPING = TINY.replace(**{"diffusion.dropout": 0.5, "diffusion.ema_decay": 0.0, "diffusion.ema_lengths": (0.1,)})
"""Much dropout, and an average that is the last step's weights, so that a wrong mask shows; another beside it."""

OTHER = TINY.replace(
    **{"vae.reconstruction_loss": "charbonnier", "vae.ms_ssim_weight": 0.2, "vae.gradient_weight": 0.1}
)
FORGIVING = TINY.replace(**{"vae.equivariance_weight": 0.5, "vae.latent_noise": 0.5})
OTHERS = {"vae": DROPPING, "other loss": OTHER, "opposed": OPPOSED, "forgiving": FORGIVING}
TRAINED = (*LOOPS, "other loss", "opposed", "forgiving")


def trained(name: str, folder: Path, **execution: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses and final weights."""
    folder.mkdir()
    rung = Execution(**execution)
    if name != "denoiser":
        config = OTHERS[name].vae
        model, records = train_vae(config, slices(12), slices(5), seed=3, folder=folder, execution=rung)
        weights = dict(model.state_dict())
    else:
        averages, records = train_denoiser(
            DROPPING.diffusion, latents(12), latents(5), seed=3, folder=folder, execution=rung
        )
        weights = weights_of(averages)
    return [record["train/loss"] for record in records if "train/loss" in record], weights


def weights_of(averages: Averages) -> dict[str, torch.Tensor]:
    """Of all averages, and of the guide where there is one."""
    named = averages.by_length | ({"guide": averages.guide} if averages.guide is not None else {})
    return {f"{name}/{key}": value for name, model in named.items() for key, value in model.state_dict().items()}


def assert_equal_up_to_order(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Float32 weights whose gradients were summed in another order: AdamW's steps of 1e-3 keep 2 % of one."""
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rung",
    [
        {"micro_batch": 1},
        {"micro_batch": 2},
        {"micro_batch": 3},
        {"checkpoint_activations": True},
        {"micro_batch": 1, "checkpoint_activations": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", TRAINED)
def test_a_rung_of_the_ladder_changes_nothing_but_the_order_of_sums(
    name: str, rung: dict[str, Any], tmp_path: Path
) -> None:
    losses, weights = trained(name, tmp_path / "whole")
    on_rung, rung_weights = trained(name, tmp_path / "rung", **rung)
    assert on_rung == pytest.approx(losses, rel=1e-4)
    assert_equal_up_to_order(rung_weights, weights)


@pytest.mark.slow
def test_without_dropout_by_place_the_weights_would_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, weights = trained("denoiser", tmp_path / "whole")
    monkeypatch.setattr(Masks, "drop", lambda self, h, probability, layer: F.dropout(h, probability))
    _, others = trained("denoiser", tmp_path / "parts", micro_batch=1)
    with pytest.raises(AssertionError):
        assert_equal_up_to_order(others, weights)


def worker(rank: int, name: str, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    losses, weights = trained(name, folder / str(rank), workers=2)
    if rank == 0:
        save_tensors(folder / "weights", weights, losses)
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_two_workers_train_as_one(name: str, tmp_path: Path) -> None:
    losses, weights = trained(name, tmp_path / "alone")
    torch.multiprocessing.spawn(worker, (name, tmp_path), nprocs=2)
    together, of_two = load_tensors(tmp_path / "weights")
    assert of_two == pytest.approx(losses, rel=1e-4)
    assert_equal_up_to_order(together, weights)


@pytest.mark.parametrize(("rank", "said"), [(0, "while it measures"), (1, "another worker")])
def test_where_measuring_runs_out_of_memory_no_worker_waits_for_ever(
    rank: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, drawn, draw_step = even_steps(TINY.diffusion.steps, 3)[0], list[int](), denoiser_training.draw_step
    fails = iter([False] * first + [True])  # the other worker: not at a step, but at the first rung

    def measure(averages: Averages) -> dict[str, float]:
        assert rank == 0, "the first alone measures"
        raise torch.OutOfMemoryError("while it measures")

    @contextlib.contextmanager
    def all_or_none() -> Iterator[None]:
        """As it is with two workers."""
        other = next(fails)
        yield
        if other:
            raise torch.OutOfMemoryError("another worker")

    def counted(config: DiffusionConfig, training: Latents, step: int, seed: int) -> Draws:
        drawn.append(step)
        return draw_step(config, training, step, seed)

    monkeypatch.setattr(loop, "rank", lambda: rank)
    monkeypatch.setattr(loop, "shares", lambda batch, _: [slice(0, batch)])
    monkeypatch.setattr(loop, "all_or_none", all_or_none)
    monkeypatch.setattr(denoiser_training, "draw_step", counted)
    with pytest.raises(torch.OutOfMemoryError, match=said):
        scored(tmp_path, Scorer(measure, "first"))
    assert drawn == list(range(first)), "both end at the rung"
    assert next(fails, None) is None, "both were asked there"


@pytest.mark.parametrize("name", LOOPS)
def test_a_divergence_ends_the_run_and_says_where(name: str, tmp_path: Path) -> None:
    section = {"vae": "vae", "denoiser": "diffusion"}[name]
    recipe = TINY.replace(**{f"{section}.learning_rate": 1e30, f"{section}.gradient_clip": 0.0})
    with pytest.raises(DivergenceError, match="no longer finite at step") as caught:
        LOOPS[name](tmp_path, recipe)
    assert 0 < caught.value.step <= 20


def test_another_loss_is_validated_by_its_own_terms_and_the_mse_beside_them(tmp_path: Path) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    plain.mkdir(), other.mkdir()
    expected, found = vae_records(plain)[-1], vae_records(other, OTHER)[-1]
    assert set(found) == set(expected) | {"val/fidelity"}
    assert found["val/reconstruction"] == pytest.approx(expected["val/reconstruction"], rel=0.5), "both are MSE"
    assert found["val/fidelity"] > 2 * found["val/reconstruction"]
    kl_weight = TINY.vae.kl_weight
    assert found["val/loss"] == pytest.approx(found["val/fidelity"] + kl_weight * found["val/kl"], rel=1e-5)


def test_a_discriminator_is_recorded_from_where_it_begins_and_chosen_after_it(tmp_path: Path) -> None:
    plain, opposed = tmp_path / "plain", tmp_path / "opposed"
    plain.mkdir(), opposed.mkdir()
    same = TINY.replace(**{"vae.validations": OPPOSED.vae.validations})
    before, after = vae_records(plain, same), vae_records(opposed, OPPOSED)
    begins = int(OPPOSED.vae.adversarial_start * 20)
    heard = [record["step"] for record in after if "train/discriminator" in record]
    assert begins == 6
    assert heard == [record["step"] for record in after if "train/loss" in record and record["step"] > begins]
    assert all({"train/adversarial", "train/discriminator"} <= set(r) for r in after if "train/discriminator" in r)
    until = [r for r in without_time(after) if r["step"] <= begins]
    assert until == [r for r in without_time(before) if r["step"] <= begins], "until then all is as without it"
    assert without_time(after)[-1] != without_time(before)[-1]
    assert not any("discriminator" in key or "adversarial" in key for record in before for key in record)

    held = load_tensors(opposed / CHECKPOINT)[1]["extra"]["best"]
    assert held == min(r["val/loss"] for r in after if "val/loss" in r and r["step"] > begins)


def test_weights_from_before_the_discriminator_are_not_chosen(tmp_path: Path) -> None:
    """However good they are: at a forbidding weight, what comes after is worse."""
    recipe = OPPOSED.replace(**{"vae.adversarial_weight": 1e4, "vae.learning_rate": 0.02})
    records = vae_records(tmp_path, recipe)
    losses = {r["step"]: r["val/loss"] for r in records if "val/loss" in r}
    held = load_tensors(tmp_path / CHECKPOINT)[1]["extra"]["best"]
    assert min(losses.values()) < held == min(loss for step, loss in losses.items() if step > 6)


def test_both_cutmix_forms_train_and_differ(tmp_path: Path) -> None:
    losses = {}
    for form in ("z0", "zt"):
        folder = tmp_path / form
        folder.mkdir()
        recipe = TINY.replace(**{"diffusion.cutmix_form": form, "diffusion.cutmix_probability": 1.0})
        losses[form] = denoiser_records(folder, recipe)[-1]["val/mse"]
    assert losses["z0"] != losses["zt"]


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["stratified", "logit_normal", "log_normal"])
def test_a_run_with_other_timesteps_at_zero_snr_continues_bit_for_bit(sampling: str, tmp_path: Path) -> None:
    recipe = TINY.replace(**{"diffusion.timestep_sampling": sampling, "diffusion.zero_terminal_snr": True})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    expected = without_time(denoiser_records(whole, recipe))

    def kill(records: Sequence[Record]) -> None:
        if records[-1]["step"] >= 10:
            raise KilledError

    with pytest.raises(KilledError):
        denoiser_records(broken, recipe, report=kill)
    assert without_time(denoiser_records(broken, recipe)) == expected


@pytest.mark.slow
def test_more_averages_leave_the_training_as_it_is_and_survive_a_kill(tmp_path: Path) -> None:
    plain, more = TINY.diffusion, TINY.diffusion.replace(ema_lengths=(0.05, 0.2), guide_share=0.3)

    def averages(name: str, config: DiffusionConfig, report: Report = ignore_report) -> tuple[Averages, list[Record]]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return train_denoiser(
            config, latents(12), latents(5), seed=3, folder=folder, execution=Execution(), report=report
        )

    def kill(records: Sequence[Record]) -> None:
        if records[-1]["step"] >= 10:
            raise KilledError

    alone, expected = averages("alone", plain)
    beside, records = averages("beside", more)
    assert without_time(records) == without_time(expected)
    weights = weights_of(beside)
    for key, value in weights_of(alone).items():
        assert torch.equal(weights[key], value)
    with pytest.raises(KilledError):
        averages("killed", more, kill)
    continued = weights_of(averages("killed", more)[0])
    assert all(torch.equal(continued[key], value) for key, value in weights.items())
    assert {key.split("/")[0] for key in continued} == {"0.0", "0.05", "0.2", "guide"}
    short, long = (beside.by_length[length].state_dict() for length in (0.05, 0.2))
    assert any(not torch.equal(short[key], long[key]) for key in short)


def scored(folder: Path, score: Scorer | None, report: Report = ignore_report) -> list[float]:
    """The scores of a training with two rungs."""
    _, records = train_denoiser(
        TINY.diffusion.replace(ema_lengths=(0.1,)),
        latents(12),
        latents(5),
        seed=3,
        folder=folder,
        execution=Execution(),
        report=report,
        score=score,
        rungs=2,
    )
    return [record["rung/kid"] for record in records if "rung/kid" in record]


@pytest.mark.slow
def test_a_training_that_was_given_up_goes_on_without_the_scores_of_another_sampling(tmp_path: Path) -> None:
    heard: list[list[float]] = []

    def measure(value: float) -> Callable[[Averages], dict[str, float]]:
        def measured(averages: Averages) -> dict[str, float]:
            heard.append(sorted(averages.by_length))
            return {"rung/kid": value}

        return measured

    def prune(records: Sequence[Record]) -> None:
        if "rung/kid" in records[-1]:
            raise KilledError

    first, second = Scorer(measure(1.0), "first"), Scorer(measure(2.0), "second")
    with pytest.raises(KilledError):
        scored(tmp_path, first, prune)
    for name, score, expected in (("same", first, [1.0, 1.0]), ("other", second, [2.0]), ("none", None, [])):
        shutil.copytree(tmp_path, tmp_path.with_name(name))
        assert scored(tmp_path.with_name(name), score) == expected
    assert heard == [[0.0, 0.1]] * 3, "the averages, to choose from"


@pytest.mark.slow
def test_a_training_that_copies_goes_on_and_keeps_what_it_was_before_also_through_a_kill(tmp_path: Path) -> None:
    config, steps = TINY.diffusion.replace(ema_lengths=(0.1,)), list[float]()

    def trained(name: str, copied: Sequence[bool], report: Report = ignore_report, identity: str = "a") -> Averages:
        """``copied`` says of each rung whether it copies."""
        rungs = iter(copied)
        score = Scorer(lambda _: {"rung/copied": float(next(rungs))}, identity, lambda r: r.get("rung/copied") == 1)
        averages, records = train_denoiser(
            config,
            latents(12),
            latents(5),
            seed=3,
            folder=tmp_path / name,
            execution=Execution(),
            report=report,
            score=score,
            rungs=3,
        )
        steps[:] = [record["step"] for record in records if "rung/copied" in record]
        return averages

    def kill(records: Sequence[Record]) -> None:
        if records[-1]["step"] >= steps[1]:
            raise KilledError

    for name in ("never", "late", "first", "killed", "other"):
        (tmp_path / name).mkdir()
    never, late = trained("never", [False] * 3), trained("late", [False, True, False])
    assert never.clean == {}
    assert late.clean.keys() == {0.0, 0.1}
    assert trained("first", [True] * 3).clean == {}, "no rung was clean before"
    for length, model in late.by_length.items():
        ending, kept = model.state_dict(), late.clean[length]
        assert kept.keys() == ending.keys()
        assert all(torch.equal(ending[key], value) for key, value in never.by_length[length].state_dict().items())
        assert any(not torch.equal(kept[key], ending[key]) for key in kept)
    with pytest.raises(KilledError):
        trained("killed", [False, True], kill)
    shutil.copytree(tmp_path / "killed", tmp_path / "other", dirs_exist_ok=True)
    for length, kept in trained("killed", [False]).clean.items():
        assert all(torch.equal(kept[key], value) for key, value in late.clean[length].items())
    assert trained("other", [True], identity="b").clean == {}, "other rungs have found nothing clean"


def test_steps_are_evenly_spaced_and_end_at_the_last() -> None:
    assert even_steps(10, 3) == [4, 7, 10]
    assert even_steps(2, 5) == [1, 2]
    assert even_steps(5, 0) == []


@pytest.mark.parametrize(("clip", "factor"), [(0.0, 1.0), (1.0, 0.2), (5.1, 1.0), (float("inf"), 1.0)])
def test_the_gradients_norm_is_held_to_the_clip_and_no_lower_one_is_changed(clip: float, factor: float) -> None:
    layer = torch.nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[3.0, 4.0]])
    before = layer.weight.detach().clone()
    update(layer, torch.optim.SGD(layer.parameters(), lr=1.0), torch.amp.GradScaler("cpu", enabled=False), clip)
    assert torch.allclose(before - layer.weight, factor * torch.tensor([[3.0, 4.0]]), atol=1e-5)


def test_a_norm_that_is_no_number_reaches_every_weight() -> None:
    layer = torch.nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[float("nan"), 1.0]])
    update(layer, torch.optim.SGD(layer.parameters(), lr=1.0), torch.amp.GradScaler("cpu", enabled=False), 1.0)
    assert layer.weight.isnan().all()
