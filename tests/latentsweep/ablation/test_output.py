"""An ablation's files: their numbers are the effects', they load nothing, and say what can't be told."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import re
import shutil
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentsweep.ablation.page import charts, interactions, summary, tables
from latentsweep.ablation.page.content import Content
from latentsweep.ablation.page.files import as_html, as_latex, as_markdown, tiles, view, write_page
from latentsweep.ablation.page.rows import as_csv
from latentsweep.ablation.page.tables import metric_table
from latentsweep.ablation.page.wording import decimals
from latentsweep.ablation.statistics.effect import Contrast, Effect, Run
from latentsweep.ablation.statistics.effects import effects, summaries
from latentsweep.ablation.statistics.gaps import gaps
from latentsweep.ablation.statistics.ratio import ratios
from latentsweep.lints import Finding
from latentsweep.pages.numbers import fixed, listed
from trainables.errors import StoreError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
METRICS = ("gen/kid", "gen/recall", "gen/diversity")
SUBJECTS = {f"subject-{place}": 3 + place for place in range(12)}
CHANGES = {
    "whitening": 140.0,
    "v-prediction": 31.0,
    "cutmix": -16.5,
    "ema": 5.0,
    "frequency": 0.4,
    "min-snr": -3.0,
    "early-stop": 0.0,
}
"""How much KID ×1000 rises without each component."""


def run_of(arm: str, seed: int, kid: float, *, study: str = "kaggle-loo", crossed: bool = True) -> Run:
    """A run whose other metrics follow its KID, each with noise of its own."""
    noise = np.random.default_rng([seed, *arm.encode()])
    kid += 6 * np.random.default_rng(seed).normal() + 3 * noise.normal()
    metrics = {
        "gen/kid": kid,
        "gen/recall": 0.5 - 0.002 * kid + 0.01 * noise.normal(),
        "gen/diversity": 0.3 + 0.01 * noise.normal(),
    }
    cross = {name: (-kid / 2 * count + noise.normal() * count, count) for name, count in SUBJECTS.items()}
    key = f"{study}/{re.sub('[^a-z]+', '-', arm.lower())}/seed-{seed}"
    return Run(arm, seed, metrics, key, cross if crossed else {})


def content_of(
    runs: Sequence[Run], arms: Sequence[str], contrasts: Sequence[Contrast], seeds: int, **changes: Any
) -> Content:
    given: dict[str, Any] = {
        "name": "kaggle-loo-3f9a1c",
        "dataset": "kaggle",
        "facts": [("Measured on", "the test split, by subject"), ("Recipe", "improved at 64×64 pixels")],
        "design": "the full recipe against itself with each component taken out",
        "reference": arms[0],
        "seeds": list(range(seeds)),
        "arms": [(arm, "as the recipe has it", "its own denoiser") for arm in arms],
        "components": [(name, f"{name}, against none") for name in CHANGES],
        "runs": runs,
        "summaries": {metric: summaries(runs, arms, metric) for metric in METRICS},
        "effects": {metric: effects(runs, contrasts, metric, seeds=range(seeds)) for metric in METRICS},
        "command": "python cli.py ablate --dataset kaggle --seeds 3",
    }
    return Content(**given | changes)


def leave_one_out(
    seeds: int = 3, *, lost: Sequence[tuple[str, int]] = (), crossed: bool = True, **changes: Any
) -> Content:
    """Seven components, each taken out; the runs in ``lost`` failed."""
    kids = {"full": 42.0} | {f"without {name}": 42.0 + change for name, change in CHANGES.items()}
    runs = [
        run_of(arm, seed, kid, crossed=crossed)
        for arm, kid in kids.items()
        for seed in range(seeds)
        if (arm, seed) not in lost
    ]
    contrasts = [Contrast(arm, {arm: 1.0, "full": -1.0}) for arm in list(kids)[1:]]
    return content_of(runs, list(kids), contrasts, seeds, **changes)


def factorial(seeds: int = 5, names: Sequence[str] = ("whitening", "v-prediction"), **changes: Any) -> Content:
    """All combinations; the first helps by 30, the second by 4 alone and by 24 with the first."""
    arms = {}
    for pattern in itertools.product((True, False), repeat=len(names)):
        present = [name for name, there in zip(names, pattern, strict=True) if there]
        arms[" + ".join(present) or "none"] = pattern
    kids = {
        arm: 100.0 - 30 * pattern[0] - 4 * pattern[1] - 20 * (pattern[0] and pattern[1])
        for arm, pattern in arms.items()
    }
    runs = [run_of(arm, seed, kid, study="kaggle-factorial") for arm, kid in kids.items() for seed in range(seeds)]
    half = len(arms) / 2
    signs = {
        name: {arm: 1 if pattern[place] else -1 for arm, pattern in arms.items()} for place, name in enumerate(names)
    }
    contrasts = [
        Contrast(name, {arm: s / half for arm, s in own.items()}, "main effect") for name, own in signs.items()
    ]
    contrasts += [
        Contrast(f"{a} × {b}", {arm: signs[a][arm] * signs[b][arm] / half for arm in arms}, "interaction")
        for a, b in itertools.combinations(names, 2)
    ]
    given = {"reference": None, "design": f"every combination of {', '.join(names)}"} | changes
    return content_of(runs, list(arms), contrasts, seeds, **given)


def words(html: str) -> str:
    """The text of a page, charts and style left out, with plain spaces."""
    bare = re.sub(r"<(style|svg)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", bare)))


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def shown(effect: Effect, places: int) -> str:
    """An effect's difference as it must stand in every output."""
    assert effect.mean is not None
    signed = f"{effect.mean:+.{places}f}".replace("-", "−")
    signed = signed if number(signed) else signed[1:]
    return f"{signed} [{effect.low:.{places}f}, {effect.high:.{places}f}]".replace("-", "−")


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


