"""POST `_inference`: run an endpoint, at once or as a stream (R10-R13)."""

from __future__ import annotations

from inferry.api.elastic.answers import result_answer
from inferry.api.elastic.errors import render_chat_error, render_error
from inferry.api.elastic.requests import read_ask
from inferry.api.elastic.streaming import render_stream_error, stream_answer
from inferry.api.exchange import Answer, Request
from inferry.api.parameters import parse_timeout
from inferry.core.inference import Ask, Inference
from inferry.core.lookup import endpoint_not_found, parse_task_type
from inferry.core.snapshot import Snapshot
from inferry.domain import TaskType
from inferry.errors import BadRequest, InferenceError, NotAuthenticated


class InferenceCalls:
    """The handlers, and how their errors look: a chat completion's have a shape of their own."""

    def __init__(self, snapshot: Snapshot, inference: Inference) -> None:
        self._snapshot = snapshot
        self._inference = inference

    async def run(self, request: Request) -> Answer:
        """Run an endpoint and give the whole result."""
        inference_id = request.path_values["inference_id"]
        asked, task_type, ask = await self._read(request, inference_id)
        result = await self._inference.run(inference_id, asked, ask)
        return await result_answer(result, task_type, queued_s=ask.receipt.queued_s)

    async def stream(self, request: Request) -> Answer:
        """Run an endpoint and give its result as it is made."""
        inference_id = request.path_values["inference_id"]
        asked, task_type, ask = await self._read(request, inference_id)
        chunks = self._inference.stream(inference_id, asked, ask)
        is_chat = task_type is TaskType.CHAT_COMPLETION
        return await stream_answer(chunks, request, is_chat=is_chat)

    def render_run_error(self, error: InferenceError, request: Request) -> Answer:
        """Render what went wrong in `run`."""
        if self._is_chat(request) and not isinstance(error, NotAuthenticated):
            return render_chat_error(error, request)
        return render_error(error, request)

    def render_stream_error(self, error: InferenceError, request: Request) -> Answer:
        """Render what went wrong in `stream` before its first event."""
        return render_stream_error(error, request, is_chat=self._is_chat(request))

    async def _read(
        self, request: Request, inference_id: str
    ) -> tuple[TaskType | None, TaskType, Ask]:
        """Give the type in the URL, the type whose parser holds, and what is asked.

        With a type in the URL a bad body is told before an unknown id, without one after it: only
        the endpoint knows then how the body is read.
        """
        asked = parse_task_type(request.path_values.get("task_type"))
        task_type = asked
        if task_type is None:
            entry = self._snapshot.get(inference_id)
            if entry is None:
                raise endpoint_not_found(inference_id)
            task_type = entry.task_type
        timeout = request.query.get("timeout")
        time_limit = None if timeout is None else parse_timeout(timeout)
        return asked, task_type, await read_ask(request, task_type, asked, time_limit)

    def _is_chat(self, request: Request) -> bool:
        """Tell whether the call is one for a chat completion."""
        try:
            asked = parse_task_type(request.path_values.get("task_type"))
        except BadRequest:
            return False
        if asked is not None:
            return asked is TaskType.CHAT_COMPLETION
        entry = self._snapshot.get(request.path_values.get("inference_id", ""))
        return entry is not None and entry.task_type is TaskType.CHAT_COMPLETION
