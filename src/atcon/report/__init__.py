"""What is drawn from records alone (no torch, no network): a run's page, and sheets of maps."""

from atcon.report.html import write_report
from atcon.report.sheets import write_sheets

__all__ = ["write_report", "write_sheets"]