def csv_rows(content: Content) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(content.summaries, content.effects))))


@dataclasses.dataclass(frozen=True)
class Written:
    """A study with its page, which is drawn once."""

    content: Content
    html: str

    @property
    def page(self) -> str:
        return words(self.html)


@pytest.fixture(scope="module")
def out() -> Written:
    content = leave_one_out()
    return Written(content, as_html(content))


@pytest.fixture(scope="module")
def full(out: Written) -> Content:
    return out.content


@pytest.fixture(scope="module")
def combined() -> Written:
    content = factorial()
    return Written(content, as_html(content))


@pytest.fixture(scope="module")
def crossed(combined: Written) -> Content:
    return combined.content


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["out", "combined"])
def test_the_numbers_in_all_outputs_are_the_effects(fixture: str, request: pytest.FixtureRequest) -> None:
    written: Written = request.getfixturevalue(fixture)
    content, page = written.content, written.page
    markdown, latex = as_markdown(content), as_latex(content)
    for metric, found in content.effects.items():
        places = decimals(content.summaries[metric], found)
        for effect in found:
            assert shown(effect, places) in page
            assert shown(effect, places) in markdown
            assert shown(effect, places).replace("−", "$-$") in latex
        for summary_ in content.summaries[metric]:
            text = f"{summary_.mean:.{places}f} ± {summary_.sd:.{places}f} ({len(summary_.values)})"
            assert text in page
            assert text in markdown
            assert text.replace("±", r"$\pm$") in latex


def test_the_csv_is_unrounded_and_names_the_runs_of_every_number(crossed: Content) -> None:
    rows = {(row["metric"], row["kind"], row["name"]): row for row in csv_rows(crossed)}
    keys = {run.key: run for run in crossed.runs}
    assert len(rows) == len(METRICS) * (4 + 3)
    for metric in METRICS:
        for effect in crossed.effects[metric]:
            row = rows[metric, effect.contrast.kind, effect.contrast.name]
            for name in ("mean", "sd", "low", "high", "p", "p_holm", "p_sign_flip", "df", "se_seeds"):
                assert float(row[name]) == getattr(effect, name)
            assert (row["se_subjects"] == "") == (effect.se_subjects is None)
            assert tuple(row["runs"].split("; ")) == effect.runs
            assert [float(value) for value in row["values"].split("; ")] == list(effect.values)
            again = [
                sum(
                    float(weight) * run.metrics[metric]
                    for arm, weight in (pair.split(": ") for pair in row["weights"].split("; "))
                    for run in (keys[key] for key in row["runs"].split("; "))
                    if (run.arm, run.seed) == (arm, int(seed))
                )
                for seed in row["seeds"].split("; ")
            ]
            assert np.mean(again) == pytest.approx(float(row["mean"])), "the mean can be had from the runs it names"
        for each in crossed.summaries[metric]:
            row = rows[metric, "mean", each.arm]
            assert float(row["mean"]) == pytest.approx(
                np.mean([keys[key].metrics[metric] for key in row["runs"].split("; ")])
            )


