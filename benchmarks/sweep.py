"""A whole sweep by latentsweep against the same trials the usual way: CPU seconds, wall time, and what they found.

The usual way is :mod:`trial_by_trial`: plain Ray Tune, where each trial trains its autoencoder, encodes, trains its
denoiser, samples and measures, by the same stage functions. Tune is at its defaults, a process for each trial; with
``--reuse-actors`` its processes go on with the next trial, as ours do. Both sides run as commands of their own, two
trials at once with one thread each, on the same two cores. What is counted is everything: the commands' starts,
Ray's own processes, and on our side MLflow, figures and the leaderboard.

- *grid*: 32 points, 2 latent channels × 2 λ_freq × 2 CutMix probabilities × 4 early-stop thresholds, every number of
  every point the same to the bit but ``gen/seconds_per_image``, which is a time;
- *adaptive*: 32 trials proposed by TPE over the same four dimensions, both ranges continuous. A trial is a denoiser
  on both sides; ours are pruned by the median, and each that is finished is measured under all four thresholds. Both
  searches are repeated with ``--seeds`` seeds: what one finds depends on its draws and on which trials end first.

The recipe is ``smoke`` with a part of its steps and images, so that the cost of an autoencoder over that of a
denoiser stays what it is there: a tenth of the steps in the grid; a quarter in the adaptive search, with the three
rungs that ``improved`` has. Linux only; ends with exit code 1 where a row doesn't hold.

    python benchmarks/sweep.py grid --report
    python benchmarks/sweep.py adaptive --report
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import yaml
from process_tree import Cost, measured
from timing import publish, verdicts
from trial_by_trial import Job

from latentsweep.datasets.phantom import phantom
from latentsweep.search.choice import SearchConfig
from latentsweep.search.study import Search
from latentsweep.search.sweeps import chosen_sweep, open_search
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.recipes import IMPROVED, SMOKE
from trainables.space import Choice, Range, SearchSpace

ROOT = Path(__file__).parents[1]
DATASET, SUBJECTS = "phantoms", 12
CORES = TRIALS_AT_ONCE = 2
TENTH = {
    "vae.max_steps": 110,
    "diffusion.steps": 60,
    "evaluation.samples": 8,
    "evaluation.rung_samples": 4,
    "evaluation.rungs": 0,
}
QUARTER = {
    "vae.max_steps": 275,
    "diffusion.steps": 150,
    "evaluation.samples": 16,
    "evaluation.rung_samples": 8,
    "evaluation.rungs": IMPROVED.evaluation.rungs,
}
"""At a tenth, a rung's score takes a third of a training; at ``smoke``'s own length, a fifteenth."""
THRESHOLDS = Choice((0.0, 0.01, 0.02, 0.05))
"""The first four of the search spaces that come with the project."""

GRID = SearchSpace(
    {
        "vae.latent_channels": Choice((4, 8)),
        "diffusion.frequency_weight": Choice((0.0, 0.1)),
        "diffusion.cutmix_probability": Choice((0.0, 0.25)),
        "sampling.early_stop_threshold": THRESHOLDS,
    },
    recipe="smoke",
)
ADAPTIVE = SearchSpace(
    {
        "vae.latent_channels": Choice((4, 8)),
        "diffusion.frequency_weight": Range(0.0, 0.3),
        "diffusion.cutmix_probability": Range(0.0, 0.5),
        "sampling.early_stop_threshold": THRESHOLDS,
    },
    recipe="smoke",
)
TRIALS = 32
TIMES = ("gen/seconds_per_image",)
SHARED = ("vae", "latents", "reference", "reconstruction")
PUBLISHED = (
    "Published for sharing stages between trials: Hippo (Shin et al., PVLDB 15, 2022), 4.81 times less GPU time and "
    "2.76 times less wall time."
)


@dataclass(frozen=True)
class Ours:
    """A sweep by latentsweep: what it cost, its study, and CPU seconds in its stages."""

    cost: Cost
    search: Search
    stages: dict[str, list[float]]


@dataclass(frozen=True)
class Theirs:
    """The same trials one by one: what they cost, and of each its parameters, metrics and CPU seconds in stages."""

    cost: Cost
    trials: list[dict[str, Any]]

    @property
    def stages(self) -> dict[str, list[float]]:
        return {stage: [t["cpu_seconds"][stage] for t in self.trials] for stage in self.trials[0]["cpu_seconds"]}


def environment() -> dict[str, str]:
    places = [str(ROOT), str(ROOT / "platform"), str(ROOT / "mlflow"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}


def prepared(folder: Path) -> Home:
    """A home with a dataset of phantom patients."""
    source = folder / "scans"
    for number in range(SUBJECTS):
        volume, path = phantom(number), source / f"patient-{number:02d}" / "flair.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(volume.voxels, volume.affine), path)
    home = Home(folder / "prepared")
    words = ["data", "prepare", DATASET, "--source", str(source), "--home", str(home.root)]
    measured([sys.executable, str(ROOT / "cli.py"), *words], environment())
    return home


def latentsweep(
    folder: Path, source: Home, space: SearchSpace, trials: int, scale: Mapping[str, int], *words: str, seed: int = 0
) -> Ours:
    """One sweep in a fresh home that has the dataset and nothing else."""
    home = Home(folder)
    shutil.copytree(source.datasets, home.datasets)
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(space.to_plain()))))
    command = [sys.executable, str(ROOT / "cli.py"), "sweep", "--dataset", DATASET, "--space", str(path)]
    command += [
        "--trials",
        str(trials),
        "--seed",
        str(seed),
        "--concurrent",
        str(TRIALS_AT_ONCE),
        "--confirm",
        "0",
        "--home",
        str(folder),
    ]
    for field, value in scale.items():
        command += ["--set", f"{field}={value}"]
    cost = measured([*command, *words], environment())
    stages: dict[str, list[float]] = {}
    for entry in Store.of(home).entries():
        stages.setdefault(entry.manifest["stage"], []).append(entry.manifest["cost"]["cpu_seconds"])
    return Ours(cost, open_search(chosen_sweep(home, DATASET, None)), stages)


def usual(
    folder: Path,
    source: Home,
    space: SearchSpace,
    trials: int,
    scale: Mapping[str, int],
    reuse_actors: bool,
    seed: int = 0,
) -> Theirs:
    """The same by plain Ray Tune; 0 trials: the whole grid."""
    job = Job(
        datasets=str(source.datasets),
        dataset=DATASET,
        recipe=SMOKE.replace(**scale).to_dict(),
        space=space.to_plain(),
        trials=trials,
        startup=SearchConfig().startup,
        seed=seed,
        concurrent=TRIALS_AT_ONCE,
        reuse_actors=reuse_actors,
    )
    folder.mkdir()
    job.write(folder / "job.json")
    script = str(Path(__file__).parent / "trial_by_trial.py")
    cost = measured([sys.executable, script, *(str(folder / n) for n in ("job.json", "results.json"))], environment())
    return Theirs(cost, json.loads((folder / "results.json").read_text()))


def by_point(found: Sequence[tuple[dict[str, Any], dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The numbers of each configuration, but for times."""
    return {
        json.dumps(params, sort_keys=True): {name: value for name, value in metrics.items() if name not in TIMES}
        for params, metrics in found
    }


