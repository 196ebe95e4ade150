"""One XML file per image in the style of VOC: parsed with nothing in it trusted."""

from pathlib import Path
from xml.etree import ElementTree as ET  # entity declarations are refused before parsing

from atcon.errors import BadImageError


def parse(path: str) -> ET.Element:
    """Parse an annotation; a document type could expand entities without end, so none is let in.

    Raises:
        BadImageError: It cannot be read, is malformed, or declares a document type or an entity.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise BadImageError(f"{path}: no such annotation") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadImageError(f"{path}: the annotation cannot be read ({error})") from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadImageError(f"{path}: a document type or entity is not allowed in an annotation")
    try:
        return ET.fromstring(text)  # noqa: S314 - see above
    except ET.ParseError as error:
        raise BadImageError(f"{path}: malformed XML ({error})") from error


def number(element: ET.Element, tag: str, path: str) -> float:
    """Give a number of pixels.

    Raises:
        BadImageError: It is missing, no number, or none that an image could have.
    """
    text = element.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        raise BadImageError(f"{path}: <{tag}> is {text!r}, not a number") from None
    if not -1e6 < value < 1e6:
        raise BadImageError(f"{path}: <{tag}> is {text!r}, not a number of pixels")
    return value


def size_of(tree: ET.Element, path: str) -> tuple[int, int]:
    """Give width and height.

    Raises:
        BadImageError: One is missing or not positive.
    """
    size = (number(tree, "size/width", path), number(tree, "size/height", path))
    if min(size) < 1:
        raise BadImageError(f"{path}: <size> is not positive")
    return round(size[0]), round(size[1])


def name_of(item: ET.Element) -> str:
    """Give the class of an object; empty where it has none."""
    return (item.findtext("name") or "").strip()


def is_difficult(item: ET.Element) -> bool:
    """Whether an object is marked as one that nobody need recognise."""
    return (item.findtext("difficult") or "0").strip() == "1"


def edges_of(item: ET.Element, path: str) -> tuple[float, float, float, float]:
    """Give xmin, ymin, xmax and ymax, as they are written.

    Raises:
        BadImageError: One is missing or no number of pixels.
    """
    left, top, right, bottom = (
        number(item, f"bndbox/{edge}", path) for edge in ("xmin", "ymin", "xmax", "ymax")
    )
    return left, top, right, bottom
