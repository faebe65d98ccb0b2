"""What the server says to whoever started it."""

from __future__ import annotations

import sys
from shlex import quote

from inferry import __version__
from inferry.bootstrap import LOCAL_KEY_FILE
from inferry.config import Config


def tell(text: str) -> None:
    """Say something to whoever started the server."""
    sys.stdout.write(text)
    sys.stdout.flush()


def greeting(config: Config, address: tuple[str, int], *, demo: str | None = None) -> str:
    """Say where the server is, and give a command that works when it is pasted.

    demo: an endpoint that can be run.
    """
    host, port = address
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  what is bound
    shown = f"[{shown}]" if ":" in shown else shown
    url = f"{'https' if config.uses_tls else 'http'}://{shown}:{port}"
    curl = ["curl"]
    if config.server.tls_cert is not None:
        curl += ["--cacert", quote(config.server.tls_cert)]
    lines = [f"inferry {__version__} serves on {url}"]
    if config.auth.enabled:
        key_file = quote(str(config.data_dir / LOCAL_KEY_FILE))
        curl += ["-H", f'"Authorization: ApiKey $(cat {key_file})"']
    else:
        lines[0] += ", without authentication"
    if demo is None:
        curl.append(f"{url}/_inference/_services")
    else:
        curl += [f"{url}/_inference/{quote(demo)}", "-H", "'Content-Type: application/json'"]
        curl += ["-d", """'{"input": "The quick brown fox"}'"""]
    return "\n".join([*lines, "try:", f"  {' '.join(curl)}"]) + "\n"
