"""A sweep as a page, and the paper's tables from recorded trainings. Imports pages, search, stages and storage."""

from latentsweep.report.files import write_report
from latentsweep.report.paper_tables import PaperTables, paper_tables

__all__ = ["PaperTables", "paper_tables", "write_report"]