def differences(ours: Ours, theirs: Theirs) -> list[str]:
    """Which numbers of which points are not the same to the bit."""
    here = by_point([(trial.params, trial.user_attrs["metrics"]) for trial in ours.search.measured()])
    there = by_point([(trial["params"], trial["measured"]) for trial in theirs.trials])
    lines = [f"{point}: on one side alone" for point in sorted(here.keys() ^ there.keys())]
    for point in sorted(here.keys() & there.keys()):
        names = sorted(here[point].keys() | there[point].keys())
        unequal = [name for name in names if here[point].get(name) != there[point].get(name)]
        lines += [f"{point}: {name}" for name in unequal]
    return lines


def stage_table(ours: Ours, theirs: Theirs) -> list[str]:
    """CPU seconds by stage, and what is left of the whole."""
    lines = ["| stage | latentsweep: times × CPU s | trial by trial: times × CPU s |", "| --- | --- | --- |"]
    for stage, there in theirs.stages.items():
        here = ours.stages.get(stage, [])
        cells = [f"{len(values)} × {statistics.mean(values):.2f}" if values else "0" for values in (here, there)]
        lines.append(f"| {stage} | {cells[0]} | {cells[1]} |")
    rest = [side.cost.cpu - sum(map(sum, side.stages.values())) for side in (ours, theirs)]
    lines.append(f"| all else (starts, Ray, pruned trials, records) | {rest[0]:.0f} | {rest[1]:.0f} |")
    return lines


