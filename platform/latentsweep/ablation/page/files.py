"""An ablation study's files: one HTML page that needs nothing else, Markdown, LaTeX, and every number as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from latentsweep.ablation.page import charts, summary, supplement, tables
from latentsweep.ablation.page.content import Content
from latentsweep.ablation.page.tables import Table
from latentsweep.ablation.page.wording import capitalised, decimals, direction, fixed, name_of, seeds_of
from latentsweep.report.charts import Chart, inline
from latentsweep.report.content import Tile
from latentsweep.report.page import environment
from trainables.errors import StoreError

__all__ = ["Content", "write_page"]

HTML, MARKDOWN, LATEX, TABLE = "ablation.html", "ablation.md", "ablation.tex", "ablation.csv"
GAP = "ablation_gap.png"


@dataclass(frozen=True)
class View:
    """What is shown of one metric; a chart is None where nothing was measured."""

    metric: str
    name: str
    table: Table
    forest: Chart | None
    seeds: Chart | None
    interactions: Chart | None


def write_page(content: Content, folder: Path) -> list[Path]:
    """Writes ``ablation.html``, ``.md``, ``.tex`` and ``.csv`` into the folder, which is made, and returns the paths.

    Where the content has gaps, also their picture, ``ablation_gap.png``.
    Raises :class:`StoreError` where the folder can't be written.
    """
    texts = {
        HTML: as_html(content),
        MARKDOWN: as_markdown(content),
        LATEX: as_latex(content),
        TABLE: tables.as_csv(content.summaries, content.effects, content.ratios, content.gaps),
    }
    pictured = gap_figure(content)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        if pictured:
            pictured.savefig(folder / GAP, metadata={"Software": "latentsweep"})
    except OSError as error:
        raise StoreError(
            f"the folder {folder} must be writable ({error.strerror}); choose another with --home"
        ) from error
    return [folder / name for name in (*texts, *((GAP,) if pictured else ()))]


def as_html(content: Content) -> str:
    """The page; opens from disk and loads nothing."""
    views = [view(content, metric, place) for place, metric in enumerate(content.metrics)]
    return _render(
        "ablation.html.j2",
        content,
        primary=views[0],
        others=views[1:],
        tiles=tiles(content),
        gap_chart=gap_chart(content),
    )


def as_markdown(content: Content) -> str:
    """The same without charts."""
    found = [metric_table(content, metric) for metric in content.metrics]
    return _render("ablation.md.j2", content, primary=found[0], others=found[1:])


def as_latex(content: Content) -> str:
    """A table for each metric, the one that the study is judged by first, and one of all."""
    found = [metric_table(content, metric) for metric in content.metrics]
    wall = [content.walltime] if content.walltime else []
    parts = [*found[:1], *memorised(content), *gap_tables(content), *overviews(content), *found[1:], *wall]
    return tables.as_latex(parts)


def view(content: Content, metric: str, place: int) -> View:
    """Table and charts of one metric; ``place`` makes the charts' ids differ from those of others."""
    effects, arms = content.effects.get(metric, ()), content.summaries[metric]
    against = f"from {content.reference}" if content.reference else "(with less without)"
    places, name = decimals(arms, effects), f"{{}}-{place}"
    return View(
        metric,
        name_of(metric),
        metric_table(content, metric),
        charts.forest_plot(
            effects,
            metric,
            places=places,
            against=against,
            margin=content.margin(metric),
            name=name.format("forest"),
        ),
        charts.seed_by_seed(arms, metric, places=places, reference=content.reference, name=name.format("seeds")),
        charts.interaction_plot(content.runs, charts.crossings(effects), metric, name=name.format("interactions")),
    )


def metric_table(content: Content, metric: str) -> Table:
    """The table of one metric with the notes that it can't be read without."""
    return tables.metric_table(
        metric,
        content.summaries[metric],
        content.effects.get(metric, ()),
        reference=content.reference,
        notes=notes(content, metric),
        ratios=content.ratios_of(metric),
    )


def memorised(content: Content) -> list[Table]:
    """The table of memorisation, where it was measured."""
    found = supplement.memorisation_table(content.summaries, content.effects, reference=content.reference)
    return [found] if found else []


