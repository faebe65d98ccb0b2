"""What can be configured: one Struct per section of `inferry.toml`, with the help of every key.

A field is named after its key; durations carry the suffix `_s` here and none in the file. The
reference in `docs/configuration.md` is generated from these Structs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_type_hints

import msgspec
from msgspec import Meta

from inferry.config_keys import KIB, MASK, MIB, Duration, FilePath, Secret, Size, is_secret, key_of
from inferry.hosts import is_loopback


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=key_of):
    """A section; its `repr` masks secrets."""

    def __repr__(self) -> str:
        hints = get_type_hints(type(self), include_extras=True)
        shown = ", ".join(
            f"{name}={MASK if value is not None and is_secret(hints[name]) else repr(value)}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{type(self).__name__}({shown})"


class ServerSection(Section, frozen=True):
    """Where the server listens and what it keeps where."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    ] = 9210
    workers: Annotated[int, Meta(ge=1, le=256, description="API processes on this host.")] = 1
    data_dir: Annotated[
        FilePath,
        Meta(
            description="Directory of the store, the master key and the local API key, mode 0700."
        ),
    ] = ""
    tls_cert: Annotated[
        FilePath | None, Meta(description="PEM file with the certificate chain; needs `tls_key`.")
    ] = None
    tls_key: Annotated[
        FilePath | None, Meta(description="PEM file with the private key of `tls_cert`.")
    ] = None
    allow_plaintext: Annotated[
        bool, Meta(description="Listen without TLS on an address that is not loopback.")
    ] = False
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Addresses or networks whose `X-Forwarded-*` headers are believed."),
    ] = ()
    max_body_bytes: Annotated[
        Size, Meta(description="Largest request body, after decompression; more is 413.")
    ] = 100 * MIB
    version: Annotated[
        str,
        Meta(
            pattern=r"^\d+\.\d+\.\d+$",
            description="Elasticsearch version that `GET /` announces to clients.",
        ),
    ] = "9.5.1"
    drain_timeout_s: Annotated[
        Duration, Meta(description="Time that running requests get after SIGTERM.")
    ] = 30.0


class SecretsSection(Section, frozen=True):
    """References to secrets that are kept outside the store."""

    path: Annotated[
        FilePath | None,
        Meta(description="Directory of `${file:NAME}` references; without it they are refused."),
    ] = None
    reserve_s: Annotated[
        Duration,
        Meta(
            description="How long a secret that `_update` replaced is used where the provider "
            "refuses the new one with 401 or 403; 0 keeps none."
        ),
    ] = 3600.0


class AuthSection(Section, frozen=True):
    """Who may enter."""

    enabled: Annotated[
        bool, Meta(description="Ask for credentials. `false` is possible on loopback only.")
    ] = True
    admin_user: Annotated[
        str, Meta(min_length=1, description="Name of the built-in superuser.")
    ] = "elastic"
    admin_password: Annotated[
        Secret | None,
        Meta(
            description="Password of the built-in superuser, also taken from `ELASTIC_PASSWORD`; "
            "without it the first start makes one and prints it once."
        ),
    ] = None


class StoreSection(Section, frozen=True):
    """Where endpoints, keys and users are kept."""

    url: Annotated[
        Secret | None,
        Meta(description="SQLAlchemy URL of an SQLite file; without it one in `server.data_dir`."),
    ] = None


class RedisSection(Section, frozen=True):
    """Limits and cache shared by several hosts: not in this version."""

    url: Annotated[
        Secret | None, Meta(description="URL of a Redis or Valkey server; refused by this version.")
    ] = None