def by_ratio(ours: Ours, theirs: Theirs) -> list[str]:
    """What the grid's ratio of CPU seconds would be at another cost of an autoencoder over that of a denoiser.

    From the measured stages, the sum of the two trainings held; "ten times" has all trainings and measurements as
    long as ``smoke`` has them, with the same cost of all else.
    """
    mean = {stage: statistics.mean(values) for stage, values in theirs.stages.items()}
    vae, denoiser = mean["vae"], mean["denoiser"]
    trials, autoencoders, denoisers = len(theirs.trials), len(ours.stages["vae"]), len(ours.stages["denoiser"])
    rest = [
        side.cost.cpu - sum(sum(v) for s, v in side.stages.items() if s in ("vae", "denoiser"))
        for side in (ours, theirs)
    ]

    def ratio(share: float, scale: float = 1.0) -> float:
        first = (vae + denoiser) * share / (1 + share)
        second = vae + denoiser - first
        here = scale * (autoencoders * first + denoisers * second) + rest[0]
        there = scale * trials * (first + second) + rest[1]
        return there / here

    lines = ["| autoencoder : denoiser | CPU seconds, times less |", "| --- | --- |"]
    for share in (0.0, 0.5, 1.0, vae / denoiser, 4.0):
        lines.append(f"| {share:.2f}{' (measured here)' if share == vae / denoiser else ''} | {ratio(share):.1f} |")
    return [*lines, f"| {vae / denoiser:.2f}, trainings ten times as long | {ratio(vae / denoiser, 10):.1f} |"]


def side_table(ours: Ours, theirs: Theirs) -> list[str]:
    return [
        "| | latentsweep | trial by trial | times less |",
        "| --- | --- | --- | --- |",
        f"| CPU seconds | {ours.cost.cpu:.0f} | {theirs.cost.cpu:.0f} | {theirs.cost.cpu / ours.cost.cpu:.2f} |",
        f"| wall seconds | {ours.cost.wall:.0f} | {theirs.cost.wall:.0f} | {theirs.cost.wall / ours.cost.wall:.2f} |",
    ]


def row(what: str, against: str, at_least: str, text: str, holds: bool) -> dict[str, object]:
    return {"what": what, "against": against, "at_least": at_least, "measured": text, "holds": holds}


def grid(folder: Path, home: Home, reuse_actors: bool) -> tuple[list[dict[str, object]], list[str]]:
    denoisers = int(GRID.size) // len(THRESHOLDS.values)
    options = ("--sampler", "random", "--pruner", "none")
    ours = latentsweep(folder / "grid", home, GRID, denoisers, TENTH, *options)
    theirs = usual(folder / "grid-usual", home, GRID, 0, TENTH, reuse_actors)
    unequal = differences(ours, theirs)
    points = len(ours.search.measured())
    cpu, wall = theirs.cost.cpu / ours.cost.cpu, theirs.cost.wall / ours.cost.wall
    same = not unequal and points == GRID.size
    how = "the same to the bit" if same else f"NOT the same: {len(unequal)} numbers differ"
    rows = [
        row(
            f"the {int(GRID.size)}-point grid, compute, {how}",
            "trial by trial",
            "4 times less (CPU)",
            f"{cpu:.2f} times less",
            same and cpu >= 4,
        ),
        row(
            "the same, wall time at equal concurrency",
            "trial by trial",
            "3 times less (CPU)",
            f"{wall:.2f} times less",
            wall >= 3,
        ),
    ]
    lines = [f"## The {int(GRID.size)}-point grid", "", *side_table(ours, theirs), ""]
    lines += [f"All numbers of {points} points are {how}." if same else f"{how}:", *unequal[:20], ""]
    lines += [*stage_table(ours, theirs), "", "How the ratio moves with the cost of an autoencoder:", ""]
    return rows, [*lines, *by_ratio(ours, theirs), ""]


