"""Where an archive lies: a folder on a local disk, or a prefix of an S3 bucket, behind one interface (`store.Store`).

What doesn't live here: what the files mean (`event_archive.archive`).
"""
