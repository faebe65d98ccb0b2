"""What the system allows a process of ours; children inherit it."""

from __future__ import annotations

import resource


def allow_descriptors() -> None:
    """Allow as many open descriptors as the system grants without asking.

    The usual soft limit of 1,024 is below the connections that a server holds by default.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS names a hard limit that it does not grant
        return
