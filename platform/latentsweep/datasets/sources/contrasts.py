"""The contrasts of MRI, and the words of a name that tell one."""

from __future__ import annotations

import re

_AGENT = r"(ce|c|gd|post|contrast|gad|km)"
CONTRASTS = {
    name: re.compile(rf"(?<![a-z0-9])({words})(?![a-z0-9])")
    for name, words in {
        "adc": "adc|apparent diffusion.*",
        "dwi": r"dwi|dti|diff|diffusion|ep2d diff.*|trace|tracew|b1000",
        "perfusion": "perf|perfusion|dsc|dce|asl|cbv|cbf|rcbv|rcbf|mtt|ttp",
        "swi": r"swi|swan|t2 ?star|t2\*|t2starw|gre|venobold",
        "flair": "flair|t2f|dark fluid|t2w? ?flair",
        "t1ce": rf"t1w? ?{_AGENT}w?|t1w?(?= .*\b{_AGENT}\b).*|(ce|gd|post) t1w?|t1w?\+c|mprage (?=.*{_AGENT}).*",
        "t1": "t1|t1w|t1n|mprage|mp2rage|spgr|bravo",
        "t2": "t2|t2w",
        "pd": "pd|pdw|proton density",
        "bold": "bold|fmri",
    }.items()
}
"""A contrast → the words that tell it, where they stand by themselves; the first that fits holds."""


def contrast_named(text: str) -> str | None:
    """The contrast that a name tells, or None: ``sub-1_T1w`` is ``t1``, ``AX T1 POST`` is ``t1ce``."""
    words = re.sub(r"[^a-z0-9*+]+", " ", text.lower())
    return next((name for name, pattern in CONTRASTS.items() if pattern.search(words)), None)