def gap_tables(content: Content) -> list[Table]:
    """A table for each metric whose gap was split."""
    return [
        supplement.gap_table(metric, found, _decimals(content, metric), reference=content.reference)
        for metric, found in content.split().items()
    ]


def gap_figure(content: Content) -> Figure | None:
    """The gaps as bars, where there are any."""
    found = content.split()
    return charts.gap_figure(found, {metric: _decimals(content, metric) for metric in found}) if found else None


def gap_chart(content: Content) -> Chart | None:
    """The same for the page, with what it shows in words."""
    figure, found = gap_figure(content), content.split()
    if figure is None:
        return None
    alt = charts.gap_words(found, {metric: _decimals(content, metric) for metric in found})
    return Chart(inline(figure, "gap", alt), alt)


def overviews(content: Content) -> Sequence[Table]:
    """The table of all metrics, where there is more than one."""
    if len(content.metrics) < 2:
        return ()
    return (tables.overview(content.summaries, content.effects, reference=content.reference),)


def notes(content: Content, metric: str) -> list[str]:
    """What a metric's numbers mean, what they can show, and which runs they lack."""
    effects = content.effects.get(metric, ())
    seeds = ", ".join(map(str, content.seeds))
    found = [
        f"Study {content.name} on {content.dataset}; {summary.number(len(content.seeds), 'seed')} ({seeds}), n of "
        "them with a result. sd: standard deviation between seeds."
    ]
    if content.reference:
        found.append(f"Differences are from the reference, {content.reference}, in pairs of the same seed.")
    else:
        found.append("A main effect is the mean of all arms with a component less that of all without, seed by seed.")
    crossed = [effect for effect in effects if effect.contrast.kind == "interaction"]
    if crossed:
        found.append(f"An interaction is {summary.scale_of(crossed[0])}.")
    if any(effect.p_holm is not None for effect in effects):
        family = summary.number(max(len(each) for each in summary.families(effects).values()), "comparison")
        subjects = " and subjects" if any(effect.se_subjects is not None for effect in effects) else ""
        found.append(
            f"p: two-sided t test over seeds{subjects}, after Holm's correction for {family}; "
            "intervals aren't corrected. d_z: mean over standard deviation of the paired differences, after Hedges."
        )
        found.append(summary.covered(effects))
    found += summary.read_ratios(content.ratios_of(metric))
    found += summary.able(content, metric)
    lacking = sorted({key for effect in effects for key in effect.missing})
    if lacking:
        reasons = [f"{key} ({content.failures[key]})" if key in content.failures else key for key in lacking]
        found.append(f"Runs without a result: {'; '.join(reasons)}.")
    return found


def tiles(content: Content) -> list[Tile]:
    """The numbers that a reader looks for first."""
    metric = content.primary
    noise = content.margin(metric)
    places = decimals(content.summaries[metric], content.effects.get(metric, ()))
    reference = next((each for each in content.summaries[metric] if each.arm == content.reference), None)
    found = [
        Tile("runs measured", f"{content.measured} of {content.planned}", f"{len(content.failures)} failed"),
        Tile("seeds an arm", str(len(content.seeds)), ", ".join(map(str, content.seeds))),
        Tile(
            "noise" if metric not in content.margins else "margin",
            fixed(noise, places),
            f"{name_of(metric)}, standard deviation between seeds of one arm"
            if metric not in content.margins
            else f"{name_of(metric)}: a smaller difference counts as none",
        ),
    ]
    if reference is not None:
        spread = f"± {fixed(reference.sd, places)} between seeds; " if reference.sd is not None else ""
        mean = fixed(reference.mean, places)
        found.append(Tile(f"{name_of(metric)} of the reference", mean, f"{spread}{direction(metric)}"))
    return found


def _decimals(content: Content, metric: str) -> int:
    return decimals(content.summaries.get(metric, ()), content.effects.get(metric, ()))


def _render(template: str, content: Content, **computed: object) -> str:
    made = environment("latentsweep.ablation.page").get_template(template)
    return made.render(
        c=content,
        summary=summary.sentences(content),
        groups=summary.groups(content),
        primary_name=capitalised(name_of(content.primary)),
        findings=sorted(content.findings, key=lambda each: each.severity != "warning"),
        overviews=overviews(content),
        gap_tables=gap_tables(content),
        memorised=memorised(content),
        seeds_of=seeds_of,
        **computed,
    )
