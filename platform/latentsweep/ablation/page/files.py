"""A study's files: one HTML page that needs nothing else, Markdown, LaTeX, and every number as CSV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from latentsweep.ablation.page import charts, interactions, summary, tables
from latentsweep.ablation.page.content import Content
from latentsweep.ablation.page.rows import as_csv
from latentsweep.ablation.page.wording import direction, name_of
from latentsweep.ablation.statistics.replicate import listed_seeds
from latentsweep.pages.charts import Chart, chart
from latentsweep.pages.numbers import fixed
from latentsweep.pages.tables import Table
from latentsweep.pages.tables import as_latex as join_latex
from latentsweep.pages.templates import Tile, environment, warnings_first, write_texts
from trainables.errors import StoreError

HTML, MARKDOWN, LATEX, TABLE = "ablation.html", "ablation.md", "ablation.tex", "ablation.csv"
GAP = "ablation_gap.png"


@dataclass(frozen=True)
class View:
    """What is shown of one metric; a chart is None where nothing was measured."""

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
        TABLE: as_csv(content.summaries, content.effects, content.ratios, content.gaps),
    }
    pictured = gap_figure(content)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = write_texts(folder, texts)
        if pictured:
            files.append(folder / GAP)
            pictured.savefig(folder / GAP, metadata={"Software": "latentsweep"})
    except OSError as error:
        raise StoreError(
            f"the folder {folder} must be writable ({error.strerror}); choose another with --home"
        ) from error
    return files


def as_html(content: Content) -> str:
    """The page; opens from disk and loads nothing."""
    primary, *others = (view(content, metric, place) for place, metric in enumerate(content.metrics))
    shown = {"primary": primary, "others": others, "tiles": tiles(content), "gap_chart": gap_chart(content)}
    return _render("ablation.html.j2", content, shown)


def as_markdown(content: Content) -> str:
    """The same without charts."""
    primary, *others = (tables.metric_table(content, metric) for metric in content.metrics)
    return _render("ablation.md.j2", content, {"primary": primary, "others": others})


def as_latex(content: Content) -> str:
    """A table for each metric, the one that the study is judged by first, and one of all."""
    first, *others = (tables.metric_table(content, metric) for metric in content.metrics)
    beside = tables.beside(content)
    wall = [content.walltime] if content.walltime else []
    found = [first, *beside["memorised"], *beside["gap_tables"], *beside["overviews"], *others, *wall]
    return join_latex(table.as_latex() for table in found)


def view(content: Content, metric: str, place: int) -> View:
    """Table and charts of one metric; ``place`` makes the charts' ids differ from those of others."""
    effects, arms = content.effects.get(metric, ()), content.summaries[metric]
    against = f"from {content.reference}" if content.reference else "(with less without)"
    places = content.places(metric)
    failed = {arm: each.failed for arm, each in content.stability.items()}
    forest = charts.forest_plot(
        effects, metric, places=places, against=against, margin=content.margin, name=f"forest-{place}"
    )
    seeds = charts.seed_by_seed(
        arms, metric, places=places, reference=content.reference, failed=failed, name=f"seeds-{place}"
    )
    crossed = interactions.crossings(effects)
    lines = interactions.interaction_plot(content.runs, crossed, metric, name=f"interactions-{place}")
    return View(tables.metric_table(content, metric), forest, seeds, lines)


def gap_figure(content: Content) -> Figure | None:
    """The gaps as bars, where there are any."""
    found = content.gaps_by_metric()
    return charts.gap_figure(found, {metric: content.places(metric) for metric in found}) if found else None


def gap_chart(content: Content) -> Chart | None:
    """The same for the page, with what it shows in words."""
    figure, found = gap_figure(content), content.gaps_by_metric()
    words = charts.gap_words(found, {metric: content.places(metric) for metric in found})
    return chart(figure, "gap", words) if figure else None


def tiles(content: Content) -> list[Tile]:
    """The numbers that a reader looks for first."""
    metric = content.primary
    name, places = name_of(metric), content.places(metric)
    collapsed = sum(len(each.collapsed) for each in content.stability.values())
    fallen = f", {collapsed} collapsed" if collapsed else ""
    found = [
        Tile("runs measured", f"{content.measured} of {content.planned}", f"{len(content.failures)} failed{fallen}"),
        Tile("seeds an arm", str(len(content.seeds)), listed_seeds(content.seeds)),
        Tile("margin", f"± {100 * content.margin:g} %", "a smaller change of a score counts as none"),
    ]
    reference = next((each for each in content.summaries[metric] if each.arm == content.reference), None)
    if reference is not None:
        between = f"± {fixed(reference.sd, places)} between seeds; " if reference.sd is not None else ""
        mean = fixed(reference.mean, places)
        found.append(Tile(f"{name} of the reference", mean, f"{between}{direction(metric)}"))
    return found


def _render(template: str, content: Content, shown: dict[str, object]) -> str:
    made = environment("latentsweep.ablation.page").get_template(template)
    return made.render(
        c=content,
        summary=summary.sentences(content),
        groups=summary.groups(content),
        primary_label=name_of(content.primary),
        differing=f"differs from {content.reference or 'the first'} in",
        findings=warnings_first(content.findings),
        **tables.beside(content),
        **shown,
    )