def adaptive(folder: Path, home: Home, reuse_actors: bool, seeds: int) -> tuple[list[dict[str, object]], list[str]]:
    """Both searches with each seed: CPU seconds of all, and how far behind ours ends, on average of the seeds.

    The standard error that it is held to is one search's, the root mean square of the usual ones'.
    """
    lines = [
        f"## {TRIALS} adaptive trials, {seeds} seeds",
        "",
        "A trial is a denoiser on both sides; ours that finish are measured under each threshold, a point each.",
        "",
        "| seed | CPU seconds, usual | ours | times less | wall time, times less | ours pruned | finished, points "
        "| best KID ×1000, usual | ours |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    here_cpu = there_cpu = 0.0
    behind, errors, tables = [], [], []
    for seed in range(seeds):
        ours = latentsweep(
            folder / f"adaptive-{seed}", home, ADAPTIVE, TRIALS, QUARTER, "--pruner", "median", seed=seed
        )
        theirs = usual(folder / f"usual-{seed}", home, ADAPTIVE, TRIALS, QUARTER, reuse_actors, seed)
        here = ours.search.measured()[0].user_attrs["metrics"]
        there = min((trial["measured"] for trial in theirs.trials), key=lambda metrics: metrics["gen/kid"])
        here_cpu += ours.cost.cpu
        there_cpu += theirs.cost.cpu
        behind.append(here["gen/kid"] - there["gen/kid"])
        errors.append(there["gen/kid_se"])
        states = [trial.state.name for trial in ours.search.run_trials()]
        best = [f"{metrics['gen/kid']:.1f} ± {metrics['gen/kid_se']:.1f}" for metrics in (there, here)]
        lines.append(
            f"| {seed} | {theirs.cost.cpu:.0f} | {ours.cost.cpu:.0f} | {theirs.cost.cpu / ours.cost.cpu:.2f} "
            f"| {theirs.cost.wall / ours.cost.wall:.2f} | {states.count('PRUNED')} "
            f"| {states.count('COMPLETE')}, {len(ours.search.measured())} | {' | '.join(best)} |"
        )
        tables += ["", f"CPU seconds by stage, seed {seed}:", "", *stage_table(ours, theirs)]
    times, mean, error = there_cpu / here_cpu, statistics.mean(behind), math.hypot(*errors) / math.sqrt(seeds)
    rows = [
        row(
            f"{TRIALS} adaptive trials with pruning, compute, best score within one standard error",
            "the same, trial by trial, unpruned",
            "2.5 times less (CPU)",
            f"{times:.2f} times less, best KID behind by {mean:.0f} ± {error:.0f}, mean of {seeds} seeds",
            times >= 2.5 and mean <= error,
        )
    ]
    return rows, [*lines, *tables, ""]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("grid", "adaptive"))
    parser.add_argument("--reuse-actors", action="store_true", help="let the usual way's processes go on")
    parser.add_argument("--seeds", type=int, default=2, help="adaptive: searches of each side")
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-sweep-<part>.md")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = prepared(folder)
        if arguments.part == "grid":
            rows, lines = grid(folder, home, arguments.reuse_actors)
        else:
            rows, lines = adaptive(folder, home, arguments.reuse_actors, arguments.seeds)
    text = [
        *verdicts(rows),
        "",
        *lines,
        PUBLISHED,
        "",
        f"- {CORES} cores, {TRIALS_AT_ONCE} trials at once",
    ]
    return publish(
        f"sweep-{arguments.part}",
        f"Sweep, {arguments.part}",
        text,
        report=arguments.report,
        rows=rows,
        libraries=("torch", "ray", "optuna", "mlflow"),
    )


if __name__ == "__main__":
    raise SystemExit(main())
