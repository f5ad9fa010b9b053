"""The manifest, and downloads from a server of this machine that breaks off, lies and refuses."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rs_plugin.distributions import parse_noise
from rs_plugin.errors import ChecksumError, InputError, ParameterError, UnknownNameError
from rs_plugin.zoo.download import download
from rs_plugin.zoo.published import fetch, find_published, published_files

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several blocks
SUM = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``content`` and notes what was asked for."""

    content = CONTENT
    tag: str | None = '"one"'
    kind = "application/octet-stream"
    breaks_after: int | None = None
    ranges = True
    sized = True
    shifted = 0
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def address(self) -> str:
        """Of the file."""
        return f"http://127.0.0.1:{self.server_port}/file.pt"


class Handler(BaseHTTPRequestHandler):
    """Answers one request as the server is told to."""

    server: Server

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        """Answer."""
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start - server.shifted}-{last}/{last + 1}")
        self.send_header("Content-Type", server.kind)
        if server.sized:
            self.send_header("Content-Length", str(len(server.content) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(server.content[start : server.breaks_after])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_download(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = download(server.address, tmp_path / "new" / "file.pt", SUM, lambda *told: seen.append(told))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [entry.name for entry in path.parent.iterdir()] == ["file.pt"]


def test_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    server.breaks_after = 3_000_000
    with pytest.raises(InputError, match=r"broke off after 3000000 of 5120000 bytes; the same call goes on|reached"):
        download(server.address, path, SUM)
    assert not path.exists()
    have = (tmp_path / "file.pt.part").stat().st_size
    assert 0 < have <= 3_000_000
    server.breaks_after = None
    assert download(server.address, path, SUM).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={have}-"]


@pytest.mark.parametrize("change", ["another file", "no ranges", "no tag", "another address"])
def test_starts_anew_where_it_must(change: str, server: Server, tmp_path: Path) -> None:
    """The beginning of one file is never joined to the end of another."""
    path = tmp_path / "file.pt"
    server.breaks_after = 2_000_000
    server.tag = None if change == "no tag" else server.tag
    with pytest.raises(InputError):
        download(server.address, path)
    server.breaks_after = None
    if change == "another file":
        server.content, server.tag = CONTENT[::-1], '"two"'
    server.ranges = change != "no ranges"
    address = server.address + ("?mirror" if change == "another address" else "")
    if change == "another address":  # whose file has the same tag by chance
        server.content = CONTENT[::-1]
    assert download(address, path).read_bytes() == server.content


def test_another_part_than_was_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    server.breaks_after = 2_000_000
    with pytest.raises(InputError):
        download(server.address, tmp_path / "file.pt")
    server.breaks_after, server.shifted = None, 1000
    with pytest.raises(InputError, match="sends another part than the one that was asked for"):
        download(server.address, tmp_path / "file.pt")
    assert not (tmp_path / "file.pt").exists()


def test_a_whole_part_is_taken(server: Server, tmp_path: Path) -> None:
    """A process killed between the last byte and the renaming."""
    path = tmp_path / "file.pt"
    (tmp_path / "file.pt.part").write_bytes(CONTENT)
    (tmp_path / "file.pt.part.json").write_text(json.dumps({"address": server.address, "validator": server.tag}))
    assert download(server.address, path, SUM).read_bytes() == CONTENT


def test_files_of_unknown_length_need_a_sum(server: Server, tmp_path: Path) -> None:
    server.sized = False
    with pytest.raises(InputError, match="does not say how long the file is, so half of it would look whole"):
        download(server.address, tmp_path / "file.pt")
    assert download(server.address, tmp_path / "file.pt", SUM).read_bytes() == CONTENT
    server.breaks_after = 2_000_000
    with pytest.raises(ChecksumError):
        download(server.address, tmp_path / "other.pt", SUM)


def test_another_content_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT + b"!"
    with pytest.raises(ChecksumError, match=rf"not {SUM[:12]}…; it was not kept"):
        download(server.address, tmp_path / "file.pt", SUM)
    assert not (tmp_path / "file.pt").exists() and not (tmp_path / "file.pt.part").exists()


@pytest.mark.parametrize(
    ("kind", "page"),
    [("text/html; charset=utf-8", b"Too many users"), ("application/octet-stream", b" \n<!DOCTYPE html>")],
)
def test_a_web_page(kind: str, page: bytes, server: Server, tmp_path: Path) -> None:
    server.kind, server.content = kind, page
    with pytest.raises(InputError, match=r"answers with a web page, not with the file; fetch it by a browser and save"):
        download(server.address, tmp_path / "file.pt")
    assert not (tmp_path / "file.pt").exists()


def test_refusals(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(InputError, match="answers 404 Not Found; fetch it by a browser"):
        download(server.address, tmp_path / "file.pt")
    with pytest.raises(ParameterError, match="no http or https address"):
        download("file:///etc/passwd", tmp_path / "file.pt")
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match="cannot write"):
        download(server.address, tmp_path / "file" / "x.pt")


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be reached \(.*\); try again where there is a network, or fetch it"):
        download("http://127.0.0.1:1/file.pt", tmp_path / "file.pt")
    with pytest.raises(InputError, match=r"cannot be reached"):
        download("https://name.invalid/file.pt", tmp_path / "file.pt")


# The manifest -------------------------------------------------------------------------------------------------------


def _manifest(folder: Path, *entries: Any, **changes: Any) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({"format": "rs_plugin.zoo.published", "version": 1, "files": entries, **changes}))
    return path


def test_own_manifest() -> None:
    entries = published_files()
    names = [entry.name for entry in entries]
    assert len(set(names)) == len(names) >= 20
    assert len({entry.filename for entry in entries}) == len(entries)
    assert len({entry.address for entry in entries}) == len(entries)
    for part in ("cohen2019", "salman2019", "yang2020"):
        assert any(name.startswith(part) for name in names)
    for entry in entries:
        assert entry.address.startswith(("http://", "https://")) and entry.source
        if entry.noise is not None:
            # The name ends with the standard deviation of a value.
            noise = parse_noise(entry.noise)
            assert noise.second_moment(3072) ** 0.5 == pytest.approx(float(entry.name.split("_")[-1]), rel=1e-5)
            assert noise.name in entry.name and entry.dataset in entry.name


def test_fetch(server: Server, tmp_path: Path) -> None:
    entry = {"name": "mine", "address": server.address, "filename": "net.pt", "source": "me", "sha256": SUM}
    manifest = _manifest(tmp_path, entry)
    path = fetch("mine", tmp_path / "files", manifest)
    assert path == tmp_path / "files" / "net.pt" and path.read_bytes() == CONTENT
    assert fetch("mine", tmp_path / "files", manifest) == path
    assert len(server.asked) == 1  # a file that is there is not fetched again
    found = find_published(path, manifest)
    assert found is not None and found.name == "mine"
    assert find_published(path) is None and find_published(tmp_path / "none", manifest) is None
    path.write_bytes(b"else")
    with pytest.raises(ChecksumError, match="is not the file that 'mine' names; move it away"):
        fetch("mine", tmp_path / "files", manifest)
    assert path.read_bytes() == b"else"
    with pytest.raises(UnknownNameError, match=r"no published file 'yours'; known: mine, cohen2019_all.* more$"):
        fetch("yours", tmp_path, manifest)
    with pytest.raises(UnknownNameError, match=r"no published file 'cohen2019'\. Did you mean 'cohen2019_all'\?"):
        fetch("cohen2019", tmp_path, manifest)


def test_an_entry_of_one_s_own_goes_first(tmp_path: Path) -> None:
    entry = {"name": "cohen2019_all", "address": "https://mirror", "filename": "a.tar.gz", "source": "a mirror"}
    entries = {entry.name: entry for entry in published_files(_manifest(tmp_path, entry))}
    assert entries["cohen2019_all"].address == "https://mirror"
    assert len(entries) == len(published_files())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "x"}, "an entry has address, filename, name, source"),
        ({"sum": "x"}, "an entry has"),
        (3, "an entry has"),
        ({"source": 3}, "source = 3; it must be a text"),
        ({"licence": None}, "licence = None; it must be a text"),
        ({"filename": "../../etc/passwd"}, "must consist of letters"),
        ({"filename": ".bashrc"}, "must consist of letters"),
        ({"normalisation": "cohen"}, "the unknown normalisation 'cohen'"),
        ({"sha256": "abc"}, "must be 64 hex digits"),
    ],
)
def test_entries_that_cannot_be(entry: Any, message: str, tmp_path: Path) -> None:
    whole = {"name": "mine", "address": "https://a", "filename": "net.pt", "source": "me"}
    if isinstance(entry, dict) and set(entry) != {"name"}:
        entry = {**whole, **entry}
    with pytest.raises(ParameterError, match=message):
        published_files(_manifest(tmp_path, entry))


def test_manifests_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="is no manifest; it must be a JSON object with 'format'"):
        published_files(_manifest(tmp_path, version=2))
    with pytest.raises(ParameterError, match="cannot read the manifest"):
        published_files(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(ParameterError, match="cannot read the manifest"):
        published_files(tmp_path / "text.json")
