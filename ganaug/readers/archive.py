"""The same class folders inside a .zip or a .tar, read without unpacking to disk."""

from __future__ import annotations

import contextlib
import stat
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Generic, Self, TypeVar

from ganaug.config import DataConfig
from ganaug.errors import DatasetError, UnreadableImageError, UnsafeArchiveError
from ganaug.readers import layout
from ganaug.readers.folder import file_limit_bytes, ignored_note, too_large
from ganaug.readers.source import BROKEN, Held, Item, Load, Source, Unreadable, at_random, printable

MAX_RATIO = 200
"""Archives that unpack to more than so many times their size are bombs; photographs reach 2 ..."""

HARMLESS_BYTES = 100_000_000
"""... unless they unpack to less than this."""

MAX_NAME_BYTES = 2**20
"""Largest block of names and attributes that is read from a tar."""

_NAME_TYPES = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}

_Member = TypeVar("_Member", zipfile.ZipInfo, tarfile.TarInfo)


class _ModestHeader(tarfile.TarInfo):
    """A member whose name is not larger than names are: tarfile takes those into memory whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one header block."""
        header = super().frombuf(buf, encoding, errors)
        is_plain = header.type in {*tarfile.REGULAR_TYPES, *tarfile.SUPPORTED_TYPES} - _NAME_TYPES
        if not is_plain and header.size > MAX_NAME_BYTES:
            raise UnsafeArchiveError(
                f"the archive has a member whose name or attributes take {header.size:,} bytes; make it "
                "again from the folder of images."
            )
        return header


class _Listing(Generic[_Member]):
    """Members of an archive as they are found; refuses the ones that could do harm."""

    def __init__(self, path: Path, max_unpacked_bytes: int) -> None:
        self.path, self.max_unpacked_bytes = path, max_unpacked_bytes
        self.size_bytes = path.stat().st_size
        self.unpacked_bytes = 0
        # A later member of the same name replaces the earlier, as unpacking would.
        self.images: dict[str, _Member] = {}
        self.ignored: Counter[str] = Counter()

    def refuse(self, name: str, why: str) -> UnsafeArchiveError:
        return UnsafeArchiveError(
            f"{self.path} has a member {printable(name)!r} that {why}. Only plain files with relative "
            "paths are read from archives; make it again from the folder of images."
        )

    def weigh(self, name: str, size_bytes: int) -> None:
        """Count a member's declared size, which reading will not go beyond."""
        self.unpacked_bytes += max(size_bytes, 0)
        if self.unpacked_bytes > self.max_unpacked_bytes:
            raise UnsafeArchiveError(
                f"{self.path} unpacks to more than data.max_unpacked_bytes ({self.max_unpacked_bytes:,}; "
                f"reached at {printable(name)!r}). Raise that setting if the archive is really so large."
            )
        if self.unpacked_bytes > max(HARMLESS_BYTES, MAX_RATIO * self.size_bytes):
            raise UnsafeArchiveError(
                f"{self.path} has {self.size_bytes:,} bytes and would unpack to more than {MAX_RATIO} "
                f"times that (reached at {printable(name)!r}): a bomb, not images. If it is meant to be "
                "so, unpack it yourself and give the folder."
            )

    def add(self, name: str, member: _Member) -> None:
        """Note a plain file under its cleaned path."""
        # Some Windows tools write backslashes; what they mean must be checked as well.
        plain = name.replace("\\", "/")
        parts = tuple(part for part in plain.split("/") if part not in {"", "."})
        if plain.startswith("/") or (parts and parts[0][1:2] == ":"):
            raise self.refuse(name, "has an absolute path")
        if ".." in parts:
            raise self.refuse(name, "climbs out of the archive with '..'")
        if not parts or layout.is_clutter(parts):
            return
        if not layout.is_image(parts[-1]):
            self.ignored[Path(parts[-1]).suffix.lower()] += 1
            return
        self.images[printable("/".join(parts))] = member

    def source(self, config: DataConfig) -> tuple[list[Item], list[_Member], list[Unreadable]]:
        """Items with their members, in natural order, and strays."""
        if not self.images:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in self.ignored.most_common(5))
            raise DatasetError(
                f"{self.path} holds no image files{f' (but {kinds})' if kinds else ''}. An archive has a "
                "folder per class (for unlabelled images: any folder) with PNG, JPEG, BMP, GIF, TIFF, WebP "
                "or PPM images; tables and arrays are read when they are unpacked."
            )
        names = sorted(self.images, key=layout.natural_key)
        placed, strays = layout.place(names, str(self.path), has_labels=config.has_labels)
        items = [Item(names[one.number], one.class_name, one.split) for one in placed]
        return items, [self.images[item.path] for item in items], strays


def list_zip(config: DataConfig) -> Source:
    """List a zip archive of class folders.

    Raises:
        UnsafeArchiveError: Absolute or `..` paths, links, or a bomb.
        DatasetError: Broken, encrypted, or without images in class folders.
    """
    assert config.path is not None
    path = config.path
    resources = contextlib.ExitStack()
    with _explained(path):
        archive = resources.enter_context(zipfile.ZipFile(path))
    listing: _Listing[zipfile.ZipInfo] = _Listing(path, config.max_unpacked_bytes)
    try:
        for member in archive.infolist():
            _check_zip_member(listing, member)
        items, members, strays = listing.source(config)
    except DatasetError:
        resources.close()
        raise
    limit = file_limit_bytes(config)

    payloads = at_random(lambda row: _read_zip_member(archive, members[row], limit))
    return Source(items, payloads, strays, ignored_note(listing.ignored), resources=resources)


