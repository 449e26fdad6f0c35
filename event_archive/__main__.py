"""`python -m event_archive` is `event-archive`."""

from event_archive.cli import main

if __name__ == "__main__":
    main()
