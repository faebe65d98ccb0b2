"""How a command ends."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, stable since scripts rely on them."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_AUTHORISED = 4
    UNREACHABLE = 5


class CommandFailure(Exception):
    """A command that did not do its work; the message is for the person who typed it."""

    def __init__(self, message: str, exit_code: Exit = Exit.FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(status: int) -> Exit:
    """Translate an HTTP status."""
    if status < 400:
        return Exit.OK
    if status == 404:
        return Exit.NOT_FOUND
    return Exit.NOT_AUTHORISED if status in (401, 403) else Exit.FAILURE
