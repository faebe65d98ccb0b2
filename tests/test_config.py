"""Configuration: sources, their order, and what is said when a value is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from inferry.cli.config_reference import render_reference
from inferry.config import Config, InvalidConfig, Loaded, load_config, parse_duration, parse_size

ROOT = Path(__file__).parent.parent


def load(
    directory: Path,
    *,
    file: str | None = None,
    flags: dict[str, str] | None = None,
    **environment: str,
) -> Loaded:
    if file is not None:
        (directory / "inferry.toml").write_text(file)
    known = {"HOME": str(directory / "home")} | environment
    return load_config(flags or {}, environment=known, working_directory=directory)


def test_without_any_source_the_defaults_hold(tmp_path):
    loaded = load(tmp_path)

    assert loaded.config.server.port == 9210
    assert loaded.config.data_dir == tmp_path / "home/.local/share/inferry"
    assert loaded.file is None
    assert {setting.origin for setting in loaded.settings()} == {"default"}


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(tmp_path):
    file = "[server]\nport = 1\nworkers = 2\n[cache]\nmax_bytes = 5\n"

    loaded = load(
        tmp_path,
        file=file,
        flags={"server.port": "3"},
        INFERRY_SERVER__PORT="2",
        INFERRY_SERVER__WORKERS="4",
    )

    assert loaded.config.server.port == 3
    assert loaded.config.server.workers == 4
    assert loaded.config.cache.max_bytes == 5
    assert loaded.config.server.host == "127.0.0.1"
    assert loaded.origins["server.port"] == "command line"
    assert loaded.origins["server.workers"] == "INFERRY_SERVER__WORKERS"
    assert loaded.origins["cache.max_bytes"] == str(tmp_path / "inferry.toml")


def test_the_file_of_the_flag_is_read_instead_of_the_others(tmp_path):
    (tmp_path / "other.toml").write_text("[server]\nport = 7\n")

    loaded = load(tmp_path, file="[server]\nworkers = 3\n", flags={"config": "other.toml"})

    assert loaded.config.server.port == 7
    assert loaded.config.server.workers == 1
    assert loaded.file == tmp_path / "other.toml"


def test_the_file_below_xdg_config_home_is_found(tmp_path):
    folder = tmp_path / "xdg/inferry"
    folder.mkdir(parents=True)
    (folder / "inferry.toml").write_text("[server]\nport = 8\n")

    loaded = load(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg"))

    assert loaded.config.server.port == 8


def test_the_data_directory_follows_xdg_data_home(tmp_path):
    loaded = load(tmp_path, XDG_DATA_HOME="/srv/shared")

    assert loaded.config.data_dir == Path("/srv/shared/inferry")


def test_paths_in_a_file_are_relative_to_it_and_others_to_the_working_directory(tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "server.toml").write_text('[secrets]\npath = "secrets"\n')

    loaded = load(tmp_path, flags={"config": "etc/server.toml"}, INFERRY_OUTBOUND__CA_FILE="ca.pem")

    assert loaded.config.secrets.path == str(folder / "secrets")
    assert loaded.config.outbound.ca_file == str(tmp_path / "ca.pem")


def test_an_empty_variable_counts_as_not_set(tmp_path):
    assert load(tmp_path, INFERRY_SERVER__PORT="").config.server.port == 9210


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("2m", 120),
        ("1.5h", 5400),
        ("1d", 86400),
        ("7", 7),
        ("0.5", 0.5),
    ],
)
def test_durations_are_read_in_every_unit(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "5 weeks", "nan", "1e3"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="a duration is"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10", 10),
        ("1b", 1),
        ("64KB", 65536),
        ("100mb", 104857600),
        ("1 GiB", 2**30),
        ("0.5kb", 512),
    ],
)
def test_sizes_are_powers_of_1024(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "-1", "1TBX"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="a size is"):
        parse_size(text)


def test_lists_and_tables_are_read_from_variables(tmp_path):
    loaded = load(
        tmp_path,
        INFERRY_OUTBOUND__ALLOW_HOSTS="api.openai.com, *.example.org",
        INFERRY_OUTBOUND__BASE_URLS="openai=http://127.0.0.1:1/v1?a=b",
    )

    assert loaded.config.outbound.allow_hosts == ("api.openai.com", "*.example.org")
    assert loaded.config.outbound.base_urls == {"openai": "http://127.0.0.1:1/v1?a=b"}


def test_a_variable_for_one_entry_joins_the_table_of_the_file(tmp_path):
    loaded = load(
        tmp_path,
        file='[outbound.base_urls]\ncohere = "http://a"\nopenai = "http://b"\n',
        INFERRY_OUTBOUND__BASE_URLS__OPENAI="http://c",
    )

    assert loaded.config.outbound.base_urls == {"cohere": "http://a", "openai": "http://c"}


def test_a_secret_is_read_from_the_file_a_variable_names(tmp_path):
    (tmp_path / "password").write_text("s3cret\n")

    loaded = load(tmp_path, INFERRY_AUTH__ADMIN_PASSWORD_FILE=str(tmp_path / "password"))

    assert loaded.config.auth.admin_password == "s3cret"
    assert loaded.origins["auth.admin_password"] == "INFERRY_AUTH__ADMIN_PASSWORD_FILE"


def test_a_secret_and_its_file_variant_together_are_refused(tmp_path):
    with pytest.raises(InvalidConfig, match="both set"):
        load(
            tmp_path,
            INFERRY_AUTH__ADMIN_PASSWORD="a",
            INFERRY_AUTH__ADMIN_PASSWORD_FILE="/nowhere",
        )


def test_a_missing_secret_file_is_named(tmp_path):
    with pytest.raises(InvalidConfig, match=r"\[/nowhere\] of \[ELASTIC_PASSWORD_FILE\]"):
        load(tmp_path, ELASTIC_PASSWORD_FILE="/nowhere")


def test_elastic_password_is_the_admin_password_unless_ours_is_set(tmp_path):
    alias = load(tmp_path, ELASTIC_PASSWORD="theirs")
    both = load(tmp_path, ELASTIC_PASSWORD="theirs", INFERRY_AUTH__ADMIN_PASSWORD="ours")

    assert alias.config.auth.admin_password == "theirs"
    assert both.config.auth.admin_password == "ours"


def test_variables_of_huggingface_hub_count_unless_ours_are_set(tmp_path):
    alias = load(tmp_path, HF_ENDPOINT="https://hub.example.org", HF_TOKEN="hf_1").config.models
    offline = load(tmp_path, HF_HUB_OFFLINE="1").config.models
    both = load(
        tmp_path,
        HF_TOKEN="hf_1",
        HF_HUB_OFFLINE="1",
        INFERRY_MODELS__HUB_TOKEN="hf_2",
        INFERRY_MODELS__ALLOW_DOWNLOAD="builtin",
    ).config.models

    assert (alias.hub_url, alias.hub_token) == ("https://hub.example.org", "hf_1")
    assert offline.allow_download == "never"
    assert (both.hub_token, both.allow_download) == ("hf_2", "builtin")
    assert load(tmp_path, HF_HUB_OFFLINE="0").config.models.allow_download == "any"


def test_the_address_of_the_hub_holds_no_credentials(tmp_path):
    with pytest.raises(InvalidConfig, match=r"\[models.hub_url\]"):
        load(tmp_path, INFERRY_MODELS__HUB_URL="https://user:word@hub.example.org")


def test_secrets_show_nowhere(tmp_path):
    loaded = load(tmp_path, ELASTIC_PASSWORD="marker", INFERRY_STORE__URL="postgresql://u:marker@h")

    shown = [f"{setting.key} {setting.value}" for setting in loaded.settings()]

    assert "marker" not in repr(loaded) + "".join(shown)
    assert "auth.admin_password ********" in shown


def test_variables_of_secret_references_are_left_alone(tmp_path):
    assert load(tmp_path, INFERRY_SECRET_A__B="x").config == load(tmp_path).config


def test_a_wrong_secret_is_not_quoted(tmp_path):
    with pytest.raises(InvalidConfig) as failure:
        load(tmp_path, file="[auth]\nadmin_password = 12345\n")

    assert "auth.admin_password" in str(failure.value)
    assert "12345" not in str(failure.value)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"INFERRY_SERVER__PROT": "1"},
            "unknown key [server.prot] from [INFERRY_SERVER__PROT], did you mean [server.port]?",
        ),
        (
            {"INFERRY_SEVER__PORT": "1"},
            "unknown section [sever] from [INFERRY_SEVER__PORT], did you mean [server]?",
        ),
        (
            {"INFERRY_SERVER__PORT": "70000"},
            "[server.port] from [INFERRY_SERVER__PORT]: Expected `int` <= 65535, got [70000]",
        ),
        (
            {"INFERRY_INFERENCE__TIMEOUT": "soon"},
            "[inference.timeout] from [INFERRY_INFERENCE__TIMEOUT]: "
            "a duration is a number with ms, s, m, h or d, got [soon]",
        ),
        (
            {"INFERRY_SERVER__PORT__X": "1"},
            "[server.port] from [INFERRY_SERVER__PORT__X] has no entries",
        ),
        (
            {"INFERRY_SERVER__PORT_FILE": "/x"},
            "unknown key [server.port_file] from [INFERRY_SERVER__PORT_FILE], "
            "did you mean [server.port]?",
        ),
        (
            {"INFERRY_TELEMETRY__LOG_FORMAT": "xml"},
            "[telemetry.log_format] from [INFERRY_TELEMETRY__LOG_FORMAT]: "
            "Invalid enum value 'xml', got [xml]",
        ),
        (
            {"INFERRY_OUTBOUND__BASE_URLS__OPENAI": "127.0.0.1:1"},
            "[outbound.base_urls.openai] must be an http or https origin, got [127.0.0.1:1]",
        ),
        (
            {"INFERRY_SERVER__TLS_CERT": "/x"},
            "[server.tls_cert] and [server.tls_key] go together",
        ),
        (
            {"INFERRY_ENGINE__DEVICE": "cuda"},
            "[engine.device] cannot be set yet: this version runs models on processors only",
        ),
        (
            {"INFERRY_ENGINE__KIND": "ray"},
            "[engine.kind] cannot be set yet: this version runs models on this host only",
        ),
        (
            {"INFERRY_REDIS__URL": "redis://127.0.0.1"},
            "[redis.url] cannot be set yet: this version shares nothing between hosts",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_origin(tmp_path, environment, message):
    with pytest.raises(InvalidConfig) as failure:
        load(tmp_path, **environment)

    assert str(failure.value) == message


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("[server\n", "cannot read the configuration file"),
        ("port = 1\n", "stands in no section"),
        ("[sever]\n", "unknown section [sever]"),
        ("[server]\nprot = 1\n", "did you mean [server.port]?"),
        ('[server]\nport = "9210"\n', "Expected `int`, got `str`"),
        ("[inference]\ntimeout = -1\n", "must not be negative"),
        ("[inference]\ntimeout = 0\n", "Expected `float` > 0"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, file, message):
    with pytest.raises(InvalidConfig) as failure:
        load(tmp_path, file=file)

    assert message in str(failure.value)
    assert "inferry.toml" in str(failure.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidConfig, match=r"no configuration file \[.*/absent\.toml\]"):
        load(tmp_path, flags={"config": "absent.toml"})


def test_another_address_than_loopback_needs_tls_or_a_clear_word(tmp_path):
    with pytest.raises(InvalidConfig, match="allow_plaintext"):
        load(tmp_path, flags={"server.host": "0.0.0.0"})

    plain = load(tmp_path, flags={"server.host": "0.0.0.0"}, INFERRY_SERVER__ALLOW_PLAINTEXT="true")
    sealed = load(
        tmp_path,
        flags={"server.host": "0.0.0.0"},
        INFERRY_SERVER__TLS_CERT="c.pem",
        INFERRY_SERVER__TLS_KEY="k.pem",
    )

    assert plain.config.server.host == sealed.config.server.host == "0.0.0.0"


def test_without_authentication_only_loopback_is_possible(tmp_path):
    flags = {"auth.enabled": "false", "server.host": "192.0.2.1"}

    with pytest.raises(InvalidConfig, match="loopback only"):
        load(tmp_path, flags=flags, INFERRY_SERVER__ALLOW_PLAINTEXT="true")


@pytest.mark.parametrize(
    ("host", "setting", "allowed"),
    [
        ("127.0.0.1", "", True),
        ("localhost", "", True),
        ("::1", "", True),
        ("0.0.0.0", "", False),
        ("0.0.0.0", "true", True),
        ("127.0.0.1", "false", False),
    ],
)
def test_private_networks_are_open_by_default_on_loopback_only(tmp_path, host, setting, allowed):
    loaded = load(
        tmp_path,
        flags={"server.host": host},
        INFERRY_SERVER__ALLOW_PLAINTEXT="true",
        INFERRY_OUTBOUND__ALLOW_PRIVATE_NETWORKS=setting,
    )

    assert loaded.config.allows_private_networks is allowed


def test_a_configuration_survives_the_way_to_another_process(tmp_path):
    config = load(tmp_path, INFERRY_OUTBOUND__BASE_URLS="a=http://b", ELASTIC_PASSWORD="x").config

    received = msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=Config)

    assert received == config


def test_every_key_is_read_by_something():
    sources = [file for file in (ROOT / "src").rglob("*.py") if file.name != "sections.py"]
    read = "".join(file.read_text() for file in sources)
    of_local_models = {"engine.", "models.", "inference.preload"}

    unread = [
        f"{section}.{name}"
        for section in Config.__struct_fields__
        for name in getattr(Config(), section).__struct_fields__
        if not re.search(rf"\.{name}\b", read)
    ]

    assert [key for key in unread if not key.startswith(tuple(of_local_models))] == []


def test_the_reference_in_the_documentation_is_fresh():
    assert (ROOT / "docs/configuration.md").read_text() == render_reference()
