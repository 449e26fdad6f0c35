"""Computing tables from the archive: what is new, or everything again, now or as of any past state; the same rows every time.

What lives here: what can be asked for (`request`), the models (`manifest`, `project`), what there is to do (`plan`), past states and ranges
(`as_of`, `ranges`), running dbt (`prepare`, `dbt`), what a model must not use (`determinism`), what becomes of the build (`ending`), and all of it
in order (`run`). What doesn't: files of builds
(`event_archive.warehouse`), and the models and macros themselves (`dbt_project`).
"""
