"""An archive under a prefix of an S3 bucket, or of another service that speaks S3 and has conditional writes.

A name is given once because the service refuses a second `PutObject` with `If-None-Match: *`; what has been answered is
durable, and a name never shows half of its content, because S3 says so. Answers that get lost are no answers: whoever is
told that a name is taken reads it back, and what equals its own bytes is its own.

What doesn't live here: sending large objects (`s3_upload`), the client and its errors (`s3_connection`), local copies
(`cache`). See `docs/s3.md` and `docs/decisions/0008-object-stores.md`.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from event_archive import layout
from event_archive.durable import storage_errors
from event_archive.errors import ArchiveDamaged, EventArchiveError, FileMissing, StorageError
from event_archive.storage.s3_connection import (
    CONFLICT,
    PRECONDITION_FAILED,
    SERVER_ERRORS,
    S3Connection,
    status_of,
)
from event_archive.storage.s3_upload import Upload, checksum_arguments
from event_archive.storage.store import HashedFile, NewFile, Store, StoredFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from event_archive.storage.cache import LocalCache

_CHUNK_BYTES = 1 << 18  # a connection that breaks loses what was read of a chunk
_PUT_ATTEMPTS = 8
_READ_ATTEMPTS = 6
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How S3 is reached; what is None comes from the usual AWS environment or profile, and credentials always do."""

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    object_lock_days: int | None = None
    """With `read_only_files`, in a bucket with Object Lock: for how long nothing may be removed. None: as the bucket says."""


