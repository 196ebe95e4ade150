"""What happens to an image that cannot be used: it is skipped by name, or it ends the run."""

from pathlib import Path
from typing import Literal, get_args

from atcon.errors import InputError

OnBadImage = Literal["skip", "error"]


class Skips:
    """Collects the images that were passed over, or raises, as the policy says.

    Attributes:
        entries: Name and reason of every image passed over, in the order met.
    """

    def __init__(self, policy: str, key: str = "on_bad_image") -> None:
        if policy not in get_args(OnBadImage):
            raise InputError(f"{key}: {policy!r} is not a policy; use 'skip' or 'error'")
        self.policy = policy
        self.entries: list[tuple[str, str]] = []

    def add(self, name: str, error: InputError) -> None:
        """Record the image and go on, or raise `error` under the policy "error"."""
        if self.policy == "error":
            raise error
        self.entries.append((name, str(error)))


def check_folder(file: Path) -> None:
    """Tell a file that is bad from a folder that is gone, which no policy passes over.

    Raises:
        InputError: The folder of the file is gone; or empty, as where nothing is mounted any more.
    """
    try:
        there = any(file.parent.iterdir())
    except OSError:
        there = False
    if not there:
        raise InputError(
            f"{file.parent}: the folder of {file.name} is gone or empty; once it is back, what was "
            "begun can be continued"
        )
