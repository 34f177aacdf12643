"""The stages, each a row of one table (``pipeline.py``) with a module of its own. Imports datasets and storage."""

from latentsweep.stages.evaluation import figure_of, measured, point_of
from latentsweep.stages.stage import FIGURES, RECORDS, finite, replayed

__all__ = ["FIGURES", "RECORDS", "figure_of", "finite", "measured", "point_of", "replayed"]