class S3Store(Store):
    """A prefix of a bucket; the bucket must be there."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        settings: S3Settings,
        cache: LocalCache,
        read_only_files: bool = False,
        connection: S3Connection | None = None,
    ) -> None:
        """Names the place and asks nobody.

        Args:
            bucket: its name.
            prefix: of all names, with `/` between folders and none at the ends; may be empty.
            settings: how the bucket is reached.
            cache: where copies of files are kept.
            read_only_files: send Object Lock headers with what is written, if the settings say for how long.
            connection: to share with another store.
        """
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._cache = cache
        self._read_only_files = read_only_files
        self._connection = connection or S3Connection(bucket, settings)

    def child(self, name: str) -> S3Store:
        """See `Store`."""
        return S3Store(
            self._connection.bucket,
            self._prefix + name,
            settings=self._connection.settings,
            cache=self._cache,
            read_only_files=self._read_only_files,
            connection=self._connection,
        )

    def names(self, folder: str) -> list[str]:
        """See `Store`."""
        prefix = self._folder_prefix(folder)
        keys = (item["Key"] for page in self._pages(prefix, "/") for item in page.get("Contents", []))
        return [key[len(prefix) :] for key in keys if key != prefix]

    def folders(self) -> list[str]:
        """See `Store`."""
        found = (
            item["Prefix"]
            for page in self._pages(self._prefix, "/")
            for item in page.get("CommonPrefixes", [])
        )
        return [prefix[len(self._prefix) : -1] for prefix in found]

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        """See `Store`."""
        found = [
            StoredFile(item["Key"][len(self._prefix) :], item["Size"], item["LastModified"])
            for page in self._pages(self._folder_prefix(folder), "")
            for item in page.get("Contents", [])
            if not item["Key"].endswith("/")  # what consoles make so that an empty folder shows
        ]
        yield from sorted(found, key=lambda file: file.name)

    def size(self, name: str) -> int:
        """See `Store`."""
        key = self._prefix + name
        with self._connection.errors(key):
            return self._connection.client.head_object(Bucket=self._connection.bucket, Key=key)[
                "ContentLength"
            ]

    def read(self, name: str) -> bytes:
        """See `Store`."""
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """See `Store`. A connection that is cut is opened again where it was cut, to the same object or not at all."""
        key = self._prefix + name
        position, failures, answer = 0, 0, self._get(key)
        size, etag = answer["ContentLength"], answer["ETag"]
        while True:
            body, before = answer["Body"], position
            try:
                with contextlib.closing(body):
                    while chunk := body.read(min(_CHUNK_BYTES, size - position) or 1):
                        position += len(chunk)
                        yield chunk
            except _broken_reads() as error:
                reason = type(error).__name__
            else:
                reason = "too few bytes"
            if position == size:
                return
            failures = 0 if position > before else failures + 1
            if failures == _READ_ATTEMPTS:
                raise StorageError(
                    f"{self.place(name)}: broke off at {position:,} of {size:,} bytes, {failures} times without another byte "
                    f"({reason}). Run the command again when the network is well."
                )
            _pause(failures)
            answer = self._get_rest(key, position, size, etag)

    @contextlib.contextmanager
    def hashed(self, name: str, *, on_bytes: Callable[[int], None] | None = None) -> Iterator[HashedFile]:
        """See `Store`."""
        digest, size = hashlib.sha256(), 0
        with self._cache.scratch_file() as (path, file):
            for chunk in self.chunks(name):
                with storage_errors(path):
                    file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                if on_bytes is not None:
                    on_bytes(len(chunk))
            with storage_errors(path):
                file.flush()
            yield HashedFile(path, size, digest.hexdigest())

    def local_path(self, name: str, *, size_bytes: int, sha256: str) -> Path:
        """See `Store`."""
        return self._cache.get(sha256, size_bytes, lambda: self.chunks(name), place=self.place(name))

    def put_new(self, name: str, content: bytes) -> bool:
        """See `Store`."""
        key = self._prefix + name
        arguments = {
            "IfNoneMatch": "*",
            **checksum_arguments(hashlib.sha256(content).hexdigest()),
            **self._lock_headers(name),
        }
        refusal: EventArchiveError | None = None
        for attempt in range(_PUT_ATTEMPTS):
            if attempt:
                _pause(attempt)
            refusal = self._try_put(key, content, arguments)
            if refusal is None:
                self._connection.prove_conditional(key, content, arguments)
                return True
            status = _status_of(refusal)
            if status not in (CONFLICT, PRECONDITION_FAILED) and status < SERVER_ERRORS:
                raise refusal
            # The name is taken, perhaps by the first of our own attempts; or nobody knows what the service has done.
            try:
                is_ours = self.read(name) == content
            except FileMissing:
                if status >= SERVER_ERRORS:
                    break
                continue  # two writers met, or it was removed meanwhile
            if status == PRECONDITION_FAILED:
                self._connection.note_conditional()
            return is_ours
        raise StorageError(
            f"{self.place(name)}: whether it was written can't be told: {refusal} The next run reads what is there."
        ) from refusal

    def new_file(self, name: str) -> NewFile:
        """See `Store`."""
        return _NewFile(self._upload(name, replaces=False))

    def restore(self, name: str, content: Iterable[bytes], *, sha256: str) -> None:
        """See `Store`."""
        upload = self._upload(name, replaces=True)
        try:
            digest = hashlib.sha256()
            for chunk in content:
                digest.update(chunk)
                upload.write(chunk)
            self._compare(name, digest.hexdigest(), sha256)
            upload.complete(sha256)
        except BaseException:
            upload.abort()
            raise

    def delete(self, name: str) -> None:
        """See `Store`. In a bucket with versions the bytes stay, under a marker, for as long as the bucket keeps them."""
        key = self._prefix + name
        with contextlib.suppress(FileMissing), self._connection.errors(key):
            self._connection.client.delete_object(Bucket=self._connection.bucket, Key=key)

    def _compare(self, name: str, found: str, sha256: str) -> None:
        if found != sha256:
            raise ArchiveDamaged(
                f"{self.place(name)}: the bytes that should go there have another SHA-256; nothing was changed."
            )

    def _folder_prefix(self, folder: str) -> str:
        return f"{self._prefix}{folder}/" if folder else self._prefix

    def _pages(self, prefix: str, delimiter: str) -> Iterator[Any]:
        with self._connection.errors(prefix):
            pages = self._connection.client.get_paginator("list_objects_v2")
            yield from pages.paginate(Bucket=self._connection.bucket, Prefix=prefix, Delimiter=delimiter)

    def _get(self, key: str) -> Any:
        with self._connection.errors(key):
            return self._connection.client.get_object(Bucket=self._connection.bucket, Key=key)

    def _get_rest(self, key: str, position: int, size: int, etag: str) -> Any:
        """What follows `position`, of the very object that was begun."""
        try:
            with self._connection.errors(key):
                answer = self._connection.client.get_object(
                    Bucket=self._connection.bucket, Key=key, Range=f"bytes={position}-", IfMatch=etag
                )
        except StorageError as error:
            if _status_of(error) != PRECONDITION_FAILED:
                raise
            raise StorageError(
                f"{self._connection.place(key)}: was replaced while it was read. Run the command again."
            ) from error
        if answer.get("ContentRange") != f"bytes {position}-{size - 1}/{size}":
            answer["Body"].close()
            raise StorageError(
                f"{self._connection.place(key)}: the service gave other bytes than those asked for "
                f"({answer.get('ContentRange')} instead of {position}-{size - 1}/{size})."
            )
        return answer

    def _try_put(self, key: str, content: bytes, arguments: dict[str, Any]) -> EventArchiveError | None:
        """What speaks against it; None if it is done."""
        try:
            with self._connection.errors(key):
                self._connection.client.put_object(
                    Bucket=self._connection.bucket, Key=key, Body=content, **arguments
                )
        except EventArchiveError as error:
            return error
        return None

    def _upload(self, name: str, *, replaces: bool) -> Upload:
        return Upload(
            self._connection,
            self._prefix + name,
            replaces=replaces,
            arguments=self._lock_headers(name),
            sha256_there=lambda: _sha256_of(self.chunks(name)),
        )

    def _lock_headers(self, name: str) -> dict[str, Any]:
        """Nothing that an archive keeps may be removed; what only points to it must stay replaceable."""
        if not self._read_only_files or name.endswith(layout.LAST_CHECKPOINT):
            return {}
        return self._connection.lock_headers()


class _NewFile(NewFile):
    def __init__(self, upload: Upload) -> None:
        super().__init__()
        self._upload = upload

    def finish(self) -> None:
        self._upload.complete(self.sha256)

    def _write(self, data: bytes) -> None:
        self._upload.write(data)

    def _discard(self) -> None:
        self._upload.abort()


def _status_of(error: EventArchiveError) -> int:
    """HTTP status of a refusal; that of a server's error if the service didn't answer, 0 if nothing was sent."""
    from botocore import exceptions

    cause = error.__cause__
    if isinstance(cause, exceptions.ClientError):
        return status_of(cause)
    is_network = isinstance(cause, exceptions.HTTPClientError | exceptions.ConnectionError)
    return SERVER_ERRORS if is_network else 0


def _broken_reads() -> tuple[type[Exception], ...]:
    """What reading from a connection may raise."""
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    return (BotoCoreError, HTTPError, HTTPException, OSError)


def _sha256_of(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _pause(failures: int) -> None:
    time.sleep(min(_PAUSE_SECONDS * 2**failures, 5))
