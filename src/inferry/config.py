"""Read the configuration: flag > `INFERRY_SECTION__KEY` > `inferry.toml` > default.

Every value keeps where it came from. Keys are those of `inferry.sections`; an unknown one is an
error that names the nearest.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from inferry.config_keys import MASK, is_secret, key_of, kind_of
from inferry.errors import InferenceError
from inferry.hosts import is_loopback
from inferry.sections import Config, Section

__all__ = ["Config", "InvalidConfig", "Loaded", "Setting", "is_loopback", "load_config"]

ENVIRONMENT_PREFIX = "INFERRY_"
SECRET_PREFIX = "INFERRY_SECRET_"  # noqa: S105  values for `${env:...}` references, not ours to read
_OTHER_VARIABLES = {
    "ELASTIC_PASSWORD": ("auth", "admin_password"),
    "ELASTIC_PASSWORD_FILE": ("auth", "admin_password"),
    "HF_ENDPOINT": ("models", "hub_url"),
    "HF_TOKEN": ("models", "hub_token"),
}
_OFFLINE = "HF_HUB_OFFLINE"
DEFAULT = "default"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")
_DURATION_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|kb|mb|gb|kib|mib|gib|)", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


class InvalidConfig(InferenceError):
    """The configuration cannot be used; the message names the key and its origin."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value as `inferry config show` presents it."""

    key: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where each of its values came from.

    origins: `section.key` to a file path, a variable, `command line` or `default`.
    file: the file that was read, None without one.
    """

    config: Config
    origins: Mapping[str, str]
    file: Path | None = None

    def settings(self) -> Iterator[Setting]:
        """List every value in the order of the reference, secrets masked."""
        for section in Config.__struct_fields__:
            values = getattr(self.config, section)
            for name, hint in hints_of(type(values)).items():
                key = f"{section}.{key_of(name)}"
                value = getattr(values, name)
                shown = (
                    MASK if value is not None and is_secret(hint) else show(value, kind_of(hint))
                )
                yield Setting(key, shown, self.origins.get(key, DEFAULT))


@dataclass(frozen=True, slots=True)
class _Given:
    """A value somebody gave. entry: the name inside a table when only that entry was given."""

    section: str
    key: str
    value: object
    origin: str
    directory: Path
    entry: str = ""
    is_text: bool = False


def load_config(
    flags: Mapping[str, str], *, environment: Mapping[str, str], working_directory: Path
) -> Loaded:
    """Read all sources and check the whole.

    flags: `section.key` to text as given on the command line; `config` names the file.
    Raises InvalidConfig.
    """
    file = _find_file(flags.get("config"), environment, working_directory)
    given = [
        *(_from_file(file) if file else ()),
        *_from_environment(environment, working_directory),
        *_from_flags(flags, working_directory),
    ]
    values: dict[str, dict[str, Any]] = {name: {} for name in Config.__struct_fields__}
    origins: dict[str, str] = {}
    for one in given:
        hint = _hint(one)
        value = _convert(one, hint)
        if one.entry:
            value = values[one.section].get(one.key, {}) | {one.entry: value}
        values[one.section][one.key] = value
        origins[f"{one.section}.{one.key}"] = one.origin
    values["server"].setdefault("data_dir", str(_default_data_dir(environment)))
    config = msgspec.convert(values, Config)
    _check(config)
    return Loaded(config, origins, file)


def hints_of(section: type[Section]) -> dict[str, Any]:
    """Map the fields of a section to their annotations."""
    hints = get_type_hints(section, include_extras=True)
    return {name: hints[name] for name in section.__struct_fields__}


def parse_duration(text: str) -> float:
    """Read `500ms`, `30s`, `2m`, `1h`, `1d` or a number of seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError("a duration is a number with ms, s, m, h or d")
    return float(match[1]) * _DURATION_UNITS[match[2]]


