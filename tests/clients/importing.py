"""eland in a process of its own, which imports the tiny models that it is told to."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clients.conftest import DRIVERS, python_of
from tests.server import Server


class Importer:
    """The process. What it imported goes when `clear` is called."""

    def __init__(self, process: subprocess.Popen[str], server: Server) -> None:
        self._process = process
        self._server = server
        self._ids: list[str] = []

    def start(self, family: str, task: str):
        """Import a model, and give what was seen; it must have gone well."""
        self._process.stdin.write(f"{family} {task}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process ended"
        seen = json.loads(line)
        assert seen["code"] == 0, seen["output"]
        self._ids.append(seen["id"])
        return seen

    def attach(self, model_id: str, task_type: str) -> str:
        """Put an endpoint on the deployment that an import started, and give its path."""
        body = {"service": "elasticsearch", "service_settings": {"deployment_id": model_id}}
        path = f"/_inference/{task_type}/on-{model_id}"
        reply = self._server.call("PUT", path, body)
        assert reply.status == 200, reply.content
        return path

    def clear(self) -> None:
        """Remove the models and their endpoints."""
        for model_id in self._ids:
            self._server.call("DELETE", f"/_inference/on-{model_id}")
            self._server.call("DELETE", f"/_ml/trained_models/{model_id}?force=true")
        self._ids.clear()


@contextmanager
def run_importer(server: Server, folder: Path) -> Iterator[Importer]:
    """Run eland with a key that has one privilege, `manage_ml`. folder: for its models."""
    python = python_of("eland")
    body = {"name": "eland", "role_descriptors": {"import": {"cluster": ["manage_ml"]}}}
    key = server.call("POST", "/_security/api_key", body).json["encoded"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [python, str(DRIVERS / "eland_models.py"), server.url, key, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield Importer(process, server)
    finally:
        process.kill()
        process.communicate()
