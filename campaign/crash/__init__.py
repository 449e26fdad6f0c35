"""Every crash point of an operation: stopped, refused or robbed of what was not synced at each call that changes a file.

    operations   what is tried, and when its folder is in order
    tracing      running a piece of work under strace, in a fork
    strace       finding it
    calls        what strace wrote down, as calls with paths
    points       each changing call of an operation once: stop there, or let it fail, recover, check
    lossy_disk   the folder that a power cut may leave, rebuilt from the calls
    visibility   no commit is visible before all that it names is durable

`python -m campaign.crash --help` runs one operation in a process of its own. What doesn't live here: rows of the campaign
(`campaign.rows`).
"""
