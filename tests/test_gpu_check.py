"""The check of a card, as far as it shows without one: limits, reasons, and that trials stacked are trials apart."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_check import worker
from gpu_check.card import Card
from gpu_check.notes import NOTHING_COMPUTED, Noted, Notes
from gpu_check.outcome import Outcome, run
from gpu_check.packing import rate_in_all
from gpu_check.parts import PARTS, PROBE_LIMIT, Part
from gpu_check.resume import largest
from gpu_check.trials import Batch, Stepper, alone, together

from trainables.denoiser.unet import UNet
from trainables.recipes import SMOKE

ROOT = Path(__file__).parents[1]
CARD = Card("a card", (8, 6), 6 * 2**30, "2.13", "13.0", "", True)
PATHS = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "platform", ROOT / "benchmarks")))}


def outcome_of(code: str, folder: Path, limit: float = 20) -> Outcome:
    """What comes of a part whose process runs ``code``, in which ``notes`` are its notes."""
    head = "import sys, time, subprocess; from pathlib import Path; from gpu_check.notes import Notes\n"
    head += f"notes = Notes(Path({str(folder / 'notes')!r}), computes=True)\n"
    return run(1, "cap", limit, [sys.executable, "-c", head + code], folder / "notes", folder / "log")


@pytest.fixture(autouse=True)
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", PATHS["PYTHONPATH"])


@pytest.mark.slow
def test_without_a_card_there_is_one_line_and_exit_code_2() -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "gpu_check"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("gpu-check: torch ")
    assert done.stderr.count("\n") == 1


def test_all_limits_are_eight_minutes_at_most_and_every_part_has_its_function() -> None:
    assert [part.number for part in PARTS] == list(range(1, 11))
    assert PROBE_LIMIT + sum(part.limit for part in PARTS) <= 480
    assert all(callable(part.function()) for part in PARTS)
    assert all(max(part.estimate) < part.limit for part in PARTS)


@pytest.mark.slow
def test_a_part_that_overruns_is_ended_with_all_it_started_and_keeps_what_it_had_noted(tmp_path: Path) -> None:
    child = tmp_path / "child"
    started = f"subprocess.Popen(['sh', '-c', 'sleep 2; touch {child}'])"
    began = time.monotonic()
    outcome = outcome_of(f"notes.measure('speed', 3); {started}; time.sleep(60)", tmp_path, limit=1)
    assert outcome.status == "timed out"
    assert outcome.reason == "ended after 1 s, its limit"
    assert outcome.numbers == {"speed": 3}
    assert time.monotonic() - began < 10
    time.sleep(2.5)
    assert not child.exists()


def test_a_part_whose_process_dies_has_failed_even_if_all_its_claims_held(tmp_path: Path) -> None:
    outcome = outcome_of("notes.check('it works', True); import os; os.kill(os.getpid(), 11)", tmp_path)
    assert (outcome.status, outcome.reason) == ("failed", "its process ended with -11 before the part did")
    assert outcome.checks == {"it works": True}


def test_one_claim_that_does_not_hold_fails_a_part(tmp_path: Path) -> None:
    outcome = outcome_of("notes.check('one', True); notes.check('two', False); notes.end()", tmp_path)
    assert (outcome.status, outcome.reason, outcome.bad) == ("failed", "doesn't hold: two", True)


def test_what_could_not_be_shown_is_not_passed(tmp_path: Path) -> None:
    outcome = outcome_of("notes.check('one', True); notes.leave_out('no card of that kind'); notes.end()", tmp_path)
    assert (outcome.status, outcome.reason, outcome.bad) == ("not shown", "no card of that kind", False)


def test_numbers_of_a_card_that_computes_nothing_are_left_out_with_the_reason(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes", computes=False)
    notes.measure("steps", 20)
    notes.measure("steps_a_second", 66.6, computed=True)
    notes.check("losses are equal", True, computed=True)
    noted = Noted.read(tmp_path / "notes")
    assert (noted.numbers, noted.checks, noted.left_out) == ({"steps": 20}, {}, [NOTHING_COMPUTED])


def test_a_line_that_was_cut_short_is_left_aside(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes", computes=True)
    notes.measure("loss", float("nan"))
    with (tmp_path / "notes").open("a") as file:
        file.write('["number", ["cut", 1')
    assert Noted.read(tmp_path / "notes").numbers == {"loss": "nan"}


def done(name: str, tmp_path: Path) -> Noted:
    """The notes of a part whose function is this module's of that name."""
    part = Part(1, "cap", "", 1, (0, 0), f"{__name__}:{name}")
    worker.do(part, CARD, Notes(tmp_path / "notes", computes=True))
    return Noted.read(tmp_path / "notes")


