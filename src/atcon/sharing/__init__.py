"""Copies of a run for others: names become pseudonyms that nobody can test without the key."""

from atcon.sharing.folder import check_apart, share, write_shared_report
from atcon.sharing.hidden import cause
from atcon.sharing.key import key_of, write_private
from atcon.sharing.pseudonyms import Pseudonyms

__all__ = [
    "Pseudonyms",
    "cause",
    "check_apart",
    "key_of",
    "share",
    "write_private",
    "write_shared_report",
]
