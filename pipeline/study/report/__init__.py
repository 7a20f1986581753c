"""The report: one page that stands by itself, answer first, without network or patient data."""

from pipeline.study.report.page import FIGURES, REPORT, write_report

__all__ = ["FIGURES", "REPORT", "write_report"]
