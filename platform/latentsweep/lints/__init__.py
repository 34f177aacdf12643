"""Warnings where a number or a setting would mislead, with evidence and advice. Imports datasets, search, stages.

Importing the package is quick: each lint imports torch, scipy or pyarrow when it needs it.
"""

from latentsweep.lints.comparisons import Measurement, comparison_lints
from latentsweep.lints.configuration import configuration_lints
from latentsweep.lints.data import dataset_lints
from latentsweep.lints.finding import LINTS, Finding, Lint, as_tags, as_text, catalogue
from latentsweep.lints.results import result_lints

__all__ = [
    "LINTS",
    "Finding",
    "Lint",
    "Measurement",
    "as_tags",
    "as_text",
    "catalogue",
    "comparison_lints",
    "configuration_lints",
    "dataset_lints",
    "result_lints",
]
