"""What is drawn from records alone, without torch: pages, figures, sheets of maps, films."""

from atcon.report.experiment import write_experiment_report
from atcon.report.figure_files import write_experiment_figures, write_run_figures
from atcon.report.films import write_films
from atcon.report.html import write_report
from atcon.report.sheets import write_sheets

__all__ = [
    "write_experiment_figures",
    "write_experiment_report",
    "write_films",
    "write_report",
    "write_run_figures",
    "write_sheets",
]
