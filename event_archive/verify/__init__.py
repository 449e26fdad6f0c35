"""Proof that an archive is whole: every byte of it is read and held against the log, and the log against itself.

What doesn't live here: mending what is found (`event_archive.repair`). `docs/verify.md` says what is proved, and what isn't.
"""

from __future__ import annotations

from event_archive.verify.findings import Damage, VerifyReport
from event_archive.verify.scope import Scope, parse_share, parse_since
from event_archive.verify.stream import verify_stream, verify_table

__all__ = ["Damage", "Scope", "VerifyReport", "parse_share", "parse_since", "verify_stream", "verify_table"]
