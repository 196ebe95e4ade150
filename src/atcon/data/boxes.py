"""Boxes in pixels become fractions of the image; what lies outside is repaired or refused."""

from atcon.data.policy import Skips
from atcon.errors import InputError
from atcon.types import Box


def fraction_box(
    label: int,
    corners: tuple[float, float, float, float],
    size: tuple[int, int],
    where: object,
    repairs: Skips,
    name: str,
) -> Box | None:
    """Turn a box in pixels into fractions.

    Under the policy "skip" a box that is partly outside is clipped and one without area inside is
    left out (None), both with a note in `repairs`; under "error" either is an error.

    Args:
        label: The class.
        corners: Left, top, right, bottom edges in pixels; the image spans [0, W] x [0, H].
        size: W and H.
        where: The file (and row) of the annotation, for the message.
        repairs: Receives the notes.
        name: Of the image, for the note.

    Raises:
        InputError: The policy is "error" and the box is not inside its image.
    """
    left, top, right, bottom = corners
    width, height = size
    clipped = (
        min(max(left / width, 0.0), 1.0),
        min(max(top / height, 0.0), 1.0),
        min(max(right / width, 0.0), 1.0),
        min(max(bottom / height, 0.0), 1.0),
    )
    shown = f"box {left:g}, {top:g}, {right:g}, {bottom:g} (edges in pixels)"
    if not (clipped[0] < clipped[2] and clipped[1] < clipped[3]):
        text = f"{where}: {shown} has no area in the image of {width} x {height}; it was left out"
        repairs.add(name, InputError(text))
        return None
    if not (left >= 0 and top >= 0 and right <= width and bottom <= height):
        text = f"{where}: {shown} reaches outside the image of {width} x {height}; it was clipped"
        repairs.add(name, InputError(text))
    return Box(label, *clipped)
