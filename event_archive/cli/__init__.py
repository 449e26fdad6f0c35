"""The command line `event-archive`.

    app      the commands: arguments in, exit code out
    render   results as tables for people
    starter  the configuration that `init` writes

What doesn't live here: anything that a program would want to call; that is in the library.
"""

from event_archive.cli.app import main

__all__ = ["main"]
