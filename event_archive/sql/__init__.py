"""SQL over the archive: the views that show it, the sandbox that analysts' queries run in, and how results are written.

What doesn't live here: which files belong to a stream (`event_archive.archive`), how tables are built (`dbt_project`).
"""
