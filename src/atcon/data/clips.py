"""Clips as a data set: those that `atcon clips` made, or the windows of a table of events."""

from collections.abc import Sequence
from pathlib import Path

from atcon.data.clip_files import read_clip
from atcon.data.cutting import ClipForm, planned_windows
from atcon.data.decoding import read_video
from atcon.data.events import Omissions, Window, read_events
from atcon.data.grouped import balanced_parts
from atcon.data.image_set import ImageSet
from atcon.data.labels import check_classes, label_index
from atcon.data.policy import OnBadImage, Skips
from atcon.data.tables import part_name, read_rows, relative_path
from atcon.errors import BadImageError, InputError
from atcon.types import Example, Pixels

MANIFEST, EVENTS = "clips.csv", "events.csv"
_COLUMNS = {"file", "label", "patient", "split", "video", "start", "end"}
