"""The report of a sweep: its numbers are the study's, it loads nothing, and it says what it can't know."""

from __future__ import annotations

import csv
import inspect
import io
import re
import shutil
from collections.abc import Callable, Mapping
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import optuna_dashboard
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.commands.sweep import show_results
from latentsweep.configuration import overridden
from latentsweep.lints import Finding
from latentsweep.metrics import FID, KID
from latentsweep.pages.numbers import duration
from latentsweep.records.descriptions import describe_sweep
from latentsweep.report import write_report
from latentsweep.report.content import gather
from latentsweep.report.importance import DASHBOARD, passes, permute
from latentsweep.report.pictures import BUDGET, fit_pictures, picture
from latentsweep.report.scores import unpaired_words
from latentsweep.search.pairing import Pairing
from latentsweep.search.study import Search
from trainables.errors import DataError
from trainables.measures.downstream.scores import BOTH, REAL, SYNTHETIC
from trainables.recipes import recipe_named
from trainables.space import THRESHOLD, Choice, Range, SearchSpace

Make = Callable[..., Any]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def report_of(made: Any, **options: Any) -> tuple[str, str, list[dict[str, str]]]:
    page, text, table = write_report(made.home, made.name, **options)
    assert [path.name for path in (page, text, table)] == ["report.html", "report.md", "report.csv"]
    return page.read_text(), text.read_text(), list(csv.DictReader(table.open()))


def words(html: str) -> str:
    """The text of a page, charts and style left out."""
    bare = re.sub(r"<(style|svg)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", bare)))


