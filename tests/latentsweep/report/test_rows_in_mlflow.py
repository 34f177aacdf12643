"""What MLflow shows of a sweep: a row for each configuration that can win, and where each leads."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from latentsweep.lints import targets
from latentsweep.records.descriptions import describe_training
from latentsweep.records.recorder import FORM, WINNER, MemoryRecorder
from latentsweep.records.sweep import SweepRecord, keep_report
from latentsweep.search.confirmation import choice
from latentsweep.search.export import configuration_of
from latentsweep_mlflow import views
from latentsweep_mlflow.database import tracking_uri
from latentsweep_mlflow.recorder import MlflowRecorder, recorder_for
from latentsweep_mlflow.tracking import connect

CURVE = [{"step": step, "time": 1000 + step, "train/loss": 1.0 / step} for step in (1, 2)]
NOTE = "mlflow.note.content"


@pytest.fixture(scope="module")
def empty_record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record whose tables exist: MLflow takes seconds to create them."""
    home = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect(tracking_uri(home))
    return home / "mlflow"


@pytest.fixture
def made(make_sweep: Callable[..., Any], empty_record: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A sweep of three trials, the last pruned, with six configurations that can win."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = make_sweep(2)
    for denoiser in (made.home.store / "denoiser").iterdir():
        (denoiser / "records.json").write_text(json.dumps(CURVE))
    monkeypatch.setattr(targets, "lint_run", lambda *_: [])  # its results are pictures alone
    number, _ = made.search.ask()
    made.search.prune(number, {"pruned_at": 30})
    shutil.copytree(empty_record, made.home.root / "mlflow")
    return made


def send(made: Any, recorder: Any) -> None:
    """Records the sweep as its driver does at its end."""
    record = SweepRecord(recorder, made.plan, made.store, made.search)
    record.begin([])
    record.missing()
    record.leaderboard(made.search.folder, {"vae.latent_channels": 0.123456})
    record.end(finished=True)


def client_of(made: Any) -> MlflowClient:
    return MlflowClient(tracking_uri(made.home.root))


def rows(made: Any) -> dict[str, Run]:
    client = client_of(made)
    experiment = client.get_experiment_by_name(made.plan.dataset)
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    found = {run.data.tags["latentsweep.key"]: run for run in runs}
    assert len(found) == len(runs)
    return found


def recorder_of(made: Any) -> MlflowRecorder:
    return recorder_for(made.home.root, made.plan.dataset)


def row_of(made: Any, number: int) -> Run:
    return rows(made)[f"{made.name}/trial-{number}"]


def test_each_configuration_that_can_win_has_one_row_with_its_parameters_and_scores(made: Any) -> None:
    recorder = recorder_of(made)
    send(made, recorder)
    assert recorder.complete
    measured = made.search.measured()
    assert len(measured) == 4
    for trial in measured:
        run = row_of(made, trial.number)
        assert run.data.params == {name: str(value) for name, value in trial.params.items()}
        assert run.data.metrics["gen/kid"] == trial.values[0], "in use, every digit counts"
        assert run.data.metrics["final/kid"] == float(f"{trial.values[0]:.4g}"), "in the table, four do"
        assert run.info.run_name == f"#{trial.number} {made.name}"
        assert run.info.status == "FINISHED"
        assert 0 <= run.info.end_time - run.info.start_time < 60_000
    assert {run.data.tags["latentsweep.kind"] for run in rows(made).values()} == {"sweep", "trial", "point"}


def test_what_export_takes_is_tagged_and_linked_from_the_sweeps_run_and_nothing_else_is(made: Any) -> None:
    send(made, recorder_of(made))
    [best] = choice(made.search)
    tagged = [key for key, run in rows(made).items() if WINNER in run.data.tags]
    assert tagged == [f"{made.name}/trial-{best.number}"]
    winner = row_of(made, best.number)
    text = rows(made)[made.name].data.tags[NOTE]
    assert (
        f"[configuration {best.number}](#/experiments/{winner.info.experiment_id}/runs/{winner.info.run_id}" in text
    )
    assert f"the study {made.name}: `optuna-dashboard sqlite:///runs/sweeps/{made.name}/study.db`" in text
    assert str(made.home.root) not in text


def test_a_winner_that_was_beaten_loses_its_tag(made: Any) -> None:
    recorder = recorder_of(made)
    send(made, recorder)
    others = [trial.number for trial in made.search.measured() if trial.number != choice(made.search)[0].number]
    key = f"{made.name}/trial-{others[0]}"
    recorder.open_run(made.name, name=made.name, kind="sweep")
    recorder.mark(made.name, WINNER, {key: "now this one"})
    assert {k: r.data.tags[WINNER] for k, r in rows(made).items() if WINNER in r.data.tags} == {key: "now this one"}


def test_a_pruned_run_is_finished_and_says_so(made: Any) -> None:
    send(made, recorder_of(made))
    [pruned] = [run for run in rows(made).values() if "pruned" in run.data.tags]
    assert pruned.info.status == "FINISHED"
    assert pruned.data.tags["pruned"] == "at step 30"
    assert "The pruner ended it at step 30" in pruned.data.tags[NOTE]


def test_every_run_says_what_it_is_and_names_its_dataset_without_a_path(made: Any) -> None:
    send(made, recorder_of(made))
    for run in rows(made).values():
        assert made.name in run.info.run_name
        assert run.data.tags[NOTE]
        assert "](run" not in run.data.tags[NOTE], "every link has an address"
        [used] = [each.dataset for each in run.inputs.dataset_inputs]
        assert (used.name, used.digest) == (made.plan.dataset, made.plan.fingerprint[:36])
        assert "/" not in used.source


def test_the_images_of_a_configurations_own_threshold_are_there_by_step_as_mlflow_shows_them(made: Any) -> None:
    send(made, recorder_of(made))
    client, steps = client_of(made), made.plan.recipe.diffusion.steps
    for trial in made.search.measured():
        run = row_of(made, trial.number)
        assert run.data.tags["mlflow.loggedImages"] == "True"
        files = [Path(file.path).name for file in client.list_artifacts(run.info.run_id, "images")]
        shapes = [re.sub(r"[0-9a-f-]{36}", "ID", re.sub(r"timestamp\+\d+", "timestamp+T", name)) for name in files]
        assert sorted(shapes) == [
            f"generated+step+{steps}+timestamp+T+ID{end}" for end in ("+compressed.webp", ".png")
        ]
        threshold = f"{trial.params['sampling.early_stop_threshold']:g}"
        evaluation = made.store.find(made.plan.results(made.search, trial)["evaluation"])
        drawn = (evaluation.folder / "figures" / f"generated_threshold_{threshold}.png").read_bytes()
        kept = next(name for name in files if name.endswith(".png"))
        assert Path(client.download_artifacts(run.info.run_id, f"images/{kept}")).read_bytes() == drawn
        with Image.open(client.download_artifacts(run.info.run_id, f"images/{kept[:-4]}+compressed.webp")) as small:
            assert max(small.size) <= 256


def test_the_table_of_a_sweep_shows_what_can_win_with_the_lowest_objective_on_top(made: Any) -> None:
    send(made, recorder_of(made))
    client = client_of(made)
    experiment = client.get_experiment_by_name(made.plan.dataset)
    assert experiment is not None
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{made.name}"])
    assert view["orderByKey"] == "metrics.`final/kid`"
    assert view["orderByAsc"]
    fields = [f"params.`{field}`" for field in made.search.space.dimensions]
    assert view["selectedColumns"][:2] == [f"tags.`{WINNER}`", "metrics.`final/kid`"]
    assert view["selectedColumns"][-len(fields) :] == fields
    shown = client.search_runs([experiment.experiment_id], view["searchFilter"], order_by=["metrics.`final/kid` ASC"])
    numbers = [int(run.data.tags["latentsweep.trial"]) for run in shown]
    assert sorted(numbers) == sorted([*(trial.number for trial in made.search.measured()), 2 * 2])
    assert shown[0].data.metrics["gen/kid"] == min(trial.values[0] for trial in made.search.measured())
    assert f"viewStateShareKey={made.name}" in rows(made)[made.name].data.tags[NOTE]


def test_the_report_is_linked_from_the_run_of_its_sweep(made: Any, tmp_path: Path) -> None:
    send(made, recorder_of(made))
    page = tmp_path / "report.html"
    page.write_text("<p>found</p>")
    keep_report(recorder_of(made), made.plan, made.search, [page])
    run = rows(made)[made.name]
    assert run.data.tags["latentsweep.report"] == "report/report.html"
    assert f"runs/{run.info.run_id}/artifacts/report/report.html" in run.data.tags[NOTE]
    assert run.info.status == "FINISHED", "who reads a sweep leaves its run as it was"
    again = recorder_of(made)
    again.open_run(made.name, name=made.name, kind="sweep")
    SweepRecord(again, made.plan, made.store, made.search).leaderboard(made.search.folder, {})
    text = rows(made)[made.name].data.tags[NOTE]
    assert "artifacts/report/report.html" in text, "it went to another folder than the sweep's, and is there"


def test_a_report_that_the_record_does_not_have_is_not_linked(made: Any) -> None:
    (made.search.folder / "report").mkdir()  # as report --no-mlflow leaves it
    send(made, recorder_of(made))
    text = rows(made)[made.name].data.tags[NOTE]
    assert "report" not in text.lower()
    assert "\n\n\n" not in text


def test_the_view_of_an_experiment_has_the_winner_that_is_older_than_the_runs_it_looks_at(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(made, recorder_of(made))
    monkeypatch.setattr(views, "_MOST_RUNS", 1)
    views.save_views(client_of(made), "")
    experiment = client_of(made).get_experiment_by_name(made.plan.dataset)
    assert experiment is not None
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{views.VIEW}"])
    assert view["selectedColumns"][0] == f"tags.`{WINNER}`"


def test_an_export_names_the_run_of_its_own_row_or_that_of_the_trial_where_there_is_none(made: Any) -> None:
    point = next(trial for trial in made.search.measured() if "of" in trial.user_attrs)
    own, trials = (f"{made.name}/trial-{number}" for number in (point.number, point.user_attrs["of"]))
    for known, expected in (({own, trials}, own), ({trials}, trials), (set(), None)):

        def run_id(dataset: str, key: str, known: set[str] = known) -> str | None:
            return key if key in known else None

        found = configuration_of(made.search.folder, point.number, run_id)
        assert found.origin["run_id"] == expected


def test_all_of_it_sent_again_by_another_process_changes_nothing(made: Any) -> None:
    send(made, recorder_of(made))
    client = client_of(made)
    before, files = rows(made), images_of(client, rows(made))
    again = recorder_of(made)
    record = SweepRecord(again, made.plan, made.store, made.search)
    record.begin([])
    for trial in made.search.run_trials():  # all of it, not only what is missing
        record.open_trial(trial)
        record.end_trial(trial)
    record.leaderboard(made.search.folder, {"vae.latent_channels": 0.123456})
    record.end(finished=True)
    assert again.complete
    after = rows(made)
    assert {key: plain(run) for key, run in after.items()} == {key: plain(run) for key, run in before.items()}
    assert images_of(client, after) == files
    for run in after.values():
        if "final/kid" in run.data.metrics and run.data.tags["latentsweep.kind"] != "sweep":
            assert len(client.get_metric_history(run.info.run_id, "final/kid")) == 1


def plain(run: Run) -> Mapping[str, Any]:
    inputs = [(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs]
    return {**run.data.to_dictionary(), "inputs": inputs, "status": run.info.status, "ended": run.info.end_time}


def images_of(client: MlflowClient, runs: Mapping[str, Run]) -> dict[str, list[str]]:
    return {
        key: sorted(f.path for f in client.list_artifacts(run.info.run_id, "images")) for key, run in runs.items()
    }


def test_a_record_of_an_earlier_version_gets_the_rows_it_lacks_and_none_twice(made: Any) -> None:
    """Such a record has a run for each trial, red where it was pruned, and each began when it was sent."""
    old = recorder_of(made)
    old.open_run(made.name, name=made.name, kind="sweep")
    for trial in made.search.run_trials():
        key = f"{made.name}/trial-{trial.number}"
        old.open_run(key, name=f"trial {trial.number}", kind="trial", parent=made.name, params=trial.params)
        old.close_run(key, "finished" if trial.values else "stopped")
    old.close_run(made.name, "finished")
    client, ids = client_of(made), {key: run.info.run_id for key, run in rows(made).items()}
    whole = made.search.trial(0).values[0]
    assert whole != float(f"{whole:.4g}")
    client.log_metric(ids[f"{made.name}/trial-0"], "final/kid", whole)
    for run_id in ids.values():
        client.delete_tag(run_id, FORM[0])
    send(made, recorder_of(made))
    found = rows(made)
    assert {key: found[key].info.run_id for key in ids} == ids
    assert len(found) == 1 + 3 + 2
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert all(run.info.start_time <= run.info.end_time for run in found.values())
    assert {run.info.run_name for run in found.values()} == {made.name, *(f"#{n} {made.name}" for n in range(5))}
    history = client.get_metric_history(ids[f"{made.name}/trial-0"], "final/kid")
    assert [point.value for point in history] == [whole], "and no rounded one beside it"


def test_without_mlflow_the_same_is_told(made: Any) -> None:
    recorder = MemoryRecorder()
    send(made, recorder)
    assert sum(run.kind in ("trial", "point") for run in recorder.runs.values()) == 5
    assert sum(WINNER in run.tags for run in recorder.runs.values()) == 1
    assert all(run.dataset and run.text for run in recorder.runs.values())


def test_a_training_says_whose_configuration_it_is_and_what_it_scored() -> None:
    text = describe_training("scans", {"sweep": "scans-1", "trial": 4}, {"gen/kid": 2.5, "gen/kid_se": 0.25}, "test")
    assert "[number 4](run:scans-1/trial-4) of scans-1" in text
    assert "KID ×1000 2.5 ± 0.2" in text
    assert "run:" not in describe_training("scans", {}, {}, "test")
