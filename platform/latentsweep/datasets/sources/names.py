"""What the name of a folder or a file tells: a patient, a group, a visit, a series, a contrast, a number."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from latentsweep.datasets.sources.contrasts import contrast_named
from latentsweep.datasets.sources.visits import VISIT, without_visit

_FINDING = (
    r"tumou?rs?|lesions?|cancer|glioma|meningioma|pituitary|astrocytoma|oligodendroglioma|ependymoma|medulloblastoma|"
    r"schwannoma|neurocytoma|papilloma|carcinoma|germinoma|metastas[ie]s|glioblastoma|hgg|lgg|gbm|"
    r"dement(ed|ia)|alzheimer'?s?|parkinson'?s?|strokes?|ha?emorrhag(e|ic)|isch(a?)emi[ac]|epilepsy|sclerosis|cysts?|abscess|"
    r"impair(ed|ment)|cognitive|disease[ds]?"
)
_CLASS = (
    rf"((very|mild|moderate|severe|high|low|grade|non?|not|with|without|brain|multiple)[-_ ]?)*({_FINDING})"
    rf"([-_ ]?({_FINDING}|patients?|images?|class|grade))*|"
    r"yes|no|positive|negative|(high|low)[-_ ]grade|benign|malignant|(ab)?normals?|health(y|ies)|controls?"
)
_SHORT_CLASS = r"AD|CN|NC|HC|PD|MS|[EL]?MCI|SMC|CTRL|CTL"
_SPLIT = r"(train|test|val|valid|validation|eval|dev|holdout|pred)(ing)?([-_ ]?(set|data|images))?"
_SITE = r"(cohort|site|cent(er|re)|hospital|batch|group|fold|class|collection)([-_ ]?(\d+|[A-Za-z])|[-_ ][A-Za-z]+)?"
GROUP = re.compile(
    rf"{_CLASS}|{_SHORT_CLASS}|{_SPLIT}|"
    r"patients|subjects|cases|(images?|labels?|masks?)(tr|ts|val)?|images[-_][A-Za-z]+|imaging|mri|derivatives|sourcedata|"
    r"data|(data)?sets?[-_ ]?\d*|archive|raw(data)?|nifti|dicom|slices|scans|"
    r"(pre-?)?processed|orig(inal)?|resampled|(co-?)?registered|"
    r"normali[sz]ed|(skull[-_]?)?stripped|outputs?|results?|"
    r"(task|dataset)\d+_\w+|[\w-]+(train(ing)?|valid(ation)?)[-_]?data(set)?|[A-Za-z_-]+dis[ck]\d+|"
    r"\w+(raw|data)[-_ ]part[-_ ]?\d+|"
    rf"{_SITE}|dis[ck][-_ ]?\d+|manifest-\d+",
    re.IGNORECASE,
)
"""Names of folders that are classes, cohorts, collections or splits."""
CLASS, SPLIT, SITE = (re.compile(words, re.IGNORECASE) for words in (f"{_CLASS}|{_SHORT_CLASS}", _SPLIT, _SITE))
YEAR = re.compile(r"(19[89]|20[0-3])\d")
SERIES = re.compile(
    r"anat|func|dwi|fmap|perf|pet|(stud(y|ies)|series|scan|exam(ination)?|session|acq|run|rep|se|st)[-_ ]?\d*|"
    r"mri?[-_ ]?\d{1,2}|\d+(\.\d+)+([-_ ].*)?",
    re.IGNORECASE,
)
"""Names of folders of series and exams, beside visits and contrasts."""
_NUMBERED_SERIES = re.compile(r"[1-9]\d{0,2}( - |[-_ ](?=\w+[-_ ]))(?P<rest>.*)")
"""A series with its number before its description, which has two words: ``12_T1`` may be a patient's."""
BIDS = re.compile(r"(^|.*[-_ ])(?P<patient>sub-[A-Za-z0-9]+)([-_ ].*)?", re.IGNORECASE)
BARE = re.compile(
    rf"(({_CLASS}|images?|img|im|slices?|slc|sl|frame|pic(ture)?|photo|scan|brain|mri?|ct|file)[-_ ]*)?\(?\d+\)?",
    re.IGNORECASE,
)
"""A number that tells a scan or a slice from others, and no patient from those of another folder."""
_SCAN_WORD = re.compile(
    r"(ax|axial|sag|sagittal|cor|coronal|tra|transverse|3d|2d|[tf]?se|mri?|nifti|nii|dicom|dcm|raw|brain|head|anat|"
    r"pre|post|(1\.5|3|7)T|scan)(?![A-Za-z0-9])|(slice|slc|sl|frame|z|image|img|im)[-_ ]?\d+(?![A-Za-z0-9])",
    re.IGNORECASE,
)
"""What follows a patient's name beside a visit and a contrast: a plane, a sequence, a format, a slice."""
_STUDY_OF_PD = re.compile(r"pd[-_ ]?\d", re.IGNORECASE)
"""A patient with Parkinson's disease, and no proton density."""
_END = re.compile(
    r"(?P<start>.*\d)"
    r"([-_ ](?P<word>[A-Za-z]{0,4})[-_ ]?\d{1,2}|(?P<letters>[A-Za-z]{1,4})[-_ ]?\d{1,2}|[-_ ]?[A-Za-z])"
)
"""A name that may be a patient's, with a short end: a number of one or two digits, or a letter."""
_VISIT_END = re.compile(rf"(?P<start>[A-Za-z][-_ A-Za-z]*?[A-Za-z])[-_ ]*({VISIT.pattern})", re.IGNORECASE)
"""A name of letters with a visit behind it: ``anna-baseline``, and ``scan_20190203`` too."""
_COPY = re.compile(r"([-_ ]*(\(\d{1,2}\)|copy([-_ ]?\d{1,2})?))+$")
"""What a system puts behind the name of a copy, in small letters."""
_PATIENT_WORD = re.compile(r"p|pt|pat|sub|subj|case|id|no|nr", re.IGNORECASE)
MOST_VISITS = 10
"""More names than this with one start are those of patients, and not of visits."""
_CHANNELS = re.compile(r"images(tr|ts|val)", re.IGNORECASE)