@pytest.mark.slow
def test_the_page_opens_with_one_sentence_and_the_chart_and_leads_to_the_studys_run() -> None:
    content = leave_one_out()
    html = as_html(dataclasses.replace(content, address="http://h/#/runs/1"))
    body = html[html.index("<body>") :]
    places = [body.index(part) for part in ("<h1>", '<p class="lead">', "<svg", "<nav", '<div class="summary">')]
    assert places == sorted(places)
    assert '<a href="http://h/#/runs/1">The study in MLflow</a>' in html
    assert "The study in MLflow" not in as_html(content)


def test_every_row_names_its_runs_in_markdown_and_html(out: Written) -> None:
    page, markdown = out.page, as_markdown(out.content)
    for name in CHANGES:
        line = f"kaggle-loo/without-{name}/seed-0, 1, 2; kaggle-loo/full/seed-0, 1, 2"
        assert f"- without {name}: {line}" in markdown
        assert line in page


def test_a_component_whose_removal_makes_it_worse_is_said_to_help(full: Content) -> None:
    effect = full.effects["gen/kid"][0]
    assert (effect.contrast.name, effect.verdict) == ("without whitening", "hurts")
    groups = {group.verdict: dict(group.lines) for group in summary.groups(full)}
    assert "which is worse" in groups["helps"]["whitening"]
    assert "2 help (whitening, ema)" in summary.headline(full)
    row = next(row for row in metric_table(full, "gen/kid").rows if row.name == "without whitening")
    assert row.cells[-1] == "worse", "in the arm's own row it is said of the arm"


def test_a_component_that_is_put_in_is_not_turned_around() -> None:
    runs = [run_of(arm, seed, kid) for arm, kid in (("bare", 90.0), ("with ema", 20.0)) for seed in range(4)]
    content = content_of(runs, ["bare", "with ema"], [Contrast("with ema", {"with ema": 1.0, "bare": -1.0})], 4)
    assert content.effects["gen/kid"][0].verdict == "helps"
    assert "1 helps (ema)" in summary.headline(content)


def test_what_the_seeds_can_show_at_all_is_said(out: Written) -> None:
    text = out.page
    assert "can't go below p = 0.25 here" in text
    assert "With 3 seeds and 7 comparisons, a difference of " in text
    assert "shows in four studies of five, by the errors of each comparison" in text
    assert "other seeds and other held-out subjects" in text
    alone = as_markdown(leave_one_out(crossed=False))
    assert "not other held-out subjects" in alone
    assert "other seeds and other held-out subjects" not in alone
    assert "The margin for no difference is 10 % of the reference's score, set by the plan" in text
    assert "No seed diverged or collapsed, though 3 seeds miss a failure rate of up to 63 % in 5 % of cases." in text
    assert text.count("Exploratory: the study's verdicts rest on KID ×1000.") > 0


def on_log_scale(**given: Any) -> Content:
    """Arms whose KID is well above 0, judged by changes in per cent; the second is a fifth better."""
    kids = {"full": 80.0, "without ema": 64.0, "without cutmix": 80.5}
    noise = np.random.default_rng(0)
    runs = [
        Run(arm, seed, {"gen/kid": kid * np.exp(0.02 * noise.normal())}, f"study/{arm}/seed-{seed}")
        for arm, kid in kids.items()
        for seed in range(4)
    ]
    contrasts = [Contrast(arm, {arm: 1.0, "full": -1.0}) for arm in list(kids)[1:]]
    diverged = given.pop("diverged", ())
    runs = [run for run in runs if (run.arm, run.seed) not in diverged]
    found = effects(runs, contrasts, "gen/kid", seeds=range(4), diverged=diverged)
    kept = {"gen/kid": summaries(runs, list(kids), "gen/kid")}
    return content_of(runs, list(kids), contrasts, 4, summaries=kept, effects={"gen/kid": found}, **given)


