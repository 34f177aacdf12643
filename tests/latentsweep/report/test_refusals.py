"""What the guards refuse stands below the others with the reason, and is exported only where that is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from latentsweep.cli import app
from latentsweep.report import write_report
from latentsweep.report.content import gather

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


def test_a_copyist_is_exported_only_where_it_is_said(make_sweep: Callable[..., Made], tmp_path: Path) -> None:
    made = make_sweep(metrics=some_copy)
    copyist = next(trial for trial in made.search.measured() if trial.params[HEAVY] == 0.3)
    to = tmp_path / "best.yaml"
    said = " ".join(export(made, to, "--trial", copyist.number, code=2).split())
    assert REASON in said
    assert "--despite-guards" in said
    assert not to.exists()
    export(made, to)
    best = yaml.safe_load(to.read_text())
    assert best["origin"]["parameters"][HEAVY] == 0.1, "the best that does not copy"
    assert "refused" not in best["origin"]
    assert REASON in export(made, to, "--trial", copyist.number, "--despite-guards", "--force")
    taken = yaml.safe_load(to.read_text())["origin"]
    assert (taken["trial"], taken["refused"]) == (copyist.number, REASON)


def test_a_sweep_of_copyists_has_nothing_to_export_but_where_it_is_said(
    make_sweep: Callable[..., Made], tmp_path: Path
) -> None:
    made = make_sweep(metrics=all_copy)
    assert REASON in " ".join(export(made, tmp_path / "best.yaml", code=2).split())
    export(made, tmp_path / "best.yaml", "--despite-guards")


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
    assert [row.cells[0] for row in table.rows[-4:]] == ["–"] * 4
    text = " ".join(content.summary)
    assert "The guards refuse 4 of 12 measured configurations" in text
    assert f"{HEAVY} = 0.1" in text
    files = write_report(made.home, made.name)
    assert all(REASON in path.read_text() for path in files if path.suffix in (".html", ".md", ".csv"))


def test_a_report_of_copyists_names_no_best(make_sweep: Callable[..., Made]) -> None:
    made = make_sweep(metrics=all_copy)
    content = gather(made.home, made.name)
    assert "There is no best configuration: the guards refuse all that were measured." in content.summary
    assert not any("The best configuration" in sentence for sentence in content.summary)
    assert "--despite-guards" in content.retrain[0]


def test_what_an_older_version_measured_is_shown_as_before(make_sweep: Callable[..., Made]) -> None:
    made = make_sweep()
    content = gather(made.home, made.name)
    assert "guards" not in content.leaderboard.header
    assert not any("guard" in sentence for sentence in content.summary)
