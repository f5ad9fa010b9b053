"""The known public files of smoothed classifiers' base networks: what they are, and how they are fetched.

A manifest is a JSON file with a list of entries. This package's own holds the addresses that the authors give; the
sums of those files are not known to it, so that an entry of one's own, with a sum, is what makes a download certain.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rs_plugin.errors import ChecksumError, ParameterError, UnknownNameError
from rs_plugin.files import parse_json, read_text
from rs_plugin.registry import known_names
from rs_plugin.zoo.card import check_name
from rs_plugin.zoo.download import Progress, download, sha256_of
from rs_plugin.zoo.normalisations import NORMALISATIONS

_OWN: Final = Path(__file__).parent / "published.json"
_FORMAT: Final = {"format": "rs_plugin.zoo.published", "version": 1}


@dataclass(frozen=True)
class PublishedFile:
    """An entry of a manifest.

    Args:
        name: what to ask for.
        address: where the authors have put the file.
        filename: what it is called on disk.
        source: paper and repository.
        sha256: of its content, as hexadecimal digits; None where it is not known.
        dataset: the data set of the network.
        noise: the noise of its training, as ``parse_noise`` reads it; None where there are several.
        normalisation: how its images are normalised; None where the file says it, or nobody does.
        licence: of the file.
        note: what else there is to know.
    """

    name: str
    address: str
    filename: str
    source: str
    sha256: str | None = None
    dataset: str = ""
    noise: str | None = None
    normalisation: str | None = None
    licence: str = "not stated"
    note: str = ""


def published_files(manifest: str | Path | None = None) -> list[PublishedFile]:
    """Return the entries of a manifest of one's own, if given, and of this package's.

    Args:
        manifest: a JSON file ``{"format": "rs_plugin.zoo.published", "version": 1, "files": [...]}`` whose entries have
            the fields of ``PublishedFile``. An entry goes before one of the same name in this package's.

    Raises:
        ParameterError: the file cannot be read, or is no manifest.
    """
    entries = [entry for path in ((manifest, _OWN) if manifest else (_OWN,)) for entry in _read(Path(path))]
    return list({entry.name: entry for entry in reversed(entries)}.values())[::-1]


def fetch(
    name: str, folder: str | Path = ".", manifest: str | Path | None = None, *, progress: Progress | None = None
) -> Path:
    """Download a published file, or go on with a download that broke off, and return its path.

    A file that is there already is not fetched again, only checked where the entry has a sum.

    Args:
        name: of an entry of ``published_files``.
        folder: where the file is put.
        manifest: as for ``published_files``.
        progress: called with (bytes done, bytes in all, None where unknown).

    Raises:
        UnknownNameError: no entry has that name.
        ChecksumError: the content is not what the entry says.
        InputError: nothing could be fetched, or a web page came.
        ParameterError: the manifest cannot be read, or the folder not be written.
    """
    entries = {entry.name: entry for entry in published_files(manifest)}
    if name not in entries:
        raise UnknownNameError(f"no published file {name!r}{known_names(name, list(entries))}")
    entry = entries[name]
    path = Path(folder) / entry.filename
    if not path.exists():
        return download(entry.address, path, entry.sha256, progress)
    if entry.sha256 is not None and sha256_of(path) != entry.sha256:
        raise ChecksumError(f"{str(path)!r} is not the file that {name!r} names; move it away, and fetch again")
    return path


def find_published(path: str | Path, manifest: str | Path | None = None) -> PublishedFile | None:
    """Return the entry with the sha256 of a file; None if there is none, or no file."""
    known = {entry.sha256: entry for entry in published_files(manifest) if entry.sha256 is not None}
    return known.get(sha256_of(Path(path))) if known and Path(path).is_file() else None


def _read(path: Path) -> list[PublishedFile]:
    remedy = f"it must be a JSON object with {', '.join(f'{key!r}: {value!r}' for key, value in _FORMAT.items())}"
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise ParameterError(f"cannot read the manifest {str(path)!r} ({error}); {remedy}") from error
    is_manifest = isinstance(content, dict) and all(content.get(key) == value for key, value in _FORMAT.items())
    if not is_manifest or not isinstance(content.get("files"), list):
        raise ParameterError(f"{str(path)!r} is no manifest; {remedy} and a list 'files'")
    return [_entry(fields, path) for fields in content["files"]]


def _entry(fields: Any, path: Path) -> PublishedFile:
    known = {field.name: field.default for field in dataclasses.fields(PublishedFile)}
    missing = {name for name, default in known.items() if default is dataclasses.MISSING}
    if not isinstance(fields, dict) or not missing <= fields.keys() <= known.keys():
        raise ParameterError(
            f"the manifest {str(path)!r} has the entry {fields!r}; an entry has {', '.join(sorted(missing))}, and may "
            f"have {', '.join(sorted(known.keys() - missing))}"
        )
    for name, value in fields.items():
        if not isinstance(value, str) and not (value is None and known[name] is None):
            raise ParameterError(f"the manifest {str(path)!r} has {name} = {value!r}; it must be a text")
    entry = PublishedFile(**fields)
    check_name(entry.name)
    check_name(entry.filename)
    if entry.normalisation not in (None, *NORMALISATIONS):
        raise ParameterError(f"the manifest {str(path)!r} has the unknown normalisation {entry.normalisation!r}")
    if entry.sha256 is not None and (len(entry.sha256) != 64 or set(entry.sha256) - set("0123456789abcdef")):
        raise ParameterError(f"the manifest {str(path)!r} has sha256 = {entry.sha256!r}; it must be 64 hex digits")
    return entry