def test_a_verdict_on_the_log_scale_stands_with_its_change_in_every_output() -> None:
    content = on_log_scale(margin=0.2)
    effect = content.effects["gen/kid"][0]
    assert (effect.scale, effect.verdict) == ("log", "helps")
    assert effect.relative is not None
    row = metric_table(content, "gen/kid").rows[1]
    change = (
        f"−{-100 * effect.relative.change:.0f} % [{100 * effect.relative.low:.0f}, {100 * effect.relative.high:.0f}]"
    )
    assert row.cells[1].endswith(f"; {change}".replace("-", "−"))
    assert "Verdicts rest on the change in per cent" in as_markdown(content)
    assert [tile.value for tile in tiles(content) if tile.label == "margin"] == ["± 20 %"]
    forest = view(content, "gen/kid", 0).forest
    assert forest is not None
    assert "band: −17 to +20 %" in forest.html
    line = next(row for row in csv_rows(content) if row["kind"] == "arm")
    assert (line["scale"], float(line["change"])) == ("log", effect.relative.change)
    assert line["failed"] == "without ema: 0 of 4; full: 0 of 4"


def test_an_arm_with_the_references_own_samples_leaves_the_others_on_the_log_scale() -> None:
    draw, contrasts = (
        np.random.default_rng(0),
        [Contrast(arm, {arm: 1.0, "full": -1.0}) for arm in ("without ema", "twin")],
    )
    runs = []
    for seed in range(4):
        kid = 40 * float(np.exp(0.03 * draw.normal()))
        for arm, times in (("full", 1.0), ("without ema", 1.2 + 0.05 * draw.random()), ("twin", 1.0)):
            runs.append(Run(arm, seed, {"gen/kid": times * kid}, f"{arm}/{seed}"))
    found = effects(runs, contrasts, "gen/kid", seeds=range(4))
    arms = ["full", "without ema", "twin"]
    kept = {"gen/kid": summaries(runs, arms, "gen/kid")}
    content = content_of(runs, arms, contrasts, 4, summaries=kept, effects={"gen/kid": found}, margin=0.2)
    assert [(effect.scale, effect.same) for effect in found] == [("log", False), ("raw", True)]
    forest = view(content, "gen/kid", 0).forest
    assert forest is not None
    assert "band: −17 to +20 %" in forest.html
    assert "on the paired differences" not in as_markdown(content)


def test_an_arm_that_failed_more_often_is_unstable_in_every_output() -> None:
    content = on_log_scale(diverged=[("without ema", 1), ("without ema", 3)])
    (effect, other) = content.effects["gen/kid"]
    assert (effect.verdict, other.verdict) == ("unstable", "no difference")
    page, markdown = words(as_html(content)), as_markdown(content)
    for text in (page, markdown):
        assert "1 may change how often trainings fail (ema)" in text
        assert "without it, unstable: without ema failed in 2 of 4 seeds" in text
        assert "Seeds that diverged or collapsed: without ema in 2 of 4; of the other arms none" in text
    rows = {row.name: row.cells for row in metric_table(content, "gen/kid").rows}
    assert rows["without ema"][0].endswith("(2), 2 failed")
    assert rows["without ema"][-1] == "unstable"
    seeds = view(content, "gen/kid", 0).seeds
    assert seeds is not None
    assert "(2 × failed)" in seeds.html
    assert as_latex(content).isascii()


