"""What names tell of a visit: all visits of a patient are one subject."""

from __future__ import annotations

import re

_DATE = (
    r"((19|20)\d{2}[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])"
    r"|(0[1-9]|1[0-2])[-_.](0[1-9]|[12]\d|3[01])[-_.](19|20)\d{2}"
    r"|(0[1-9]|[12]\d|3[01])[-_.](0[1-9]|1[0-2])[-_.](19|20)\d{2})"
)
_SESSION = r"(ses|session)(\d*|[-_ ][A-Za-z0-9]+)"
_WORD = (
    r"(time-?point|tp|visit|fu|follow[-_ ]?up|week|wk|month|day|year|wave|baseline|bl|initial|recurrence|retest|"
    r"pre|post|(pre|post|intra)-?op)([-_ ]?\d+(-\d+)?[A-Za-z]?|[-_ ][A-Za-z])?|visit[A-Za-z]"
)
_NUMBERED = (
    r"(v|t|scan|exam|study|acq|run|rep|time|date|mri?)[-_ ]?\d{1,2}|mri?[-_]d\d+|"
    r"m(0\d|12|18|24|30|36|48|60|72|84|96)|\d{1,3} ?(days?|wks?|weeks?|mos?|months?|yrs?|years?)"
)
VISITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<patient>BraTS-[A-Za-z]+-\d+)-\d{3}",
        r"(?P<patient>BraTS-[A-Za-z]+-RT-\d+)-\d+",
        r"(?P<patient>UPENN-GBM-\d+)_\d+",
        rf"(?P<patient>.*?\d.*?)[-_ ]+({_DATE}|({_SESSION}|{_WORD}|{_NUMBERED})(?![A-Za-z0-9]))([-_ ].*)?",
    )
)
"""A patient's name with a visit behind it, as sets write it. The last one asks for a digit in the patient's name: in
``scan_20190203`` nobody is named."""
VISIT = re.compile(rf"{_SESSION}|{_WORD}|{_NUMBERED}|{_DATE}.*", re.IGNORECASE)
"""A folder that is a visit and names nobody."""


def without_visit(name: str) -> str:
    """The name of the patient in a name that may have a visit behind it."""
    matches = (pattern.fullmatch(name) for pattern in VISITS)
    return next((match["patient"] for match in matches if match), name)