@dataclass(frozen=True)
class Named:
    """What a path tells of the patient."""

    subject: str = field(repr=False)
    sure: bool
    """Whether it is the name of a patient, and not that of a visit or an exam."""
    folder: PurePosixPath | None = None
    """The folder that is called after the patient, where one is."""


def is_bare(name: str) -> bool:
    """Whether a name is a number, with a word for an image or a class at most: many folders may hold the same."""
    return BARE.fullmatch(name) is not None


@functools.lru_cache(maxsize=100_000)
def patient_of_folder(name: str) -> str | None:
    """The patient that a folder is called after: its name without visit, contrast and format behind it.

    None for a group, a visit, a series or a contrast.
    """
    series = _NUMBERED_SERIES.fullmatch(name)
    if any(pattern.fullmatch(name) for pattern in (GROUP, VISIT, SERIES)) or (
        series and _is_contrast(series["rest"])
    ):
        return None
    patient = _cut(name)
    return None if patient == name and _is_contrast(name) else patient


@functools.lru_cache(maxsize=100_000)
def contrast_of_name(name: str) -> str | None:
    """The contrast that the name of a file or a folder tells; no group, as ``PD``, and no ``PD_001`` tells one."""
    contrast = contrast_named(name)
    return None if GROUP.fullmatch(name) or (contrast == "pd" and _STUDY_OF_PD.match(name)) else contrast


def patient_of_path(
    path: PurePosixPath,
    passed: Collection[PurePosixPath],
    volumes: bool,
    meant: Collection[PurePosixPath] = (),
) -> Named | None:
    """The patient that a path below the source tells, or None; the folders ``passed`` tell none, those ``meant`` do.

    It is the ``sub-`` of BIDS, or else the first folder from the top that names a patient, or else what stands before
    the visit or the contrast in the file's name, or else, though nobody knows whose it is, the first folder of a
    visit or an exam. A file of ``volumes`` is a scan by itself, any other one may be one slice of many.
    """
    folders = [(folder, folder.name) for folder in reversed(path.parents) if folder.name]
    bids = (BIDS.fullmatch(part) for part in (*path.parts[:-1], _stem(path)) if "sub-" in part.lower())
    if match := next(filter(None, bids), None):
        return Named(match["patient"], True)
    for folder, name in folders:
        if folder not in passed and (patient := name if folder in meant else patient_of_folder(name)):
            return Named(patient, True, folder)
    if patient := _patient_of_file(path, volumes):
        return Named(patient, not (is_bare(_stem(path)) and any(map(_tells_numbered_visit, path.parts[:-1]))))
    visits = (folder for folder, name in folders if folder not in passed and _tells_visit(name))
    return next((Named(folder.name, False, folder) for folder in visits), None)