def test_failures_stand_by_name_and_reason_and_what_rests_on_fewer_seeds() -> None:
    lost = [("without ema", 1), *(("without min-snr", seed) for seed in range(3))]
    failures = {"kaggle-loo/without-ema/seed-1": "the loss was NaN at step 300"}
    failures |= {f"kaggle-loo/without-min-snr/seed-{seed}": "out | of memory" for seed in range(3)}
    content = leave_one_out(lost=lost, failures=failures)
    page, markdown = words(as_html(content)), as_markdown(content)
    for text in (page, markdown):
        assert "the loss was NaN at step 300" in text
        assert "4 of 24 runs have no result (4 failed" in text
        assert "these rest on fewer seeds: without ema, without min-snr" in text
        assert "1 was not measured (min-snr)" in text
        assert "Runs without a result: without ema, seed 1; without min-snr, seed 0" in text
    assert "| `kaggle-loo/without-min-snr/seed-0` | out \\| of memory |" in markdown
    assert "20 of 24" in page
    table = metric_table(content, "gen/kid")
    rows = {row.name: row.cells for row in table.rows}
    assert rows["without min-snr"] == ("–", "–", "–", "–", "not measured")
    assert rows["without ema"][0].endswith("(2)")
    lines = {row["name"]: row for row in csv_rows(content) if row["metric"] == "gen/kid" and row["kind"] == "arm"}
    assert lines["without ema"]["missing"] == "without ema, seed 1"
    assert lines["without min-snr"]["mean"] == ""


def test_one_seed_gives_no_interval_no_p_and_no_verdict() -> None:
    content = leave_one_out(1)
    page, markdown = words(as_html(content)), as_markdown(content)
    for text in (page, markdown):
        assert "Every arm was run with one seed" in text
        assert "7 can't be told" in text
        assert "Holm's correction for" not in text
        assert "standard deviations of a paired difference" not in text
    for row in metric_table(content, "gen/kid").rows[1:]:
        assert "[" not in row.cells[1]
        assert row.cells[2:] == ("–", "–", "cannot tell")
    assert {row["low"] for row in csv_rows(content)} <= {"", None}
    assert "±" not in "".join(row.cells[0] for row in metric_table(content, "gen/kid").rows)


def test_a_study_without_a_single_result_renders() -> None:
    content = leave_one_out(
        2, lost=[(arm, seed) for arm in ("full", *(f"without {n}" for n in CHANGES)) for seed in (0, 1)]
    )
    page = words(as_html(content))
    assert "7 were not measured" in page
    assert "Nothing was measured that can be compared" in page
    assert as_latex(content).isascii()


def test_a_factorial_has_main_effects_and_interactions(combined: Written) -> None:
    crossed, html = combined.content, combined.html
    page, markdown = combined.page, as_markdown(crossed)
    for text in (page, markdown):
        assert "2 help (whitening, v-prediction)" in text
        assert "half the difference that one component makes to the effect of the other" in text
        assert "together better than the sum" in text
        assert "a main effect averages over two that differ" in text
    assert "main effect: whitening" in markdown
    assert "interaction: whitening × v-prediction" in markdown
    assert "(reference)" not in page
    kinds = [row.kind for row in metric_table(crossed, "gen/kid").rows]
    assert kinds == ["arm"] * 4 + ["main effect"] * 2 + ["interaction"]
    assert html.count("Interaction plot of KID") == 1
    table = as_latex(crossed).split(r"\begin{tabular}")[1]
    assert table.count(r"\midrule") == 3, "arms, main effects and interactions stand apart"


def test_the_cells_of_an_interaction_are_means_of_the_arms_with_and_without() -> None:
    content = factorial(3, ("whitening", "v-prediction", "cutmix"))
    effects_ = content.effects["gen/kid"]
    pairs = interactions.crossings(effects_)
    assert [(a.name, b.name) for a, b in pairs] == [
        ("whitening", "v-prediction"),
        ("whitening", "cutmix"),
        ("v-prediction", "cutmix"),
    ]
    chart = interactions.interaction_plot(content.runs, pairs, "gen/kid")
    assert chart is not None
    expected = np.mean(
        [run.metrics["gen/kid"] for run in content.runs if "whitening" in run.arm and "v-p" in run.arm]
    )
    assert "with v-prediction, from" in chart.alt
    assert f"to {expected:.4g} with whitening" in chart.alt


