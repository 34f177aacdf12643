"""What a sweep found, as rows: every measured configuration, best first, and what mattered.

A configuration has one number for people. It is that of its trial in the Optuna study, which has one for each
early-stop threshold of a pass; it never changes, and is what ``export``, ``sample`` and ``evaluate`` take.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from latentsweep import __version__
from latentsweep.metrics import ERROR, GENERATED, LEADERBOARD, OBJECTIVES, Metric, objective_of
from latentsweep.search import confirmation_table
from latentsweep.search.confirmation import choice, confirmation
from latentsweep.search.study import Search
from latentsweep.search.trials import COPIED, family_of
from latentsweep.stages import guards
from latentsweep.storage.home import read_json, write_json
from trainables.config import fingerprint
from trainables.errors import StoreError
from trainables.space import THRESHOLD, stage_of

HEADINGS: dict[str, str] = {}
"""The metrics that a leaderboard may show, each with its error where it has one, and their headings."""

FORMATS: dict[str, Metric] = {}
"""The metrics by which these numbers are rounded."""

for _metric in (*LEADERBOARD, *OBJECTIVES.values()):
    HEADINGS[_metric.name], FORMATS[_metric.name] = _metric.label, _metric
    if ERROR in _metric.partners:
        HEADINGS[_metric.error], FORMATS[_metric.error] = "± se", _metric

METRICS = {name: heading for name, heading in HEADINGS.items() if FORMATS[name] in LEADERBOARD}
"""Those of every sweep; one shows its objectives, too."""

NUMBER = "#"
"""The heading of a configuration's number."""

INNER = ("rank", "pass")
"""Columns for those who look into Optuna, in files and JSON alone: the order of rows says the rank."""

SAID = {True: "refused", False: "guards"}
"""The columns of what the guards say, of a search that has them and of one that doesn't."""

FIELDS = {
    THRESHOLD: "threshold",
    "vae.latent_channels": "channels",
    "diffusion.frequency_weight": "λ_freq",
    "diffusion.cutmix_probability": "CutMix",
}
"""Short headings of the fields that are searched most."""

STAGES = ("data", "vae", "diffusion", "sampling")
"""The sections of a recipe whose fields make a configuration."""

WIDTH = 116
"""Columns of text that the leaderboard may take where there is no terminal."""

UNBOUNDED = 10_000
"""More columns than any table takes."""

IMPORTANCES = "importances.json"
"""The file of a sweep's folder that keeps them."""

ENOUGH = 4
"""The fewest run trials from which importances are computed."""


def rows(search: Search) -> list[dict[str, Any]]:
    """A row for each measured configuration: rank, its number and that of its pass, parameters, metrics.

    ``best`` marks what export takes. Where the guards refuse one, all have what they say of it as ``refused``; those
    that they refuse stand last, without a rank. In a search without guards that is ``guards``, and refuses nothing.
    """
    best = {trial.number for trial in choice(search)}
    objectives = [objective_of(name) for name in search.config.objectives]
    shown = [name for name, metric in FORMATS.items() if metric in LEADERBOARD or metric in objectives]
    shown += [metric.name for metric in objectives if metric.name not in FORMATS]
    found = []
    measured = search.measured()
    said = {trial.number: guards.refusal(trial.user_attrs["metrics"]) for trial in measured}
    guarded = search.config.guarded
    for rank, trial in enumerate(measured, start=1):
        metrics = trial.user_attrs["metrics"]
        found.append(
            {
                "rank": None if guarded and said[trial.number] else rank,
                "trial": trial.number,
                "pass": family_of(trial),
                "best": trial.number in best,
                **{field: trial.params[field] for field in search.space.dimensions},
                **{name: metrics.get(name) for name in shown},
                **({SAID[guarded]: said[trial.number]} if any(said.values()) else {}),
            }
        )
    return found


def copyists(search: Search) -> str:
    """Which trials were ended on the way since they copied, in words; empty for none."""
    copied = {trial.number: trial.user_attrs for trial in search.run_trials() if COPIED in trial.user_attrs}
    said = (f"trial {number} at step {each['pruned_at']}: {each[COPIED]}" for number, each in copied.items())
    return f"ended early since they copy training slices: {', '.join(said)}" if copied else ""


def thawed(search: Search) -> str:
    """Which trials were pruned and continued later, in words; empty for none."""
    pairs = [f"trial {pruned} as trial {number}" for pruned, number in search.thawed().items()]
    return f"pruned, and continued later: {', '.join(pairs)}" if pairs else ""


def apart(search: Search) -> str:
    """Which measured configurations are in no ranking, and what their scores are, in words; empty for none."""
    if not search.apart:
        return ""
    trials = [search.trial(number) for number in sorted(search.apart)]
    scores = (f"configuration {each.number} ({', '.join(map(cell, each.values))})" for each in trials)
    return (
        "not ranked, since other versions of the stages measured them, and their scores don't compare with the "
        f"others': {', '.join(scores)}"
    )


def confirmed_rows(search: Search) -> list[dict[str, Any]]:
    """A row for each configuration that was trained again; see :func:`confirmation_table.rows`."""
    found = confirmation(search)
    return confirmation_table.rows(found) if found else []


def counts(search: Search) -> dict[str, int]:
    """How many run trials ended in which state."""
    states = [trial.state for trial in search.run_trials()]
    return {
        "complete": states.count(TrialState.COMPLETE),
        "pruned": states.count(TrialState.PRUNED),
        "failed": states.count(TrialState.FAIL),
        "waiting": states.count(TrialState.WAITING) + states.count(TrialState.RUNNING),
        "points": len(search.measured()),
    }


