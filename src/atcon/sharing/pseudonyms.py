"""Pseudonyms: HMAC-SHA256 of a name, so that only the key's owner can compute or test one."""

import hmac
from collections.abc import Mapping
from types import MappingProxyType

from atcon.errors import InputError

DIGITS = 12
"""Hexadecimal digits of a pseudonym."""


class Pseudonyms:
    """The pseudonyms of one key; a name has the same in everything that is made with it."""

    def __init__(
        self, key: bytes, sample: str = "image", given: dict[str, str] | None = None
    ) -> None:
        self._key = key
        self._sample = sample
        self._given = {} if given is None else given

    def of(self, sample: str) -> "Pseudonyms":
        """The same, for samples that are called so: images, or clips."""
        return Pseudonyms(self._key, sample, self._given)

    @property
    def given(self) -> Mapping[str, str]:
        """What every pseudonym given so far stands for."""
        return MappingProxyType(self._given)

    @property
    def key_id(self) -> str:
        """Tells keys apart, and nothing else of them."""
        return self._digest("key", "")[:DIGITS]

    def image(self, name: str) -> str:
        """Give the pseudonym of an image, a clip or a file."""
        return self._named(self._sample, name)

    def group(self, name: str) -> str:
        """Give the pseudonym of a group: a patient, for instance."""
        return self._named("group", name)

    def text(self, value: str) -> str:
        """Give what stands for any other text, such as a path."""
        return self._named("text", value)

    def content(self, sha256: str) -> str:
        """Give what stands for the hash of a file, with which a guess at it could be tested."""
        return self._digest("sha256", sha256)

    def _named(self, kind: str, name: str) -> str:
        pseudonym = f"{kind}-{self._digest(kind, name)[:DIGITS]}"
        other = self._given.setdefault(pseudonym, name)
        if other != name:
            raise InputError(
                f"{other!r} and {name!r} have the same pseudonym {pseudonym} by chance: "
                "use another key file"
            )
        return pseudonym

    def _digest(self, kind: str, name: str) -> str:
        """A kind of its own for each use: a group named like an image has another pseudonym."""
        message = f"{kind}\0{name}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, "sha256").hexdigest()