def list_tar(config: DataConfig) -> Source:
    """List a tar archive of class folders, compressed or not.

    Compressed archives can only be read from front to back: once to list and check them, and
    once for each pass over the images.

    Raises:
        UnsafeArchiveError: Absolute or `..` paths, links, devices, or a bomb.
        DatasetError: Broken, or without images in class folders.
    """
    assert config.path is not None
    path = config.path
    listing: _Listing[tarfile.TarInfo] = _Listing(path, config.max_unpacked_bytes)
    with _explained(path), _tar(path) as archive:
        for member in archive:
            # Streaming keeps every member it has seen; a large archive has millions.
            archive.members = []  # type: ignore[attr-defined]
            _check_tar_member(listing, member)
    items, members, strays = listing.source(config)
    limit = file_limit_bytes(config)
    resources = contextlib.ExitStack()
    if _is_seekable(path):
        payloads = _seeking_payloads(resources.enter_context(path.open("rb")), members, limit)
    else:
        payloads = partial(_streamed_payloads, path, members, limit)
    return Source(items, payloads, strays, ignored_note(listing.ignored), resources=resources)


def _check_zip_member(listing: _Listing[zipfile.ZipInfo], member: zipfile.ZipInfo) -> None:
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        kind = "is a link" if stat.S_ISLNK(mode) else "is no plain file"
        raise listing.refuse(member.filename, kind)
    if not member.filename:
        # Python 3.11 cannot even say whether it is a folder.
        raise listing.refuse(member.filename, "has no name")
    if not member.is_dir() and member.flag_bits & 1:
        raise DatasetError(
            f"{listing.path} is encrypted (at {printable(member.filename)!r}); unpack it with its "
            "password and give the folder."
        )
    if member.file_size > max(HARMLESS_BYTES, MAX_RATIO * member.compress_size):
        raise listing.refuse(member.filename, f"would unpack to over {MAX_RATIO} times its size: a bomb")
    listing.weigh(member.filename, member.file_size)
    if member.is_dir():
        if ".." in member.filename.replace("\\", "/").split("/"):
            raise listing.refuse(member.filename, "climbs out of the archive with '..'")
        return
    listing.add(member.filename, member)


def _check_tar_member(listing: _Listing[tarfile.TarInfo], member: tarfile.TarInfo) -> None:
    if member.issym() or member.islnk():
        raise listing.refuse(member.name, f"is a link (to {printable(member.linkname)!r})")
    if member.isdir():
        if member.name.startswith("/") or ".." in member.name.split("/"):
            raise listing.refuse(member.name, "climbs out of the archive")
        return
    if not member.isreg() or member.issparse() or member.size < 0:
        raise listing.refuse(member.name, "is a device, a pipe or a sparse file")
    listing.weigh(member.name, member.size)
    listing.add(member.name, member)


def _read_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit_bytes: int) -> bytes:
    if member.file_size > limit_bytes:
        raise UnreadableImageError(too_large(member.file_size, limit_bytes))
    try:
        with archive.open(member) as file:
            data = file.read(member.file_size)
            # One byte more makes zipfile compare the checksum, and shows a lie about the size.
            if file.read(1) or len(data) != member.file_size:
                raise UnreadableImageError("has another length than the archive's directory says")
    except BROKEN as error:
        if isinstance(error, UnreadableImageError):
            raise
        raise UnreadableImageError(f"is damaged inside the archive: {error}") from error
    return data


@contextlib.contextmanager
def _tar(path: Path) -> Iterator[tarfile.TarFile]:
    """Open for reading from front to back; the compression is told by the content."""
    with contextlib.ExitStack() as files:
        file = files.enter_context(path.open("rb"))
        try:
            archive = files.enter_context(tarfile.open(fileobj=file, mode="r|*", tarinfo=_ModestHeader))
        except TypeError as error:
            # What tarfile makes of a gzip that ends inside its header.
            raise tarfile.ReadError("it ends where it begins") from error
        yield archive


def _is_seekable(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(262)[257:262] == b"ustar"


def _seeking_payloads(
    file: BinaryIO, members: list[tarfile.TarInfo], limit_bytes: int
) -> Callable[[Sequence[int]], Iterator[tuple[int, Load]]]:
    """Plain tars are files of files: each image is read where it lies."""
    lock = threading.Lock()

    def load(row: int) -> bytes:
        member = members[row]
        if member.size > limit_bytes:
            raise UnreadableImageError(too_large(member.size, limit_bytes))
        with lock:
            file.seek(member.offset_data)
            data = file.read(member.size)
        if len(data) != member.size:
            raise UnreadableImageError("ends before its declared size")
        return data

    return at_random(load)


def _streamed_payloads(
    path: Path, members: list[tarfile.TarInfo], limit_bytes: int, rows: Sequence[int]
) -> Iterator[tuple[int, Load]]:
    # By place in the stream, so that the last of several members of one name is taken.
    wanted = {members[row].offset: row for row in rows}
    with _explained(path), _tar(path) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]
            row = wanted.pop(member.offset, None)
            if row is None:
                continue
            if member.size > limit_bytes:
                yield row, partial(_refuse, too_large(member.size, limit_bytes))
                continue
            file = archive.extractfile(member)
            assert file is not None
            data = file.read(member.size)
            yield row, Held(data)
            if not wanted:
                return


def _refuse(reason: str) -> bytes:
    raise UnreadableImageError(reason)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except DatasetError:
        raise
    except BROKEN as error:
        if isinstance(error, PermissionError):
            raise DatasetError(f"{path} may not be read: no permission") from error
        raise DatasetError(
            f"{path} is a broken archive, or not one at all: {error}. Copy or download it again."
        ) from error
