"""The report of a sweep: its numbers are the study's, it loads nothing, and it says what it can't know."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shutil
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from latentsweep.configuration import overridden
from latentsweep.lints import Finding
from latentsweep.pages.numbers import duration
from latentsweep.report import write_report
from latentsweep.report.content import gather
from latentsweep.report.pictures import BUDGET, fit_pictures, picture
from latentsweep.search.study import Search
from trainables.errors import DataError
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
        assert f"trial {best.number} " in text
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


def test_a_clear_lead_is_said_to_be_one_and_what_falls_behind_is_named(make_sweep: Make) -> None:
    html, _, rows = report_of(make_sweep())
    text = words(html)
    assert "which of the two is better can't be told" not in text
    assert "the difference is larger than chance would give" in text
    assert "None of these has vae.latent_channels = 8, nor diffusion.frequency_weight = 0 or 0.1" in text
    assert [row["indistinguishable"] for row in rows] == ["True"] * 2 + ["False"] * 10


def test_what_mattered_is_the_field_that_moved_the_score(make_sweep: Make) -> None:
    html, markdown, _ = report_of(make_sweep())
    assert "vae.latent_channels mattered most" in words(html)
    first = re.search(r"\| `([^`]+)` \| (\d+)% \|", markdown)
    assert first
    assert first[1] == "vae.latent_channels"
    assert int(first[2]) > 80


def test_a_sweep_without_a_measured_trial_says_so(make_sweep: Make) -> None:
    made = make_sweep(0)
    number, _ = made.search.ask() or (0, {})
    made.search.fail(number, "the loss was NaN at step 3", "divergence")
    html, markdown, rows = report_of(made)
    assert rows == []
    for text in (words(html), markdown):
        assert "No trial has been measured yet" in text
        assert "the loss was NaN at step 3" in text
    assert "Too few trials are complete" in html


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


def test_the_study_is_shown_from_where_it_lies_and_no_databases_address_is_said(make_sweep: Make) -> None:
    made = make_sweep(1)
    content = gather(made.home, made.name)
    assert f"optuna-dashboard sqlite:///runs/sweeps/{made.name}/study.db" in words(report_of(made)[0])
    in_database = dataclasses.replace(content, in_database=True)
    assert in_database.dashboard == 'optuna-dashboard "$LATENTSWEEP_STUDY"'


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


def test_two_objectives_have_a_front_and_no_best(make_sweep: Make) -> None:
    made = make_sweep(4, objectives=("kid", "steps"))
    html, _, rows = report_of(made)
    front = {trial.number for trial in made.search.best()}
    assert len(front) == 2
    assert {int(row["trial"]) for row in rows if row["chosen"] == "True"} == front
    assert "2 configurations lie on the Pareto front" in words(html)
    assert "export --sweep" in html
    assert "--trial" in html


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
