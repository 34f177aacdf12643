"""What a sweep found, as a page for people who were not there; and the paper's tables from recorded trainings."""

from latentsweep.report.page import write_report
from latentsweep.report.paper_tables import PaperTables, paper_tables

__all__ = ["PaperTables", "paper_tables", "write_report"]
