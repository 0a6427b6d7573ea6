"""Writes docs/settings.md and examples/condery.toml from the settings themselves: `make docs`."""

from __future__ import annotations

import itertools
import json
import textwrap
from pathlib import Path

from registry.settings.model import SECTIONS, Setting, all_settings

ROOT = Path(__file__).parents[1]

INTRODUCTION = """\
# Settings

Every setting has one name. `fresh_for`, for example, is

- `--fresh-for 600` on the command line of `condery serve` and of other commands that use it,
- `CONDERY_FRESH_FOR=600` in the environment,
- `fresh_for = 600` in the settings file,

and the first of these that sets it wins; otherwise the default holds. The settings file is TOML: the file that
`--config` or `CONDERY_CONFIG` names, else `condery.toml` in the working directory, else `/etc/condery/condery.toml`.
[examples/condery.toml](../examples/condery.toml) shows every setting. A list is a TOML array, or comma separated text
or a JSON array in a variable; the flag of a list may be repeated, and the values add up. `--channel`, `--platform` and
`--data-dir` are short for `--channels`, `--platforms` and `--data-directory`. Times are in seconds, unless the text
says otherwise. A size is a number of bytes or, in quotes in the file, text such as 500MB (10^6 bytes), 10GB (10^9) or
2GiB (2^30).

condery refuses a name that is not a setting: in the file always, in the environment when it resembles a setting.
`condery settings show` prints what is in effect and where each value came from, without secrets.
"""

TABLE_HEAD = "| setting | type | default | what it is |\n|---|---|---|---|\n"

TITLES = {
    "http": "The server",
    "access": "Who may do what",
    "sign_in": "Sign-in of people",
    "workload": "Workload identity",
    "webhook": "Webhooks",
    "builder": "Images",
    "policy": "Policy",
    "directories": "Environments on disk",
    "watching": "Watched environment files",
    "storage": "Storage",
    "vault": "Encryption",
    "mirror": "Mirrors",
    "upkeep": "Upkeep",
    "log": "Logs",
}

EXAMPLES: dict[str, object] = {
    "credentials": "/etc/condery/credentials.json",
    "vault_key_file": "/etc/condery/vault-keys",
    "vault_keys": [],
    "admin_password_file": "/etc/condery/admin-password",
    "environments_directory": "/srv/environments",
    "service_name": "registry.example.org",
    "trusted_proxies": ["10.1.0.5"],
    "oidc_issuer": "https://sso.example.org/realms/main",
    "oidc_client_id": "condery",
    "oidc_client_secret_file": "/etc/condery/oidc-secret",
    "oidc_groups_claim": "groups",
    "oidc_ca_file": "/etc/condery/sso-ca.crt",
    "proxy_user_header": "X-Forwarded-User",
    "proxy_groups_header": "X-Forwarded-Groups",
    "workload_audience": "https://registry.example.org",
    "workload_ca_file": "/etc/condery/cluster-ca.crt",
    "glibc": "2.28",
    "user": 1000,
    "tls_certificate": "/etc/condery/tls.crt",
    "tls_key": "/etc/condery/tls.key",
    "api_origins": ["https://jupyter.example.org"],
    "ui_directory": "/srv/node_modules/@conda-store/conda-store-ui/dist",
    "api_prefix": "/conda-store",
    "public_url": "https://registry.example.org",
    "deny_list": "https://security.example.org/conda-deny-list.txt",
    "webhook_secret_file": "/etc/condery/webhook-secret",
    "workers": 4,
    "data_directory": "/var/lib/condery",
    "database": "postgresql://condery@db.example.org/condery",
    "s3_bucket": "condery",
    "s3_endpoint": "https://s3.internal:9000",
    "s3_public_endpoint": "https://s3.example.org",
    "s3_region": "eu-central-1",
    "s3_credentials": "/etc/condery/s3.json",
    "mirrors": ["docker.io", "ghcr.io", "quay.io"],
    "mirror_internal_hosts": ["registry.internal:5000"],
}
"""For settings whose default cannot be written down."""


def row(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else ""
    return f"| `{setting.name}` | {setting.kind.replace('|', ', ')} | {default} | {setting.description} |"


def document() -> str:
    parts = [INTRODUCTION]
    for section, settings in itertools.groupby(all_settings(), key=lambda setting: setting.section):
        parts.append(
            f"\n## {TITLES[section]}\n\n{SECTIONS[section].__doc__}\n\n{TABLE_HEAD}"
            + "\n".join(row(setting) for setting in settings)
            + "\n"
        )
    return "".join(parts)


def comment(text: str) -> str:
    return textwrap.fill(
        text, 120, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def example() -> str:
    lines = ["# Settings of condery with their defaults; see docs/settings.md. Uncomment what you change.\n"]
    for section, settings in itertools.groupby(all_settings(), key=lambda setting: setting.section):
        lines.append(f"\n# {TITLES[section]}\n")
        for setting in settings:
            value = EXAMPLES.get(setting.name, setting.field.default)
            # A JSON scalar or array of strings is a TOML value as well.
            lines.append(f"\n{comment(setting.description)}\n# {setting.name} = {json.dumps(value)}\n")
    return "".join(lines)


if __name__ == "__main__":
    (ROOT / "docs/settings.md").write_text(document())
    (ROOT / "examples/condery.toml").write_text(example())