def parse_size(text: str) -> int:
    """Read `64KB`, `100MB`, `1GB` (powers of 1024) or a number of bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError("a size is a number of bytes or one with KB, MB or GB")
    return int(float(match[1]) * _SIZE_UNITS[match[2][:1].lower()])


def show(value: object, kind: str = "") -> str:
    """Write a value as `inferry.toml` takes it; nothing for a key that is not set."""
    if value is None:
        return ""
    if kind == "duration" and isinstance(value, float):
        return f'"{value:g}s"' if value >= 1 else f'"{value * 1000:g}ms"'
    if kind == "size" and isinstance(value, int):
        for unit, factor in (("GB", 1024**3), ("MB", 1024**2), ("KB", 1024)):
            if value and value % factor == 0:
                return f'"{value // factor}{unit}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{name}" = {show(one)}' for name, one in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(show(one) for one in value) + "]"
    return msgspec.json.encode(value).decode()


def _find_file(named: str | None, environment: Mapping[str, str], directory: Path) -> Path | None:
    if named:
        file = directory / named
        if not file.is_file():
            raise InvalidConfig(f"there is no configuration file [{file}]")
        return file
    home = Path(environment.get("HOME", "/"))
    candidates = (
        directory / "inferry.toml",
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "inferry/inferry.toml",
        Path("/etc/inferry/inferry.toml"),
    )
    return next((file for file in candidates if file.is_file()), None)


def _default_data_dir(environment: Mapping[str, str]) -> Path:
    home = Path(environment.get("HOME", "/"))
    return Path(environment.get("XDG_DATA_HOME") or home / ".local/share") / "inferry"


def _from_file(file: Path) -> Iterator[_Given]:
    try:
        sections = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidConfig(f"cannot read the configuration file [{file}]: {error}") from error
    for section, values in sections.items():
        if not isinstance(values, dict):
            raise InvalidConfig(f"[{section}] in [{file}] stands in no section")
        for key, value in values.items():
            yield _Given(section, key, value, str(file), file.parent)
        if not values:
            _section(section, str(file))


def _from_environment(environment: Mapping[str, str], directory: Path) -> Iterator[_Given]:
    yield from _from_other_programs(environment, directory)
    for variable, text in sorted(environment.items()):
        is_ours = variable.startswith(ENVIRONMENT_PREFIX) and "__" in variable
        if not is_ours or variable.startswith(SECRET_PREFIX) or not text:
            continue
        path = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        section, key, entry = (*path.split("__", 2), "")[:3]
        value = text
        plain = key.removesuffix("_file")
        if plain != key and is_secret(_keys(section, variable).get(plain)):
            if f"{ENVIRONMENT_PREFIX}{section}__{plain}".upper() in environment:
                raise InvalidConfig(f"[{variable}] and the variable without _FILE are both set")
            key, value = plain, _read_secret(text, variable, directory)
        yield _Given(section, key, value, variable, directory, entry, is_text=True)


def _from_other_programs(environment: Mapping[str, str], directory: Path) -> Iterator[_Given]:
    """Read what clients of Elasticsearch and huggingface_hub are configured with."""
    for variable, (section, key) in _OTHER_VARIABLES.items():
        if text := environment.get(variable):
            value = _read_secret(text, variable, directory) if variable.endswith("_FILE") else text
            yield _Given(section, key, value, variable, directory, is_text=True)
    if environment.get(_OFFLINE, "").upper() in ("1", "ON", "YES", "TRUE"):
        yield _Given("models", "allow_download", "never", _OFFLINE, directory, is_text=True)


def _from_flags(flags: Mapping[str, str], directory: Path) -> Iterator[_Given]:
    for name, text in flags.items():
        if name != "config":
            section, key = name.split(".", 1)
            yield _Given(section, key, text, "command line", directory, is_text=True)


def _read_secret(path: str, variable: str, directory: Path) -> str:
    try:
        return (directory / path).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"cannot read the file [{path}] of [{variable}]: {error}") from error


def _section(name: str, origin: str) -> type[Section]:
    if name not in Config.__struct_fields__:
        raise InvalidConfig(
            f"unknown section [{name}] from [{origin}]{_nearest(name, Config.__struct_fields__)}"
        )
    section: type[Section] = get_type_hints(Config)[name]
    return section


def _keys(section: str, origin: str) -> dict[str, Any]:
    hints = hints_of(_section(section, origin))
    return {key_of(name): hint for name, hint in hints.items()}


def _hint(one: _Given) -> Any:
    """Find what a given key takes; the type of an entry when only an entry was given."""
    keys = _keys(one.section, one.origin)
    if one.key not in keys:
        nearest = _nearest(one.key, tuple(keys), prefix=f"{one.section}.")
        raise InvalidConfig(f"unknown key [{one.section}.{one.key}] from [{one.origin}]{nearest}")
    hint = keys[one.key]
    if not one.entry:
        return hint
    if bare_type(hint) is not dict:
        raise InvalidConfig(f"[{one.section}.{one.key}] from [{one.origin}] has no entries")
    return str


def _nearest(name: str, known: tuple[str, ...], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean [{prefix}{close[0]}]?" if close else ""


def bare_type(hint: Any) -> Any:
    """Strip `Annotated`, `| None` and type arguments from an annotation."""
    members = get_args(hint)
    if hasattr(hint, "__metadata__"):
        return bare_type(hint.__origin__)
    if NoneType in members:
        return bare_type(members[0])
    origin = get_origin(hint)
    return origin if origin in (tuple, dict) else hint


def _convert(one: _Given, hint: Any) -> Any:
    """Turn a given value into what the key holds, or say what is wrong with it and where."""
    try:
        value = _parse(one, hint)
        return msgspec.convert(value, hint, strict=not one.is_text)
    except (ValueError, msgspec.ValidationError) as error:
        problem = str(error).split(" - at ")[0]
        shown = "" if is_secret(hint) else f", got [{one.value}]"
        raise InvalidConfig(
            f"[{one.section}.{one.key}] from [{one.origin}]: {problem}{shown}"
        ) from error


def _parse(one: _Given, hint: Any) -> object:
    value, kind, plain = one.value, kind_of(hint), bare_type(hint)
    if not isinstance(value, str):
        if kind in ("duration", "size") and isinstance(value, int | float) and value < 0:
            raise ValueError("must not be negative")
        return value
    if kind == "duration":
        return parse_duration(value)
    if kind == "size":
        return parse_size(value)
    if kind == "path" and value:
        return str((one.directory / Path(value).expanduser()).resolve())
    if one.is_text and plain is tuple:
        return [part.strip() for part in value.split(",") if part.strip()]
    if one.is_text and plain is dict:
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        return {name.strip(): entry.strip() for name, _, entry in pairs}
    return value


def _check(config: Config) -> None:
    """Refuse what is wrong between keys. Raises InvalidConfig."""
    _check_ability(config)
    server = config.server
    if (server.tls_cert is None) != (server.tls_key is None):
        raise InvalidConfig("[server.tls_cert] and [server.tls_key] go together")
    for service, origin in config.outbound.base_urls.items():
        if not origin.startswith(("http://", "https://")):
            raise InvalidConfig(
                f"[outbound.base_urls.{service}] must be an http or https origin, got [{origin}]"
            )
    if config.is_on_loopback:
        return
    if not config.auth.enabled:
        raise InvalidConfig(
            f"without authentication the server listens on loopback only, got [{server.host}]"
        )
    if not (config.uses_tls or server.allow_plaintext):
        raise InvalidConfig(
            f"[server.host] is [{server.host}]: set [server.tls_cert] and [server.tls_key], "
            "or [server.allow_plaintext] if something in front speaks TLS"
        )


def _check_ability(config: Config) -> None:
    """Refuse values that are meant for later versions: else they would do nothing, silently."""
    for is_asked, key, ability in (
        (config.engine.kind != "local", "engine.kind", "runs models on this host only"),
        (config.engine.device != "cpu", "engine.device", "runs models on processors only"),
        (config.redis.url is not None, "redis.url", "shares nothing between hosts"),
    ):
        if is_asked:
            raise InvalidConfig(f"[{key}] cannot be set yet: this version {ability}")