def test_an_interaction_that_lacks_a_cell_has_no_plot(crossed: Content) -> None:
    pairs = interactions.crossings(crossed.effects["gen/kid"])
    runs = [run for run in crossed.runs if run.arm != "none"]
    assert interactions.interaction_plot(crossed.runs, pairs, "gen/kid") is not None
    assert interactions.interaction_plot(runs, pairs, "gen/kid") is None
    assert interactions.interaction_plot(crossed.runs, [], "gen/kid") is None


def test_all_latex_tables_have_as_many_cells_as_columns_and_are_ascii(full: Content, crossed: Content) -> None:
    for content in (full, crossed):
        text = as_latex(content)
        assert text.isascii()
        found = text.split("\\begin{tabular}")[1:]
        assert len(found) == len(METRICS) + 1, "one of each metric and one of all"
        for table in found:
            columns = table[1 : table.index("}")]
            rows = [line for line in table.split("\\end{tabular}")[0].splitlines() if line.endswith("\\\\")]
            assert len(rows) >= 8
            assert {line.count(" & ") + 1 for line in rows} == {len(columns)}
        for name in ("table", "tabular"):
            assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}")
        assert text.count("{") == text.count("}")


def test_names_with_signs_are_escaped_in_every_format() -> None:
    odd = "without <b>λ_freq & 50 %</b> $x$ | x̂₀"
    runs = [run_of(arm, seed, kid) for arm, kid in (("full", 40.0), (odd, 60.0)) for seed in range(3)]
    content = content_of(
        runs,
        ["full", odd],
        [Contrast(odd, {odd: 1.0, "full": -1.0})],
        3,
        failures={"a<i>": "lost & gone | <script>alert(1)</script>"},
        findings=[Finding("few-samples", "note", "too few <images>", "a | b", "take more")],
        design="with <em>",
        command="python cli.py ablate --set 'a<b'",
    )
    html, latex, markdown = as_html(content), as_latex(content), as_markdown(content)
    for raw in ("<b>λ", "<script>", "<images>", "<em>", "a<b", "a<i>"):
        assert raw not in html
    assert "&lt;b&gt;λ_freq &amp; 50 %&lt;/b&gt;" in html
    assert odd in unescape(html)
    assert r"without $<$b$>$$\lambda$\_freq \& 50 \%$<$/b$>$ \$x\$ $|$ x0" in latex
    assert latex.isascii()
    assert "$x$ \\| x̂₀ |" in markdown
    assert {row["name"] for row in csv_rows(content)} == {"full", odd}


def test_the_page_is_one_file_that_loads_nothing(combined: Written) -> None:
    html = combined.html
    found = Loads(html)
    assert [target[:60] for target in found.loaded if not target.startswith(("data:", "#"))] == []
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert len(found.ids) == len(set(found.ids)), "an id of one chart is another's"
    assert any(name.startswith("forest-0-") for name in found.ids)
    assert html.count("<h1") == 1
    assert set(re.findall(r'<a href="#([^"]+)"', html)) <= set(found.ids)
    assert len(html) < 2_000_000


def test_an_arm_far_off_leaves_the_axis_to_the_others(full: Content) -> None:
    kept = [(effect.low, effect.high) for effect in full.effects["gen/kid"] if effect.low is not None]
    low, high = charts.limits([(a, b) for a, b in kept if b is not None], 0.0)
    assert high < 100 < CHANGES["whitening"]
    assert low < -20
    assert charts.limits([(-1.0, 2.0), (3.0, 4.0)], 0.0)[1] > 4


def test_metrics_without_a_better_way_are_told_as_different() -> None:
    runs = [run_of(arm, seed, 40.0) for arm in ("full", "without ema") for seed in range(4)]
    runs = [
        dataclasses.replace(
            run, metrics=dict(run.metrics) | {"gen/diversity": 0.3 + 0.2 * (run.arm == "full") + 0.001 * run.seed**2}
        )
        if run.arm == "full"
        else dataclasses.replace(run, metrics=dict(run.metrics) | {"gen/diversity": 0.3 + 0.002 * run.seed})
        for run in runs
    ]
    content = content_of(
        runs, ["full", "without ema"], [Contrast("without ema", {"without ema": 1.0, "full": -1.0})], 4
    )
    assert content.effects["gen/diversity"][0].verdict == "differs"
    assert "diversity: ema changes it" in as_markdown(content)
    assert "Neither way is better" in as_markdown(content)


