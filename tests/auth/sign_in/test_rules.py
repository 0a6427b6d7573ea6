"""The language of workload rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.sign_in.rules import MOST_CHARACTERS, MOST_CONDITIONS, parse_rule

CLAIMS: dict[str, Any] = {
    "repository": "org/app",
    "ref": "refs/heads/main",
    "run_attempt": 1,
    "protected": True,
    "text_true": "true",
    "quoted": 'a "b" \\c',
    "groups": ["dev", "ops", 7],
    "kubernetes.io": {"namespace": "team", "serviceaccount": {"name": "puller"}},
}


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ('repository == "org/app" and ref == "refs/heads/main"', True),
        ('repository == "org/app" and ref == "refs/heads/other"', False),
        ('repository == "Org/app"', False),
        ('repository == "org/app/"', False),
        ('repository == "*"', False),
        ('repository != "org/other"', True),
        ('repository != "org/app"', False),
        ('missing != "x"', False),
        ('missing == "x"', False),
        ('missing like "*"', False),
        ('missing has "x"', False),
        ('ref like "refs/heads/*"', True),
        ('ref like "*"', True),
        ('ref like "refs/tags/*"', False),
        ('ref like "refs/heads/mai?"', False),
        ('ref like "refs/*/m*n"', True),
        # types are not mixed up
        ("run_attempt == 1", True),
        ("run_attempt == true", False),
        ('run_attempt == "1"', False),
        ('run_attempt != "1"', False),
        ("protected == true", True),
        ("protected == 1", False),
        ("protected != false", True),
        ("text_true == true", False),
        ('text_true == "true"', True),
        ('groups == "dev"', False),
        ('groups like "dev"', False),
        ('groups has "dev"', True),
        ("groups has 7", True),
        ("groups has true", False),
        ('repository has "org"', False),
        (r'quoted == "a \"b\" \\c"', True),
        ('"kubernetes.io".namespace == "team"', True),
        ('"kubernetes.io".serviceaccount.name like "pull*"', True),
        ('"kubernetes.io" == "team"', False),
        ("repository.length == 7", False),
        ('kubernetes.io.namespace == "team"', False),
        ('groups.0 == "dev"', None),
    ],
)
def test_conditions(conditions: str, matches: bool | None) -> None:
    text = f"{conditions} -> viewer on team/*"
    if matches is None:
        with pytest.raises(ValueError, match="character"):
            parse_rule(text)
        return
    rule = parse_rule(text)
    assert rule.matches(CLAIMS) is matches
    assert (rule.role, rule.pattern) == ("viewer", "team/*")
    assert parse_rule(str(rule)) == rule


def test_blanks_do_not_matter() -> None:
    tight = parse_rule('a=="x" and b!=true->my-role on team/*')
    assert tight == parse_rule('  a  ==  "x"  and  b  !=  true  ->  my-role  on   team/*  ')
    assert tight.role == "my-role"


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("", 1, "name of a claim"),
        ("-> viewer on team/*", 1, "name of a claim"),
        ('ref = "x" -> viewer on team/*', 5, "'=' means nothing"),
        ("ref == x -> viewer on team/*", 8, "text in double quotes"),
        ("ref like 7 -> viewer on team/*", 10, "text in double quotes"),
        ("ref like true -> viewer on team/*", 10, "text in double quotes"),
        ('ref == "x -> viewer on team/*', 8, "without its closing quote"),
        (r'ref == "\n" -> viewer on team/*', 8, "without its closing quote"),
        ('ref == "x" or a == "y" -> viewer on team/*', 12, "expected `and` or `->`"),
        ('ref == "x" and -> viewer on team/*', 16, "name of a claim"),
        ('ref == "x"', 11, "expected `and` or `->`"),
        ('ref == "x" -> Viewer on team/*', 15, "expected a role"),
        ('ref == "x" -> viewer team/*', 22, "expected `on`"),
        ('ref == "x" -> viewer on', 24, "not an entity"),
        ('ref == "x" -> viewer on team', 25, "not an entity"),
        ('ref == "x" -> viewer on team/* and editor on b/*', 25, "not an entity"),
        ("ref == 1.5 -> viewer on team/*", 8, "means nothing"),
        ("ref == 99999999999999999999 -> viewer on team/*", 8, "means nothing"),
        ('a..b == "x" -> viewer on team/*', 3, "name of a claim"),
        ('__import__("os") -> viewer on team/*', 11, "means nothing"),
    ],
)
def test_a_fault_is_named_with_its_place(text: str, place: int, reason: str) -> None:
    with pytest.raises(ValueError, match=f"character {place}: .*{reason}"):
        parse_rule(text)


def test_rules_are_bounded() -> None:
    conditions = " and ".join(f'c{number} == "x"' for number in range(MOST_CONDITIONS))
    assert len(parse_rule(f"{conditions} -> viewer on team/*").conditions) == MOST_CONDITIONS
    with pytest.raises(ValueError, match=f"more than {MOST_CONDITIONS} conditions"):
        parse_rule(f'{conditions} and more == "x" -> viewer on team/*')
    with pytest.raises(ValueError, match=f"longer than {MOST_CHARACTERS}"):
        parse_rule('a == "' + "x" * MOST_CHARACTERS + '" -> viewer on team/*')


def test_a_rule_has_a_key_of_what_it_says() -> None:
    first = parse_rule('ref == "1" -> viewer on team/*')
    assert first.key == parse_rule('ref  ==  "1"  -> viewer on team/*').key
    others = ["ref == 1 -> viewer on team/*", 'ref == "1" -> editor on team/*', 'ref == "1" -> viewer on team/a']
    assert len({first.key, *(parse_rule(each).key for each in others)}) == 4


@given(st.text(alphabet='ab"\\.-> =!*/ontrue1', max_size=60))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        rule = parse_rule(text)
    except ValueError:
        return
    assert parse_rule(str(rule)) == rule
