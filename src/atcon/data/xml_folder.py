"""A user's images with one XML file each, as LabelImg, CVAT and others write them; any classes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from atcon.data.assemble import assembled, folder_of
from atcon.data.folder import images_below, is_hidden
from atcon.data.image_set import ImageSet
from atcon.data.objects import Picture, Seen, described
from atcon.data.policy import OnBadImage, Skips
from atcon.data.rows import PART_NAMES
from atcon.data.voc_xml import edges_of, is_difficult, name_of, parse, size_of
from atcon.errors import BadImageError, InputError


def xml_folder(
    root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    group: str | None = None,
    test_fraction: float = 0.3,
    seed: int = 0,
    on_bad_image: OnBadImage = "skip",
) -> ImageSet:
    """Index images with XML files in the style of VOC, and any names of classes.

    The XML file of an image has its name, and lies beside it or anywhere else below the root. Each
    object is a label and a box, but for those marked difficult. A file without objects is an image
    without labels; one whose objects are all difficult is left out.

    The split is that of `ImageSets/Main/train.txt` and `test.txt` (perhaps `val.txt`), or of the
    folders `train` and `test` (perhaps `validation`), where both are there; otherwise it is drawn.
    Edges are as in VOC: pixels count from 1, and the last one is included; an edge of 0 is the
    border, too.

    Args:
        root: The folder.
        classes: A selection of the names, in the order wanted; images that show none of them are
            left out. By default all that occur, sorted.
        group: A rule for file names, as in `folder`.
        test_fraction: Of the images, where no split is given.
        seed: Of that draw.
        on_bad_image: What happens to files that are malformed or have no partner, and to boxes
            outside their image.

    Raises:
        InputError: There is no XML file, or a class is unknown.
        BadImageError: An image is unusable and the policy is "error".
    """
    base = folder_of(root)
    skips, repairs = Skips(on_bad_image), Skips(on_bad_image)
    files = sorted(p for p in base.rglob("*.xml") if not is_hidden(p.relative_to(base)))
    if not files:
        raise InputError(f"data.root: there is no XML file below {base}")
    pictures = []
    for path, name in _pairs(base, files, skips).items():
        try:
            picture = _picture(path, name)
        except BadImageError as error:
            skips.add(name, error)
            continue
        if picture is None:
            remark = f"{path}: all of its objects are marked difficult; the image was left out"
            repairs.entries.append((name, remark))
        else:
            pictures.append(picture)
    known = sorted({seen.name for picture in pictures for seen in picture.objects})
    found = described(
        base,
        _in_parts(base, pictures, repairs),
        known,
        classes=classes,
        group=group,
        skips=skips,
        repairs=repairs,
    )
    return assembled("xml", found, test_fraction=test_fraction, seed=seed)


def _pairs(base: Path, files: Sequence[Path], skips: Skips) -> dict[Path, str]:
    """Give the image of every XML file: the one of its name beside it, else below the root."""
    images: dict[str, list[str]] = {}
    for image in images_below(base):
        images.setdefault(image.stem, []).append(image.relative_to(base).as_posix())
    pairs: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        named = sorted(images.get(path.stem, ()))
        beside = [name for name in named if (base / name).parent == path.parent]
        found = beside or named
        if len(found) == 1 and found[0] not in taken:
            pairs[path] = found[0]
            taken.add(found[0])
            continue
        which = "no image is" if not found else f"{len(found)} images are"
        twice = f"{found[0]} has another XML file, too" if len(found) == 1 else ""
        reason = twice or f"{which} named like it ({', '.join(found[:3]) or path.stem})"
        skips.add(path.relative_to(base).as_posix(), BadImageError(f"{path}: {reason}"))
    stems = {path.stem for path in files}
    for name in sorted(name for stem in images.keys() - stems for name in images[stem]):
        skips.add(name, BadImageError(f"{base / name}: no XML file is named like it"))
    return pairs


def _picture(path: Path, name: str) -> Picture | None:
    """Read what one file says; None where all of its objects are difficult."""
    where = str(path)
    tree = parse(where)
    if tree.tag != "annotation":
        raise BadImageError(f"{where}: its root is <{tree.tag}>, not <annotation>")
    items = tree.findall("object")
    plain = [item for item in items if not is_difficult(item)]
    if items and not plain:
        return None
    objects = []
    for place, item in enumerate(plain, 1):
        at = f"{where}, object {place}"
        if not name_of(item):
            raise BadImageError(f"{at}: it has no <name>")
        left, top, right, bottom = edges_of(item, at)
        corners = (left - (left >= 1), top - (top >= 1), right, bottom)
        objects.append(Seen(name_of(item), corners, at))
    return Picture(name, tuple(objects), size_of(tree, where), where)


def _in_parts(base: Path, pictures: Sequence[Picture], repairs: Skips) -> list[Picture]:
    """Give every image its part, where there is a split; images outside of it are left out."""
    lists = base / "ImageSets" / "Main"
    if (lists / "train.txt").is_file() and (lists / "test.txt").is_file():
        parts = _listed(lists)
        found = [parts.get(PurePosixPath(picture.name).stem) for picture in pictures]
    elif (base / "train").is_dir() and (base / "test").is_dir():
        found = [PART_NAMES.get(PurePosixPath(picture.name).parts[0]) for picture in pictures]
    else:
        return list(pictures)
    for picture, part in zip(pictures, found, strict=True):
        if part is None:
            repairs.entries.append((picture.name, "it is in no part of the split; left out"))
    return [
        replace(picture, part=part)
        for picture, part in zip(pictures, found, strict=True)
        if part is not None
    ]


def _listed(lists: Path) -> dict[str, str]:
    """Read which names are in which list."""
    parts: dict[str, str] = {}
    for path in sorted(lists / f"{name}.txt" for name in PART_NAMES):
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a readable list ({error})") from error
        part = PART_NAMES[path.stem]
        for name in (line.split()[0] for line in lines if line.strip()):
            if parts.setdefault(name, part) != part:
                raise InputError(f"{path}: {name} is in the {parts[name]} list, too")
    return parts
