"""What each record becomes in a copy for others; what is not known to be harmless is left out.

Images are put in the order of their pseudonyms: the order of a run is that of their names.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atcon.sharing.pseudonyms import Pseudonyms

PARTS = ("train", "validation", "test", "unlabelled")
_COLUMNS = frozenset(
    {"name", "labels", "predicted", "class", "correct", "iou", "epg", "correlation"}
    | {"mask_contrast", "iou_reference", "pointing", "box_ious"}
)
"""Of the tables of a stage, besides the classes."""
_ENTRY = ("labels", "boxes", "stages", "rate")
"""Of an image or a clip of the gallery, besides its name and file."""
CAUSES = (
    "no such file",
    "not an image in a known format, or an empty file",
    "cannot be decoded",
    "exceeds the limit",
    "exceed the limit",
    "floating-point pixels have no defined range",
    "32-bit pixels outside of 0..65535",
    "its name is not UTF-8",
    "no such annotation",
    "the annotation cannot be read",
    "malformed XML",
    "has no area in the image",
    "reaches outside the image",
    "box left out",
    "no patient",
    "no label",
    "start and end are not two times in order",
    "the same as",
    "equal to another one, byte for byte",
    "the same clip as",
    "overlaps",
    "shorter than a clip",
    "the recording lasts",
    "not a whole recording in a known format",
    "no video in a known format",
    "its video codec is not known here",
    "no frame",
    "its last frame is at",
    "its time stamps do not ascend",
    "its frames and its index disagree",
    "in its index",
    "its frames change their size",
    "the file is damaged",
    "damaged at",
    "the file cannot be read on",
    "no such clip",
    "not a clip of atcon clips",
    "not the clip that clips.csv lists",
    "its pixels are not those that were written",
    "its consistency is not a finite number",
    "values that are not finite",
    "where an image set reads uint8",
)
"""Why an image or a clip was passed over, or what was repaired, in words that name nothing."""
WITHHELD = "not told, since it may name a file"


def hidden_split(split: Mapping[str, Any], names: Pseudonyms) -> dict[str, Any]:
    """Replace the names, groups and hashes of a `split.json`."""
    hidden = {key: split[key] for key in ("seed", "per_class", "classes")}
    for part in PARTS:
        if part in split:
            hidden[part] = _by_name(_image(entry, names) for entry in split[part])
    for part, remark in (("skipped", "reason"), ("notes", "remark")):
        if part in split:
            hidden[part] = _by_name(
                {"name": names.image(str(entry["name"])), remark: cause(str(entry[remark]))}
                for entry in split[part]
            )
    return hidden


def known_names(split: Mapping[str, Any], names: Pseudonyms) -> dict[str, str]:
    """Give the pseudonym of every image and group of a split that is not called like a class."""
    entries = [entry for part in (*PARTS, "skipped", "notes") for entry in split.get(part, ())]
    known = {
        str(entry["group"]): names.group(str(entry["group"]))
        for entry in entries
        if entry.get("group") is not None
    }
    known |= {str(entry["name"]): names.image(str(entry["name"])) for entry in entries}
    return {name: known[name] for name in known.keys() - set(map(str, split["classes"]))}


def hidden_values(record: Any, known: Mapping[str, str]) -> Any:
    """Replace the names that occur as a value or a key, at any depth."""
    if isinstance(record, str):
        return known.get(record, record)
    if isinstance(record, Mapping):
        return {known.get(key, key): hidden_values(value, known) for key, value in record.items()}
    if isinstance(record, list):
        return [hidden_values(value, known) for value in record]
    return record


def hidden_table(
    rows: Sequence[Sequence[str]], classes: Iterable[str], names: Pseudonyms
) -> list[list[str]]:
    """Replace the names of a table of a stage, header first; columns not known are left out.

    The first column called `name` has the names: a class may be called so as well.
    """
    header = rows[0]
    kept = [at for at, column in enumerate(header) if column in _COLUMNS.union(classes)]
    place = header.index("name")
    shown = [[*row[:place], names.image(row[place]), *row[place + 1 :]] for row in rows[1:]]
    shown.sort(key=lambda row: row[place])
    return [[row[at] for at in kept] for row in (header, *shown)]


def hidden_gallery(
    index: Mapping[str, Any], names: Pseudonyms, known: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Replace the names of a gallery's index; also say which file becomes which."""
    files: dict[str, str] = {}
    entries: list[dict[str, Any]] = []
    for entry in sorted(index["entries"], key=lambda entry: names.image(str(entry["name"]))):
        file = files[str(entry["file"])] = f"{len(entries):04d}.npz"
        kept = {key: hidden_values(entry[key], known) for key in _ENTRY if key in entry}
        entries.append({"name": names.image(str(entry["name"])), "file": file, **kept})
    about = {key: index[key] for key in ("maps", "about", "stages") if key in index}
    return {**about, "entries": entries}, files


def _image(entry: Mapping[str, Any], names: Pseudonyms) -> dict[str, Any]:
    hidden: dict[str, Any] = {"name": names.image(str(entry["name"]))}
    if "labels" in entry:
        hidden["labels"] = entry["labels"]
    content, group = entry.get("sha256"), entry.get("group")
    hidden["sha256"] = None if content is None else names.content(str(content))
    return hidden if group is None else {**hidden, "group": names.group(str(group))}


def _by_name(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda entry: str(entry["name"]))


def cause(text: str) -> str:
    """Give the words of `CAUSES` that a reason holds; they name nothing."""
    return next((words for words in CAUSES if words in text), WITHHELD)
