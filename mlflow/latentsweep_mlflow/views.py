"""The table of runs with the searched parameters and the final scores as columns.

MLflow's own table shows neither. It keeps a *shared view* in a tag of the experiment, and a link that names the
tag opens the page in that state, in any browser, with any server of the same store.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from latentsweep.metrics import FINAL, KID, LEADERBOARD, STEPS
from latentsweep.records.recorder import GENERATED_IMAGES, WINNER
from latentsweep_mlflow.links import VIEW, runs_link

OBJECTIVE = "latentsweep.objective"
"""The tag of a trial that names the metric it was searched by; its column comes first and sorts the table."""

RANKED = f"tags.`{OBJECTIVE}` != ''"
"""The condition of a search that holds for every configuration that was begun: not for a sweep's own, nor for
autoencoders."""

_TAG = "mlflow.sharedViewState."
_TAG_LENGTH = 5000
_WIDEST = 130
"""Pixels of a column whose values are numbers or short words."""
_SECTIONS = ("train", "val", "rung", "final", "gen", "recon", "cost", "Model metrics", "System metrics")
"""What MLflow makes sections of: what stands before the slash in names of metrics, and two of its own."""
_MOST_RUNS, _MOST_PARAMS, _MOST_METRICS = 200, 12, 3
_COMPARED = ("trial", "point", "ablation-run")


def save_view(
    client: MlflowClient,
    experiment_id: str,
    *,
    params: Sequence[str],
    metrics: Sequence[str],
    tags: Sequence[str] = (),
    name: str = VIEW,
    filter_string: str = "",
) -> None:
    """Store the view of an experiment: its columns in this order, and the least of the first metric on top.

    The charts that compare the runs begin with those of the first metric.
    """
    columns = {f"tags.`{tag}`": tag for tag in tags}
    columns |= {f"metrics.`{metric}`": metric for metric in metrics} | {
        f"params.`{param}`": param for param in params
    }
    if not columns:
        return
    state = {
        "selectedColumns": [*columns],
        "columnOrder": [*columns],
        "columnWidths": {
            **{column: min(_WIDEST, 40 + 7 * len(title)) for column, title in columns.items()},
            **{f"tags.`{tag}`": _WIDEST for tag in tags},
        },
        **_charts(metrics),
        "orderByKey": f"metrics.`{metrics[0]}`" if metrics else "attributes.start_time",
        "orderByAsc": bool(metrics),
        "searchFilter": filter_string,
        "runsHiddenMode": "SHOW_ALL",
    }
    text = json.dumps(state, separators=(",", ":"))
    if len(text) > _TAG_LENGTH:
        fewer = {"params": params[:-1], "metrics": metrics if params else metrics[:-1]}
        save_view(client, experiment_id, **fewer, tags=tags, name=name, filter_string=filter_string)
        return
    client.set_experiment_tag(experiment_id, f"{_TAG}{name}", text)


def _charts(metrics: Sequence[str]) -> dict[str, object]:
    """The state of the page that compares runs: a section of what ranks, and MLflow's own ones, all but closed.

    Open, these hold a hundred charts, which take a browser half a minute.
    """
    first, *others = metrics or (KID.at_end,)
    axes = [{"key": name, "type": "METRIC"} for name in (others[-1] if others else first, first)]
    if STEPS.at_end in others:
        axes[0]["key"] = STEPS.at_end
    cards: list[dict[str, object]] = [
        {"type": "BAR", "metricKey": first, "displayName": first},
        {"type": "SCATTER", "xaxis": axes[0], "yaxis": axes[1]},
        {"type": "IMAGE", "imageKeys": [GENERATED_IMAGES], "step": 0, "showRunParams": True},
    ]
    common = {"runsCountToCompare": 10, "metricSectionId": "ranking", "deleted": False, "isGenerated": False}
    sections = [("ranking", "What ranks", True), *((name, name, name == "train") for name in _SECTIONS)]
    return {
        "compareRunCharts": [{"uuid": f"ranking-{place}", **common, **card} for place, card in enumerate(cards)],
        "compareRunSections": [
            {"uuid": key, "name": name, "display": shown, "isReordered": False, "deleted": False, "isGenerated": own}
            for key, name, shown in sections
            for own in [key != "ranking"]
        ],
        "isAccordionReordered": True,  # else MLflow sorts the sections by their names
    }


def save_views(client: MlflowClient, address: str) -> dict[str, str]:
    """Store a view for each experiment that has trials or arms; the links to them by name, the latest first."""
    links = {}
    for experiment in client.search_experiments(ViewType.ACTIVE_ONLY, order_by=["last_update_time DESC"]):
        trials = [
            run
            for kind in _COMPARED
            for run in client.search_runs(
                [experiment.experiment_id], f"tags.`latentsweep.kind` = '{kind}'", max_results=_MOST_RUNS
            )
        ]
        if trials:
            params, metrics = _searched(trials), _scores(trials)
            ranked = RANKED if all(OBJECTIVE in run.data.tags for run in trials) else ""
            won = client.search_runs([experiment.experiment_id], f"tags.`{WINNER}` != ''", max_results=1)
            tags = [WINNER] if won else []  # it may be older than all of these
            save_view(
                client, experiment.experiment_id, params=params, metrics=metrics, tags=tags, filter_string=ranked
            )
            links[experiment.name] = runs_link(address, experiment.experiment_id)
    return links


def _searched(trials: Sequence[Run]) -> list[str]:
    """The parameters, those that differ between the trials before those that don't."""
    values: dict[str, set[str]] = {}
    for run in trials:
        for name, value in run.data.params.items():
            values.setdefault(name, set()).add(value)
    return sorted(values, key=lambda name: (len(values[name]) == 1, name))[:_MOST_PARAMS]


def _scores(trials: Sequence[Run]) -> list[str]:
    """A few ``final/*`` metrics, the objective first (else KID); the rest leave the parameters room."""
    names = sorted({name for run in trials for name in run.data.metrics if name.startswith(FINAL)})
    objectives = {run.data.tags.get(OBJECTIVE, KID.at_end) for run in trials}
    first = {metric.at_end for metric in LEADERBOARD[:_MOST_METRICS]}
    return sorted(names, key=lambda name: (name not in objectives, name not in first, name))[:_MOST_METRICS]
