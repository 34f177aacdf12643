"""What names tell of a visit: all visits of a patient are one subject."""

from __future__ import annotations

import re

_DATE = r"(19|20)\d{2}[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])"
_WORD = r"(time-?point|tp|visit|fu|follow-?up|week|month|day|baseline|pre-?op|post-?op)(?![A-Za-z])[_-]?\d*"
_SESSION = r"(ses|session)[_-]?[A-Za-z]*\d*"
VISITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<patient>BraTS-[A-Za-z]+-\d+)-\d{3}",
        r"(?P<patient>UPENN-GBM-\d+)_\d+",
        rf"(?P<patient>.*?\d.*?)[_-]({_SESSION}|{_WORD}|{_DATE})([_-].*)?",
    )
)
"""A patient's name with a visit behind it, as sets write it. The last one asks for a digit in the patient's name: in
``scan_20190203`` nobody is named."""
VISIT = re.compile(rf"{_SESSION}|{_WORD}|{_DATE}.*", re.IGNORECASE)
"""A folder that is a visit and names nobody."""


def without_visit(name: str) -> str:
    """The name of the patient in a name that may have a visit behind it."""
    matches = (pattern.fullmatch(name) for pattern in VISITS)
    return next((match["patient"] for match in matches if match), name)
