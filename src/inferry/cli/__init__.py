"""The command line: one file per command group, imported only when the command runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `inferry` and exit with one of `inferry.cli.exits.Exit`."""
    from inferry.cli.application import build_application
    from inferry.cli.exits import CommandFailure, Exit

    try:
        build_application()(args=arguments, prog_name="inferry")
    except CommandFailure as failure:
        print(f"inferry: {failure}", file=sys.stderr)
        sys.exit(failure.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has left; there is nobody to tell.
        sys.stderr.close()
        sys.exit(Exit.OK)
    sys.exit(Exit.OK)
