"""Files from the internet: resumed, checked, and never half of one."""

from atcon.downloads.download import fetch
from atcon.downloads.download_line import PLAIN
from atcon.downloads.source import SILENT, Silent, Source, Watcher, mismatch

__all__ = ["PLAIN", "SILENT", "Silent", "Source", "Watcher", "fetch", "mismatch"]
