"""What the guards refuse stands below the others with the reason, and is exported only where that is said."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.report import write_report
from latentsweep.report.content import gather
from latentsweep.report.scores import as_csv

from .conftest import Made, metrics_of

REASON = "copies 37 of 64 (bound 2)"
HEAVY = "diffusion.frequency_weight"


def some_copy(params: Mapping[str, Any]) -> dict[str, float]:
    """Those with the heaviest frequency loss, which score best, copy."""
    copied = {"gen/near_copies": 0.58 if params[HEAVY] == 0.3 else 0.0, "gen/near_copies_bound": 2 / 64}
    return metrics_of(params) | copied


def all_copy(params: Mapping[str, Any]) -> dict[str, float]:
    return metrics_of(params) | {"gen/near_copies": 0.58, "gen/near_copies_bound": 2 / 64}


def export(made: Made, to: Path, *words: object, code: int = 0) -> str:
    line = ["export", "--sweep", made.name, "--to", to, "--home", made.home.root, *words]
    done = CliRunner().invoke(app, [str(word) for word in line])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.slow
def test_a_copyist_is_exported_only_where_it_is_said(make_sweep: Callable[..., Made], tmp_path: Path) -> None:
    made = make_sweep(metrics=some_copy)
    copyist = next(trial for trial in made.search.measured() if trial.params[HEAVY] == 0.3)
    to = tmp_path / "best.yaml"
    said = " ".join(export(made, to, "--trial", copyist.number, code=2).split())
    assert (
        f"the guards refuse configuration {copyist.number} of {made.name}: {REASON}; name another with --number, or "
        "say --despite-guards"
    ) in said
    assert not to.exists()
    export(made, to)
    best = yaml.safe_load(to.read_text())
    assert best["origin"]["parameters"][HEAVY] == 0.1, "the best that does not copy"
    assert "refused" not in best["origin"]
    assert REASON in export(made, to, "--trial", copyist.number, "--despite-guards", "--force")
    taken = yaml.safe_load(to.read_text())["origin"]
    assert (taken["trial"], taken["refused"]) == (copyist.number, REASON)


@pytest.mark.slow
def test_a_sweep_of_copyists_has_nothing_to_export_but_where_it_is_said(
    make_sweep: Callable[..., Made], tmp_path: Path
) -> None:
    made = make_sweep(metrics=all_copy)
    said = " ".join(export(made, tmp_path / "best.yaml", code=2).split())
    assert f"the guards refuse every configuration of {made.name}, among them number " in said
    assert f": {REASON}; search on with more --trials, or say --despite-guards" in said
    export(made, tmp_path / "best.yaml", "--despite-guards")


@pytest.mark.slow
def test_the_report_shows_the_refused_last_with_the_reason(make_sweep: Callable[..., Made]) -> None:
    made = make_sweep(metrics=some_copy)
    content = gather(made.home, made.name)
    table = content.leaderboard
    marks = [row.name for row in table.rows]
    assert marks.count("★") == 1
    assert marks[-4:] == ["✗"] * 4
    assert "✗" not in marks[:-4]
    place = table.header.index("guards") - 1
    assert [row.cells[place] for row in table.rows[-4:]] == [REASON] * 4
    assert table.header[1] == "#"
    assert [int(row.cells[0]) for row in table.rows] == [score.trial for score in content.scores]
    text = " ".join(content.summary)
    assert "The guards refuse 4 of 12 measured configurations" in text
    assert f"{HEAVY} = 0.1" in text
    files = write_report(made.home, made.name)
    assert all(REASON in path.read_text() for path in files if path.suffix in (".html", ".md", ".csv"))


@pytest.mark.slow
def test_a_report_of_copyists_names_no_best(make_sweep: Callable[..., Made]) -> None:
    made = make_sweep(metrics=all_copy)
    content = gather(made.home, made.name)
    assert "There is no best configuration: the guards refuse all that were measured." in content.summary
    assert not any("The best configuration" in sentence for sentence in content.summary)
    assert f"--number {content.scores[0].trial} --despite-guards" in content.retrain[0]
    assert content.retrain[1].endswith("--despite-guards")
    assert not content.charts.keys() & {"parallel", "slices", "cost"}, (
        "nothing that is refused is drawn as the others"
    )
    said = " ".join(
        path.read_text() for path in write_report(made.home, made.name) if path.suffix in (".html", ".md")
    )
    assert "How to retrain the shown configuration" in said
    assert "Pictures of the shown configuration" in said
    assert "FID of the shown configuration" in said
    assert "of the best" not in said.replace("within one standard error of the best", "")
    rows = list(csv.DictReader(io.StringIO(as_csv(content.scores, content.fields))))
    assert {row["rank"] for row in rows} == {""}


@pytest.mark.slow
def test_a_sweep_without_guards_shows_their_words_and_how_to_train_its_best_all_the_same(
    make_sweep: Callable[..., Made], tmp_path: Path
) -> None:
    made = make_sweep(metrics=some_copy, guarded=False)
    content = gather(made.home, made.name)
    shown = content.shown_trial
    assert shown
    assert (shown.chosen, shown.refused, shown.said) == (True, "", REASON)
    table = content.leaderboard
    star = next(row for row in table.rows if row.name == "★")
    assert star.cells[table.header.index("guards") - 1] == REASON
    assert "✗" not in [row.name for row in table.rows]
    assert (
        "4 of 12 measured configurations would be refused. So would be the best, configuration "
        f"{shown.trial}: {REASON}." in (" ".join(content.summary))
    )
    assert "--despite-guards" not in content.retrain[0], "the search took it"
    assert content.retrain[1].endswith("--config best.yaml --despite-guards")
    said = export(made, tmp_path / "best.yaml")
    assert REASON in said
    assert said.rstrip().endswith("best.yaml --despite-guards")


def test_what_train_falls_back_to_is_drawn_from_its_folder(
    make_sweep: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_sweep(metrics=all_copy, guarded=False)
    content = gather(made.home, made.name)
    assert content.retrain[2] == "python cli.py sample best.yaml --count 16 --to images"
    monkeypatch.setitem(content.entries, "denoiser", cast(Any, SimpleNamespace(summary={"clean_until": 10})))
    assert content.retrain[1] == "python cli.py train --config best.yaml"
    assert content.retrain[2].startswith("python cli.py sample FOLDER ")


@pytest.mark.slow
def test_what_an_older_version_measured_is_shown_as_before(make_sweep: Callable[..., Made]) -> None:
    made = make_sweep()
    content = gather(made.home, made.name)
    assert "guards" not in content.leaderboard.header
    assert not any("guard" in sentence for sentence in content.summary)
