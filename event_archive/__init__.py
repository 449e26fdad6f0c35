"""Keeps raw event streams in an immutable Parquet archive.

What lives here: reading sources, committing, proving, replaying and querying the archive.
What doesn't: scheduling (`orchestration`) and table models (`dbt_project`).
"""

__version__ = "0.1.0"
