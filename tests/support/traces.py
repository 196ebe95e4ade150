"""Find words in files: in their bytes, and in what is encoded, packed or escaped in them."""

import base64
import html
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from PIL import Image

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG")


def traces(folder: Path, words: Iterable[str]) -> set[tuple[str, str]]:
    """Give every file below a folder and every word that its name or content holds."""
    words = list(words)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert paths, f"nothing to look at in {folder}"
    found = set()
    for path in paths:
        name = path.relative_to(folder).as_posix()
        layers = [name.encode(), *_layers(path.read_bytes())]
        found |= {(name, word) for word in words if _holds(layers, word)}
    return found


def _holds(layers: list[bytes], word: str) -> bool:
    forms = {word.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")}
    return any(form in layer for layer in layers for form in forms)


def _layers(content: bytes) -> Iterator[bytes]:
    """The bytes, and what is inside them, at any depth."""
    yield content
    text = content.decode("utf-8", "ignore")
    yield html.unescape(text).encode()
    yield unquote(text).encode()
    yield re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text).encode(
        "utf-8", "surrogatepass"
    )
    if content.startswith(_IMAGES):
        with Image.open(io.BytesIO(content)) as image:
            yield repr(image.info).encode()
            yield repr({**image.getexif()}).encode()
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield archive.comment
            for member in archive.infolist():
                yield member.filename.encode() + member.comment + member.extra
                yield from _layers(archive.read(member))
        return
    for run in _BASE64.findall(content):
        whole = run + b"=" * (-len(run) % 4)
        try:
            decoded = base64.b64decode(whole)
        except ValueError:
            continue
        yield decoded
        if decoded.startswith(_IMAGES):
            yield from _layers(decoded)