class EngineSection(Section, frozen=True):
    """How local models run (extra `local`)."""

    kind: Annotated[
        Literal["local", "ray"],
        Meta(description="Workers on this host; `ray` is refused by this version."),
    ] = "local"
    device: Annotated[
        Literal["cpu", "cuda"],
        Meta(description="Where models run; `cuda` is refused by this version."),
    ] = "cpu"
    precision: Annotated[
        Literal["auto", "f32", "bf16", "int8"],
        Meta(
            description="Arithmetic; `auto` is bf16 where the processor has it and a model stays "
            "close to f32 with it (cosine 0.999), with sums at f32 where that takes it, else f32. "
            "What `inferry models quantize` made is int8 whatever stands here."
        ),
    ] = "auto"
    threads: Annotated[
        int, Meta(ge=0, description="Cores that all models together may use; 0 means all.")
    ] = 0
    memory_limit: Annotated[
        Size | None,
        Meta(
            description="Memory of one model worker before it is ended; unset means three quarters "
            "of what the machine, or the control group, has; 0 sets no limit."
        ),
    ] = None
    start_timeout_s: Annotated[
        Duration,
        Meta(gt=0, description="Time limit to load a model, and before that to convert it."),
    ] = 900.0
    idle_time_s: Annotated[
        Duration,
        Meta(
            gt=0,
            description="Without a request for so long, a deployment whose adaptive allocations may"
            " fall to none has none; looked at every ten seconds.",
        ),
    ] = 900.0
    allow_unsandboxed: Annotated[
        bool, Meta(description="Run uploaded models where the sandbox cannot be had.")
    ] = False


RepositoryUrl = Annotated[str, Meta(pattern=r"^(?:https?://[^@?#\s]+|file:///[^?#\s]+)$")]
"""A repository of model packages: no user, no password and no query."""


class ModelsSection(Section, frozen=True):
    """Where local models come from (extra `local`)."""

    path: Annotated[
        FilePath | None, Meta(description="Directory below which model paths resolve.")
    ] = None
    aliases: Annotated[
        dict[str, str],
        Meta(
            description="Model id, built-in or your own, to a hub id, an absolute directory or the"
            " URL of a package repository."
        ),
    ] = {}
    repository: Annotated[
        RepositoryUrl | None,
        Meta(
            description="URL of a package repository (`https`, `http`, `file`), for built-in ids"
            " that come from nowhere else and other ids that begin with a dot.",
        ),
    ] = None
    allow_download: Annotated[
        Literal["never", "builtin", "any"],
        Meta(
            description="What is downloaded: nothing at all, also when `HF_HUB_OFFLINE` is set; for"
            " requests only built-in ids and aliases; or any hub id."
        ),
    ] = "any"
    hub_url: Annotated[
        str,
        Meta(
            pattern=r"^https?://[^@\s]+$",
            description="The hub that models come from, also taken from `HF_ENDPOINT`.",
        ),
    ] = "https://huggingface.co"
    hub_token: Annotated[
        Secret | None,
        Meta(description="Token for the hub, sent nowhere else; also taken from `HF_TOKEN`."),
    ] = None


class InferenceSection(Section, frozen=True):
    """How requests and new endpoints are treated."""

    skip_validate_and_start: Annotated[
        bool,
        Meta(description="PUT and `_update` store without a probe of the provider or a start."),
    ] = False
    preload: Annotated[
        tuple[str, ...], Meta(description="Endpoints whose local models are loaded at start.")
    ] = ()
    timeout_s: Annotated[
        Duration, Meta(gt=0, description="Time limit of a request that names none.")
    ] = 30.0
    completion_timeout_s: Annotated[
        Duration, Meta(gt=0, description="The same for `completion` and `chat_completion`.")
    ] = 120.0


class OutboundSection(Section, frozen=True):
    """How providers are called."""

    base_urls: Annotated[
        dict[str, str], Meta(description="Service name to an origin that replaces its default.")
    ] = {}
    allow_private_networks: Annotated[
        bool | None,
        Meta(
            description="Call loopback and private addresses, also by plain `http`; "
            "unset means: only while the server itself listens on loopback."
        ),
    ] = None
    allow_hosts: Annotated[
        tuple[str, ...],
        Meta(description="If set, the only hosts that can be called; `*.example.org` matches."),
    ] = ()
    proxy: Annotated[Secret | None, Meta(description="URL of an HTTP proxy for all calls.")] = None
    ca_file: Annotated[
        FilePath | None, Meta(description="PEM file of additional certificate authorities.")
    ] = None
    connect_timeout_s: Annotated[
        Duration, Meta(gt=0, description="Time limit of a connection attempt.")
    ] = 5.0
    stream_idle_timeout_s: Annotated[
        Duration, Meta(gt=0, description="Longest silence within a stream.")
    ] = 60.0
    max_response_bytes: Annotated[
        Size, Meta(gt=0, description="Largest answer of a provider that is read.")
    ] = 50 * MIB
    queue_capacity: Annotated[
        int, Meta(ge=1, description="Requests that may wait for one rate limit; more is 429.")
    ] = 2000
    max_pending_bytes: Annotated[
        Size,
        Meta(
            gt=0,
            description="Memory for the inputs of requests that wait for providers, "
            "per API process; more is 429.",
        ),
    ] = 256 * MIB
    max_connections: Annotated[
        int, Meta(ge=1, description="Connections to providers, per API process.")
    ] = 500


