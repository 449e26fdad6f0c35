"""Where events come from, one package per kind of source.

What doesn't live here: how events are kept (`event_archive.archive`).
"""
