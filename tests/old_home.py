"""A small home, and the commands that made it.

``tests/golden/home-dff7b93.tar.xz`` is such a home as the code of commit dff7b93 made it. To make one by the code of
another commit, run there, with its environment::

    python tests/old_home.py FOLDER ARCHIVE

Its slices are drawn, so no patient is in it. Its networks have about 10,000 weights each, after twenty and thirty
steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DATASET = "shapes"
SUBJECTS, SLICES, SIDE = 14, 4, 32
SPACE = """
dimensions:
  diffusion.cutmix_probability: [0.0, 0.5]
  sampling.early_stop_threshold: [0.0, 0.4]
"""
_RECIPE = {
    "data.image_size": SIDE,
    "vae.latent_channels": 4,
    "vae.widths": "[8, 8, 8]",
    "vae.blocks": 1,
    "vae.attention": "false",
    "vae.rotation_degrees": 10.0,
    "vae.translation": 0.05,
    "vae.scaling": 0.05,
    "vae.max_steps": 30,
    "vae.validations": 1,
    "diffusion.widths": "[8]",
    "diffusion.blocks": 1,
    "diffusion.attention_levels": "[]",
    "diffusion.embedding_channels": 8,
    "diffusion.steps": 20,
    "diffusion.learning_rate": 0.02,
    "diffusion.warmup_steps": 0,
    "diffusion.ema_decay": 0.0,
    "diffusion.flip_probability": 0.0,
    "diffusion.cutmix_labelled": "false",
    "diffusion.validations": 1,
    "diffusion.frequency_weight": 0.1,
    "diffusion.frequency_weighting": "none",
    "sampling.steps": 4,
    "sampling.precision": "fp32",
    "evaluation.samples": 6,
    "evaluation.rung_samples": 3,
    "evaluation.bootstrap": 20,
}
SMALL_PICTURES = """
from matplotlib.figure import Figure

write = Figure.savefig
Figure.savefig = lambda self, *words, **options: write(self, *words, **{**options, "dpi": 20})
"""
"""A module that every process imports as it starts: a picture takes 5 kB in place of 60."""

RECIPE = [word for field, value in _RECIPE.items() for word in ("--set", f"{field}={value}")]


def sweep_words(space: Path) -> list[str]:
    """The words of the sweep; ``space`` is a file with :data:`SPACE`."""
    words = ["sweep", "--dataset", DATASET, "--recipe", "smoke", "--space", str(space), "--trials", "2"]
    return [*words, "--sampler", "random", "--pruner", "none", "--json", *RECIPE]


def ablate_words() -> list[str]:
    """The words of a study of the sweep's two configurations, which needs no training of its own."""
    arms = [f"{name} = smoke diffusion.cutmix_probability={value}" for name, value in (("whole", 0.0), ("cut", 0.5))]
    words = ["ablate", "--dataset", DATASET, "--seeds", "1", "--json", *RECIPE]
    return [*words, *(word for arm in arms for word in ("--arm", arm))]


def draw_slices(folder: Path) -> None:
    """Writes shaded discs with a brighter spot, as ``SUBJECT/SLICE.png``."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    for subject in range(SUBJECTS):
        (folder / f"{subject:02d}").mkdir(parents=True)
        for number in range(SLICES):
            radius = 11 + 0.2 * number + 0.1 * subject
            image = np.where(x**2 + y**2 < radius**2, 100 + 5 * y + subject, 0)
            image = np.where((x - subject % 5) ** 2 + (y - number) ** 2 < 9, 200 + 3 * subject, image)
            Image.fromarray(image.astype(np.uint8)).save(folder / f"{subject:02d}" / f"{number}.png")


def train_words(config: Path) -> list[str]:
    """The words of a training of the exported configuration, whose networks the sweep has trained."""
    return ["train", "--config", str(config), "--json"]


def make(folder: Path) -> None:
    """Makes what is packed by the code of the current directory; raises CalledProcessError where a command fails."""
    draw_slices(folder / "pngs")
    space, best, home = folder / "space.yaml", folder / "best.yaml", folder / "home"
    space.write_text(SPACE)
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SMALL_PICTURES)
    paths = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))

    def run(*words: str) -> None:
        command = [sys.executable, "cli.py", *words, "--home", str(home)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})

    run("data", "prepare", DATASET, "--source", str(folder / "pngs"), "--size", str(SIDE))
    run(*sweep_words(space))
    run("export", "--dataset", DATASET, "--to", str(best))
    run(*ablate_words())
    run(*train_words(best))
    run("sample", str(best), "--count", "2", "--to", str(folder / "drawn"))
    (folder / "recorded.json").write_text(json.dumps(recorded(home), indent=1) + "\n")


def recorded(home: Path) -> list[dict[str, Any]]:
    """What MLflow holds of each run, without what differs from day to day: its names of metrics, params and tags."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(DATASET)
    runs = client.search_runs([experiment.experiment_id])
    found = [
        {
            "key": run.data.tags["latentsweep.key"],
            "kind": run.data.tags["latentsweep.kind"],
            "metrics": sorted(run.data.metrics),
            "params": run.data.params,
            "tags": sorted(tag for tag in run.data.tags if tag.startswith("latentsweep.")),
        }
        for run in runs
    ]
    return sorted(found, key=lambda run: str(run["key"]))


LEFT_OUT = {"mlflow", "locks", "lock", ".shapes.lock", "ray", "train", "driver", "pseudonym.key"}


def pack(folder: Path, archive: Path) -> None:
    """Packs what :func:`make` made, without MLflow's files, the locks, and what the commands write anew."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = Path(member.name).parts
        if LEFT_OUT & set(parts):
            return None
        if parts[1:2] == ("ablations",) and parts[-1].endswith((".html", ".tex", ".png")):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name in ("home", "best.yaml", "recorded.json", "drawn"):
            tar.add(folder / name, name, filter=kept)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
