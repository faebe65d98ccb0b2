"""What an API process keeps of the answers of workers: nothing."""

from __future__ import annotations

import gc
import struct
import sys

import msgspec
import pytest

from inferry.concurrency import Nursery
from inferry.domain import Deadline, InputType, TaskType
from inferry.engine.client import LocalEngine
from inferry.engine.messages import INFER, Infer, Inferred
from inferry.ipc import listen_for_peers
from inferry.records import DeploymentRecord, DeploymentSpec, Put
from inferry.unix_sockets import listen_at

ANSWERS = {
    None: msgspec.msgpack.encode({"predicted_value": "a"}),
    TaskType.TEXT_EMBEDDING: struct.pack("<4f", 1, 2, 3, 4),
    TaskType.SPARSE_EMBEDDING: msgspec.msgpack.encode({"a": 1.0}),
    TaskType.RERANK: struct.pack("<d", 0.5),
}
LENGTHS = range(1, 17)
ROUNDS = 100


@pytest.mark.parametrize("task_type", ANSWERS)
async def test_answers_of_many_lengths_leave_nothing_behind(tmp_path, task_type):
    async def answer(body: bytes) -> bytes:
        texts = msgspec.msgpack.decode(body, type=Infer).texts
        answers = [memoryview(ANSWERS[task_type])] * len(texts)
        return msgspec.msgpack.encode(Inferred(task_type, answers, 1, []))

    async def ask_for_each_length(rounds: int) -> None:
        for length in [*LENGTHS] * rounds:
            await engine.infer("d", ["a"] * length, input_type=InputType.INGEST, deadline=deadline)

    listening = listen_at(tmp_path / "worker")
    deadline = Deadline.after(60, "60s")
    async with Nursery() as nursery:
        engine = LocalEngine(nursery)
        spec = DeploymentSpec("d", "m", num_allocations=1, num_threads=1)
        engine.apply([Put(DeploymentRecord(spec, socket=str(tmp_path / "worker")))])
        server = await listen_for_peers(listening, {INFER: answer}, nursery=nursery)
        gc.collect()  # empties what Python keeps of tuples that ended
        await ask_for_each_length(rounds=1)
        before = sys.getallocatedblocks()

        await ask_for_each_length(ROUNDS)

        left = sys.getallocatedblocks() - before
        server.close()
        (peer,) = engine._peers.values()
        peer.close()
        await peer.closed()
    assert left < ROUNDS
