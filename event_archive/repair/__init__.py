"""Repair: damaged and missing files put back, byte for byte, if their hashes agree; nothing else ever replaces a file.

What doesn't live here: finding out whether an archive is whole (`event_archive.verify`).
"""
