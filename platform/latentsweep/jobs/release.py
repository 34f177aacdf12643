"""A release: drawn slices in a folder with what an ethics board or a journal asks for, and nothing of a real one."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

from latentsweep.configuration import CONFIG
from latentsweep.datasets.ledger import TEST
from latentsweep.jobs.clean_samples import CleanSamples, Progress, draw_clean
from latentsweep.jobs.comparison import measuring
from latentsweep.jobs.croissant import croissant
from latentsweep.jobs.data_sheet import Facts, data_sheet, today
from latentsweep.jobs.drawn_files import MASKS, write_drawn
from latentsweep.jobs.image_folder import GRID
from latentsweep.jobs.train import name_of
from latentsweep.jobs.trained import Open, evaluated_run, trained_model, trained_on
from latentsweep.pages.numbers import number
from latentsweep.pages.tables import records_as_csv
from latentsweep.pages.templates import write_texts
from latentsweep.search.export import configuration_at
from latentsweep.stages import guards
from latentsweep.stages.pipeline import Pipeline
from latentsweep.storage.home import Home, sha256_of, write_json
from latentsweep.storage.refusals import why
from latentsweep.storage.store import Store
from trainables.errors import ConfigError, DataError
from trainables.figures import image_grid, outlined
from trainables.loop.files import whole_folder
from trainables.measures.reference import Reference
from trainables.measures.weights import InceptionWeights

SHEET, TABLE, NUMBERS, CROISSANT, SUMS = "README.md", "samples.csv", "metrics.json", "croissant.json", "SHA256SUMS"
SAMPLES = "samples"
"""The folder of the slices, with those of masks and overlays in it."""
COLUMNS = {"file": "sc:Text", "seed": "sc:Integer", "distance": "sc:Float"}
"""The columns of the table, and what Croissant calls their types."""
SHOWN = 64
"""Slices in the grid."""


@dataclass(frozen=True)
class Release:
    """What a release gave."""

    folder: Path
    samples: int
    """Slices in the folder."""
    asked: int
    drawn: int
    near_copies: int
    """Near copies of training slices among those that were drawn; none of them is in the folder."""
    refused: str = ""
    """Why the guards refuse the model, in words; empty where they don't."""


def release(
    home: Home,
    run: str,
    to: Path,
    open_named: Open,
    weights: InceptionWeights,
    *,
    count: int,
    seed: int = 0,
    source: str = "",
    licence: str = "",
    despite_guards: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> Release:
    """Writes ``count`` slices of the model that ``run`` names to ``to``, those of the seeds from ``seed`` on.

    Near copies of training slices are left out, and others drawn in their place, as
    :func:`~latentsweep.jobs.clean_samples.draw_clean` says; there may be fewer in the end. The model is measured on
    the held-out splits where the store lacks that. Raises :class:`ConfigError` where the guards refuse it, unless
    ``despite_guards``, and :class:`DataError` for a folder that isn't new or empty.
    """
    to = to.resolve()
    if to.exists() and (not to.is_dir() or to.is_mount() or any(to.iterdir())):
        raise DataError(
            f"the folder of a release must be new or empty, and no mount point, since it gets its name when it is "
            f"whole: {to}; choose another --to"
        )
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        probe = to.with_name(f".{to.name[:200]}.probe")
        with whole_folder(probe):  # told before anything is measured and drawn
            pass
        probe.rmdir()
    except OSError as error:
        raise _not_writable(to, error) from None
    open_named = functools.cache(open_named)
    configuration = configuration_at(home, run).configuration
    recipe, dataset = configuration.recipe, trained_on(configuration, open_named)
    held_out = [split for split in dataset.splits(recipe.data.rule) if split != "train"]
    measured = {split: evaluated_run(home, run, open_named, weights, split, device) for split in held_out}
    refused = next(filter(None, (guards.refusal(each.metrics) for each in measured.values())), "")
    if refused and not despite_guards:
        raise ConfigError(
            f"the guards refuse {run}, so it is not released: {refused}; release another model, or say "
            f"{guards.DESPITE}"
        )
    model, execution = trained_model(home, run, open_named, device)
    whole = Pipeline(Store.of(home), dataset, recipe, configuration.seed, execution, weights, held_out[-1])
    real = dataclasses.replace(whole, recipe=measuring(recipe, recipe.data.image_size))
    samples = draw_clean(
        lambda seeds: model.drawn(seeds, execution),
        real.slices("train").images,
        Reference.load(real.reference().folder).null,
        count,
        seed=seed,
        progress=progress,
    )
    facts = Facts(
        name=name_of(dataset.name, whole.keys),
        configuration=dataclasses.replace(configuration, trained_on=whole.identity.dataset),
        dataset=dataset,
        metrics={split: each.metrics for split, each in measured.items()},
        refused=refused,
        earlier=measured[TEST].earlier if TEST in measured else None,
        source=" ".join(source.split()),
        licence=" ".join(licence.split()),
        date=today(),
    )
    try:
        with whole_folder(to) as folder:
            write_release(folder, facts, samples)
    except OSError as error:
        raise _not_writable(to, error) from None
    return Release(to, len(samples.seeds), count, len(samples.distances), samples.left_out, refused)


def _not_writable(to: Path, error: OSError) -> DataError:
    return DataError(f"the folder of a release must be writable: {to}: {why(error)}, or choose another --to")


def write_release(folder: Path, facts: Facts, samples: CleanSamples) -> None:
    """Writes all files of a release into an empty folder; raises :class:`OSError`."""
    pictures = write_samples(folder, samples)
    facts.configuration.write(folder / CONFIG)
    write_json(folder / NUMBERS, facts.metrics)
    write_texts(folder, {SHEET: data_sheet(facts, samples)})
    said = (
        f"{number(len(samples.seeds), 'synthetic slice')} like those of the dataset {facts.dataset.name}, drawn by a "
        f"generative model. Source: {facts.source or 'not stated'}. {SHEET} is their data sheet."
    )
    table = TABLE, sha256_of(folder / TABLE)
    write_json(folder / CROISSANT, croissant(facts.name, said, facts.date, facts.licence, table, COLUMNS, pictures))
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256_of(folder / file)}  {file}\n" for file in files]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def write_samples(folder: Path, samples: CleanSamples) -> dict[str, str]:
    """Writes the pictures, their table and the grid; returns the patterns of the sets of pictures, by name."""
    (folder / SAMPLES).mkdir()
    images, masks = samples.drawn
    files = write_drawn(folder / SAMPLES, samples.drawn, samples.seeds)[: len(images)]
    (folder / SAMPLES / GRID).unlink()
    image_grid(outlined(images[:SHOWN], None if masks is None else masks[:SHOWN])).save(folder / GRID)
    rows = [
        {"file": f"{SAMPLES}/{file}", "seed": seed, "distance": f"{distance:.4f}"}
        for file, seed, distance in zip(files, samples.seeds, samples.kept, strict=True)
    ]
    (folder / TABLE).write_text(records_as_csv(rows), "utf-8")
    pattern = "seed-*.png"
    return {"slices": f"{SAMPLES}/{pattern}"} | ({} if masks is None else {MASKS: f"{SAMPLES}/{MASKS}/{pattern}"})
