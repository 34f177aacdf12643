"""The named datasets: what they are, where they come from, and the commands that get and prepare them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import DataError

KAGGLE_SERIES = ("FLAIR", "T1w", "T1wCE", "T2w")
#: Cases that the organisers of the RSNA-MICCAI challenge withdrew, each for a blank series.
KAGGLE_WITHDRAWN = ("00109", "00123", "00709")


@dataclass(frozen=True, kw_only=True)
class KnownDataset:
    """A dataset with a layout of its own. ``namespace`` is shared by datasets of the same patients."""

    name: str
    namespace: str
    getting: str
    modality: str = ""


KNOWN = {
    known.name: known
    for known in (
        KnownDataset(
            name="brats_flair",
            namespace="brats",
            getting="get BraTS from https://www.synapse.org (join the challenge, then `synapse get -r <id of its "
            "training data>`) and unzip it",
            modality="flair",
        ),
        KnownDataset(
            name="brats_t1ce",
            namespace="brats",
            getting="get BraTS from https://www.synapse.org (join the challenge, then `synapse get -r <id of its "
            "training data>`) and unzip it",
            modality="t1ce",
        ),
        KnownDataset(
            name="kaggle",
            namespace="kaggle",
            getting="`kaggle competitions download -c rsna-miccai-brain-tumor-radiogenomic-classification` and "
            "`unzip rsna-miccai-brain-tumor-radiogenomic-classification.zip -d rsna-miccai`",
        ),
        KnownDataset(name="demo", namespace="demo", getting=""),
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


def namespace(name: str) -> str:
    """What keeps this dataset's pseudonyms apart from those of other patients."""
    return KNOWN[name].namespace if name in KNOWN else f"own/{name}"


def how_to_get(name: str, home: Path) -> str:
    """The commands that get and prepare a dataset, as the end of a sentence."""
    option = "" if home == Path("runs") else f" --home {home}"
    if name == "demo":
        return f"run `python cli.py data prepare demo{option}`"
    if name == "kaggle":
        return f"{KNOWN[name].getting}, then `python cli.py data prepare kaggle --source rsna-miccai{option}`"
    if name in KNOWN:
        return f"{KNOWN[name].getting}, then `python cli.py data prepare {name} --source <folder>{option}`"
    return (
        f"run `python cli.py data prepare {name} --source <folder of NIfTI, DICOM, PNG or JPEG>{option}` "
        f"(known without a folder of your own: {', '.join(KNOWN)})"
    )
