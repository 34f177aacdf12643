"""Lines that show what a command is for: what is typed behind the program's name, and what it does."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "data prepare": (
        ("data prepare kaggle --source ~/rsna-miccai", "a dataset with a name"),
        ("data prepare mine --source scans --check page.html", "only look: what would be read, as a page"),
        ("data prepare mine --source scans", "a folder of your own"),
        ("data prepare mine --source scans --labels table.csv", "with labels of the patients, as their grade"),
        ("data prepare mine --source scans --series flair --include '*/pre/*'", "one contrast, some of the files"),
    ),
    "data show": (
        ("data show mine", "counts, left-out files, a histogram and a contact sheet"),
        ("data show mine --json", "the same for a program"),
    ),
    "data export": (
        ("data export mine --to pngs", "all slices, a folder for each split"),
        ("data export mine --to pngs --split test", "the test split only"),
    ),
    "sweep": (
        ("sweep --dataset mine --dry-run", "the plan: trainings, memory, time"),
        ("sweep --dataset mine --recipe small", "small networks, for a machine without a GPU"),
        ("sweep --dataset mine --trials 40", "go on with a finished sweep"),
        ("sweep --dataset mine --hours 8", "what fits eight hours here, planned by timing steps"),
        ("sweep --dataset mine --confirm 8", "train more of its best again with fresh seeds"),
        ("sweep --dataset mine --space space.yaml", "your own search space"),
        ("sweep --dataset mine --objective kid --objective steps", "quality against sampling steps"),
    ),
    "plan": (
        ("plan --recipe paper --card-gib 6", "memory by part, and how many trials share a card"),
        ("plan --config best.yaml --slices 31938 --json", "with a training set of that size on the card"),
    ),
    "plugins": (
        ("plugins", "what installed packages add, their fields, and which of them are broken"),
        ("plugins --json", "the same for a program"),
    ),
    "ablate": (
        ("ablate --dataset mine --recipe smoke --seeds 3 --dry-run", "what three seeds can show, before it runs"),
        ("ablate --dataset mine --recipe smoke --seeds 3", "take each component out of the recipe"),
        ("ablate --dataset mine --recipe smoke --seeds 1 --folds 5", "test on every patient once"),
        (
            'ablate --dataset mine --minutes 20 --arm improved --arm "mine = best.yaml"',
            "whole configurations, at equal wall time",
        ),
    ),
    "ui": (
        ("ui --open", "MLflow in a browser"),
        ("ui --port 5001", "where port 5000 is taken"),
    ),
    "lint": (
        ("lint", "everything in the home"),
        ("lint mine", "one dataset, sweep or model"),
    ),
    "report": (
        ("report", "the latest sweep that has a result"),
        ("report --open", "the same, opened in a browser"),
        ("report --paper-tables", "the paper's Tables I and II, of your trainings"),
    ),
    "export": (
        ("export --dataset mine --to best.yaml", "the best of the dataset's latest sweep"),
        ("export --sweep mine-smoke-6d974d52 --number 3 --to third.yaml", "a configuration that you choose"),
    ),
    "train": (
        ("train --config best.yaml --dry-run", "the plan: steps, memory, time"),
        ("train --config best.yaml", "train in full, measure on the test split, register"),
        ("train --config best.yaml --steps 100000 --workers 2", "longer, on two cards"),
    ),
    "sample": (
        ("sample best.yaml --count 16 --to images", "of a trained configuration"),
        ("sample best.yaml --count 16 --seed 16 --to more", "the next sixteen"),
        ("sample best.yaml --label grade=HGG --to high", "of patients with that label"),
    ),
    "evaluate": (
        ("evaluate best.yaml", "a trained configuration, on the test split"),
        ("evaluate best.yaml --downstream", "also whether its slices help to train a segmentation network"),
        ("evaluate --images images --dataset mine", "any folder of square pictures"),
    ),
    "release": (
        ("release --run best.yaml --to release --count 500", "500 slices, a data sheet, a Croissant file, checksums"),
        (
            'release --run demo --to release --source "our hospital, study 12" --licence CC-BY-4.0',
            "with what you know of the source",
        ),
    ),
    "store show": (("store show", "what is kept, what it cost, what uses it"),),
    "store free": (
        ("store free --dry-run", "what nothing refers to"),
        ("store free", "free it"),
    ),
}
"""By command, in the order of the work; a test holds that every command has some, and that all of them parse."""
