"""From a study's runs to its page: which metrics are judged, what surrounds them, and the files."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentsweep.ablation.design import walltime
from latentsweep.ablation.design.arms import WHOLE
from latentsweep.ablation.design.plan import AblationPlan, ArmRun, needed, sharing
from latentsweep.ablation.design.walltime import WallTime, inequality, spent
from latentsweep.ablation.page.content import Content
from latentsweep.ablation.page.files import write_page
from latentsweep.ablation.page.tables import walltime_table
from latentsweep.ablation.statistics.effect import MARGIN, Effect, Stability
from latentsweep.ablation.statistics.effects import effects, summaries
from latentsweep.ablation.statistics.gaps import ArmGap, gaps
from latentsweep.ablation.statistics.ratio import Ratio, ratios
from latentsweep.ablation.statistics.replicate import Replicate
from latentsweep.configuration import scalar
from latentsweep.datasets.ledger import earlier_words
from latentsweep.jobs.ablation import Study
from latentsweep.jobs.ablation_outlook import Noise, power_words
from latentsweep.jobs.forecast import time_words
from latentsweep.lints import Finding, targets
from latentsweep.metrics import STUDY
from latentsweep.pages.numbers import listed, number
from latentsweep.pages.repetition import assignment, differences, machine, versions
from latentsweep.program.invocation import documented
from latentsweep.storage.home import write_json
from latentsweep.storage.store import Store
from trainables.measures.distances import WithinKernel, kernel_within_groups
from trainables.measures.reference import Reference
from trainables.recipes import recipe_named
from trainables.space import Value

METRICS = tuple(metric.name for metric in STUDY)
"""What arms are compared by, the one that verdicts rest on first."""

REAL = "real_slices.json"
"""The kernels of the real slices, without which the ratios' intervals can't be computed again."""


def judge_effects(
    study: Study, jobs: Sequence[ArmRun], seeds: int, real: WithinKernel | None
) -> dict[str, list[Effect]]:
    """The effects by metric; ``real`` is of :func:`real_slices`."""
    runs, plan = study.runs(jobs), study.plan
    measured = [name for name in METRICS if any(name in run.metrics for run in runs)] or [METRICS[0]]
    given: dict[str, Any] = {"margin": plan.margin, "real": real, "diverged": study.diverged(jobs)}
    return {
        name: effects(runs, plan.design.contrasts, name, seeds=plan.replicates(seeds), **given) for name in measured
    }


def compare_to_reference(study: Study, jobs: Sequence[ArmRun], seeds: int, real: WithinKernel | None) -> list[Ratio]:
    """The KID of each arm over the reference's; ``real`` is of :func:`real_slices`."""
    return ratios(study.runs(jobs), study.plan.design.contrasts, seeds=study.plan.replicates(seeds), real=real)


def split_gaps(study: Study, jobs: Sequence[ArmRun]) -> list[ArmGap]:
    """What each arm's autoencoder and denoiser lose."""
    return gaps(study.runs(jobs), [arm.name for arm in study.plan.design.arms])


def real_slices(study: Study, jobs: Sequence[ArmRun]) -> WithinKernel | None:
    """The kernels of the real slices that all jobs are measured on; None where they differ or aren't stored."""
    names = {job.keys.reference.name for job in jobs}
    entry = study.store.find(names.pop()) if len(names) == 1 else None
    if entry is None:
        return None
    reference = Reference.load(entry.folder)
    return kernel_within_groups(reference.features, reference.subjects)


def write_study(
    study: Study,
    jobs: Sequence[ArmRun],
    found: Mapping[str, list[Effect]],
    seeds: int,
    ratios: Sequence[Ratio],
    real: WithinKernel | None,
    address: str = "",
) -> list[Path]:
    """Writes the page and tables of the effects that were ``found``, keeps them with the study's run; their paths.

    ``real`` are the kernels of the real slices that the ``ratios`` rest on, which are kept, too; ``address`` leads to
    the study's run in MLflow.
    """
    plan, design = study.plan, study.plan.design
    runs, failures = study.runs(jobs), study.failures()
    names = [arm.name for arm in design.arms]
    shared = sharing(design, jobs)
    wall = WallTime.read(study.folder) if plan.minutes else None
    took = spent(jobs, study.store) if wall else {}
    content = Content(
        name=plan.name,
        dataset=plan.dataset,
        address=address,
        facts=facts(study, jobs, seeds),
        design=design.words,
        reference=None if design.kind == "factorial" else design.reference.name,
        seeds=plan.replicates(seeds),
        arms=[(name, changed(changes), shared[name]) for name, changes in walltime.differing(design, wall).items()],
        components=[(component.name, component.meaning) for component in design.components],
        runs=runs,
        summaries={metric: summaries(runs, names, metric) for metric in found},
        effects=found,
        command=command_of(plan, seeds),
        failures={study.record.key(job): failures[job.name]["reason"] for job in jobs if job.name in failures},
        findings=targets.merge_by_code(findings(study, jobs)),
        margin=plan.margin,
        ratios=ratios,
        gaps=split_gaps(study, jobs),
        walltime=walltime_table(plan, wall, took) if wall else None,
        unequal=inequality(took),
    )
    files = write_page(content, study.folder)
    if real and ratios:
        write_json(study.folder / REAL, {name: np.asarray(value).tolist() for name, value in real._asdict().items()})
        files.append(study.folder / REAL)
    if wall:
        files.append(study.folder / walltime.FILE)
    study.record.end(files, found[METRICS[0]], finished=not failures)
    return files


