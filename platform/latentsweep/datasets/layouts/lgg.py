"""The LGG segmentation set: ``kaggle_3m/<patient>/<patient>_<n>.tif``, whose channels are contrasts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from latentsweep.datasets.catalogue import Dataset
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.channels import channel_named
from latentsweep.datasets.sources.discovery import Discovery, DoesNotFitError, Layout
from latentsweep.datasets.sources.sources import SourceFile, count_formats

NAME = re.compile(r"(?P<patient>TCGA_[A-Z0-9]{2}_[A-Z0-9]{4})(?P<visit>_\d+)_\d+(?P<mask>_mask)?\.tiff?", re.I)
CHANNELS = {"pre-contrast": 0, "FLAIR": 1, "post-contrast": 2}


def find_lgg(files: Sequence[SourceFile], dataset: Dataset) -> Discovery:
    """A scan for each exam: its TIFFs, of which a channel is taken. The patient is the one of TCGA."""
    channel = channel_named(dataset.series, CHANNELS)
    exams: dict[tuple[str, str], dict[str, SourceFile]] = defaultdict(dict)
    copies = 0
    for file in files:
        match = NAME.fullmatch(file.relative.name)
        if match and not match["mask"]:
            exam = exams[match["patient"].upper(), match["visit"]]
            copies += file.relative.name in exam
            exam.setdefault(file.relative.name, file)
    if not exams:
        raise DoesNotFitError(
            "lgg must hold TCGA_<site>_<patient>_<date>_<n>.tif in a folder for each patient, but the source holds "
            f"{count_formats(files)}: check --source"
        )
    return Discovery(
        scans=tuple(
            Scan("picture", patient, f"{patient}{visit}", tuple(file.path for file in exam.values()), channel=channel)
            for (patient, visit), exam in exams.items()
        ),
        subjects=frozenset(patient for patient, _ in exams),
        subject_rule="the TCGA patient that the file names",
        notes=(f"files that are copies of others by their names: {copies}",) if copies else (),
    )


def is_lgg(file: SourceFile) -> bool:
    """Whether a file is named as the LGG segmentation set names its own."""
    return NAME.fullmatch(file.relative.name) is not None


LAYOUT = Layout(find=find_lgg, label="the LGG segmentation set", recognises=is_lgg)
