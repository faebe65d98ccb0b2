"""What a model package says of itself: `<package>.metadata.json` of a repository. Pure.

It was written by a stranger: nothing of it is taken that has not the kind and the range it must
have. Format: that of Elastic's model repository, as Elasticsearch 9 reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from inferry.errors import BadRequest, UnreadableReply
from inferry.inference_configs import complete_inference_config
from inferry.modeling import MODEL_TYPES

CONFIG_VERSION = (12, 0, 0)
"""The version of model configurations that this server speaks, that of Elasticsearch since 8.13."""

MOST_BYTES = 10_000 * 1024 * 1024
"""The largest module: as many parts of a MiB as Elasticsearch takes."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_VOCABULARY_FILE = re.compile(r"[A-Za-z0-9][\w.-]{0,120}\.json", re.ASCII)
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:[-.].*)?", re.ASCII)
_MAX_TOKENS = 2**20

Tokens = Annotated[int, Meta(ge=-1, le=_MAX_TOKENS)]
Line = Annotated[str, Meta(max_length=1000)]


class GivenTokenization(msgspec.Struct, omit_defaults=True):
    """A block of `tokenization`, without the defaults."""

    do_lower_case: bool | None = None
    with_special_tokens: bool | None = None
    max_sequence_length: Tokens | None = None
    truncate: Line | None = None
    span: Tokens | None = None
    add_prefix_space: bool | None = None


class GivenConfig(msgspec.Struct, omit_defaults=True):
    """The inference config of a task that endpoints run, without the defaults."""

    tokenization: dict[str, GivenTokenization] | None = None
    results_field: Line | None = None
    embedding_size: Tokens | None = None
    expansion_type: Line | None = None
    span_score_combination_function: Line | None = None


class Prefixes(msgspec.Struct, omit_defaults=True):
    """What stands before texts."""

    ingest: Line | None = None
    search: Line | None = None


class Description(msgspec.Struct, omit_defaults=True):
    """A package. size, sha256: of its module. Unknown members are ignored."""

    packaged_model_id: str
    size: Annotated[int, Meta(ge=-(2**62), le=2**62)]
    sha256: str
    vocabulary_file: str
    inference_config: dict[str, GivenConfig]
    model_type: str = ""
    minimum_version: str = ""
    description: Line | None = None
    tags: Annotated[list[Line], Meta(max_length=100)] = []
    metadata: dict[str, Any] | None = None
    prefix_strings: Prefixes | None = None
    platform_architecture: Line | None = None


def read_description(content: bytes, package: str) -> Description:
    """Read the description of `package` and check it.

    Raises `UnreadableReply` for one that cannot be right, and `BadRequest` for a package that needs
    a newer server.
    """
    try:
        found = msgspec.json.decode(content, type=Description)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UnreadableReply(
            f"Failed to load package metadata: [{package}.metadata.json] cannot be read: {error}"
        ) from error
    found.sha256 = found.sha256.lower()
    if problem := _problem(found, package):
        raise UnreadableReply(problem)
    if _version(found.minimum_version) > CONFIG_VERSION:
        raise BadRequest(
            f"The model package [{package}] requires the configuration version"
            f" [{found.minimum_version}] or higher, this server has [12.0.0]"
        )
    return found


def config_of(described: Description) -> Mapping[str, Any]:
    """Give the inference config with its defaults. Raises `BadRequest`."""
    return complete_inference_config(msgspec.to_builtins(described.inference_config))


def _problem(found: Description, package: str) -> str:
    """Find what is wrong with a description, nothing when all is well."""
    if found.packaged_model_id != package:
        shown = found.packaged_model_id[:64]
        return f"Invalid package name: expected [{package}], got [{shown!a}]"
    if not 0 < found.size <= MOST_BYTES:
        return f"Invalid package size: [{found.size}] must be from [1] to [{MOST_BYTES}]"
    if not _SHA256.fullmatch(found.sha256):
        return f"Invalid package sha: [{package}] must have 64 hexadecimal digits"
    if not _VOCABULARY_FILE.fullmatch(found.vocabulary_file):
        return f"Invalid [vocabulary_file] of the package [{package}]: it must name a JSON file"
    if found.minimum_version and not _VERSION.fullmatch(found.minimum_version):
        return f"Invalid [minimum_version] of the package [{package}]: it must be like [1.2.3]"
    if found.model_type != "pytorch":
        return f"Invalid [model_type] of the package [{package}]: it must be [pytorch]"
    return _config_problem(found, package)


def _config_problem(found: Description, package: str) -> str:
    tasks, known = list(found.inference_config), list(MODEL_TYPES.values())
    if len(tasks) != 1 or tasks[0] not in known:
        return f"Invalid [inference_config] of the package [{package}]: it must have one of {known}"
    try:
        config_of(found)
    except BadRequest as error:
        return f"Invalid [inference_config] of the package [{package}]: {error}"
    return ""


def _version(text: str) -> tuple[int, ...]:
    match = _VERSION.fullmatch(text)
    return tuple(map(int, match.groups())) if match else ()
