"""Decompressing a `.gz` or `.zst` file in bounded memory, up to the very byte at which it is damaged or cut.

What doesn't live here: what the bytes mean (`reading`).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, BinaryIO, Protocol

import zstandard

from event_archive.errors import SourceProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Small enough that even the densest input (1:1,000 in gzip, 1:32,000 in zstd) decompresses to a bounded block.
_GZIP_INPUT_BYTES = 4096
_ZSTD_INPUT_BYTES = 512
_GZIP_MEMBER = 16 + zlib.MAX_WBITS


class Damaged(SourceProblem):
    """The compressed stream is damaged or cut; everything before that point has been given."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def decompressed(file: BinaryIO, path: str, plain_bytes: int) -> Iterator[bytes]:
    """Yields the decompressed bytes of `file`, whose kind its name tells; others are yielded as they are, `plain_bytes` at a time.

    Several members (frames) one after the other are one stream, as `gzip` and `zstd` have it.

    Raises:
        Damaged: after all bytes before the damage were yielded.
    """
    if path.endswith(".gz"):
        # Zero bytes pad members on tapes and by some tools; gzip ignores them too.
        return _members(file, lambda: zlib.decompressobj(_GZIP_MEMBER), _GZIP_INPUT_BYTES, padding=b"\0")
    if path.endswith(".zst"):
        return _members(
            file, lambda: zstandard.ZstdDecompressor().decompressobj(), _ZSTD_INPUT_BYTES, padding=b""
        )
    return iter(lambda: file.read(plain_bytes), b"")


def _members(
    file: BinaryIO, new: Callable[[], _Decompressor], input_bytes: int, *, padding: bytes
) -> Iterator[bytes]:
    member: _Decompressor | None = None
    member_start = at = 0
    while chunk := file.read(input_bytes):
        at += len(chunk)
        while chunk:
            if member is None:
                chunk = chunk.lstrip(padding) if padding else chunk
                if not chunk:
                    break
                member, member_start = new(), at - len(chunk)
            try:
                data = member.decompress(chunk)
            except (zlib.error, zstandard.ZstdError) as error:
                damaged_at = at - len(chunk)
                yield from _salvage(file, new(), member_start, damaged_at)
                raise Damaged(
                    f"can't be decompressed beyond byte {damaged_at} of the file ({error})"
                ) from error
            if data:
                yield data
            if not member.eof:
                break
            chunk, member = member.unused_data, None
    if member is not None:
        raise Damaged(f"is cut: the file ends at byte {at} in the middle of its compressed data")


def _salvage(file: BinaryIO, member: _Decompressor, member_start: int, damaged_at: int) -> Iterator[bytes]:
    """What the failed chunk gives before its damage: the member once more, and that chunk byte by byte.

    A decompressor that fails keeps to itself what it had decoded in that call.
    """
    file.seek(member_start)
    while (ahead := damaged_at - file.tell()) > 0:
        member.decompress(file.read(min(ahead, _ZSTD_INPUT_BYTES)))
    while byte := file.read(1):
        try:
            data = member.decompress(byte)
        except (zlib.error, zstandard.ZstdError):
            return
        if data:
            yield data
