"""The security calls: API keys, users, roles, and what a caller may do.

They read the records of this process and have the supervisor write. Which privilege an action
needs is the gate's to know.
"""

from __future__ import annotations

from typing import Final

from inferry.api.exchange import ErrorAnswer, Route
from inferry.api.security.api_keys import api_key_calls
from inferry.api.security.call import ACTION
from inferry.api.security.callers import caller_calls
from inferry.api.security.roles import role_calls
from inferry.api.security.users import user_calls
from inferry.core.access import Access
from inferry.protocols import Writer
from inferry.security.gate import CredentialGate

MAX_BODY_BYTES: Final = 1024 * 1024
_REFRESH: Final = frozenset({"refresh"})


def security_routes(
    access: Access, writer: Writer, gate: CredentialGate, render_error: ErrorAnswer
) -> list[Route]:
    """Give the routes below `/_security`; a server without authentication has none of them."""
    calls = [
        *caller_calls(access, gate),
        *api_key_calls(access, writer, gate),
        *user_calls(access, writer, gate),
        *role_calls(writer, gate),
    ]
    return [
        Route(
            method,
            f"/_security/{call.path}",
            call.handler,
            None if call.action is None else f"{ACTION}{call.action}",
            render_error,
            call.summary,
            parameters=call.parameters | (_REFRESH if method != "GET" else frozenset()),
            takes_body=call.body is not None,
            max_body_bytes=MAX_BODY_BYTES,
            body_type=call.body,
            answer_type=call.answer,
            further_answers={} if call.missing is None else {404: call.missing},
        )
        for call in calls
        for method in call.methods.split()
    ]