def lacks_a_package(notes: Notes, card: Card) -> None:
    raise ModuleNotFoundError("No module named 'threadpoolctl'", name="threadpoolctl")


def lacks_a_module_of_ours(notes: Notes, card: Card) -> None:
    raise ModuleNotFoundError("No module named 'trainables.gone'", name="trainables.gone")


def runs_into_an_error(notes: Notes, card: Card) -> None:
    raise RuntimeError("no kernel image\nis available")


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    noted = done("lacks_a_package", tmp_path)
    command = f"{sys.executable} -m pip install threadpoolctl"
    assert noted.left_out == [f"the package threadpoolctl isn't installed: {command}"]
    assert noted.failures == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lacks_a_module_of_ours", "ModuleNotFoundError: No module named 'trainables.gone'"),
        ("runs_into_an_error", "RuntimeError: no kernel image"),
    ],
)
def test_an_error_is_a_failure_and_so_is_a_missing_module_of_our_own(name: str, reason: str, tmp_path: Path) -> None:
    noted = done(name, tmp_path)
    assert (noted.failures, noted.left_out, noted.ended) == ([reason], [], True)


def test_a_rate_in_all_counts_only_the_time_in_which_all_were_training() -> None:
    alone = [{"step": 0.0, "time": 0.0}, {"step": 100.0, "time": 10_000.0}]
    later = [{"step": 10.0, "time": 5_000.0}, {"step": 60.0, "time": 15_000.0}]
    assert rate_in_all([alone]) == pytest.approx(10)
    assert rate_in_all([alone, later]) == pytest.approx(10 + 5)
    after = [{"step": 10.0, "time": 11_000.0}, {"step": 60.0, "time": 15_000.0}]
    with pytest.raises(RuntimeError, match="did not run at the same time"):
        rate_in_all([alone, after])


def test_records_are_compared_but_for_their_times() -> None:
    first = [{"step": 1.0, "time": 5.0, "loss": 2.0}]
    assert largest(first, [{"step": 1.0, "time": 9.0, "loss": 2.0}]) == 0
    assert largest(first, [{"step": 1.0, "time": 5.0, "loss": 2.5}]) == pytest.approx(0.25)


TINY = SMOKE.replace(**{"diffusion.widths": (8, 16), "diffusion.embedding_channels": 16, "diffusion.batch_size": 4})


def network(seed: int) -> UNet:
    torch.manual_seed(seed)
    return UNet(TINY.vae.latent_channels, TINY.diffusion)


def losses(stepper: Stepper, seeds: range | list[int]) -> torch.Tensor:
    torch.set_num_threads(1)
    batches = [Batch.made_up(TINY, seeds, number, torch.device("cpu")) for number in range(2)]
    return torch.stack([stepper.take(batches[step % 2]).clone() for step in range(6)])


def test_trials_with_stacked_weights_learn_as_trials_apart() -> None:
    config: dict[str, Any] = {"dtype": torch.float32, "graphed": False}
    apart = [losses(alone(network(seed), TINY.diffusion, **config), [seed]) for seed in range(3)]
    stacked = losses(together([network(seed) for seed in range(3)], TINY.diffusion, **config), range(3))
    torch.testing.assert_close(stacked, torch.cat(apart, dim=1), rtol=1e-5, atol=0)
    assert (stacked[4] < stacked[0]).all()