class LimitsSection(Section, frozen=True):
    """What one client may take of the server."""

    max_connections: Annotated[
        int, Meta(ge=1, description="Open connections per API process; more is 503.")
    ] = 10_000
    max_connections_per_address: Annotated[
        int,
        Meta(
            ge=0,
            description="Open connections of one address per API process; more is 503. 0 for no "
            "such limit; behind a proxy all have its address.",
        ),
    ] = 0
    max_header_bytes: Annotated[
        Size, Meta(ge=1024, description="Request line and headers together.")
    ] = 64 * KIB
    header_timeout_s: Annotated[
        Duration, Meta(gt=0, description="Time to send the headers of a request.")
    ] = 30.0
    body_timeout_s: Annotated[
        Duration,
        Meta(
            gt=0,
            description="Time to send a body; one that takes longer must go on with at least a "
            "kilobyte a second.",
        ),
    ] = 60.0
    max_pending_body_bytes: Annotated[
        Size,
        Meta(
            gt=0,
            description="Memory for the bodies of requests under way, after decompression, "
            "per API process; more is 429.",
        ),
    ] = 256 * MIB
    idle_timeout_s: Annotated[
        Duration, Meta(gt=0, description="How long a connection may rest between requests.")
    ] = 75.0


class CacheSection(Section, frozen=True):
    """Embeddings that were computed before."""

    max_bytes: Annotated[
        Size, Meta(description="Memory for cached embeddings, per API process; 0 keeps none.")
    ] = 0


class TelemetrySection(Section, frozen=True):
    """Logs and metrics."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least level logged.")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"],
        Meta(description="`auto` is `console` on a terminal, else `json`. Always to stderr."),
    ] = "auto"
    requests: Annotated[
        Literal["all", "failed", "none"],
        Meta(
            description="Requests that get a line, of level `info`: how they ended and how long "
            "they took."
        ),
    ] = "all"


class AuditSection(Section, frozen=True):
    """Who failed to enter, what was denied, who changed what: one JSON object per line."""

    enabled: Annotated[bool, Meta(description="Write the audit log.")] = True
    path: Annotated[
        FilePath | None,
        Meta(
            description="File of the newest lines, mode 0600; without it `audit.log` in "
            "`server.data_dir`."
        ),
    ] = None
    max_bytes: Annotated[
        Size,
        Meta(
            ge=4096, description="Size at which the file becomes `<path>.1` and a new one begins."
        ),
    ] = 64 * MIB
    max_files: Annotated[
        int, Meta(ge=1, le=1000, description="Former files that are kept; the oldest goes.")
    ] = 8


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All sections. Encodable, since the supervisor hands it to its children."""

    server: ServerSection = ServerSection()
    secrets: SecretsSection = SecretsSection()
    auth: AuthSection = AuthSection()
    store: StoreSection = StoreSection()
    redis: RedisSection = RedisSection()
    engine: EngineSection = EngineSection()
    models: ModelsSection = ModelsSection()
    inference: InferenceSection = InferenceSection()
    outbound: OutboundSection = OutboundSection()
    limits: LimitsSection = LimitsSection()
    cache: CacheSection = CacheSection()
    telemetry: TelemetrySection = TelemetrySection()
    audit: AuditSection = AuditSection()

    @property
    def data_dir(self) -> Path:
        """The data directory as a path."""
        return Path(self.server.data_dir)

    @property
    def is_on_loopback(self) -> bool:
        """Whether the server listens on a loopback address only."""
        return is_loopback(self.server.host)

    @property
    def uses_tls(self) -> bool:
        """Whether the server speaks TLS."""
        return self.server.tls_cert is not None

    @property
    def allows_private_networks(self) -> bool:
        """Whether private and loopback addresses may be called."""
        allowed = self.outbound.allow_private_networks
        return self.is_on_loopback if allowed is None else allowed
