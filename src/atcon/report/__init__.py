"""What is drawn from records alone, without torch: a run's page, sheets of maps, films of clips."""

from atcon.report.films import write_films
from atcon.report.html import write_report
from atcon.report.sheets import write_sheets

__all__ = ["write_films", "write_report", "write_sheets"]
