"""The report of a run: one HTML page, drawn from the run's records alone (no torch, no network)."""

from atcon.report.html import write_report

__all__ = ["write_report"]
