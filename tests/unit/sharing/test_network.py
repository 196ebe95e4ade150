"""Nothing leaves the machine."""

import ast
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from offline import offline
from pipeline import atcon

SOURCE = Path(__file__).parents[3] / "src" / "atcon"
CLIENTS = {
    "aiohttp", "asyncio", "ftplib", "http", "httpx", "huggingface_hub", "imaplib", "poplib",
    "requests", "smtplib", "socket", "socketserver", "ssl", "subprocess", "telnetlib", "urllib",
    "urllib3", "webbrowser", "wsgiref", "xmlrpc",
}  # fmt: skip
"""Modules that reach other machines, or start programs that could."""


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.stem)
def test_only_a_module_of_downloads_imports_what_reaches_other_machines(path):
    if not path.stem.startswith("download"):
        assert not {name for name in imported(path) if name.partition(".")[0] in CLIENTS}


def test_an_attempt_to_reach_another_machine_is_noticed_and_refused():
    with offline() as attempts, pytest.raises(OSError, match="there is no network here"):
        socket.create_connection(("localhost", 9))
    assert attempts


def test_a_run_and_its_report_never_reach_for_the_network(clinic):
    assert clinic.attempts == ()
    assert (clinic.run / "report.html").is_file()


def test_what_is_done_with_a_finished_run_never_reaches_for_the_network(clinic, key, tmp_path):
    image = next(clinic.images.glob("blue/*.jpg"))
    with offline() as attempts:
        ended = [
            atcon("report", clinic.run, "--out", tmp_path / "report.html"),
            atcon("share", clinic.run, "--out", tmp_path / "copy", "--key", key),
            atcon("compare", clinic.run),
            atcon("evaluate", clinic.run, "--quiet"),
            atcon("attend", clinic.run, image, "--out", tmp_path / "maps", "--quiet"),
            atcon("list", "maps"),
        ]
    assert attempts == []
    assert [one.code for one in ended] == [0] * len(ended), ended


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_the_client_of_timm_is_told_to_report_nothing_unless_its_user_says_so(
    monkeypatch, before, after
):
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", before or "")
    if before is None:
        monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")
    assert atcon("--version").code == 0
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == after
