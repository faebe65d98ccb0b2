"""The yardstick of reads: an ASGI application that answers the bytes of a file, on bare uvicorn.

`STATIC_FILE` names the file. Run with `python -m uvicorn bench.static:application`.
"""

from __future__ import annotations

import os
from pathlib import Path

_BODY = Path(os.environ["STATIC_FILE"]).read_bytes()
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(_BODY)),
]


async def application(scope, receive, send) -> None:  # noqa: ANN001  the types of ASGI are no ones
    """Answer everything."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
