"""Files from the network: to a temporary name, checked, then renamed; what broke off goes on where it stopped."""

from __future__ import annotations

import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rs_plugin.errors import ChecksumError, InputError, ParameterError
from rs_plugin.files import parse_json, read_text

#: Called with the bytes that are there and the bytes in all, None where the server does not say.
Progress = Callable[[int, int | None], None]

_BLOCK: Final = 1 << 20
_TIMEOUT: Final = 30.0  # seconds without a byte


def download(address: str, path: Path, sha256: str | None = None, progress: Progress | None = None) -> Path:
    """Fetch a file and return its path.

    Until it is whole it is called ``<name>.part``; given again, the call goes on from there, if the server says that
    the file is still the same.

    Args:
        address: an http or https address.
        path: where the file is put.
        sha256: of its content; unchecked if None.
        progress: called after every block.

    Raises:
        InputError: the server cannot be reached or refuses, a web page came, the connection broke, or nothing says how
            long the file is.
        ChecksumError: the content is not what ``sha256`` says; it is removed.
        ParameterError: the address is of another kind, or the folder cannot be written.
    """
    if not address.startswith(("http://", "https://")):
        raise ParameterError(f"{address!r} is no http or https address")
    part, label = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    by_hand = f"fetch it by a browser and save it as {str(path)!r}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _receive(address, part, label, progress, by_hand, summed=sha256 is not None)
        except urllib.error.HTTPError as error:
            if error.code != 416:  # what is there is the whole of it, or more
                raise
            part.unlink(missing_ok=True)
            _receive(address, part, label, progress, by_hand, summed=sha256 is not None)
    except urllib.error.HTTPError as error:
        raise InputError(f"{address} answers {error.code} {error.reason}; {by_hand}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise InputError(
            f"{address} cannot be reached ({reason}); try again where there is a network, or {by_hand}"
        ) from error
    except OSError as error:
        raise ParameterError(f"cannot write {str(part)!r} ({error.strerror}); choose another folder") from error
    found = sha256_of(part)
    if sha256 is not None and found != sha256:
        part.unlink()
        raise ChecksumError(f"{address} holds a file of sha256 {found[:12]}…, not {sha256[:12]}…; it was not kept")
    part.replace(path)
    label.unlink(missing_ok=True)
    return path


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _receive(
    address: str, part: Path, label: Path, progress: Progress | None, by_hand: str, *, summed: bool
) -> None:
    done, validator = _state(part, label, address)
    request = urllib.request.Request(address)
    if done and validator:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", validator)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        if "text/html" in (answer.headers.get("Content-Type") or ""):
            raise InputError(f"{address} answers with a web page, not with the file; {by_hand}")
        if answer.status != 206 or not (answer.headers.get("Content-Range") or "").startswith(f"bytes {done}-"):
            if answer.status == 206:
                raise InputError(f"{address} sends another part than the one that was asked for; {by_hand}")
            done = 0
            part.write_bytes(b"")  # before the label says that what is there is of this file
        length = answer.headers.get("Content-Length")
        if length is None and not summed:
            raise InputError(f"{address} does not say how long the file is, so half of it would look whole; {by_hand}")
        total = done + int(length) if length else None
        label.write_text(json.dumps({"address": address, "validator": _validator(answer)}), encoding="utf-8")
        with part.open("ab" if done else "wb") as file:
            while block := answer.read(_BLOCK):
                if not done and block.lstrip()[:1] == b"<":
                    raise InputError(f"{address} answers with a web page, not with the file; {by_hand}")
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
    if total is not None and part.stat().st_size > total:
        raise InputError(f"{str(part)!r} has become longer than the file, by another call perhaps; remove it")
    if total is not None and part.stat().st_size < total:
        raise InputError(f"{address} broke off after {done} of {total} bytes; the same call goes on from there")


def _state(part: Path, label: Path, address: str) -> tuple[int, str | None]:
    """Return how many bytes are there, and what tells the server's file from a later one."""
    try:
        content = parse_json(read_text(label))
        return (part.stat().st_size, content["validator"]) if content["address"] == address else (0, None)
    except (OSError, ValueError, KeyError, TypeError):
        return 0, None


def _validator(answer: Any) -> str | None:
    tag: str | None = answer.headers.get("ETag")
    # A weak tag cannot vouch for bytes.
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")
