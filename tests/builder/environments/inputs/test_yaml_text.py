"""YAML within bounds, and nothing that two readers understand differently."""

from __future__ import annotations

from typing import Any

import pytest

from builder.environments.inputs.yaml_text import MOST_VALUES, read_yaml
from builder.errors import InputInvalid


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: -20", {"a": -20}),
        ("a: 007", {"a": "007"}),
        ("a: 0x10", {"a": "0x10"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 1.50", {"a": 1.5}),
        ("a: 1.0e999", {"a": "1.0e999"}),
        ("a: .inf", {"a": ".inf"}),
        ("a: '1'", {"a": "1"}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: yes", {"a": "yes"}),
        ("a: true", {"a": True}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: 2026-01-31", {"a": "2026-01-31"}),
        ("a: !!str 1", {"a": "1"}),
        ("1: a", {"1": "a"}),
        ("no: a", {"no": "a"}),
        ('{"a": [1, "x", null, {}]}', {"a": [1, "x", None, {}]}),
        ("a: |\n  b\n  c\n", {"a": "b\nc\n"}),
        ("", None),
        ("# c", None),
        ("---\na: 1\n...\n", {"a": 1}),
    ],
)
def test_values(text: str, value: Any) -> None:
    found = read_yaml(text)
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "a: it is there twice, again in line 3; keep one"),
        ("a: {b: [{c: 1, c: 2}]}", "a.b[0].c: it is there twice"),
        ("a: &x 1\nb: *x", "a: an anchor (&x) is not supported"),
        ("a: *x", "a: an alias (*x) is not supported"),
        ("a: &x {b: 1}", "a: an anchor (&x) is not supported"),
        ("<<: {a: 1}", "['<<']: merging mappings (<<) is not supported"),
        ("a: !!python/object/apply:os.system [x]", "is not supported"),
        ("a: !!binary eA==", "a: the tag 'tag:yaml.org,2002:binary' is not supported"),
        ("? [a]\n: 1", "a key in line 1 is not text"),
        ("a: [1", "it is not YAML: did not find expected"),
        ("a: b: c", "it is not YAML: mapping values are not allowed in this context (line 1, column 5)"),
        ("a: \x07", "it is not YAML: "),
        ("a: 1\n---\nb: 2", "it has several YAML documents"),
        ("[" * 30 + "]" * 30, "it is nested deeper than 20 levels"),
        ("[" * 100_000, "it is nested deeper than 20 levels"),
        ("{a: " * 100_000, "it is nested deeper than 20 levels"),
        ("[" + "[]," * MOST_VALUES + "]", f"it has more than {MOST_VALUES} values"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read_yaml(text)
    assert message in str(caught.value)


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
    )
    with pytest.raises(InputInvalid, match="a: an anchor"):
        read_yaml(bomb)
