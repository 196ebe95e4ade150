import hashlib
import hmac
import stat

import pytest

from atcon.errors import InputError
from atcon.sharing import Pseudonyms, key_of
from atcon.sharing import pseudonyms as module

KEY = bytes(range(32))


def test_a_pseudonym_is_twelve_digits_of_the_hmac_of_kind_and_name():
    expected = hmac.digest(KEY, "image\0Jörg 1.png".encode(), hashlib.sha256).hex()[:12]
    assert Pseudonyms(KEY).image("Jörg 1.png") == f"image-{expected}"


def test_a_group_named_like_an_image_cannot_be_recognised_by_it():
    names = Pseudonyms(KEY)
    shown = [names.image("a"), names.group("a"), names.text("a"), names.content("a")]
    assert len({one.rpartition("-")[2][:12] for one in shown}) == 4


def test_without_the_key_the_plain_hash_of_a_guess_is_not_the_pseudonym():
    plain = {hashlib.sha256(text.encode()).hexdigest() for text in ("Karl", "group\0Karl")}
    assert not any(one.startswith(Pseudonyms(KEY).group("Karl")[6:]) for one in plain)


def test_what_was_given_can_be_told_by_the_owner():
    names = Pseudonyms(KEY)
    shown = names.group("Karl"), names.image("1.png"), names.group("Karl")
    assert names.given == {shown[0]: "Karl", shown[1]: "1.png"}


def test_two_names_of_one_pseudonym_are_refused_and_not_mixed_up(monkeypatch):
    monkeypatch.setattr(module, "DIGITS", 1)
    names = Pseudonyms(KEY)
    with pytest.raises(InputError, match="have the same pseudonym group-"):
        list(map(names.group, map(str, range(17))))


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "study.key"
    key, new = key_of(path)
    assert (len(key), new) == (32, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key_of(path) == (key, False)
    assert key_of(tmp_path / "other.key")[0] != key


@pytest.mark.parametrize("content", [b"", b"password", b"ab" * 31, b"\xff" * 64])
def test_what_is_no_key_is_refused_by_its_path(tmp_path, content):
    path = tmp_path / "study.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InputError, match=r"study\.key: not a key"):
        key_of(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    path = tmp_path / "study.key"
    path.write_text(KEY.hex())
    path.chmod(mode)
    with pytest.raises(InputError, match=r"others can read this key; run: chmod 600"):
        key_of(path)