def groups_in(path: PurePosixPath) -> list[str]:
    """The folders above a path that are classes, splits or sites: a number may be another patient's in each."""
    return [name for name in path.parts[:-1] if any(kind.fullmatch(name) for kind in (CLASS, SPLIT, SITE))]


def is_exam(name: str) -> bool:
    """Whether a folder is a series, an exam or a date, of which a source may hold one for each patient."""
    return bool(SERIES.fullmatch(name) or (VISIT.fullmatch(name) and name[0].isdigit()))


def count_alike(names: Iterable[str]) -> int:
    """How many names differ only in a short end from another, so that they may be visits or copies of one patient.

    All names with one start, as ``Training3_01`` to ``Training3_20``, are those of patients. Capitals count as small.
    """
    names = {name.casefold() for name in names}
    copies = {name: _COPY.sub("", name) for name in names}
    origins = Counter(copies.values())
    copied = {
        name for name, origin in copies.items() if 2 <= origins[origin] <= MOST_VISITS and re.search(r"\d", origin)
    }
    names -= copied
    matches = [match for match in map(_END.fullmatch, names) if match]
    visits = [match["start"] for match in map(_VISIT_END.fullmatch, names) if match]
    starts = Counter(
        match["start"]
        for match in matches
        if not GROUP.fullmatch(match["start"])
        and not _PATIENT_WORD.fullmatch(match["word"] or match["letters"] or "")
    ) + Counter(visits)
    return len(copied) + sum(count for count in starts.values() if 2 <= count <= MOST_VISITS and count < len(names))


def _patient_of_file(path: PurePosixPath, volumes: bool) -> str | None:
    """What stands before or behind the visit and the contrast in a file's name, where that has a digit.

    The name of a scan alone does where its folder is a visit or a contrast. A bare number is a patient of the
    classes, splits and sites that the file is in, and is none where the files are slices.
    """
    stem = _stem(path)
    patient = _cut(_without_words_before(stem)) if volumes else _cut(stem)
    if volumes and _CHANNELS.fullmatch(path.parent.name):
        patient = re.sub(r"_000\d$", "", patient)
    parted = any(_tells_visit(name) or _is_contrast(name) for name in path.parts[:-1])
    if not re.search(r"\d", patient) or not (patient != stem or (parted and volumes)):
        return None
    if not is_bare(patient):
        return patient
    return "/".join([*groups_in(path), patient]) if volumes else None


def _cut(name: str) -> str:
    """A name up to the first visit, contrast, plane, format or slice behind a number that may be a patient's."""
    patient = without_visit(name)
    for match in re.finditer(r"[-_ ]+", patient):
        head, rest = patient[: match.start()], patient[match.end() :]
        if _is_numbered(head) and (_SCAN_WORD.match(rest) or contrast_named(re.split("[-_ ]", rest, maxsplit=1)[0])):
            return head
    return patient if _is_numbered(patient) else name


def _is_numbered(name: str) -> bool:
    """Whether a name has a digit that is not that of a group or a contrast."""
    words = re.split("[-_ ]+", name)
    return not GROUP.fullmatch(name) and any(re.search(r"\d", word) and not contrast_named(word) for word in words)


def _without_words_before(stem: str) -> str:
    """A file's name without the contrasts and planes that it begins with."""
    while not _STUDY_OF_PD.match(stem) and (match := re.match(r"([^-_ ]+)([-_ ]+|$)", stem)):
        if not (contrast_named(match[1]) or _SCAN_WORD.fullmatch(match[1])):
            break
        stem = stem[match.end() :]
    return stem


def _tells_visit(name: str) -> bool:
    return not GROUP.fullmatch(name) and bool(VISIT.fullmatch(name) or SERIES.fullmatch(name))


def _tells_numbered_visit(name: str) -> bool:
    return bool(re.search(r"\d", name)) and _tells_visit(name) and contrast_named(name) is None


def _is_contrast(name: str) -> bool:
    return contrast_of_name(name) is not None and not _STUDY_OF_PD.match(name)


def _stem(path: PurePosixPath) -> str:
    """A file's name without its ending."""
    return re.sub(r"(\.nii)?\.[A-Za-z0-9]{1,5}$", "", path.name)
