"""Which lesion mask lies beside which scan, by the names of files and folders."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from latentsweep.datasets.formats.readers import READERS
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.annotations import LESION_WORD, MASK_FOLDERS, MASK_WORD
from latentsweep.datasets.sources.sources import SourceFile

MASK_NAME = re.compile(
    r"(?P<stem>.+?)(?P<entities>([_-](space|desc|label|res)-[^_]+)*)"
    rf"[_-]({MASK_WORD}|{LESION_WORD})([_-]?{MASK_WORD})?",
    re.IGNORECASE,
)
"""What a mask adds to the name of its scan, with BIDS's entities (``_label-lesion_mask``)."""
CONTRAST = re.compile(r"(?P<stem>.+)[_-](flair|t1ce|t1gd|t1c|t1n|t1w|t1|t2f|t2w|t2|0000)", re.IGNORECASE)
"""A scan's name without its contrast (nnU-Net's channel is 0000)."""
NO_LESION = re.compile(r"brain|skull|head|tissue|aseg|aparc|probseg|csf|(^|[_-])[wg]m([_-]|$)", re.IGNORECASE)
"""Names of masks of something else than a lesion."""
OF_TISSUE = re.compile(r"dseg", re.IGNORECASE)
LESION = re.compile(r"lesion|tumou?r", re.IGNORECASE)

Place = tuple[PurePosixPath, str]
"""A folder, where that of masks has the name of that of scans, and the name of a scan in it."""


def pair_masks(scans: Sequence[Scan], files: Iterable[SourceFile]) -> tuple[Scan, ...]:
    """The scans with the mask of each of their files; a file that is a mask of another one is no scan.

    A mask lies in the folder of its scan, or in a folder of masks beside that of scans, or, if no other mask has the
    same name and it fits scans of one folder alone, anywhere in the source. A scan with several masks has none. A
    scan whose layout told its masks keeps them. A mask of a volume may be a volume in another format.
    """
    at: dict[Place, list[Path]] = defaultdict(list)
    named: dict[str, list[Path]] = defaultdict(list)
    relative: dict[Path, PurePosixPath] = {}
    formats: dict[Path, str] = {}
    for file in files:
        relative[file.path] = file.named
        if (place := _place_of_mask(file.named)) and file.format:
            at[place].append(file.path)
            named[place[1]].append(file.path)
            formats[file.path] = file.format

    def only(candidates: Iterable[Path], path: Path, kind: str) -> Path | None:
        others = [mask for mask in candidates if mask != path]
        alike = [mask for mask in others if formats[mask] == kind]
        volumes = [mask for mask in others if READERS[kind].one_file and READERS[formats[mask]].one_file]
        fitting = alike or volumes
        return fitting[0] if len(fitting) == 1 else None

    masks: dict[Path, Path] = {}
    claims: dict[Path, set[PurePosixPath]] = defaultdict(set)
    far: set[Path] = set()
    for scan in scans:
        if scan.kind not in READERS or READERS[scan.kind].patient is not None or scan.masks:
            continue
        for path in scan.files:
            if path not in relative:
                continue
            folder, names = _folder(relative[path]), _names(relative[path])
            beside = next((at[folder, name] for name in names if at.get((folder, name), [path]) != [path]), None)
            mask = only(named.get(names[-1], ()) if beside is None else beside, path, scan.kind)
            if mask:
                masks[path] = mask
                claims[mask].add(folder)
                far |= {path} if beside is None else set()
    masks = {path: mask for path, mask in masks.items() if path not in far or len(claims[mask]) == 1}
    used = set(claims)
    paired: list[Scan] = []
    for scan in scans:
        rest = tuple(path for path in scan.files if path not in used)
        of_files = scan.masks or tuple(masks.get(path) for path in rest)
        if rest or not scan.files:
            paired.append(dataclasses.replace(scan, files=rest, masks=of_files if any(of_files) else ()))
    return tuple(paired)


def _stem(path: PurePosixPath) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE) if ".nii" in path.name.lower() else path.stem


def _folder(path: PurePosixPath) -> PurePosixPath:
    """The folder of a file, where folders of masks have the name of those of scans, whatever their capitals."""
    scans = set(MASK_FOLDERS.values())
    lower = ((part, part.lower()) for part in path.parent.parts)
    return PurePosixPath(*(MASK_FOLDERS.get(low, low if low in scans else part) for part, low in lower))


def _names(path: PurePosixPath) -> list[str]:
    """The names by which a scan's mask may call it: its own, and that without the contrast."""
    stem = _stem(path)
    short = CONTRAST.fullmatch(stem)
    return [stem, short["stem"]] if short else [stem]


def _place_of_mask(path: PurePosixPath) -> Place | None:
    """The place of the scan of a lesion mask, or None for what is none by its name."""
    stem = _stem(path)
    match = MASK_NAME.fullmatch(stem)
    if NO_LESION.search(stem) or (OF_TISSUE.search(stem) and not LESION.search(stem)):
        return None
    if match:
        return _folder(path), match["stem"]
    return (_folder(path), stem) if any(part.lower() in MASK_FOLDERS for part in path.parent.parts) else None
