"""Files written whole or not at all, and files of strangers read within bounds."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, Final

#: Bytes of a text file that somebody may have sent: cards, manifests, configurations.
LARGEST_TEXT: Final = 1 << 24

#: Bytes of a file of weights.
LARGEST_WEIGHTS: Final = 1 << 32


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file under a name of its own first, so that neither a killed process nor another one leaves half of it.

    Folders that are missing are made; text is UTF-8.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_size(path: Path, largest: int) -> None:
    """Raise ValueError if a file has more than so many bytes, OSError if there is none."""
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"it has {size} bytes, and no such file has more than {largest}")


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Return a text file's content.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large, or no text.
    """
    check_size(path, largest)
    return path.read_text(encoding="utf-8")


def parse_json(text: str) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
