"""Sending one object to a bucket, in parts if it is large; it becomes visible at once, whole, at the end.

At most `THREADS` parts are on their way while one is being filled, so that an object of any size takes no more than
(`THREADS` + 1) * `PART_BYTES` of memory. Each part, and an object that is sent in one piece, goes with its SHA-256, which the
service compares with what it received.

What doesn't live here: which objects there are (`s3`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from event_archive.errors import EventArchiveError, StorageError
from event_archive.storage.s3_connection import (
    CONFLICT,
    NOT_FOUND,
    PRECONDITION_FAILED,
    SERVER_ERRORS,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from event_archive.storage.s3_connection import S3Connection

PART_BYTES = 8 << 20
THREADS = 4
_MAX_PARTS = 10_000  # S3 allows no more


class Upload:
    """One object on its way."""

    def __init__(
        self,
        connection: S3Connection,
        key: str,
        *,
        replaces: bool,
        arguments: dict[str, Any],
        sha256_there: Callable[[], str],
    ) -> None:
        """Sends nothing yet.

        Args:
            connection: the bucket.
            key: of the object.
            replaces: whether an object of that name may be replaced.
            arguments: further ones of the request that creates the object.
            sha256_there: reads the object back and hashes it.
        """
        self._connection = connection
        self._key = key
        self._replaces = replaces
        self._arguments = arguments
        self._sha256_there = sha256_there
        self._filling = bytearray()
        self._upload_id: str | None = None
        self._parts: list[Future[CompletedPartTypeDef]] = []
        self._threads: ThreadPoolExecutor | None = None
        self._created_sha256: str | None = None
        """Of what is there under the name, or may be, by our doing."""

    def write(self, data: bytes) -> None:
        """Takes in further bytes; waits while too much is on its way.

        Raises:
            StorageError: a part was refused.
        """
        with memoryview(data).cast("B") as view:
            begin = 0
            while begin < len(view):
                if len(self._filling) == PART_BYTES:
                    self._send_part()
                end = begin + PART_BYTES - len(self._filling)
                self._filling += view[begin:end]
                begin = end

    def complete(self, sha256: str) -> None:
        """Makes the object visible.

        Args:
            sha256: of all that was written.

        Raises:
            StorageError: the service refused, or an object of that name is there.
        """
        from botocore.exceptions import ClientError

        try:
            if self._upload_id is None:
                self._created_sha256 = sha256
                with self._connection.errors(self._key):
                    self._put(sha256)
            else:
                self._send_part()
                parts = [part.result() for part in self._parts]
                self._stop_threads()
                self._created_sha256 = sha256
                with self._connection.errors(self._key):
                    self._complete_parts(parts)
        except EventArchiveError as error:
            cause = error.__cause__
            # A request that was repeated because its answer got lost finds its own work; and after the last attempt nobody
            # knows. What lies there says it.
            status = status_of(cause) if isinstance(cause, ClientError) else SERVER_ERRORS
            is_unsure = status in (NOT_FOUND, CONFLICT, PRECONDITION_FAILED) or status >= SERVER_ERRORS
            if not is_unsure or not self._is_there():
                raise
        self._upload_id = None

    def abort(self) -> None:
        """Removes what was sent, and the object if it was completed by us; never raises."""
        with contextlib.suppress(Exception):
            self._stop_threads()
            self._filling = bytearray()
            if self._upload_id is not None:
                self._connection.client.abort_multipart_upload(
                    Bucket=self._connection.bucket, Key=self._key, UploadId=self._upload_id
                )
                self._upload_id = None
        with contextlib.suppress(Exception):
            if self._created_sha256 is not None and not self._replaces and self._is_there():
                self._connection.client.delete_object(Bucket=self._connection.bucket, Key=self._key)
                self._created_sha256 = None

    def _is_there(self) -> bool:
        with contextlib.suppress(EventArchiveError):
            return self._sha256_there() == self._created_sha256
        return False

    def _put(self, sha256: str) -> None:
        self._connection.client.put_object(
            Bucket=self._connection.bucket,
            Key=self._key,
            Body=bytes(self._filling),
            **checksum_arguments(sha256),
            **self._condition(),
            **self._arguments,
        )

    def _complete_parts(self, parts: list[CompletedPartTypeDef]) -> None:
        self._connection.client.complete_multipart_upload(
            Bucket=self._connection.bucket,
            Key=self._key,
            UploadId=self._upload_id or "",
            MultipartUpload={"Parts": parts},
            **self._condition(),
        )

    def _condition(self) -> dict[str, Any]:
        return {} if self._replaces else {"IfNoneMatch": "*"}

    def _send_part(self) -> None:
        if self._threads is None:
            with self._connection.errors(self._key):
                answer = self._connection.client.create_multipart_upload(
                    Bucket=self._connection.bucket,
                    Key=self._key,
                    ChecksumAlgorithm="SHA256",
                    **self._arguments,
                )
            self._upload_id = answer["UploadId"]
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="upload")
        if len(self._parts) == _MAX_PARTS:
            raise StorageError(
                f"{self._connection.place(self._key)}: is larger than {_MAX_PARTS * PART_BYTES:,} bytes, the most that is "
                "sent as one object."
            )
        waiting = [part for part in self._parts if not part.done()]
        if len(waiting) >= THREADS:
            wait(waiting, return_when=FIRST_COMPLETED)
        for part in self._parts:
            if part.done():
                part.result()  # raises what went wrong, now rather than at the end
        content, self._filling = bytes(self._filling), bytearray()
        self._parts.append(self._threads.submit(self._upload_part, len(self._parts) + 1, content))

    def _upload_part(self, number: int, content: bytes) -> CompletedPartTypeDef:
        checksum = checksum_arguments(hashlib.sha256(content).hexdigest())
        with self._connection.errors(self._key):
            answer = self._connection.client.upload_part(
                Bucket=self._connection.bucket,
                Key=self._key,
                UploadId=self._upload_id or "",
                PartNumber=number,
                Body=content,
                **checksum,
            )
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum["ChecksumSHA256"]}

    def _stop_threads(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)


def checksum_arguments(sha256: str) -> Any:
    """Arguments that have the service compare what it receives with a SHA-256 in hexadecimal."""
    return {
        "ChecksumAlgorithm": "SHA256",
        "ChecksumSHA256": base64.b64encode(bytes.fromhex(sha256)).decode(),
    }
