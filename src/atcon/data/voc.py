"""PASCAL VOC 2012 in its own folder layout: labels and boxes of the non-difficult objects."""

from collections.abc import Sequence
from pathlib import Path

from atcon.data.archive import extract
from atcon.data.boxes import fraction_box
from atcon.data.image_set import ImageSet
from atcon.data.images import read_file
from atcon.data.labels import check_classes, label_index
from atcon.data.policy import OnBadImage, Skips
from atcon.data.voc_xml import edges_of, is_difficult, name_of, parse, size_of
from atcon.downloads import SILENT, Source, Watcher, fetch
from atcon.errors import BadImageError, InputError
from atcon.types import Box, Example

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

ARCHIVE = Source(
    "VOC 2012",
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    1_999_639_040,
)
_INSIDE = "VOCdevkit/VOC2012"


def voc(
    root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    download: bool = False,
    on_bad_image: OnBadImage = "skip",
    watch: Watcher = SILENT,
) -> ImageSet:
    """Index VOC 2012: the pool is `train.txt`, the test images are `val.txt`.

    Images without a non-difficult object of `classes` are left out; objects of other VOC classes
    are ignored. A missing image or annotation and malformed XML follow `on_bad_image`, and so do
    boxes outside their image (clipped and noted, or an error). VOC counts pixels from 1 and
    includes the last one, so the edges of a box are (xmin - 1) / W and xmax / W.

    Args:
        root: The folder `VOC2012`, its parent `VOCdevkit`, or the folder that holds that.
        classes: A subset of `VOC_CLASSES`, in the order wanted.
        download: Download the data (2 GB) into `root` if they are not there. The archive stays
            there as well, and may be removed.
        on_bad_image: "skip" or "error".
        watch: Is told how the download goes.

    Raises:
        InputError: The data are not there and cannot be downloaded, or a label is not a VOC class.
        BadImageError: An image is unusable and the policy is "error".
    """
    names = check_classes(VOC_CLASSES if classes is None else classes, "data.classes")
    for name in names:
        label_index(name, VOC_CLASSES, "data.classes")
    base = _find(Path(root), watch if download else None)
    index = _Index(base, names, on_bad_image)
    pool, test = index.part("train"), index.part("val")
    both = sorted({e.name for e in pool} & {e.name for e in test})
    if both:
        raise InputError(f"{base}: {both[0]} is in train.txt and in val.txt ({len(both)} images)")
    return ImageSet(
        name="voc",
        classes=names,
        multi_label=True,
        pool=pool,
        test=test,
        read=read_file,
        skipped=tuple(index.skips.entries),
        notes=tuple(index.repairs.entries),
        root=base,
    )


def _find(root: Path, watch: Watcher | None) -> Path:
    places = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    found = next((place for place in places if (place / "ImageSets" / "Main").is_dir()), None)
    if found is None and watch is not None:
        _download(root, places[-1], watch)
        return _find(root, None)
    if found is None:
        raise InputError(
            f"data.root: no VOC 2012 at {root}; expected {places[-1]} with Annotations, "
            f"ImageSets/Main and JPEGImages. Set data.root to it, or data.download=true to "
            f"download it (2 GB)"
        )
    return found


def _download(root: Path, target: Path, watch: Watcher) -> None:
    if target.exists():
        raise InputError(
            f"data.root: {target} is there, but it is not VOC 2012 (no ImageSets/Main). Move it "
            "away, and it is downloaded"
        )
    archive = fetch(ARCHIVE, root / ARCHIVE.url.rpartition("/")[2], watch)
    watch.note(f"unpacking {archive} to {target}")
    extract(archive, target, inside=_INSIDE, verified=True)


class _Index:
    """Reads the lists and annotations of one VOC folder."""

    def __init__(self, base: Path, classes: tuple[str, ...], policy: OnBadImage) -> None:
        self.base = base
        self.classes = classes
        self.skips = Skips(policy)
        self.repairs = Skips(policy)
        images = base / "JPEGImages"
        if not images.is_dir():
            raise InputError(f"{images}: no such folder; the VOC 2012 data are incomplete")
        self.files = {entry.name for entry in images.iterdir()}

    def part(self, name: str) -> tuple[Example, ...]:
        """Give the usable examples of one list."""
        path = self.base / "ImageSets" / "Main" / f"{name}.txt"
        if not path.is_file():
            raise InputError(f"{path}: no such list; the VOC 2012 data are incomplete")
        lines = path.read_text(encoding="utf-8").split("\n")
        identifiers = dict.fromkeys(line.split()[0] for line in lines if line.strip())
        before = len(self.skips.entries)
        examples = [self.example(identifier) for identifier in identifiers]
        kept = tuple(example for example in examples if example is not None)
        if not kept:
            causes = [reason for _, reason in self.skips.entries[before:]]
            cause = causes[0] if causes else f"no object of {', '.join(self.classes)}"
            raise InputError(f"{path}: none of its {len(examples)} images is usable: {cause}")
        return kept

    def example(self, identifier: str) -> Example | None:
        """Give one example, or None where it is skipped or shows none of the classes."""
        if Path(identifier).name != identifier:
            raise InputError(f"{self.base}/ImageSets/Main: {identifier!r} is not an image name")
        try:
            labels, boxes = self.objects(identifier)
        except BadImageError as error:
            self.skips.add(identifier, error)
            return None
        if not labels:
            return None
        path = f"{self.base}/JPEGImages/{identifier}.jpg"
        return Example(identifier, tuple(sorted(labels)), tuple(boxes), path)

    def objects(self, identifier: str) -> tuple[set[int], list[Box]]:
        """Give labels and boxes of the non-difficult objects."""
        if f"{identifier}.jpg" not in self.files:
            raise BadImageError(f"{self.base}/JPEGImages/{identifier}.jpg: no such file")
        path = f"{self.base}/Annotations/{identifier}.xml"
        tree = parse(path)
        size = size_of(tree, path)
        labels: set[int] = set()
        boxes: list[Box] = []
        for item in tree.findall("object"):
            name = name_of(item)
            if name not in VOC_CLASSES:
                label_index(name, VOC_CLASSES, path)
            if name not in self.classes or is_difficult(item):
                continue
            label = self.classes.index(name)
            labels.add(label)
            left, top, right, bottom = edges_of(item, path)
            corners = (left - 1, top - 1, right, bottom)
            box = fraction_box(label, corners, size, path, self.repairs, identifier)
            boxes += [box] if box else []
        return labels, boxes
