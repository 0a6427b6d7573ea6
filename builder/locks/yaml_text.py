"""Writes YAML as tools expect it: in the order of the document's own keys."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Dumper(yaml.CSafeDumper):
    """Quotes what a reader of YAML 1.2, such as rattler, takes for a number though PyYAML does not.

    One md5 in sixty thousand looks like `1234e56`.
    """


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
    list("-+.0123456789"),
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"0o[0-7]+\Z"), ["0"])


def write_yaml(document: Any) -> bytes:
    text: bytes = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000, encoding="utf-8")
    return text
