"""Images without labels: any folder, or what a few-shot split leaves of the training images."""

from pathlib import Path

import numpy as np

from atcon.data.few_shot import Split, group_of
from atcon.data.folder import SUFFIXES
from atcon.data.image_set import ImageSet
from atcon.data.images import read_file
from atcon.errors import InputError
from atcon.types import Example


def unlabelled(root: str | Path) -> ImageSet:
    """Index every image below a folder; names are relative to it, hidden files are ignored.

    Raises:
        InputError: There is no such folder, or no image in it.
    """
    base = Path(root)
    if not base.is_dir():
        raise InputError(f"consistency.unlabelled_root: {base} is not a folder")
    paths = sorted(path for path in base.rglob("*") if path.suffix.lower() in SUFFIXES)
    examples = tuple(
        Example(f"unlabelled/{path.relative_to(base).as_posix()}", (), (), str(path))
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(base).parts)
    )
    if not examples:
        raise InputError(f"consistency.unlabelled_root: there is no image below {base}")
    return ImageSet("unlabelled", (), True, examples, (), read_file, root=base)


def left_over(image_set: ImageSet, split: Split) -> tuple[Example, ...]:
    """Give the training images that a split neither trains nor validates on, in a seeded order.

    Nothing of a group that it does use is among them.
    """
    used = {group_of(example) for example in (*split.train, *split.validation)}
    rest = sorted(
        (example for example in image_set.pool if group_of(example) not in used),
        key=lambda example: example.name,
    )
    order = np.random.default_rng([split.seed, 5]).permutation(len(rest))
    return tuple(rest[index] for index in order)
