"""`/docs`: a page that shows `/openapi.json`; ours, small, and without any network but this server.

The page itself is open, the document is not: the browser asks for credentials once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route

_FOLDER: Final = Path(__file__).parent / "pages"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def docs_routes() -> list[Route]:
    """Give the routes of the page and of what it is made of."""
    return [
        _file("/docs", "docs.html", "text/html; charset=utf-8", "Show this documentation"),
        _file("/docs/docs.css", "docs.css", "text/css; charset=utf-8", ""),
        _file("/docs/docs.js", "docs.js", "text/javascript; charset=utf-8", ""),
    ]


def _file(path: str, name: str, content_type: str, summary: str) -> Route:
    content = (_FOLDER / name).read_bytes()
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}

    async def show(request: Request) -> Answer:
        return Answer(content, content_type=content_type, headers=headers)

    return Route(
        "GET",
        path,
        show,
        None,
        render_error,
        summary,
        is_open=True,
        has_media_types=False,
        answer_type=str,
        media_types=(content_type.partition(";")[0],),
    )
