"""Writing an object of a store only if it is as it was: what keeps two publishers apart.

S3 does that itself (`If-None-Match`, `If-Match`), as most that speak its language do. Some take the
headers and ignore them, so a probe is written first; there, and where nothing of the kind is known,
writers keep each other out by flags. A flag is an object of its own; whoever has put up theirs and then sees
no other is alone, as long as a listing shows all that was written before it.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ganaug.errors import OutputError

FLAG = ".writing-"
FLAG_STALE_S = 600.0
"""A flag that is older is that of a writer that died."""
_WAIT_S = 120.0
_TAKEN = {409, 412}
"""What S3 answers when an object is not as it has to be; 409 when another write is under way."""


class Conditional:
    """Conditional writes into one file system.

    Args:
        files: The file system of fsspec.
        root: Folder of it where probes and flags may be.
    """

    def __init__(self, files: Any, root: str) -> None:
        self._files, self._root = files, root
        self._is_native: bool | None = None

    def create(self, path: str, content: bytes) -> bool:
        """Write an object unless there is one; whether it is this content that is there now."""
        if self._native():
            return self._put(path, content, IfNoneMatch="*")
        with self._alone(path):
            if self._files.exists(path):
                return False
            self._files.pipe_file(path, content)
            return True

    def read(self, path: str) -> tuple[bytes | None, str]:
        """An object, None if there is none, and its state for `swap`."""
        self._files.invalidate_cache()
        try:
            # Its tag first: content that came between is then of another tag, and `swap` refuses.
            tag = str(self._files.info(path).get("ETag", ""))
            return self._files.cat_file(path), tag
        except FileNotFoundError:
            return None, ""

    def swap(self, path: str, before: bytes | None, tag: str, content: bytes) -> bool:
        """Write an object if it is as `read` found it; whether it is this content that is there now."""
        if before is None:
            return self.create(path, content)
        if self._native():
            return self._put(path, content, IfMatch=tag)
        with self._alone(path):
            if self.read(path)[0] != before:
                return False
            self._files.pipe_file(path, content)
            return True

    def now(self) -> float:
        """The store's time, in which it tells when objects were written; else this machine's."""
        if hasattr(self._files, "call_s3"):
            answer = self._files.call_s3("head_bucket", Bucket=self._files.split_path(self._root)[0])
            if said := answer["ResponseMetadata"]["HTTPHeaders"].get("date"):
                return email.utils.parsedate_to_datetime(said).timestamp()
        return time.time()

    def _native(self) -> bool:
        if self._is_native is None:
            self._is_native = hasattr(self._files, "call_s3") and self._is_honoured()
        return self._is_native

    def _is_honoured(self) -> bool:
        probe = f"{self._root}/.probe-{secrets.token_hex(8)}"
        try:
            # Who ignores the conditions writes where S3 refuses.
            return (
                self._put(probe, b"1", IfNoneMatch="*")
                and not self._put(probe, b"2", IfNoneMatch="*")
                and not self._put(probe, b"3", IfMatch='"0"')
            )
        except OSError as error:
            if _status(error) in {400, 501}:
                return False
            raise
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(probe)

    def _put(self, path: str, content: bytes, **condition: str) -> bool:
        bucket, key, _ = self._files.split_path(path)
        try:
            self._files.call_s3("put_object", Bucket=bucket, Key=key, Body=content, **condition)
        except OSError as error:
            is_gone = "IfMatch" in condition and isinstance(error, FileNotFoundError)
            if _status(error) not in _TAKEN and not is_gone:
                raise
            # Tried again after its answer was lost, a write finds what it wrote itself.
            return self.read(path)[0] == content
        self._files.invalidate_cache()
        return True

    @contextlib.contextmanager
    def _alone(self, path: str) -> Iterator[None]:
        folder, _, name = path.rpartition("/")
        flag, deadline = f"{folder}/{FLAG}{name}-{secrets.token_hex(8)}", time.monotonic() + _WAIT_S
        while True:
            self._files.pipe_file(flag, b"1")
            try:
                if not self._others(flag, name):
                    yield
                    return
            finally:
                with contextlib.suppress(FileNotFoundError):
                    self._files.rm_file(flag)
            if time.monotonic() > deadline:
                raise OutputError(f"others have been writing {path} for {_WAIT_S:.0f} s; try again later")
            # Each waits as long as it likes, or they would meet again.
            time.sleep(random.uniform(0.005, 0.2))  # noqa: S311 - nothing secret

    def _others(self, flag: str, name: str) -> list[str]:
        """Flags of others; those of dead writers are taken down."""
        self._files.invalidate_cache()
        folder, others = flag.rpartition("/")[0], []
        for entry in self._files.ls(folder, detail=True):
            other = entry["name"].rpartition("/")[2]
            if not other.startswith(f"{FLAG}{name}-") or other == flag.rpartition("/")[2]:
                continue
            if self.now() - written(entry) > FLAG_STALE_S:
                with contextlib.suppress(FileNotFoundError):
                    self._files.rm_file(f"{folder}/{other}")
            else:
                others.append(other)
        return others


def written(entry: dict[str, Any]) -> float:
    """When an object was written, in its store's time; now, where the store does not say."""
    for key in ("LastModified", "created", "mtime", "last_modified", "updated"):
        value = entry.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return time.time()


def _status(error: BaseException) -> int:
    """HTTP status behind an error of s3fs; 0 when there is none."""
    cause = error.__cause__
    response = getattr(cause, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
