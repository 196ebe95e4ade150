"""Look at a data set before it is used: findings, each with how much it harms and how to fix it."""

from atcon.data.checks.finding import SEVERITIES, DataCheck, Finding, Severity
from atcon.data.checks.run import check_data
from atcon.data.checks.table import CHECKS

__all__ = ["CHECKS", "SEVERITIES", "DataCheck", "Finding", "Severity", "check_data"]