def test_lints_stand_in_a_table_warnings_first(full: Content) -> None:
    raised = [
        Finding("few-samples", "note", "too few images", "N = 64", "take more"),
        Finding("overfit", "warning", "they part", "0.2 | 0.4", "stop earlier"),
    ]
    content = dataclasses.replace(full, findings=raised)
    html, markdown = as_html(content), as_markdown(content)
    assert html.index("<code>overfit") < html.index("<code>few-samples")
    assert "0.2 \\| 0.4" in markdown
    assert "2 lints were raised" in html


@pytest.fixture(scope="module")
def with_more() -> Content:
    """Two arms with their ratio and their gaps."""
    kids = {"full": 60.0, "without ema": 25.0}
    runs = [run_of(arm, seed, kid) for arm, kid in kids.items() for seed in range(4)]
    runs = [
        dataclasses.replace(run, metrics={**run.metrics, "gen/kid_floor": 3.0, "recon/kid": 12.0 + run.seed})
        for run in runs
    ]
    contrast = Contrast("without ema", {"without ema": 1.0, "full": -1.0})
    ratio = ratios(runs, [contrast], seeds=range(4))
    return content_of(runs, list(kids), [contrast], 4, ratios=ratio, gaps=gaps(runs, list(kids)))


def test_a_ratio_stands_beside_its_difference_in_every_file(with_more: Content) -> None:
    (ratio,) = with_more.ratios
    assert ratio.low is not None
    table = metric_table(with_more, "gen/kid")
    assert table.header[2:4] == ("difference [95 % interval]", "ratio [95 % interval]")
    assert [row.cells[2] for row in table.rows] == ["–", ratio.text]
    assert "ratio [95 % interval]" not in metric_table(with_more, "gen/recall").header
    html, markdown = words(as_html(with_more)), as_markdown(with_more)
    for text in (html, markdown):
        assert f"KID ×1000 as a ratio to the reference's [95 % interval]: without ema {ratio.text}." in text
        assert "the interval is Fieller's (1954), uncorrected, and covers other seeds alone" in text
    assert f"& {ratio.text} &" in as_latex(with_more)
    rows = csv.DictReader(
        io.StringIO(as_csv(with_more.summaries, with_more.effects, with_more.ratios, with_more.gaps))
    )
    (line,) = [row for row in rows if row["kind"] == "ratio"]
    assert (float(line["mean"]), float(line["low"])) == (ratio.value, ratio.low)
    assert line["runs"].split("; ") == list(ratio.runs)


def test_memorisation_stands_beside_the_score_with_its_differences() -> None:
    copies = {"full": [0.02, 0.03, 0.01], "without ema": [0.0, 0.01, 0.0]}
    nearness = {"full": [0.91, 0.93, 0.95], "without ema": [1.10, 1.14, 1.11]}
    runs = [
        Run(
            arm,
            seed,
            {"gen/kid": 40.0 + seed, "gen/near_copies": copies[arm][seed], "gen/memorisation": nearness[arm][seed]},
            f"study/{arm}/seed-{seed}",
        )
        for arm in copies
        for seed in range(3)
    ]
    contrast = Contrast("without ema", {"without ema": 1.0, "full": -1.0})
    metrics = ("gen/kid", *tables.COPYING)
    content = content_of(
        runs,
        list(copies),
        [contrast],
        3,
        summaries={metric: summaries(runs, list(copies), metric) for metric in metrics},
        effects={metric: effects(runs, [contrast], metric, seeds=range(3)) for metric in metrics},
    )
    table = tables.memorisation_table(content.summaries, content.effects, reference="full")
    assert table is not None
    assert table.header[1::2] == ("Near copies", "Memorisation ratio")
    assert table.rows[0].cells[1::2] == ("–", "–")
    for place, metric in ((1, "gen/near_copies"), (3, "gen/memorisation")):
        (effect,) = content.effects[metric]
        assert table.rows[1].cells[place] == shown(effect, decimals(content.summaries[metric], [effect]))
    for text in (words(as_html(content)), as_markdown(content), as_latex(content)):
        assert "Whether an arm repeats training slices more than the reference does." in text
    assert tables.memorisation_table({}, {}, reference=None) is None
    lost = {**content.summaries, "gen/memorisation": summaries([], list(copies), "gen/memorisation")}
    assert tables.memorisation_table(lost, content.effects, reference="full") is None


