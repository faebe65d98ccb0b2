"""Write `docs/configuration.md` from the sections: `python -m inferry.cli.config_reference`."""

from __future__ import annotations

import sys
from typing import Any, Literal, get_args, get_origin, get_type_hints

from inferry.config import bare_type, hints_of, show
from inferry.config_keys import help_of, key_of, kind_of
from inferry.sections import Config, Section

INTRODUCTION = """\
# Configuration

<!-- Written by `make docs` from src/inferry/sections.py; change that instead. -->

`inferry` runs without any configuration. What you do set, it takes from these places, the first
that has a value wins:

1. a flag of `inferry serve` (`--host`, `--port`, `--data-dir`, `--workers`, `--no-auth`),
2. a variable `INFERRY_SECTION__KEY`, for example `INFERRY_SERVER__PORT=9300`,
3. a file: the one that `--config` names, else `./inferry.toml`, else
   `$XDG_CONFIG_HOME/inferry/inferry.toml` (`~/.config/...`), else `/etc/inferry/inferry.toml`,
4. the default.

`inferry config show --origin` prints every value and where it comes from. An unknown key is an
error that names the nearest one.

- **Durations** are `"500ms"`, `"30s"`, `"2m"`, `"1h"`, `"1d"`, or a number of seconds.
- **Sizes** are `"64KB"`, `"100MB"`, `"1GB"` (powers of 1024), or a number of bytes.
- **Paths** in a file are relative to that file, all others to the working directory.
- **Lists** in a variable are separated by commas, **tables** are `name=value,name=value`; one entry
  of a table is `INFERRY_OUTBOUND__BASE_URLS__OPENAI=http://...`.
- **Secrets** can also be read from a file that a variable ending in `_FILE` names, for example
  `INFERRY_AUTH__ADMIN_PASSWORD_FILE=/run/secrets/admin`. They are masked wherever they are shown.

Three variables are no keys: `INFERRY_MASTER_KEY` seals the secrets in the store (without it a file
in the data directory does), `INFERRY_SECRET_<NAME>` is what `${env:INFERRY_SECRET_<NAME>}` in the
settings of an endpoint stands for, and `INFERRY_URL` with `INFERRY_API_KEY` tell the client
commands where the server is and what opens it. Of other programs these count where ours are not
set: `ELASTIC_PASSWORD`, and of huggingface_hub `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`, and
`HF_HUB_CACHE` or `HF_HOME` for a cache that is looked into.

```toml
# inferry.toml
[server]
port = 9300
workers = 2

[outbound]
connect_timeout = "3s"
base_urls = { openai = "https://gateway.example.org" }

[telemetry]
log_format = "json"
```
"""


def render_reference() -> str:
    """Give the page."""
    sections = get_type_hints(Config)
    return INTRODUCTION + "".join(
        _render_section(name, sections[name]) for name in Config.__struct_fields__
    )


def _render_section(name: str, section: type[Section]) -> str:
    hints = hints_of(section)
    defaults = section()
    summary = (section.__doc__ or "").strip()
    lines = [
        f"\n## {name}\n",
        f"{summary}\n",
        "| key | takes | default | |",
        "| --- | --- | --- | --- |",
    ]
    for field, hint in hints.items():
        key = key_of(field)
        default = show(getattr(defaults, field), kind_of(hint))
        if (name, key) == ("server", "data_dir"):
            default = "$XDG_DATA_HOME/inferry"
        cell = f"`{default}`" if default else ""
        lines.append(f"| `{key}` | {_describe(hint)} | {cell} | {help_of(hint)} |")
    return "\n".join(lines) + "\n"


def _describe(hint: Any) -> str:
    kind = kind_of(hint)
    if kind:
        return kind
    plain = bare_type(hint)
    if get_origin(plain) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(plain))
    names = {bool: "`true`, `false`", int: "number", str: "text", tuple: "list", dict: "table"}
    return names[plain]


if __name__ == "__main__":
    sys.stdout.write(render_reference())
