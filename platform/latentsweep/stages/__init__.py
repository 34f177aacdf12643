"""The stages, each a row of one table (``table.py``) with a module of its own, and the guards. Imports datasets."""

from latentsweep.stages.results import FIGURES, RECORDS, figure_of, finite, metrics_of, point_of, records_of

__all__ = ["FIGURES", "RECORDS", "figure_of", "finite", "metrics_of", "point_of", "records_of"]