def keep(search: Search, file: str, compute: Callable[[], Any], of: object = None) -> Any:
    """What ``compute`` finds of the measured configurations and of ``of``, as JSON; computed once for them.

    It is kept in ``file`` of the sweep's folder, where that can be written: forests and lints of recipes take seconds
    to import and compute. That is all that reading a sweep writes. A file that can't be read is made anew.
    """
    measured = [[trial.number, dict(trial.params), list(trial.values)] for trial in search.measured()]
    digest, path = fingerprint([__version__, measured, *([] if of is None else [of])]), search.folder / file
    with contextlib.suppress(StoreError, OSError):
        kept = read_json(path, {})
        if isinstance(kept, dict) and kept.get("of") == digest and "found" in kept:
            return kept["found"]
    found = compute()
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"of": digest, "found": found})
    return found


def importances(search: Search) -> dict[str, float]:
    """Share of each dimension in what moved the first objective (fANOVA, Hutter et al. 2014).

    Empty for a few trials, and where some are apart.
    """
    complete = [t for t in search.run_trials() if t.state == TrialState.COMPLETE]
    values = {t.values[0] for t in search.measured()}
    if len(complete) < ENOUGH or len(values) < ENOUGH or search.apart:
        return {}
    found: dict[str, float] = keep(search, IMPORTANCES, lambda: _shares(search))
    return found


def _shares(search: Search) -> dict[str, float]:
    shares = optuna.importance.get_param_importances(
        search.study,
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
        target=lambda trial: trial.values[0],
    )
    return {field: float(share) for field, share in shares.items()}


def as_markdown(table: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table for people."""
    if not table:
        return "No trial has been measured yet.\n"
    table = for_people(table)
    names = list(table[0])
    lines = ["| " + " | ".join(heading(name) for name in names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in table]
    return "\n".join(lines) + "\n"


def for_people(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows without the columns of :data:`INNER`."""
    return [{name: value for name, value in row.items() if name not in INNER} for row in table]


def heading(name: str) -> str:
    """A column's heading, short."""
    if name == "trial":
        return NUMBER
    return HEADINGS.get(name) or FIELDS.get(name) or name.removeprefix(GENERATED).split(".")[-1].replace("_", " ")


def described(params: Mapping[str, Any]) -> str:
    """A configuration in one line."""
    return ", ".join(f"{heading(name)} {cell(value)}" for name, value in params.items())


def gather_fields(table: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """The rows with all fields that differ in one last column, and a line with the fields that are alike in all."""
    fields = [name for name in table[0] if stage_of(name) in STAGES]
    varied = [name for name in fields if len({row[name] for row in table}) > 1]
    rows = []
    for row in table:
        told = *map(row.get, SAID.values()), described({name: row[name] for name in varied})
        kept = {name: value for name, value in row.items() if name not in (*fields, *SAID.values())}
        rows.append(kept | {"configuration": "; ".join(filter(None, told))})
    return rows, described({name: table[0][name] for name in fields if name not in varied})


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row as it is shown: the best one with a star, metrics rounded as each is."""
    return [_cell_of(name, value) for name, value in row.items()]


def _cell_of(name: str, value: Any) -> str:
    if name == "best":
        return "★" if value else ""
    return FORMATS[name].format(value) if name in FORMATS else cell(value)


def cell(value: Any) -> str:
    """A value as it is shown."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show(
    table: Sequence[dict[str, Any]],
    state: dict[str, int],
    shares: dict[str, float],
    *,
    again: Sequence[dict[str, Any]] = (),
    said: Sequence[str] = (),
    top: int = 10,
) -> None:
    """Prints the best rows, the counts and the importances; rows that are too wide with their fields gathered.

    ``again`` are the rows of the confirmation, and ``said`` what it says.
    """
    console = Console() if Console().is_terminal else Console(width=WIDTH)
    console.print(
        f"{state['complete']} trials complete, {state['pruned']} pruned, {state['failed']} failed; "
        f"{state['points']} configurations measured"
    )
    if not table:
        return
    best, common = for_people(table[:top]), ""
    grid = _grid(best)
    if console.measure(grid, options=console.options.update(max_width=UNBOUNDED)).maximum > console.width:
        best, common = gather_fields(best)
        grid = _grid(best)
    console.print(grid)
    if common:
        console.print(f"all of these: {common}")
    if not any(row["best"] for row in table):
        every = "all" if all(row.get("refused") for row in table) else "each of the best with a fresh seed"
        console.print(f"the guards refuse {every}: none is the best, and export takes none")
    elif not any(row["best"] for row in table[:top]):
        why = "the best of the confirmation" if again else "the cheapest threshold within one standard error"
        console.print(f"the exported configuration is further down: {why}")
    if again:
        console.print("confirmed:")
        console.print(_grid(for_people(again)))
    for sentence in said:
        console.print(sentence, highlight=False, markup=False)
    if shares:
        console.print("what mattered: " + ", ".join(f"{heading(name)} {value:.0%}" for name, value in shares.items()))


def _grid(table: Sequence[Mapping[str, Any]]) -> Table:
    """The rows as a table for a terminal; its headings are folded, and its last column may be."""
    grid = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in table[0]:
        folded = name == "configuration"
        title = "" if name == "best" else heading(name)
        words = title if title.startswith("±") else title.replace(" ", "\n")
        grid.add_column(words, justify="left" if folded else "right", no_wrap=not folded)
    for row in table:
        grid.add_row(*cells(row), style="bold" if row["best"] else None)
    return grid
