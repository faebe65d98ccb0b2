"""Watches what every Python process of a server connects to: a `sitecustomize` for PYTHONPATH.

Each process notes names that it looks up and addresses that it connects to in a file of its own.
"""

import os
import sys

FOLDER = "{folder}"


def note(event: str, arguments: tuple[object, ...]) -> None:
    """Write down an event that leads out of the process."""
    match event:
        case "socket.connect" | "socket.sendto" | "socket.sendmsg":
            place = arguments[1]
        case "socket.getaddrinfo" | "socket.gethostbyname" | "socket.getnameinfo":
            place = arguments[0]
        case _:
            return
    if place is None or (isinstance(place, str | bytes) and str(place).startswith("/")):
        return  # a connection that stands, or a local socket
    with open(f"{FOLDER}/{os.getpid()}", "a") as journal:  # noqa: PTH123  it must not import
        journal.write(f"{place!r}\n")


sys.addaudithook(note)
