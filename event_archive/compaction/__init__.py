"""Compaction: the small files of days that are over become few large ones, with the same events.

What doesn't live here: removing what was replaced (`event_archive.clean`).
"""
