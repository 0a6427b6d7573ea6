from __future__ import annotations

import pytest

from builder.policy.license_expression import LONGEST, _parse_short, parse_license
from builder.policy.licenses import LicenseRules, normalize_pattern

DENIES_GPL = LicenseRules(denied=("GPL-*", "AGPL-*"))
ALLOWS_FEW = LicenseRules(allowed=("MIT", "Apache-2.0", "LicenseRef-Team-*"))


@pytest.mark.parametrize(
    ("text", "denied", "not_allowed"),
    [
        ("MIT", False, False),
        ("mit", False, False),
        ("MIT License", False, False),
        ("GPL-3.0-only", True, True),
        ("gpl-3.0-or-later", True, True),
        ("GPL-2.0", True, True),
        ("GPL-2.0+", True, True),
        ("GPL3", True, True),
        ("LGPL-2.1-only", False, True),
        ("MIT OR GPL-3.0-only", False, False),
        ("MIT AND GPL-3.0-only", True, True),
        ("MIT and GPL-3.0-only", True, True),
        ("GPL-3.0-only or MIT and BSD-3-Clause", False, True),
        ("(MIT OR GPL-3.0-only) AND Apache-2.0", False, False),
        ("(MIT OR BSD-3-Clause) AND (GPL-3.0-only OR AGPL-3.0-only)", True, True),
        ("Apache-2.0 WITH LLVM-exception", False, False),
        ("GPL-3.0-only WITH GCC-exception-3.1", False, True),
        ("LicenseRef-Team-Internal", False, False),
        ("LicenseRef-NVIDIA-End-User-License-Agreement", False, True),
    ],
)
def test_expressions(text: str, denied: bool, not_allowed: bool) -> None:
    assert bool(DENIES_GPL.find_problem(text)) == denied
    assert bool(ALLOWS_FEW.find_problem(text)) == not_allowed


@pytest.mark.parametrize(
    "text",
    [None, "", "  ", "Unknown", "NOASSERTION", "MIT/X11 Derivative", "GPL (>= 3)", "See LICENSE.txt", "(MIT", "MIT)",
     "MIT AND", "AND MIT", "MIT MIT", "MIT WITH", "()", "MIT AND ()", "MIT WITH GPL WITH x", "MIT AND Foo", "x" * 5000,
     "(" * LONGEST],
)  # fmt: skip
def test_what_is_not_known(text: str | None) -> None:
    for rules in (DENIES_GPL, ALLOWS_FEW):
        assert rules.find_problem(text)
    taking = LicenseRules(denied=("GPL-*",), take_unknown=True)
    assert taking.find_problem(text) is None
    assert LicenseRules().find_problem(text) is None


def test_unknown_text_can_be_named() -> None:
    assert LicenseRules(allowed=("MIT/X11 Derivative",)).find_problem("MIT/X11 derivative") is None
    named = LicenseRules(denied=("GPL (>= *",), take_unknown=True)
    assert named.find_problem("GPL (>= 3)") == "the licence GPL (>= 3), which is denied"


def test_an_exception_is_denied_by_name() -> None:
    rules = LicenseRules(denied=("GPL-* WITH GCC-*",))
    assert rules.find_problem("GPL-3.0-only WITH GCC-exception-3.1")
    assert rules.find_problem("GPL-3.0-only") is None
    assert rules.find_problem("GPL-3.0-only WITH Classpath-exception-2.0") is None


@pytest.mark.parametrize("exception", ["nonsense-1", "GCC-exception-9.9", "AdditionRef-x", "LicenseRef-x", "MIT"])
def test_an_exception_that_nobody_lists_changes_nothing(exception: str) -> None:
    for take_unknown in (False, True):
        for text in (f"GPL-3.0-only WITH {exception}", f"MIT AND gpl-3.0-or-later with {exception}"):
            denying = LicenseRules(denied=("GPL-*",), take_unknown=take_unknown)
            assert "which is denied" in (denying.find_problem(text) or "")
        other = LicenseRules(denied=("AGPL-*",), take_unknown=take_unknown)
        assert (other.find_problem(f"GPL-3.0-only WITH {exception}") is None) == take_unknown
        allowing = LicenseRules(allowed=("Apache-2.0", "*-3.0-only"), take_unknown=take_unknown)
        assert (allowing.find_problem(f"Apache-2.0 WITH {exception}") is None) == take_unknown
    named = LicenseRules(allowed=(f"Apache-2.0 WITH {exception}",))
    assert named.find_problem(f"Apache-2.0 WITH {exception}") is None


def test_the_spelling_of_an_exception_does_not_count() -> None:
    assert DENIES_GPL.find_problem("GPL-3.0-only WITH gcc-EXCEPTION-3.1") is None
    assert LicenseRules(denied=("GPL-* WITH GCC-Exception-*",)).find_problem("GPL-3.0-only WITH gcc-exception-3.1")


def test_what_is_denied_is_not_allowed() -> None:
    assert LicenseRules(allowed=("*",), denied=("MIT",)).find_problem("MIT")


def test_long_texts_are_not_remembered() -> None:
    before = _parse_short.cache_info().currsize
    for number in range(3):
        assert str(parse_license(f"{number} " + "x" * LONGEST)).endswith("...")
    assert _parse_short.cache_info().currsize == before


def test_deep_expressions_end() -> None:
    """A channel writes the text; nothing in it may exhaust the stack."""
    deep = "(" * 300 + "MIT" + ")" * 300
    assert DENIES_GPL.find_problem(deep) is None
    nested = "GPL-3.0-only"
    while len(nested) < LONGEST - 30:
        nested = f"(MIT OR MIT AND {nested})" if len(nested) % 2 else f"(ISC AND {nested})"
    assert parse_license(nested) is not None
    DENIES_GPL.find_problem(nested)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("gpl-2.0", "GPL-2.0-only"), ("mit", "MIT"), ("GPL-*", "GPL-*"), ("gpl-3.0 with gcc-exception-3.1",
     "GPL-3.0-only WITH gcc-exception-3.1"), ("  Foo   Bar ", "Foo Bar")],
)  # fmt: skip
def test_patterns(text: str, expected: str) -> None:
    assert normalize_pattern(text) == expected


@pytest.mark.parametrize("text", ["", " ", "MIT OR GPL-2.0", "(MIT)", "MIT and ISC", "x" * 2000])
def test_bad_patterns(text: str) -> None:
    with pytest.raises(ValueError, match=r"licence|expression"):
        normalize_pattern(text)


@pytest.mark.parametrize("pattern", ["M?T", "[M]IT"])
def test_a_star_is_the_only_wildcard(pattern: str) -> None:
    assert LicenseRules(denied=(pattern,), take_unknown=True).find_problem("MIT") is None
