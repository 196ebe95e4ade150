"""What is drawn from records alone, without torch: pages, sheets of maps, films of clips."""

from atcon.report.experiment import write_experiment_report
from atcon.report.films import write_films
from atcon.report.html import write_report
from atcon.report.sheets import write_sheets

__all__ = ["write_experiment_report", "write_films", "write_report", "write_sheets"]
