"""What uses endpoints: names that callers registered, and the words that protect an endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from inferry.errors import IllegalArgument
from inferry.records import ReferenceRecord

PIPELINE, INDEX = "pipeline", "index"

_MAX_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Users:
    """The users of one endpoint, by kind, sorted."""

    pipelines: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()

    def refusal(self, inference_id: str) -> str:
        """Say why the endpoint cannot be deleted; empty when nothing uses it."""
        text = ""
        if self.pipelines:
            text += (
                f"Inference endpoint {inference_id} is referenced by pipelines: "
                f"[{', '.join(self.pipelines)}]. Ensure that no pipelines are using this inference "
                "endpoint, or use force to ignore this warning and delete the inference endpoint."
            )
        if self.indexes:
            text += (
                f" Inference endpoint {inference_id} is being used in the mapping for indexes: "
                f"[{', '.join(self.indexes)}]. Ensure that no index mappings are using this "
                "inference endpoint, or use force to ignore this warning and delete the inference "
                "endpoint."
            )
        return text


class References:
    """The registered references, by name and by the endpoint they use."""

    def __init__(self) -> None:
        self._by_name: dict[str, ReferenceRecord] = {}
        self._names: dict[str, set[str]] = {}

    def get(self, name: str) -> ReferenceRecord | None:
        """Give the reference under `name`."""
        return self._by_name.get(name)

    def put(self, record: ReferenceRecord) -> None:
        """Add `record`, in place of the one under its name."""
        self.drop(record.name)
        self._by_name[record.name] = record
        for inference_id in record.inference_ids:
            self._names.setdefault(inference_id, set()).add(record.name)

    def drop(self, name: str) -> None:
        """Forget the reference under `name`, if there is one."""
        record = self._by_name.pop(name, None)
        for inference_id in set(record.inference_ids) if record else ():
            names = self._names[inference_id]
            names.discard(name)
            if not names:
                del self._names[inference_id]

    def users(self, inference_id: str) -> Users:
        """Give what uses an endpoint."""
        names = sorted(self._names.get(inference_id, ()))
        return Users(
            pipelines=tuple(name for name in names if self._by_name[name].kind == PIPELINE),
            indexes=tuple(name for name in names if self._by_name[name].kind == INDEX),
        )

    def __iter__(self) -> Iterator[ReferenceRecord]:
        return iter(self._by_name.values())


def check_reference(name: str, kind: str, inference_ids: list[str]) -> None:
    """Refuse a reference that names nothing, or that nobody can name."""
    if not name or len(name.encode()) > _MAX_NAME_BYTES:
        raise IllegalArgument(f"[name] must have 1 to {_MAX_NAME_BYTES} bytes, got [{name[:64]}]")
    if kind not in (PIPELINE, INDEX):
        raise IllegalArgument(f"[kind] must be one of [{INDEX}, {PIPELINE}], got [{kind}]")
    if not inference_ids or not all(inference_ids):
        raise IllegalArgument("[inference_ids] must name at least one inference endpoint")
