"""Inspect a network before it is trained: findings, each with what it means and how to fix it."""

from atcon.inspection.finding import LEVELS, Check, Finding, Level
from atcon.inspection.run import check
from atcon.inspection.table import CHECKS

__all__ = ["CHECKS", "LEVELS", "Check", "Finding", "Level", "check"]