class Loads(HTMLParser):
    """Everything that a browser would load, and the ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "src" or (name in ("href", "xlink:href") and tag != "a"):
                self.loaded.append(value or "")


@pytest.mark.slow
def test_the_numbers_are_the_studys(make_sweep: Make) -> None:
    made = make_sweep()
    html, markdown, rows = report_of(made)
    measured = made.search.measured()
    assert len(rows) == len(measured) == 12
    for row, trial in zip(rows, measured, strict=True):
        assert int(row["trial"]) == trial.number
        recorded = trial.user_attrs["metrics"]
        assert {name: float(row[name]) for name in recorded} == recorded, "the CSV is unrounded"
        assert float(row["gen/kid_low"]) == recorded["gen/kid"] - 1.96 * recorded["gen/kid_se"]
    best = made.search.best()[0]
    kid = best.user_attrs["metrics"]["gen/kid"]
    shown = f"KID ×1000 {kid:.1f} (95 % interval {kid - 0.49:.1f} to {kid + 0.49:.1f})"
    for text in (words(html), markdown):
        assert f"number {best.number} " in text
        assert shown in text
        assert "score 1.8, the floor" in text
        assert "reconstructions score 12.3" in text
        assert f"{kid - 1.7654321:.1f} in KID ×1000, of which the autoencoder loses 10.6 and the denoiser" in text


def test_recorded_intervals_are_shown_as_they_are(make_sweep: Make) -> None:
    def metrics(params: dict[str, Any]) -> dict[str, float]:
        return {"gen/kid": 10.0 + params["vae.latent_channels"], "gen/kid_low": 7.25, "gen/kid_high": 31.5}

    html, _, rows = report_of(make_sweep(3, metrics=metrics))
    assert "95 % interval 7.2 to 31.5" in words(html)
    assert {row["gen/kid_low"] for row in rows} == {"7.25"}


@pytest.mark.slow
def test_the_page_is_one_file_that_loads_nothing(make_sweep: Make) -> None:
    html, _, _ = report_of(make_sweep())
    found = Loads(html)
    assert found.loaded
    assert [target[:60] for target in found.loaded if not target.startswith(("data:", "#"))] == []
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert len(found.ids) == len(set(found.ids)), "an id of one chart is another's"
    assert sum(name.startswith("parallel-") for name in found.ids) > 3
    assert html.count("<h1") == 1
    assert re.findall(r"<img(?![^>]*\balt=\"[^\"]+\")", html) == []
    assert set(re.findall(r'<a href="#([^"]+)"', html)) <= set(found.ids)


@pytest.mark.slow
def test_the_page_opens_with_one_sentence_and_the_pictures_and_the_paragraphs_come_after(make_sweep: Make) -> None:
    made = make_sweep()
    html, markdown, _ = report_of(made)
    best = made.search.best()[0]
    headline = f"Of 12 configurations on scans, number {best.number} is the best (channels 4, λ_freq 0.3, threshold "
    body = html[html.index("<body>") :]
    places = [body.index(part) for part in ("<h1>", headline, "<img", "<nav", '<div class="summary">')]
    assert places == sorted(places)
    assert headline in markdown[: markdown.index("## In words")]
    lead = re.search(r'<p class="lead">(.*?)</p>', html)
    assert lead
    assert unescape(lead[1]).endswith("]; real slices score 1.8 and its autoencoder's reconstructions 12.3.")


@pytest.mark.slow
def test_numbers_of_the_leaderboard_lead_to_their_runs_where_mlflow_has_them(make_sweep: Make) -> None:
    made = make_sweep()
    known = made.search.measured()[1].number
    pages = {made.name: "http://h/#/runs/1", f"{made.name}/trial-{known}": 'http://h/#/runs/"2"'}
    html, markdown, _ = report_of(made, page_of=lambda key: pages.get(key, ""))
    assert '<a href="http://h/#/runs/1">The sweep in MLflow</a>' in html
    assert f'<td><a href="http://h/#/runs/&#34;2&#34;">{known}</a></td>' in html
    assert html.count('<a href="http') == 2
    assert "http://h/#/runs/1" in markdown
    assert '<a href="http' not in report_of(made)[0]


@pytest.mark.slow
def test_addresses_that_hold_on_one_machine_alone_are_said_to(make_sweep: Make) -> None:
    made = make_sweep(1)
    for address, said in (("http://127.0.0.1:5000/#/runs/1", True), ("https://h/#/runs/1", False)):
        for page in report_of(made, page_of=lambda key, address=address: address)[:2]:
            assert ("on the machine that has the runs, while" in page) == said


def compared(dice: Mapping[str, float]) -> dict[str, Any]:
    """The summary of a comparison with two seeds and three patients, whose arms have these Dice."""
    rows = [
        {
            "arm": arm,
            "fraction": fraction,
            "seed": seed,
            "slices": 40,
            "dice": [dice[arm] + 0.01 * seed, dice[arm] + 0.02, dice[arm] - 0.02],
            "hausdorff": [4.0, 5.0, 6.0 + seed],
        }
        for arm, fractions in ((REAL, (0.25, 1.0)), (SYNTHETIC, (0.0,)), (BOTH, (0.25, 1.0)))
        for fraction in fractions
        for seed in (0, 1)
    ]
    return {"rows": rows, "drawn": 60, "copies": 7}


@pytest.mark.slow
@pytest.mark.parametrize("measured", [True, False])
def test_what_slices_are_good_for_is_a_section_where_the_shown_configuration_was_so_measured(
    make_sweep: Make, measured: bool
) -> None:
    made = make_sweep(
        2,
        changes={"data.mask": True, "downstream.measured": True},
        space=SearchSpace({"vae.latent_channels": Choice((4, 8))}),
        metrics=lambda params: {"gen/kid": 20.0, **({"gen/downstream_dice": 0.45} if measured else {})},
    )
    before = words(report_of(made)[0])
    assert "as training data" not in before
    best = gather(made.home, made.name).shown_trial
    assert best

    def fill(folder: Path) -> dict[str, Any]:
        (folder / "figures").mkdir()
        Image.new("RGB", (60, 40)).save(folder / "figures" / "dice_by_patients.png")
        return compared({REAL: 0.6, SYNTHETIC: 0.45, BOTH: 0.61})

    made.store.obtain(made.plan.keys(best.params)["downstream"], fill)
    page, text, _ = report_of(made)
    if not measured:  # as of a threshold beside the one of the recipe: the networks learned from other slices
        assert "as training data" not in words(page) + text
        assert "Dice by the share" not in words(page)
        assert "its downstream segmentation are not here" not in page
        return
    for shown in (words(page), text):
        assert "The slices of the best as training data" in shown
        assert "Generated slices alone reach 0.75 [" in shown
        assert "7 of 60 generated slices were near copies and were left out." in shown
        assert "tested on 3 patients that no training saw" in shown
    section = page.partition('id="useful"')[2].partition("</section>")[0]
    assert "Dice by the share of real patients" in words(section)
    assert 'href="#useful"' in page


@pytest.mark.slow
def test_many_large_pictures_still_make_a_file_under_6_mb(make_sweep: Make) -> None:
    made = make_sweep(1, stored=False)
    made.stored(made.search.trial(0).params, shape=(380, 500))
    stored = sum(path.stat().st_size for path in made.store.root.rglob("*.png"))
    assert stored > BUDGET
    html, _, _ = report_of(made)
    assert 1_000_000 < len(html.encode()) < 6_000_000
    assert html.count("<img") == 8, "all of them are there"


def test_pictures_shrink_until_they_fit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="PNG")
    found = [picture("latents", buffer.getvalue()), picture("trajectory", buffer.getvalue())]
    small = fit_pictures(found, budget=20_000)
    assert sum(len(each.png) for each in small) <= 20_000
    assert Image.open(io.BytesIO(small[0].png)).width < 200
    assert fit_pictures(found, budget=10**6) == found, "what fits is left as it is"


def test_only_the_chosen_thresholds_images_are_shown_each_with_a_heading(make_sweep: Make) -> None:
    made = make_sweep(1)
    html, _, _ = report_of(made)
    threshold = made.search.best()[0].params[THRESHOLD]
    assert f"Generated beside real, early-stop threshold {threshold:g}" in html
    assert html.count("Generated beside real, early-stop") == 2, "heading and alternative text of one picture"
    for heading in ("Nearest training slices, early-stop threshold 0", "What the autoencoder keeps", "From noise to"):
        assert heading in html


def test_a_near_tie_is_said_to_be_one(make_sweep: Make) -> None:
    def metrics(params: dict[str, Any]) -> dict[str, float]:
        return {"gen/kid": 10.0 + params["diffusion.frequency_weight"], "gen/kid_se": 2.0}

    tie, _, rows = report_of(make_sweep(6, metrics=metrics))
    assert "which of the two is better can't be told" in words(tie)
    assert {row["indistinguishable"] for row in rows} == {"True"}


@pytest.mark.slow
def test_a_clear_lead_is_said_to_be_one_and_what_falls_behind_is_named(make_sweep: Make) -> None:
    html, _, rows = report_of(make_sweep())
    text = words(html)
    assert "which of the two is better can't be told" not in text
    assert "the difference is larger than chance would give" in text
    assert "None of these has vae.latent_channels = 8, nor diffusion.frequency_weight = 0 or 0.1" in text
    assert [row["indistinguishable"] for row in rows] == ["True"] * 2 + ["False"] * 10
    assert "All others are compared with the lowest as if independent" in text, "nothing was recorded to pair them by"
    assert {row["paired"] for row in rows} == {"False"}


@pytest.mark.slow
def test_a_difference_is_judged_by_its_paired_error_and_not_by_those_of_the_scores(make_sweep: Make) -> None:
    def metrics(params: dict[str, Any]) -> dict[str, float]:
        kid = 20.0 + 9.0 * (params["vae.latent_channels"] == 8) + params["diffusion.frequency_weight"]
        return {"gen/kid": kid + params[THRESHOLD], "gen/kid_se": 18.0, "gen/fid": 60.0}

    def pairing(params: dict[str, Any]) -> dict[str, str]:
        far = 0.5 * (params["diffusion.frequency_weight"] > 0) + 0.1 * (params[THRESHOLD] > 0)
        far = 2.0 if params["vae.latent_channels"] == 8 else far
        images = far * np.sqrt(3) * np.array([0.5, -0.5, 0.5, -0.5])
        return Pairing(images, np.array([4.0, 6.0]), np.array([2.0, 3.0]), "reference/1 seed 0").to_plain()

    html, markdown, rows = report_of(make_sweep(6, metrics=metrics, pairing=pairing))
    channels = [row["vae.latent_channels"] for row in rows]
    assert [row["indistinguishable"] == "True" for row in rows] == [value == "4" for value in channels]
    assert {round(float(row["difference_se"]), 2) for row in rows[6:]} == {2.0}
    assert rows[0]["chosen"] == "True", "both cost the same here, so the lower score is taken"
    text = words(html)
    assert "0.1 more, 0.2 paired standard errors of the difference: which of the two is better can't be told" in text
    assert "It doesn't cover another training seed" in text
    assert "as if independent" not in text
    for page in (text, markdown):
        assert "paired: both have the same subjects and the same noise" in page
        assert "Columns other than KID ×1000 are exploratory" in page


@pytest.mark.slow
@pytest.mark.usefixtures("every_forest")
def test_what_mattered_is_the_field_that_moved_the_score(make_sweep: Make) -> None:
    html, markdown, _ = report_of(make_sweep())
    assert "vae.latent_channels mattered most" in words(html)
    first = re.search(r"\| `([^`]+)` \| (\d+)% \|", markdown)
    assert first
    assert first[1] == "vae.latent_channels"
    assert int(first[2]) > 80


def test_what_could_not_be_paired_is_counted_and_told_why() -> None:
    lowest, paired, older = (
        SimpleNamespace(paired=paired, difference_error=error)
        for paired, error in ((True, 0.0), (True, 2.0), (False, 18.0))
    )
    rows: Any = [lowest, paired, older]
    of_fid: Any = [lowest, older]
    assert unpaired_words(rows, KID).startswith("Of the others 1 is compared with the lowest as if independent")
    assert unpaired_words(rows[:2], KID) == ""
    assert unpaired_words(of_fid, FID).endswith("errors are paired for KID ×1000 alone")


@pytest.mark.slow
@pytest.mark.usefixtures("every_forest")
def test_a_field_that_does_nothing_is_not_told_from_noise(make_sweep: Make) -> None:
    draw = np.random.default_rng(0)

    def metrics(params: dict[str, Any]) -> dict[str, float]:
        return {"gen/kid": 20.0 + 10 * (params["vae.latent_channels"] == 8) + draw.normal(), "gen/kid_se": 1.0}

    space = SearchSpace(
        {"vae.latent_channels": Choice((4, 8)), "diffusion.cutmix_probability": Choice((0.0, 0.1, 0.2, 0.3, 0.4))}
    )
    made = make_sweep(10, metrics=metrics, space=space, stored=False)
    found = {each.field: each for each in gather(made.home, made.name).importances}
    assert not found["vae.latent_channels"].noise
    assert found["diffusion.cutmix_probability"].noise
    html, markdown, _ = report_of(made)
    assert "(PED-ANOVA, Watanabe et al. 2023)" in words(html)
    assert "Not distinguishable from noise: diffusion.cutmix_probability." in words(html)
    row = next(line for line in markdown.splitlines() if line.startswith("| `diffusion.cutmix") and "%" in line)
    assert row.endswith("| not distinguishable from noise |")
    picture_text = next(line for line in markdown.splitlines() if line.startswith("- Bar chart of parameter"))
    assert picture_text.endswith("not distinguishable from noise).")


@pytest.mark.slow
@pytest.mark.usefixtures("every_forest")
def test_scores_without_any_cause_are_said_to_be_noise(make_sweep: Make) -> None:
    draw = np.random.default_rng(1)
    made = make_sweep(6, metrics=lambda params: {"gen/kid": draw.normal(20, 1), "gen/kid_se": 1.0}, stored=False)
    floors = {each.field: each.noise for each in gather(made.home, made.name).importances}
    assert sum(floors.values()) >= 2, "one in ten is taken for more by chance"


def test_the_threshold_is_permuted_inside_passes_and_what_was_trained_among_them(make_sweep: Make) -> None:
    made = make_sweep(4, stored=False)
    before = passes(made.search.measured())
    after = permute(before, ["vae.latent_channels", THRESHOLD], np.random.default_rng(0))
    assert [[trial.values for trial in each] for each in after] == [[t.values for t in each] for each in before]
    for name in ("vae.latent_channels", THRESHOLD):
        old, new = ([trial.params[name] for each in found for trial in each] for found in (before, after))
        assert sorted(old) == sorted(new)
    assert all(sorted(trial.params[THRESHOLD] for trial in each) == [0.0, 0.05] for each in after)
    assert all(len({trial.params["vae.latent_channels"] for trial in each}) == 1 for each in after)
    kept = [[trial.params["diffusion.frequency_weight"] for trial in each] for each in after]
    assert kept == [[trial.params["diffusion.frequency_weight"] for trial in each] for each in before]


def test_optuna_dashboard_shows_the_importances_that_the_page_says() -> None:
    source = inspect.getsource(optuna_dashboard._importance)
    assert "evaluator=PedAnovaImportanceEvaluator()" in source
    defaults = inspect.signature(optuna.importance.PedAnovaImportanceEvaluator).parameters
    assert (defaults["target_quantile"].default, defaults["region_quantile"].default) == (0.1, 1.0)
    assert "PED-ANOVA" in DASHBOARD
    assert "best tenth" in DASHBOARD


def test_a_sweep_without_a_measured_trial_says_so(make_sweep: Make) -> None:
    made = make_sweep(0)
    number, _ = made.search.ask() or (0, {})
    made.search.fail(number, "the loss was NaN at step 3", "divergence")
    html, markdown, rows = report_of(made)
    assert rows == []
    for text in (words(html), markdown):
        assert "No configuration has been measured yet" in text
        assert "the loss was NaN at step 3" in text
    assert "Too few configurations are measured" in html


@pytest.mark.slow
def test_a_result_that_was_freed_is_said_in_place_of_its_pictures(make_sweep: Make) -> None:
    made = make_sweep(2)
    freed = made.plan.keys(made.search.best()[0].params).samples.name
    assert made.store.remove(freed)
    html, _, _ = report_of(made)
    assert f"{freed} is not in the store" in html
    assert "From noise to image" not in html
    assert "Generated beside real" in html
    shutil.rmtree(made.store.root)
    assert "Nothing of this sweep is in the store any more" not in report_of(made)[0], "what is gone is counted"
    assert "freed since: time not known" in report_of(made)[0]


def test_pruned_trials_and_those_that_wait_are_counted(make_sweep: Make) -> None:
    made = make_sweep(3)
    number, _ = made.search.ask() or (0, {})
    made.search.prune(number, {"pruned_at": 300})
    made.search.ask()
    assert "3 complete, 1 pruned, 0 failed, 1 waiting; 6 configurations measured" in words(report_of(made)[0])


def test_the_command_makes_the_same_sweep(make_sweep: Make) -> None:
    changes = {"diffusion.steps": 1234, "diffusion.widths": (32, 64), "data.split": "slice"}
    made = make_sweep(2, changes=changes, sampler="random", objectives=("fid",))
    html, markdown, _ = report_of(made)
    line = next(line for line in markdown.splitlines() if line.startswith("python cli.py sweep"))
    assert "--recipe smoke --trials 2 --space space.yaml --objective fid --sampler random" in line
    assert "--split slice" in line
    assignments = re.findall(r"--set (?:'([^']+)'|(\S+))", line)
    again = overridden(recipe_named("smoke"), [first or second for first, second in assignments])
    again = again.replace(**{"data.split": "slice", "sampling.threshold_grid": made.plan.space.thresholds})
    assert again == made.plan.recipe
    written = re.search(r"```yaml\n(.*?)```", markdown, re.DOTALL)
    assert written
    assert SearchSpace.from_plain(yaml.safe_load(written[1])) == made.plan.space
    assert "held-out slices share patients" in words(html)


def test_a_report_points_at_mlflow_only_where_the_runs_are_recorded(make_sweep: Make) -> None:
    made = make_sweep(1)
    assert "python cli.py ui opens MLflow" in words(report_of(made)[0])
    assert "ui opens MLflow" not in words(report_of(made, recorded=False)[0])


@pytest.mark.parametrize("recorded", [True, False])
def test_a_sweep_ends_with_a_hint_at_mlflow_only_where_it_is_recorded(
    make_sweep: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    made = make_sweep(1)
    monkeypatch.setattr("latentsweep.lints.targets.lint_sweep", lambda *_: {})
    show_results(made.home, made.plan, made.search, False, recorded=recorded)
    said = capsys.readouterr().out
    assert f"python cli.py report {made.name} --home {made.home.root}" in said
    assert ("python cli.py ui" in said) == recorded


@pytest.mark.slow
@pytest.mark.parametrize("found", [True, False])
def test_the_page_is_opened_or_its_path_said_where_there_is_no_browser(
    make_sweep: Make, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    made, opened = make_sweep(1), []
    monkeypatch.setattr("latentsweep.lints.targets.lint_sweep", lambda *_: {})
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or found)
    done = CliRunner().invoke(app, ["report", "--open", "--no-mlflow", "--home", str(made.home.root)])
    page = made.home.sweeps / made.name / "report" / "report.html"
    assert done.exit_code == 0, done.output
    assert opened == [page.resolve().as_uri()]
    assert (f"open {page.resolve()} in one" in done.stderr) != found


def test_tables_have_no_page_to_open(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", "--open", "--paper-tables", "--home", str(tmp_path)])
    assert (done.exit_code, "leave one of them out" in done.stderr) == (2, True)


@pytest.mark.slow
def test_the_study_is_shown_from_where_it_lies_and_no_databases_address_is_said(make_sweep: Make) -> None:
    made = make_sweep(1)
    content = gather(made.home, made.name)
    assert f"optuna-dashboard sqlite:///runs/sweeps/{made.name}/study.db" in words(report_of(made)[0])
    content.source.search.in_database = True
    assert content.dashboard == 'optuna-dashboard "$LATENTSWEEP_STUDY"'
    assert f"`{content.dashboard}`" in describe_sweep(made.plan, content.source.search), "whatever lies in the folder"


def test_the_datasets_own_space_needs_no_file(make_sweep: Make) -> None:
    from search_spaces.kaggle import SPACE

    markdown = report_of(make_sweep(1, space=SPACE, dataset="kaggle"))[1]
    assert "--dataset kaggle --recipe smoke --trials 1\n" in markdown
    assert "space.yaml" not in markdown


def test_lints_stand_in_a_table_warnings_first(make_sweep: Make) -> None:
    raised = [
        Finding("few-samples", "note", "too few <images>", "N = 64", "take more"),
        Finding("overfit", "warning", "they part", "0.2 | 0.4", "stop earlier"),
    ]
    html, markdown, _ = report_of(make_sweep(1), findings=lambda: raised)
    assert html.index("overfit") < html.index("few-samples")
    assert "too few &lt;images&gt;" in html, "text is escaped"
    assert "0.2 \\| 0.4" in markdown
    assert "2 lints were raised" in html


@pytest.mark.slow
def test_two_objectives_have_a_front_and_no_best(make_sweep: Make) -> None:
    made = make_sweep(4, objectives=("kid", "steps"))
    html, _, rows = report_of(made)
    front = {trial.number for trial in made.search.best()}
    assert len(front) == 2
    assert {int(row["trial"]) for row in rows if row["chosen"] == "True"} == front
    assert "2 configurations lie on the Pareto front" in words(html)
    assert "export --sweep" in html
    assert "--number" in html


@pytest.mark.slow
def test_ranges_and_words_can_be_searched(make_sweep: Make) -> None:
    space = SearchSpace(
        {
            "diffusion.learning_rate": Range(1e-4, 1e-2, log=True),
            "diffusion.warmup_steps": Range(10, 50),
            "diffusion.prediction": Choice(("v", "epsilon")),
        }
    )

    def metrics(params: dict[str, Any]) -> dict[str, float]:
        return {"gen/kid": 1000 * params["diffusion.learning_rate"], "gen/kid_se": 0.1}

    html, _, rows = report_of(make_sweep(6, metrics=metrics, space=space))
    assert len(rows) == 6
    assert "0.0001 to 0.01, on a log scale" in html
    assert "The cost of an image was not recorded" in html


@pytest.mark.slow
def test_sharing_is_counted_by_who_would_have_paid(make_sweep: Make) -> None:
    from latentsweep.report.source import compute, open_source

    made = make_sweep(6)
    found = compute(open_source(made.home, made.name))
    assert {stage.stage: stage.results for stage in found.stages} == {
        "vae": 2,
        "latents": 2,
        "reconstruction": 2,
        "reference": 1,
        "denoiser": 6,
        "samples": 6,
        "evaluation": 6,
    }
    seconds = {entry.name: entry.seconds for entry in made.store.entries()}
    once = sum(value for name, value in seconds.items() if name.startswith(("vae/", "latents/")))
    assert found.shared_seconds == pytest.approx(2 * once), "three trials on each of the two"
    denoisers = sum(value for name, value in seconds.items() if name.startswith("denoiser/"))
    assert found.threshold_seconds == pytest.approx(denoisers)
    assert found.seconds == pytest.approx(sum(seconds.values()))


def test_an_unknown_sweep_is_one_line(make_sweep: Make) -> None:
    made = make_sweep(0)
    with pytest.raises(DataError, match="there is no sweep 'other'"):
        write_report(made.home, "other")


@pytest.mark.slow
def test_the_study_is_left_as_it_was(make_sweep: Make) -> None:
    made = make_sweep(3)
    made.search.ask()
    before = [(t.number, t.state, t.values) for t in made.search.study.get_trials(deepcopy=False)]
    report_of(made)
    folder = made.home.sweeps / made.name
    again = Search(folder, made.plan.space, made.plan.search, 0).study.get_trials(deepcopy=False)
    assert [(t.number, t.state, t.values) for t in again] == before


def test_durations_are_in_a_unit_that_suits_them() -> None:
    assert [duration(each) for each in (3.2, 600, 9000)] == ["3 s", "10 min", "2.5 h"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_opens_the_page_from_disk_without_a_request_or_an_error(make_sweep: Make, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    made = make_sweep()
    page_file = write_report(made.home, made.name)[0]
    asked: list[str] = []
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        page.screenshot(path=tmp_path / "report.png", full_page=True)
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert page.evaluate("document.querySelectorAll('svg').length") >= 4
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        browser.close()
    assert errors == []
    assert [url[:80] for url in asked if not url.startswith(("data:", page_file.as_uri()))] == []
