"""Models that run here: the services `elasticsearch` and, by its old name, `elser`."""

from __future__ import annotations

from dataclasses import replace

from inferry.allocations import adaptive_problems
from inferry.domain import Endpoint, TaskType
from inferry.errors import IllegalArgument
from inferry.fields import Field, Problem, missing
from inferry.service import LocalTask, Service

_ALLOCATIONS = (
    Field(
        "num_allocations",
        "int",
        label="Number Allocations",
        help="Number of copies of the model that serve requests in parallel.",
        at_least=1,
        updatable=True,
        shown_required=True,
        shown_default=1,
    ),
    Field(
        "num_threads",
        "int",
        label="Number Threads",
        help="Threads used by one allocation for one request.",
        at_least=1,
        shown_required=True,
        shown_default=2,
    ),
)
_MODEL_ID = Field(
    "model_id",
    "str",
    label="Model ID",
    help="Built-in model or uploaded model to run.",
    shown_required=True,
    shown_default=".multilingual-e5-small",
)
_ADAPTIVE = (
    Field("adaptive_allocations.enabled", "bool", updatable=True, listed=False),
    Field("adaptive_allocations.min_number_of_allocations", "int", updatable=True, listed=False),
    Field("adaptive_allocations.max_number_of_allocations", "int", updatable=True, listed=False),
)
_DEPLOYMENT_ID = Field("deployment_id", "str", listed=False)
_LOCAL = (*_ALLOCATIONS, _MODEL_ID, *_ADAPTIVE, _DEPLOYMENT_ID)
_DENSE = (
    Field("dimensions", "int", at_least=1, listed=False),
    Field(
        "similarity",
        "str",
        choices=("cosine", "dot_product", "l2_norm"),
        listed=False,
    ),
    Field("element_type", "str", choices=("float", "byte", "bit"), listed=False),
)
_RERANK = (
    Field("long_document_strategy", "str", choices=("truncate", "chunk"), listed=False),
    Field("max_chunks_per_doc", "int", at_least=1, listed=False),
)
_RETURN_DOCUMENTS = Field("return_documents", "bool", default=True, updatable=True, listed=False)


def check(endpoint: Endpoint) -> list[Problem]:
    """Find settings that do not go together. Raises `IllegalArgument` without a model."""
    settings = endpoint.service_settings
    problems: list[Problem] = []
    if settings.get("element_type") == "bit" and settings.get("similarity", "l2_norm") != "l2_norm":
        problems.append(
            "[similarity] must be [l2_norm] for [element_type] [bit], got"
            f" [{settings['similarity']}]"
        )
    if "deployment_id" in settings:  # almost everything else is taken from the deployment
        return problems
    if "model_id" not in settings and endpoint.service == "elasticsearch":
        raise IllegalArgument("Error parsing service settings, model_id must be provided")
    if "num_threads" not in settings:
        problems.append(missing("service_settings", "num_threads"))
    if "num_allocations" not in settings and "adaptive_allocations" not in settings:
        problems.append(missing("service_settings", "num_allocations", "adaptive_allocations"))
    problems += adaptive_problems(settings.get("adaptive_allocations"))
    if "max_chunks_per_doc" in settings and settings.get("long_document_strategy") != "chunk":
        problems.append(
            "The [max_chunks_per_doc] setting requires [long_document_strategy]"
            " to be set to [chunk]"
        )
    elif settings.get("long_document_strategy") == "chunk":
        problems.append(
            "[long_document_strategy] cannot be [chunk] in this version of the server: set it to"
            " [truncate], and long documents are cut"
        )
    return problems


SERVICE = Service(
    name="elasticsearch",
    title="Elasticsearch",
    check=check,
    tasks={
        TaskType.TEXT_EMBEDDING: LocalTask((*_LOCAL, *_DENSE)),
        TaskType.SPARSE_EMBEDDING: LocalTask(_LOCAL),
        TaskType.RERANK: LocalTask((*_LOCAL, *_RERANK), (_RETURN_DOCUMENTS,)),
    },
)

ELSER = Service(
    name="elser",
    title="ELSER",
    check=check,
    tasks={
        TaskType.SPARSE_EMBEDDING: LocalTask(
            (
                _ALLOCATIONS[0],
                replace(_ALLOCATIONS[1], shown_default=1),
                replace(_MODEL_ID, listed=False),
                *_ADAPTIVE,
                _DEPLOYMENT_ID,
            )
        )
    },
    listed=False,
)
