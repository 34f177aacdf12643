"""The table of named datasets: what they are, how they lie on disk, and the commands that get and prepare them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from latentsweep.program.invocation import hint
from trainables.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset that can be prepared. A row of :data:`KNOWN` is all that a new one needs, if its layout exists."""

    name: str
    namespace: str
    """What keeps its pseudonyms apart from others'. Datasets of the same patients share one."""
    layout: str | None
    """A name in :data:`~latentsweep.datasets.layouts.LAYOUTS`; None for the dataset made from nothing."""
    getting: str = ""
    """The commands that get its raw scans."""
    source: str = "<folder>"
    """The folder that these commands leave, as --source takes it."""
    modality: str | None = None
    series: str | None = None
    """The series that is taken unless --series names another; None where there is nothing to choose."""
    choices: tuple[str, ...] = ()
    """The series that it holds, that one first."""
    subject_from: str | None = None
    """The rule of its layout for subjects, as --subject-from takes it."""


BUILT_IN = "demo"
DEFAULT_SUBJECT = (
    "the first folder that names no class, cohort, split, visit, series or contrast, without the visit and the "
    "contrast in its name, folders with one DICOM PatientID together; else what the file's name tells before its "
    "visit or contrast, or the PatientID; else each file its own"
)
"""Who the subject of a file is in a dataset of the user's own, where no other rule is asked for."""
_GET_BRATS = (
    "get BraTS from https://www.synapse.org (join the challenge, then `synapse get -r <id of its training data>`) "
    "and unzip it"
)

KNOWN = {
    known.name: known
    for known in (
        Dataset(name="brats_flair", namespace="brats", layout="brats", getting=_GET_BRATS, modality="flair"),
        Dataset(name="brats_t1ce", namespace="brats", layout="brats", getting=_GET_BRATS, modality="t1ce"),
        Dataset(
            name="kaggle",
            namespace="kaggle",
            layout="kaggle",
            getting="`kaggle competitions download -c rsna-miccai-brain-tumor-radiogenomic-classification` and "
            "`unzip rsna-miccai-brain-tumor-radiogenomic-classification.zip -d rsna-miccai`",
            source="rsna-miccai",
            series="FLAIR",
            choices=("FLAIR", "T1w", "T1wCE", "T2w"),
        ),
        Dataset(
            name="lgg",
            namespace="lgg",
            layout="lgg",
            getting="`kaggle datasets download mateuszbuda/lgg-mri-segmentation` and "
            "`unzip lgg-mri-segmentation.zip -d lgg`",
            source="lgg",
            series="FLAIR",
            choices=("FLAIR", "pre-contrast", "post-contrast"),
        ),
        Dataset(
            name="msd",
            namespace="msd",
            layout="msd",
            getting="get Task01_BrainTumour.tar from http://medicaldecathlon.com and `tar xf Task01_BrainTumour.tar`",
            source="Task01_BrainTumour",
            series="FLAIR",
            choices=("FLAIR", "T1w", "t1gd", "T2w"),
        ),
        Dataset(
            name="cheng",
            namespace="cheng",
            layout="cheng",
            getting="get the four zip files from https://doi.org/10.6084/m9.figshare.1512427 and unzip them",
        ),
        Dataset(name=BUILT_IN, namespace="demo", layout=None),
    )
}


def check_name(name: str) -> str:
    """``name`` itself; raises :class:`DataError` for one that cannot be a dataset's folder."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise DataError(
            f"a dataset's name must be 1 to 64 lower-case letters, digits, - or _, got {name!r}; "
            f"known ones: {', '.join(KNOWN)}"
        )
    return name


def dataset_named(name: str) -> Dataset:
    """The row of a known dataset; for another name, a dataset of the user's own."""
    return KNOWN.get(name) or Dataset(name=name, namespace=f"own/{name}", layout="folder")


def how_to_get(name: str, home: Path) -> str:
    """The commands that get and prepare a dataset, as the end of a sentence."""
    option = "" if home == Path("runs") else f" --home {shlex.quote(str(home))}"
    dataset, command = dataset_named(name), hint(f"data prepare {name}")
    if dataset.layout is None:
        return f"run `{command}{option}`"
    if name in KNOWN:
        return f"{dataset.getting}, then `{command} --source {dataset.source}{option}`"
    from latentsweep.datasets.formats.readers import FORMATS  # only here: the readers take long to import

    return (
        f"run `{command} --source <folder of {FORMATS}>{option}` (known without a folder of your own: "
        f"{', '.join(KNOWN)})"
    )
