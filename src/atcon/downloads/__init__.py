"""Files from the internet: over HTTPS, resumed, checked, and never half of one."""

from atcon.downloads.download import fetch
from atcon.downloads.source import SILENT, Silent, Source, Watcher, mismatch

__all__ = ["SILENT", "Silent", "Source", "Watcher", "fetch", "mismatch"]