def test_runs_that_the_guards_refuse_are_counted_beside_the_score_and_named_with_the_reason() -> None:
    copied = {"gen/near_copies": 0.58, "gen/near_copies_bound": 0.03}
    runs = [
        Run(arm, seed, {"gen/kid": 40.0 + seed, **(copied if arm == "full" and seed else {})}, f"study/{arm}/{seed}")
        for arm in ("full", "without ema")
        for seed in range(3)
    ]
    contrast = Contrast("without ema", {"without ema": 1.0, "full": -1.0})
    content = content_of(
        runs,
        ["full", "without ema"],
        [contrast],
        3,
        summaries={"gen/kid": summaries(runs, ["full", "without ema"], "gen/kid")},
        effects={"gen/kid": effects(runs, [contrast], "gen/kid", seeds=range(3))},
    )
    assert [", 2 refused" in row.cells[0] for row in metric_table(content, "gen/kid").rows] == [True, False]
    for text in (words(as_html(content)), as_markdown(content), as_latex(content).replace("\\%", "%")):
        assert "study/full/1: copies 58 % (bound 3 %)" in text


@pytest.mark.slow
def test_the_gap_stands_in_every_file_with_a_picture(with_more: Content, tmp_path: Path) -> None:
    html, markdown, latex = as_html(with_more), as_markdown(with_more), as_latex(with_more)
    for text in (words(html), markdown):
        assert "Above the floor of real slices, KID ×1000 3" in text
        assert "The gap in KID ×1000" in text
    assert 'href="#gap"' in html
    assert "Stacked bars of floor" in html
    assert "The gap in KID" in latex
    assert latex.isascii()
    files = write_page(with_more, tmp_path)
    assert [path.name for path in files][-1] == "ablation_gap.png"
    with Image.open(files[-1]) as picture:
        assert picture.width == 900
    rows = list(csv.DictReader(files[3].open()))
    parts = {row["kind"]: float(row["mean"]) for row in rows if row["name"] == "full" and row["metric"] == "gen/kid"}
    assert parts["floor"] + parts["autoencoder"] + parts["denoiser"] == pytest.approx(parts["mean"])


def test_numbers_are_written_with_a_real_minus_and_no_negative_zero() -> None:
    assert fixed(-1.25, 1) == "−1.2"
    assert fixed(-0.04, 1, sign=True) == "0.0"
    assert fixed(0.25, 2, sign=True) == "+0.25"
    assert fixed(None, 2) == "–"


@pytest.mark.slow
def test_the_four_files_are_written_and_a_folder_that_cannot_be_is_one_line(full: Content, tmp_path: Path) -> None:
    files = write_page(full, tmp_path / "a" / "b")
    assert [path.name for path in files] == ["ablation.html", "ablation.md", "ablation.tex", "ablation.csv"]
    assert all(path.stat().st_size > 1000 for path in files)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="must be writable"):
        write_page(full, tmp_path / "file")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_opens_the_page_from_disk_without_a_request_or_an_error(crossed: Content, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    file = write_page(crossed, tmp_path)[0]
    asked: list[str] = []
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(file.as_uri())
        assert page.evaluate("document.querySelectorAll('svg').length") >= 3
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        browser.close()
    assert errors == []
    assert [url[:80] for url in asked if not url.startswith(("data:", file.as_uri()))] == []


def test_names_with_a_comma_stay_apart_in_a_list() -> None:
    assert listed(["improved", "paper, EMA warmed up"]) == "improved, “paper, EMA warmed up”"
