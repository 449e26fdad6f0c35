"""The archive itself: its log, its data files and the commit that joins them.

What doesn't live here: where events come from (`event_archive.sources`) and who reads them.
"""
