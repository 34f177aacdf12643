"""The stages, each a row of one table (``pipeline.py``) with a module of its own. Imports datasets and storage."""

from latentsweep.stages.evaluation import figure_of, metrics_of, point_of
from latentsweep.stages.stage import FIGURES, RECORDS, finite, records_of

__all__ = ["FIGURES", "RECORDS", "figure_of", "finite", "metrics_of", "point_of", "records_of"]
