"""The whole job by the command line, from a search to images, on a card of one compute capability.

Nothing is computed, so what is looked at is that each command ends well, that all trials are there, on which device
and in which precision each training ran, and that none took more of the card than it was given.
"""

from __future__ import annotations

import json
from typing import Any

from command_line import TINY

from rehearsal.card import CONTEXT
from rehearsal.command import FailedError, Stage

SPACE = """
dimensions:
  diffusion.cutmix_probability: [0.0, 0.25]
  sampling.early_stop_threshold: [0.0, 0.05]
"""
TRIALS = SEEDS = 2
IMAGES = 4
SHORT = {"diffusion.patch_size": 2, "diffusion.steps": 24, "diffusion.validations": 2, "evaluation.rungs": 0}
RECIPE = ["--recipe", "small", *TINY]
RECIPE += [word for name, value in SHORT.items() for word in ("--set", f"{name}={value}")]

MIB, GIB = 1 << 20, 1 << 30


def journey(stage: Stage, precision: str) -> list[str]:
    """Searches, retrains the best, samples, measures and compares; says what was found.

    Trainings are to run in ``precision``. Raises :class:`FailedError`.
    """
    home, best, images = (stage.folder / name for name in ("home", "best.yaml", "images"))
    space = stage.folder / "space.yaml"
    space.write_text(SPACE)
    here = ("--home", home)

    def cli(command: str, *words: object, name: str = "") -> Any:
        return json.loads(stage.run(name or command, "python", "cli.py", command, *words, "--json").out)

    plan = cli("plan", *RECIPE)
    check(plan["card_is_here"] and plan["trials_per_card"] == TRIALS, "plan puts both trials on the card", plan)
    caps = [training["cap_gib"] * GIB for training in plan["trainings"].values()]

    chosen = ("--space", space, "--trials", TRIALS, "--sampler", "random", "--pruner", "none")
    counts = cli("sweep", "--dataset", "demo", *RECIPE, *chosen, *here)["counts"]
    check((counts["complete"], counts["failed"]) == (TRIALS, 0), "every trial is complete", counts)
    said = [trainings(stage, precision, at_least=2, bytes_at_most=max(caps))]

    # The card computes nothing, so that all images are alike, and the guards refuse them.
    even_so = ("--despite-guards", *here)
    stage.run("export", "python", "cli.py", "export", "--dataset", "demo", "--to", best, *even_so)
    trained = cli("train", "--config", best, "--steps", SHORT["diffusion.steps"] + 8, *even_so)
    check(not trained["from_store"], "the retraining trains", trained["from_store"])
    check(trained["registry"]["version"] == 1, "the retrained model is registered", trained["registry"])
    trainings(stage, precision, at_least=3)

    drawn = cli("sample", trained["folder"], "--count", IMAGES, "--to", images, *here)["files"]
    check(
        len(drawn) == IMAGES + 1 and all((images / name).is_file() for name in drawn), "all images are drawn", drawn
    )
    measured = cli("evaluate", trained["folder"], *here)
    check("gen/kid" in measured, "evaluate says what the run measured", sorted(measured))
    measured = cli("evaluate", "--images", images, "--dataset", "demo", *here, name="evaluate-images")
    check("gen/kid" in measured, "evaluate measures a folder of images", sorted(measured))

    study = cli("ablate", "--dataset", "demo", *RECIPE, "--components", "cutmix", "--seeds", SEEDS, *here)
    effects = study["effects"]["gen/kid"]
    check(
        not study["failures"] and [effect["seeds"] for effect in effects] == [list(range(SEEDS))],
        "the study compares all seeds",
        study["failures"] or effects,
    )
    said.append(f"in all {trainings(stage, precision, at_least=4)}")
    return [*said, f"seconds: {', '.join(f'{name} {seconds:.0f}' for name, seconds in stage.took.items())}"]


def trainings(stage: Stage, precision: str, *, at_least: int, bytes_at_most: float | None = None) -> str:
    """How the trainings ran so far, in words; they are the processes that multiplied in less than fp32.

    Raises :class:`FailedError` where there are fewer than ``at_least``, where one ran in another precision, or took
    more than ``bytes_at_most`` beside its context.
    """
    found = [process for process in stage.processes() if process.precisions]
    check(len(found) >= at_least, f"at least {at_least} processes ran in half precision", len(found))
    others = [process for process in found if process.precisions != {precision}]
    check(not others, f"all trainings run in {precision}", others)
    peak = max(process.peak for process in found) - CONTEXT
    if bytes_at_most is not None:
        check(peak <= bytes_at_most, f"a training takes at most {bytes_at_most / MIB:.0f} MiB", f"{peak / MIB:.0f}")
    return f"{len(found)} processes in {precision}, at most {peak / MIB:.0f} MiB each beside CUDA's own"


def check(holds: bool, rule: str, found: object) -> None:
    """Raises :class:`FailedError` where a rule doesn't hold."""
    if not holds:
        raise FailedError(f"{rule}: not so, but {found}")
