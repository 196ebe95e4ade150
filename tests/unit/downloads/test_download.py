import json
import multiprocessing
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import FileServer, serving

from atcon.alone import alone
from atcon.downloads import Silent, Source, fetch
from atcon.downloads.download_line import HTTPS, Line
from atcon.errors import InputError

CONTENT = bytes(range(256)) * 4000
HERE = Line(schemes=frozenset({"http"}), timeout=5, attempts=3, pause=0.01)
"""Plain HTTP, which only these tests may use."""


class Told(Silent):
    """Keeps what was said and counted."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.counted = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def begin(self, title: str, total: int) -> None:
        self.counted = 0

    def advance(self, values, steps: int = 1) -> None:
        self.counted += steps


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(CONTENT) as served:
        yield served


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.bin"


def source_of(server: FileServer, **changes) -> Source:
    return replace(Source("the file", server.url, server.sha256, len(server.content)), **changes)


def left(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def asked_for(server: FileServer) -> list[str | None]:
    return [span for _, span, _ in server.asked]


def test_a_file_is_brought_whole_with_nothing_beside_it(server, path):
    told = Told()
    assert fetch(source_of(server), path, told, HERE) == path
    assert path.read_bytes() == CONTENT
    assert left(path) == {"file.bin"}
    assert told.counted == len(CONTENT) // 10**6
    assert told.notes == [f"downloading the file from {server.url} to {path}"]


def test_a_file_that_is_there_is_checked_and_nobody_is_asked(server, path):
    fetch(source_of(server), path, line=HERE)
    fetch(source_of(server), path, line=HERE)
    assert len(server.asked) == 1


@pytest.mark.parametrize("changed", [CONTENT[:-1], CONTENT[:-1] + b"x", b""])
def test_a_broken_file_is_never_taken_for_a_whole_one_and_never_overwritten(server, path, changed):
    path.parent.mkdir()
    path.write_bytes(changed)
    for size in (len(CONTENT), None):
        with pytest.raises(InputError, match="not the file as published") as refused:
            fetch(source_of(server, size=size), path, line=HERE)
        assert str(path) in str(refused.value)
        assert "Move it away" in str(refused.value)
    assert path.read_bytes() == changed
    assert server.asked == []


def test_the_first_eight_digits_of_a_hash_are_enough_to_refuse_another_file(server, path):
    fetch(source_of(server, sha256=server.sha256[:8], size=None), path, line=HERE)
    path.write_bytes(b"another")
    with pytest.raises(InputError, match="SHA-256 begins with"):
        fetch(source_of(server, sha256=server.sha256[:8], size=None), path, line=HERE)


def test_a_lost_connection_is_continued_where_it_broke_off(server, path):
    server.cuts = [300_000, 700_000]
    told = Told()
    fetch(source_of(server), path, told, HERE)
    assert path.read_bytes() == CONTENT
    assert asked_for(server) == [None, "bytes=300000-", "bytes=700000-"]
    assert [if_range for *_, if_range in server.asked] == [None, '"1"', '"1"']
    assert sum("ended early; again in" in note for note in told.notes) == 2


def test_the_next_call_continues_what_an_earlier_one_gave_up(server, path):
    once = replace(HERE, attempts=1)
    server.cuts = [400_000, 400_000]
    with pytest.raises(InputError, match="What has arrived is kept, and the same command") as gone:
        fetch(source_of(server), path, line=once)
    assert not path.exists()
    assert "put it there" in str(gone.value)
    assert left(path) == {"file.bin.part", "file.bin.part.json"}
    server.asked.clear()
    fetch(source_of(server), path, line=HERE)
    assert asked_for(server) == ["bytes=400000-"]
    assert path.read_bytes() == CONTENT
    assert left(path) == {"file.bin"}


def test_by_date_a_part_is_continued_and_by_a_weak_tag_it_is_not(server, path):
    server.etag, server.date = 'W/"1"', "Wed, 01 Jan 2020 00:00:00 GMT"
    server.cuts = [300_000]
    fetch(source_of(server), path, line=HERE)
    assert server.asked[1][1:] == ("bytes=300000-", server.date)
    path.unlink()
    server.date = None
    server.cuts = [300_000]
    server.asked.clear()
    fetch(source_of(server), path, line=HERE)
    assert asked_for(server) == [None, None]


def test_a_file_that_changed_meanwhile_is_brought_from_the_start(server, path):
    server.cuts = [400_000, 400_000]
    with pytest.raises(InputError):
        fetch(source_of(server), path, line=replace(HERE, attempts=1))
    server.content, server.etag = CONTENT[::-1], '"2"'
    server.asked.clear()
    fetch(source_of(server), path, line=HERE)
    assert server.asked == [("/file.bin", "bytes=400000-", '"1"')]
    assert path.read_bytes() == CONTENT[::-1]


def test_a_changed_file_under_an_old_tag_is_found_out_and_brought_once_more(server, path):
    server.cuts = [400_000, 400_000]
    with pytest.raises(InputError):
        fetch(source_of(server), path, line=replace(HERE, attempts=1))
    server.content = CONTENT[::-1]
    told = Told()
    server.asked.clear()
    fetch(source_of(server), path, told, HERE)
    assert asked_for(server) == ["bytes=400000-", None]
    assert path.read_bytes() == CONTENT[::-1]
    assert any("put together it is wrong" in note for note in told.notes)


def test_a_server_without_parts_sends_all_again(server, path):
    server.ranges = False
    server.cuts = [300_000]
    fetch(source_of(server), path, line=HERE)
    assert path.read_bytes() == CONTENT


def test_a_part_that_was_spoilt_on_the_disk_is_found_out(server, path):
    server.cuts = [400_000, 400_000]
    with pytest.raises(InputError):
        fetch(source_of(server), path, line=replace(HERE, attempts=1))
    part = path.with_name("file.bin.part")
    part.write_bytes(b"x" * 400_000)
    fetch(source_of(server), path, line=HERE)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("beside", ["", "[]", "{}", '{"url": "other", "validator": "1"}', None])
def test_a_part_of_unknown_origin_is_not_continued(server, path, beside):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(b"x" * 1000)
    if beside is not None:
        path.with_name("file.bin.part.json").write_text(beside)
    fetch(source_of(server), path, line=HERE)
    assert asked_for(server) == [None]
    assert path.read_bytes() == CONTENT


def test_a_part_that_is_whole_needs_no_connection(server, path):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(CONTENT)
    known = {"url": server.url, "validator": None, "total": len(CONTENT)}
    path.with_name("file.bin.part.json").write_text(json.dumps(known))
    fetch(source_of(server), path, line=HERE)
    assert server.asked == []
    assert path.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_brought_from_the_start(server, path):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(CONTENT + b"more")
    known = {"url": server.url, "validator": '"1"', "total": None}
    path.with_name("file.bin.part.json").write_text(json.dumps(known))
    fetch(source_of(server, size=None), path, line=HERE)
    assert asked_for(server) == [f"bytes={len(CONTENT) + 4}-", None]
    assert path.read_bytes() == CONTENT


def refused(server, path, source, says, line=HERE):
    with pytest.raises(InputError) as error:
        fetch(source, path, line=line)
    for words in (*says, str(path), server.url):
        assert words in str(error.value)
    assert not path.exists()


def test_a_wrong_checksum_is_refused_discarded_and_named(server, path):
    refused(server, path, source_of(server, sha256="0" * 64), ("not the published file", "SHA-256"))
    assert left(path) == set()


def test_a_server_with_another_length_than_published_is_refused_at_once(server, path):
    refused(server, path, source_of(server, size=17), ("1,024,000 bytes, but 17 were published",))
    assert len(server.asked) == 1


def test_a_server_that_announces_more_than_it_has_ends_in_an_error(server, path):
    server.length = len(CONTENT) + 5
    refused(server, path, source_of(server, size=None), ("ended early",))


def test_a_server_that_sends_more_than_was_published_is_stopped(server, path):
    server.length = -1  # no length is announced: the end of the connection is that of the file
    wanted = source_of(server, size=1000)
    refused(server, path, wanted, ("sends more than 1,000 bytes",))
    assert path.with_name("file.bin.part").stat().st_size == 0


def test_without_an_announced_length_the_checksum_decides(server, path):
    server.length = -1
    server.cuts = [1000]
    refused(server, path, source_of(server, size=None), ("not the published file",))
    fetch(source_of(server, size=None), path, line=HERE)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_not_there_is_not_asked_for_twice(server, path, status):
    server.answers = [(status, {})]
    refused(server, path, source_of(server), (f"the server answers {status}", "HTTPS_PROXY"))
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(server, path, status):
    server.answers = [(status, {}), (status, {})]
    fetch(source_of(server), path, line=HERE)
    assert len(server.asked) == 3
    path.unlink()
    server.answers = [(status, {})] * 3
    refused(server, path, source_of(server), (f"the server answers {status}",))


def test_a_redirection_of_the_same_kind_is_followed_and_another_is_refused(server, path):
    server.answers = [(302, {"Location": "/elsewhere.bin"})]
    fetch(source_of(server), path, line=HERE)
    assert [asked for asked, *_ in server.asked] == ["/file.bin", "/elsewhere.bin"]
    path.unlink()
    for target in ("ftp://127.0.0.1/file", "https://127.0.0.1:9/file"):
        server.answers = [(302, {"Location": target})]
        with pytest.raises(InputError, match="downloads come from http only"):
            fetch(source_of(server), path, line=HERE)


@pytest.mark.parametrize("url", ["http://host/x", "ftp://host/x", "file:///etc/passwd", "x"])
def test_nothing_but_https_is_downloaded(path, url):
    with pytest.raises(InputError, match="downloads come from https only"):
        fetch(Source("the file", url, "0" * 64), path)
    assert not path.parent.exists()
    assert HTTPS.schemes == {"https"}


def test_a_part_from_another_place_than_asked_is_not_appended(server, path):
    server.cuts = [300_000]
    server.shifted = 7
    refused(server, path, source_of(server), ("at another place than asked",))


def test_an_encoded_answer_is_refused(server, path):
    server.encoding = "gzip"
    refused(server, path, source_of(server), ("encoded (gzip)",))


def test_no_connection_names_the_way_out(path):
    with serving(b"") as gone:
        pass
    refused(gone, path, source_of(gone), ("refused", "by other means and put it there"))


def test_a_file_too_large_for_the_disk_is_refused_before_it_is_brought(server, path, monkeypatch):
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("atcon.downloads.download.shutil.disk_usage", lambda _: free)
    refused(server, path, source_of(server), ("1,024,000 bytes are missing, but 1,000 are free",))


def test_a_file_that_appears_meanwhile_is_left_as_it_is(server, path):
    class Meddler(Silent):
        def begin(self, title, total):
            path.write_bytes(b"mine")

    with pytest.raises(InputError, match="exists already; it was left as it is"):
        fetch(source_of(server), path, Meddler(), HERE)
    assert path.read_bytes() == b"mine"


def test_of_two_that_want_a_file_one_waits_and_both_have_it(server, path):
    server.hold.clear()
    told = [Told(), Told()]
    threads = [
        threading.Thread(target=fetch, args=(source_of(server), path, one, HERE)) for one in told
    ]
    for thread in threads:
        thread.start()
    waiting = f"{path}: another process is downloading it; waiting for that"
    deadline = time.monotonic() + 10
    while waiting not in [n for one in told for n in one.notes] and time.monotonic() < deadline:
        time.sleep(0.01)
    server.hold.set()
    for thread in threads:
        thread.join()
    assert [waiting in one.notes for one in told].count(True) == 1
    assert len(server.asked) == 1
    assert left(path) == {"file.bin"}


def hold(path: Path, ready, end) -> None:
    with alone(path, lambda: None):
        ready.set()
        end.wait(30)


def test_the_lock_of_a_process_that_was_killed_locks_nobody_out(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "file.bin", ready, end))
    holder.start()
    try:
        assert ready.wait(60)
        assert (tmp_path / ".file.bin.lock").exists()
    finally:
        holder.kill()
        holder.join()
    with alone(tmp_path / "file.bin", lambda: pytest.fail("nobody holds it")):
        pass
    assert list(tmp_path.iterdir()) == []
