"""The settings of workload identity, as far as they are checked at the start."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from auth.sign_in.settings import SignInSettings
from auth.sign_in.workload_settings import MOST_ISSUERS, WorkloadSettings

GITHUB = "https://token.actions.githubusercontent.com"
CLUSTER = "https://kubernetes.default.svc.cluster.local"
RULE = 'repository == "org/app" -> viewer on team/*'
OF_CLUSTER = f'iss == "{CLUSTER}" and sub == "system:serviceaccount:team:puller" -> viewer on team/*'


def settings(*issuers: str, rules: tuple[str, ...] = (), **others: Any) -> WorkloadSettings:
    given = {"workload_audience": "https://registry.example.org", **others}
    return WorkloadSettings(workload_issuers=issuers, workload_rules=rules, **given)


def test_what_fits_together() -> None:
    assert WorkloadSettings().parsed_rules == ()
    assert len(settings(GITHUB, rules=(RULE,)).parsed_rules) == 1
    both = settings(GITHUB, CLUSTER, rules=(f'iss == "{GITHUB}" and {RULE}', OF_CLUSTER))
    assert [each.issuer for each in both.parsed_rules] == [GITHUB, CLUSTER]
    settings("http://127.0.0.1:8080")
    # neither is the beginning of the other's names
    settings("https://example.org/a", "https://example.org/ab", "https://example.org:8443")
    # as some services write theirs
    settings("https://acme.eu.example.org/")


@pytest.mark.parametrize(
    "issuer",
    [
        "token.actions.githubusercontent.com",
        "http://gitlab.example.org",
        "http://127.0.0.1.example.org",
        "https://user:word@gitlab.example.org",
        "https://gitlab.example.org?x",
        "https://gitlab.example.org#x",
        "https://gitlab.example.org:x",
        "https://gitlab.example.org:0",
        "https://",
        "file:///etc/passwd",
        "https://gitlab.example.org\\@other.example",
        "https://gitlab.example.org /",
        "https://gıtlab.example.org",
        "https://" + "a" * 250,
    ],
)
def test_an_issuer_is_an_address_with_https(issuer: str) -> None:
    with pytest.raises(ValidationError, match="workload_issuers"):
        settings(issuer)


@pytest.mark.parametrize(
    ("issuers", "reason"),
    [
        ((GITHUB, GITHUB), "twice"),
        ((GITHUB, GITHUB + "/org"), "same names"),
        ((GITHUB, GITHUB + "/"), "same names"),
        ((GITHUB + "//", GITHUB), "same names"),
        (("http://localhost:8080", "https://localhost:8080"), "same names"),
        (("https://localhost/a/b", "http://localhost/a"), "same names"),
        (("http://localhost/", "https://localhost/a"), "same names"),
        (tuple(f"https://{number}.example" for number in range(MOST_ISSUERS + 1)), "more than"),
    ],
)
def test_issuers_are_told_apart(issuers: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        settings(*issuers)


@pytest.mark.parametrize(
    ("issuers", "rules", "reason"),
    [
        ((), (RULE,), "no workload_issuers"),
        ((GITHUB, CLUSTER), (RULE,), "name its issuer"),
        ((CLUSTER,), (f'iss == "{GITHUB}" and {RULE}',), "not one of workload_issuers"),
        ((CLUSTER, GITHUB), (f'iss like "https:*" and {RULE}',), "name its issuer"),
        ((CLUSTER,), (f'iss == "{CLUSTER}" -> viewer on team/*',), "everybody who has a token"),
        ((CLUSTER,), ('sub != "x" -> viewer on team/*',), "everybody who has a token"),
        ((CLUSTER,), ('aud == "https://registry.example.org" -> viewer on team/*',), "everybody who has a token"),
        ((CLUSTER,), ('sub = "x" -> viewer on team/*',), "character 5"),
        ((CLUSTER,), ('sub == "x" -> viewer on team/*',) * 501, "more than 500"),
    ],
)
def test_a_rule_says_about_whom_it_is(issuers: tuple[str, ...], rules: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValidationError, match=f"workload_rules(.|\n)*{reason}"):
        settings(*issuers, rules=rules)


def test_an_audience_of_ours_is_needed() -> None:
    with pytest.raises(ValidationError, match="workload_audience: set it to"):
        settings(GITHUB, workload_audience=None)


def test_an_internal_host_is_no_address() -> None:
    assert settings(GITHUB, workload_internal_hosts=("10.0.0.1:6443", "[::1]:6443", "api.internal"))
    with pytest.raises(ValidationError, match="not a host"):
        settings(GITHUB, workload_internal_hosts=("https://10.0.0.1",))


@pytest.mark.parametrize(
    "header", ["", "X User", "X:User", "Authorization", "authorization", "Cookie", "X-Forwarded-For", "Sec-Fetch-Site"]
)
def test_a_header_with_another_meaning_names_nobody(header: str) -> None:
    with pytest.raises(ValidationError, match="a header of the proxy's own"):
        SignInSettings(proxy_user_header=header)


def test_groups_are_somebodys() -> None:
    assert SignInSettings(proxy_user_header="X-User", proxy_groups_header="X-Groups")
    with pytest.raises(ValidationError, match="no proxy_user_header"):
        SignInSettings(proxy_groups_header="X-Groups")
    with pytest.raises(ValidationError, match="the same header"):
        SignInSettings(proxy_user_header="X-User", proxy_groups_header="x-user")