def wall_time(study: Study, jobs: Sequence[ArmRun]) -> dict[str, Any]:
    """What equal minutes became, as JSON; empty for a study that sets none."""
    wall = WallTime.read(study.folder) if study.plan.minutes else None
    return walltime.outcome(study.plan, wall, spent(jobs, study.store)) if wall else {}


def findings(study: Study, jobs: Sequence[ArmRun]) -> dict[str, list[Finding]]:
    """What the lints say of the data, and of each arm with the first seed."""
    rule = study.plan.in_folds(study.plan.recipe)[0].data.rule
    found = {"data": targets.lint_dataset(study.home, study.dataset, rule)}
    for job in jobs:
        run = next((r for r in study.runs([job])), None)
        if run and job.replicate == jobs[0].replicate:
            found[job.arm.name] = targets.lint_run(study.store, job.recipe, job.keys, run.metrics)
    return {subject: each for subject, each in found.items() if each}


def facts(study: Study, jobs: Sequence[ArmRun], seeds: int) -> list[tuple[str, str]]:
    """What was run, on what, and what sharing saved."""
    plan, counts = study.plan, needed(jobs)
    side, earlier = plan.recipe.data.image_size, study.note_use()
    each = f"{number(seeds, 'seed')} each" + (f", in each of {plan.folds} folds" if plan.folds > 1 else "")
    tuned = f", each arm tuned by {plan.tune} trials of its own" if plan.tune else ""
    trainings = f"{number(counts['vae'], 'autoencoder')} and {number(counts['denoiser'], 'denoiser')}"
    trainings += "; apart, each run would need its own"
    return [
        ("Dataset", f"{plan.dataset}, fingerprint {plan.fingerprint[:16]}"),
        ("Measured on", f"the {plan.split} split, by {plan.recipe.data.rule if plan.folds == 1 else 'subject'}"),
        *folds_facts(plan),
        *([] if earlier is None else [("Use of the test split", earlier_words(plan.dataset, earlier))]),
        *([("Seeds", seed_words(plan, seeds))] if plan.avoided else []),
        ("Recipe", f"{'one for each arm' if plan.arms else plan.recipe_name} at {side}×{side} pixels{tuned}"),
        ("Runs", f"{len(jobs)}: {len(plan.design.arms)} arms with {each}"),
        ("Trainings", f"{trainings}: {len(jobs)} and {len(jobs)}"),
        *([("Wall time", f"{plan.minutes:g} minutes a run, see below")] if plan.minutes else []),
        ("Inception weights", plan.weights),
        ("Packages", versions()),
        ("Machine", machine()),
    ]


def folds_facts(plan: AblationPlan) -> list[tuple[str, str]]:
    """What folds cover and what they don't, in a study that has them."""
    if plan.folds == 1:
        return []
    text = (
        f"{plan.folds} folds: intervals cover other training patients too, as far as folds differ in them. Each "
        "patient is in one fold's test split. What is called a seed here is a seed in one fold, and arms are "
        "compared within it. Intervals rest on the means of folds, since seeds of one fold share its patients; "
        "so they cover the test patients too, without a term for them"
    )
    if plan.avoided:
        text += "; arms that a sweep chose were chosen on patients whom a fold tests, so their scores flatter"
    return [("Folds", text)]


def seed_words(plan: AblationPlan, seeds: int) -> str:
    """Which seeds a study has, and why, where arms were chosen with some."""
    left_out = listed([str(seed) for seed in plan.avoided])
    return (
        f"{listed([str(seed) for seed in plan.seeds(seeds)])}; {left_out} left out, since an arm was chosen by its "
        f"score with {'that seed' if len(plan.avoided) == 1 else 'one of them'}"
    )


