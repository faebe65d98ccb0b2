"""Chunking settings of an endpoint: what is accepted, and the form in which it is kept.

They are validated, stored and returned; running an endpoint never chunks its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from inferry.domain import Json
from inferry.errors import IllegalArgument, InvalidSettings
from inferry.fields import missing
from inferry.java_text import java_text

_SCOPE = "chunking_settings"
_MAX_INTEGER = 2**31 - 1
_MAX_SEPARATORS = 50

DEFAULT_CHUNKING: Mapping[str, Json] = MappingProxyType(
    {"strategy": "sentence", "max_chunk_size": 250, "sentence_overlap": 1}
)

_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "markdown": (
            *(f"\n{'#' * level} " for level in range(1, 7)),
            r"\n^(?!\s*$).*\n-{1,}\n",
            r"\n^(?!\s*$).*\n={1,}\n",
        ),
        "plaintext": (r"(?<!\n)\n\n(?!\n)", r"(?<!\n)\n(?!\n)"),
    }
)


def resolve_chunking(given: Json) -> dict[str, Json]:
    """Validate chunking settings and give them with defaults and separators filled in.

    None and `{}` give the default. Raises `IllegalArgument` for the strategy, `InvalidSettings`
    with all other problems.
    """
    if given is None or given == {}:
        return dict(DEFAULT_CHUNKING)
    if not isinstance(given, dict):
        raise InvalidSettings.of([_wrong_type(_SCOPE, given, "Map")])
    name = given.get("strategy")
    if name is None:
        raise IllegalArgument("Can't generate Chunker without ChunkingStrategy provided")
    strategy = name.strip().lower() if isinstance(name, str) else ""
    read = _STRATEGIES.get(strategy)
    if read is None:
        raise IllegalArgument(f"Invalid chunkingStrategy {java_text(name)}")
    problems: list[str] = []
    settings = read(given, problems)
    if problems:
        raise InvalidSettings.of(problems)
    return {"strategy": strategy, **settings}


def _sentence(given: dict[str, Json], problems: list[str]) -> dict[str, Json]:
    _refuse_others(given, ("max_chunk_size", "sentence_overlap"), "Sentence based", problems)
    size = _size(given, 20, problems)
    overlap = _integer(given, "sentence_overlap", problems)
    if overlap is None:
        overlap = 1
    elif overlap not in (0, 1):
        problems.append(f"sentence_overlap[{overlap}] must be either 0 or 1")
    return {"max_chunk_size": size, "sentence_overlap": overlap}


def _word(given: dict[str, Json], problems: list[str]) -> dict[str, Json]:
    _refuse_others(given, ("max_chunk_size", "overlap"), "Word based", problems)
    size = _size(given, 10, problems)
    if given.get("overlap") is None:
        problems.append(_missing("overlap"))
        return {}
    overlap = _integer(given, "overlap", problems)
    if overlap is not None and overlap < 0:
        problems.append(_too_small("overlap", overlap, 0))
    elif overlap is not None and size is not None and overlap > size // 2:
        problems.append(
            f"[{_SCOPE}] Invalid value [{float(overlap)}]. [overlap] must be a less than or equal "
            f"to [{float(size // 2)}]"
        )
    return {"max_chunk_size": size, "overlap": overlap}


def _recursive(given: dict[str, Json], problems: list[str]) -> dict[str, Json]:
    _refuse_others(
        given, ("max_chunk_size", "separators", "separator_group"), "Recursive", problems
    )
    size = _size(given, 10, problems)
    separators, group = given.get("separators"), given.get("separator_group")
    if separators is not None and group is not None:
        problems.append(
            "Recursive chunking settings can not have both separators and separator_set"
        )
    elif separators is not None:
        return {"max_chunk_size": size, "separators": _separators(separators, problems)}
    elif group is not None:
        return {"max_chunk_size": size, "separators": _group(group, problems)}
    return {"max_chunk_size": size, "separators": list(_GROUPS["plaintext"])}


def _none(given: dict[str, Json], problems: list[str]) -> dict[str, Json]:
    # Upstream names the sentence strategy here too.
    _refuse_others(given, (), "Sentence based", problems)
    return {}


_STRATEGIES: Mapping[str, Callable[[dict[str, Json], list[str]], dict[str, Json]]] = (
    MappingProxyType({"sentence": _sentence, "word": _word, "recursive": _recursive, "none": _none})
)


def _refuse_others(
    given: dict[str, Json], known: tuple[str, ...], kind: str, problems: list[str]
) -> None:
    others = [name for name in given if name != "strategy" and name not in known]
    if others:
        problems.append(
            f"{kind} chunking settings can not have the following settings: [{', '.join(others)}]"
        )


def _size(given: dict[str, Json], at_least: int, problems: list[str]) -> int | None:
    if given.get("max_chunk_size") is None:
        problems.append(_missing("max_chunk_size"))
        return None
    size = _integer(given, "max_chunk_size", problems)
    if size is None:
        return None
    if size <= 0:
        problems.append(
            f"[{_SCOPE}] Invalid value [{size}]. [max_chunk_size] must be a positive integer"
        )
        return None
    if size < at_least:
        problems.append(_too_small("max_chunk_size", size, at_least))
        return None
    return size


def _integer(given: dict[str, Json], name: str, problems: list[str]) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_INTEGER:
        problems.append(_wrong_type(name, value, "Integer"))
        return None
    return value


def _separators(value: Json, problems: list[str]) -> list[Json]:
    if not isinstance(value, list):
        problems.append(_wrong_type("separators", value, "List"))
        return []
    if not value:
        problems.append("Recursive chunking settings can not have an empty list of separators")
    if len(value) > _MAX_SEPARATORS:
        problems.append(
            f"[{_SCOPE}] Invalid value [{len(value)}]. The number of [separators] "
            f"must not exceed [{_MAX_SEPARATORS}]"
        )
    wrong = [item for item in value if not isinstance(item, str)]
    problems.extend(_wrong_type("separators", item, "String") for item in wrong)
    return value


def _group(value: Json, problems: list[str]) -> list[Json]:
    if not isinstance(value, str):
        problems.append(_wrong_type("separator_group", value, "String"))
        return []
    group = _GROUPS.get(value.strip().lower())
    if group is None:
        problems.append(
            f"[{_SCOPE}] Invalid value [{value}] received. [separator_group] must be one of "
            f"[{', '.join(sorted(_GROUPS))}]"
        )
        return []
    return list(group)


def _missing(name: str) -> str:
    return str(missing(_SCOPE, name))


def _too_small(name: str, value: int, at_least: int) -> str:
    return (
        f"[{_SCOPE}] Invalid value [{float(value)}]. [{name}] must be a greater than or equal to "
        f"[{float(at_least)}]"
    )


def _wrong_type(name: str, value: Json, expected: str) -> str:
    return (
        f"field [{name}] is not of the expected type. The value [{java_text(value)}] "
        f"cannot be converted to a [{expected}]"
    )