def forecast(
    plan: AblationPlan,
    store: Store,
    seeds: int,
    wall: WallTime | None = None,
    noise: Noise | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """What a study would do, what the store has of it, and what it could show; nothing is started or made.

    It takes ``seconds``, where that is known.

    ``noise`` is what is known of the dataset's (:func:`latentsweep.jobs.ablation_outlook.known_noise`). ``wall`` are
    the steps that its minutes became, where they were measured: without, no training's key is known.
    """
    jobs = plan.jobs(plan.seeds(seeds), wall.changes if wall else None)
    names = {name for job in jobs for name in job.keys.names()}
    if plan.minutes and not wall:
        names = {job.keys.reference.name for job in jobs}
    there = Counter(name.split("/")[0] for name in names if store.find(name))
    shared = sharing(plan.design, jobs)
    return {
        "study": plan.name,
        "design": plan.design.words,
        "arms": [
            {"arm": name, "changes": dict(changes), "shares": shared[name]}
            for name, changes in walltime.differing(plan.design, wall).items()
        ],
        "seeds": seeds,
        "runs": len(jobs),
        "needed": needed(jobs),
        "in_store": dict(there),
        "tuning_trials": plan.tune * len(plan.design.arms),
        "comparisons": len(plan.design.contrasts),
        "power": power_words(plan, seeds, noise or Noise()),
        **({"folds": plan.folds} if plan.folds > 1 else {}),
        **({"seeds_used": plan.seeds(seeds), "seed_words": seed_words(plan, seeds)} if plan.avoided else {}),
        **(walltime.forecast(plan, wall) if plan.minutes else {}),
        **({} if seconds is None else {"seconds": round(seconds)}),
    }


def as_text(plan: Mapping[str, Any]) -> str:
    """The forecast for people."""
    width = max(len(arm["arm"]) for arm in plan["arms"])
    counts, there = plan["needed"], plan["in_store"]
    folds = f" in each of {plan['folds']} folds" if "folds" in plan else ""
    lines = [
        f"{plan['study']} (nothing is started by --dry-run)",
        plan["design"],
        "",
        *(f"  {arm['arm']:<{width}}  {arm['shares']}; {changed(arm['changes'])}" for arm in plan["arms"]),
        "",
        f"{number(plan['runs'], 'run')} with {number(plan['seeds'], 'seed')}{folds}: "
        f"{number(counts['vae'], 'autoencoder')} and {number(counts['denoiser'], 'denoiser')} in all "
        f"({there.get('vae', 0)} and {there.get('denoiser', 0)} are in the "
        f"store); apart, each run would need its own, {plan['runs']} and {plan['runs']}",
    ]
    if "seed_words" in plan:
        lines.append(f"seeds {plan['seed_words']}")
    if plan["tuning_trials"]:
        lines.append(f"{plan['tuning_trials']} trials before, to tune each arm")
    if plan.get("minutes"):
        lines.append(minutes_words(plan))
    if "seconds" in plan:
        lines.append(f"time {time_words(plan['seconds'])}")
    return "\n".join([*lines, plan["power"]])


def minutes_words(plan: Mapping[str, Any]) -> str:
    """What the minutes became, or that they are still to be measured."""
    words = f"{plan['minutes']:g} minutes a run for autoencoder and denoiser together; "
    if not plan["steps"]:
        return words + "how many steps that is will be measured when the study is first run"
    steps = (f"{arm}: {changed(changes)}" for arm, changes in plan["steps"].items())
    return "\n".join([words + plan["timed"], *(f"  {line}" for line in steps)])


def changed(changes: Mapping[str, Value]) -> str:
    """Fields and values in one line."""
    return ", ".join(f"{name}={scalar(value)}" for name, value in changes.items()) or "–"


def command_of(plan: AblationPlan, seeds: int) -> str:
    """The command that repeats a study."""
    words = ["ablate", "--dataset", plan.dataset]
    if plan.kind == WHOLE:
        words += ["--design", plan.kind, *(word for arm in plan.arms for word in ("--arm", arm.option))]
    else:
        words += ["--recipe", plan.recipe_name, "--design", plan.kind, "--components", ",".join(plan.components)]
    words += ["--seeds", str(seeds)]
    words += ["--folds", str(plan.folds)] if plan.folds > 1 else []
    words += ["--tune-per-arm", str(plan.tune)] if plan.tune else []
    words += ["--minutes", repr(plan.minutes)] if plan.minutes else []
    words += ["--margin", f"{100 * plan.margin:g}"] if plan.margin != MARGIN else []
    if plan.kind == WHOLE:
        return documented(shlex.join([*words, *(word for setting in plan.settings for word in ("--set", setting))]))
    changes = differences(recipe_named(plan.recipe_name), plan.recipe)
    return documented(shlex.join([*words, *(word for item in changes.items() for word in assignment(*item))]))


def plain(found: Effect | Ratio | ArmGap) -> dict[str, Any]:
    """An effect, a ratio or a gap as JSON."""
    text = dataclasses.asdict(found) | {"seeds": [as_plain(seed) for seed in found.seeds]}
    if isinstance(found, Effect):
        text["stability"] = [_plain_stability(each) for each in found.stability]
    return text


def _plain_stability(found: Stability) -> dict[str, Any]:
    seeds = {name: [as_plain(seed) for seed in getattr(found, name)] for name in ("diverged", "collapsed")}
    return dataclasses.asdict(found) | seeds | {"worst": found.worst and [as_plain(found.worst[0]), found.worst[1]]}


def as_plain(seed: int) -> int | dict[str, int]:
    """A seed as JSON, or a seed and its fold in a study that has folds."""
    return {"seed": seed.seed, "fold": seed.fold} if isinstance(seed, Replicate) else seed
