"""CI jobs and pods, with the claims that their issuers really put into tokens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from auth.access import GrantedAccess
from auth.binding import parse_binding
from auth.grants import Grants
from auth.permission import Permission
from auth.principal import Principal
from auth.role import Roles
from auth.sign_in.errors import WorkloadRuleInvalid
from auth.sign_in.identity_token import LEEWAY_SECONDS
from auth.sign_in.issuer_keys import Fetch
from auth.sign_in.workload_settings import WorkloadSettings
from auth.sign_in.workloads import MOST_MATCHING, Workloads
from auth.tokens.credential import Credential
from auth.tokens.errors import CredentialsInvalid
from tests.support.auth.workload_claims import GITHUB_JOB, GITLAB_JOB, KUBERNETES_POD
from tests.support.servers.issuer import Issuer

ROLES = Roles()
ANYBODY = Principal("anonymous", grants=Grants([parse_binding("public/*=viewer", ROLES)]))
READ, CREATE = Permission.ENVIRONMENT_READ, Permission.ENVIRONMENT_CREATE
AUDIENCE = "https://registry.example.org"


def open_workloads(issuers: Sequence[Issuer], rules: Sequence[str], fetch: Fetch) -> Workloads:
    settings = WorkloadSettings(
        workload_issuers=tuple(each.url for each in issuers),
        workload_audience=AUDIENCE,
        workload_rules=tuple(rules),
    )
    return Workloads(settings, ROLES, fetch)


@pytest.fixture
async def other() -> AsyncIterator[Issuer]:
    async with Issuer() as running:
        yield running


async def find_principal(workloads: Workloads, text: str) -> Principal:
    assert workloads.knows(text)
    return load(workloads, await workloads.read(text))


def load(workloads: Workloads, credential: Credential) -> Principal:
    assert credential.workload
    return workloads.load(credential.workload, ANYBODY)


@pytest.mark.parametrize(
    ("claims", "rule", "others"),
    [
        (
            GITHUB_JOB,
            'repository == "octo-org/octo-repo" and ref == "refs/heads/main" -> viewer on team/*',
            [{"repository": "octo-org/fork"}, {"ref": "refs/pull/7/merge"}, {"repository": ["octo-org/octo-repo"]}],
        ),
        (
            GITLAB_JOB,
            'project_path == "my-group/my-project" and ref_type == "branch" and ref_protected == "true" '
            "-> viewer on team/*",
            [{"project_path": "my-group/my-project2"}, {"ref_protected": "false"}, {"ref_protected": True}],
        ),
        (
            KUBERNETES_POD,
            '"kubernetes.io".namespace == "team" and "kubernetes.io".serviceaccount.name == "puller" '
            "-> viewer on team/*",
            [
                {"kubernetes.io": {"namespace": "other", "serviceaccount": {"name": "puller"}}},
                {"kubernetes.io": "team"},
            ],
        ),
        (
            KUBERNETES_POD,
            'sub == "system:serviceaccount:team:puller" -> viewer on team/*',
            [{"sub": "system:serviceaccount:team:puller2"}],
        ),
    ],
)
async def test_a_workload(
    issuer: Issuer, fetch: Fetch, claims: dict[str, Any], rule: str, others: list[dict[str, Any]]
) -> None:
    workloads = open_workloads([issuer], [rule], fetch)
    sent = issuer.claims(
        **{name: value for name, value in claims.items() if name not in ("iss", "aud", "exp", "iat", "nbf")}
    )
    principal = await find_principal(workloads, issuer.sign({**sent, "aud": [AUDIENCE]}))
    host = issuer.url.removeprefix("http://")
    assert (principal.kind, principal.name) == ("workload", f"workload/{host}/{claims['sub']}")
    assert principal.id == ""
    access = GrantedAccess()
    assert access.may(principal, READ, "team/app")
    assert access.may(principal, READ, "public/app"), "as anybody may"
    assert not access.may(principal, CREATE, "team/app")
    assert not access.may(principal, READ, "other/app")
    assert not access.may(principal, READ, "default/app")
    for changed in others:
        with pytest.raises(CredentialsInvalid) as caught:
            await workloads.read(issuer.sign({**sent, **changed}))
        assert "no rule matches" in caught.value.reason


@pytest.mark.parametrize("ahead", [1 << 53, 10 * 365 * 86_400, 86_402])
async def test_a_token_that_lasts_too_long_is_refused(issuer: Issuer, fetch: Fetch, ahead: int) -> None:
    workloads = open_workloads([issuer], ['sub == "a" -> viewer on one/*'], fetch)
    now = int(time.time())
    for claims in ({"iat": now, "exp": min(now + ahead, 1 << 53)}, {"iat": 0, "exp": now + 300}):
        with pytest.raises(CredentialsInvalid) as caught:
            await workloads.read(issuer.token(sub="a", **claims))
        assert "workload_longest_token is 86400" in caught.value.reason
    assert await workloads.read(issuer.token(sub="a", iat=now, exp=now + 86_400))


async def test_all_rules_that_match_count(issuer: Issuer, fetch: Fetch) -> None:
    rules = [f'sub == "{who}" -> editor on {where}/*' for who, where in (("a", "one"), ("a", "two"), ("b", "three"))]
    principal = await find_principal(open_workloads([issuer], rules, fetch), issuer.token(sub="a"))
    allowed = [where for where in ("one", "two", "three") if GrantedAccess().may(principal, CREATE, f"{where}/x")]
    assert allowed == ["one", "two"]


async def test_a_rule_is_about_its_issuer_alone(issuer: Issuer, other: Issuer, fetch: Fetch) -> None:
    rules = [
        f'iss == "{issuer.url}" and sub == "a" -> viewer on one/*',
        f'iss == "{other.url}" and sub == "a" -> viewer on two/*',
    ]
    workloads = open_workloads([issuer, other], rules, fetch)
    one, two = [await find_principal(workloads, each.token(sub="a")) for each in (issuer, other)]
    assert one.name != two.name
    access = GrantedAccess()
    assert [access.may(one, READ, name) for name in ("one/x", "two/x")] == [True, False]
    assert [access.may(two, READ, name) for name in ("one/x", "two/x")] == [False, True]
    # each signs for itself only, though their keys have one name
    assert issuer.keys.keys() == other.keys.keys()
    with pytest.raises(CredentialsInvalid, match="not accepted"):
        await workloads.read(other.token(iss=issuer.url, sub="a"))


@pytest.mark.parametrize("trick", ["/", ".evil.example", "@evil.example", "#", "?", "0", "/../x"])
async def test_an_issuer_is_compared_as_a_whole(issuer: Issuer, fetch: Fetch, trick: str) -> None:
    workloads = open_workloads([issuer], ['sub == "a" -> viewer on one/*'], fetch)
    for claimed in (issuer.url + trick, issuer.url[:-1], issuer.url.upper(), [issuer.url], None):
        text = issuer.token(iss=claimed, sub="a")
        assert not workloads.knows(text)
        with pytest.raises(CredentialsInvalid):
            await workloads.read(text)
    assert issuer.asked == [], "nobody is asked for keys of an issuer that is not trusted"


async def test_an_unreachable_issuer_stops_nobody_who_does_not_need_it(
    issuer: Issuer, other: Issuer, fetch: Fetch
) -> None:
    rules = [f'iss == "{each.url}" and sub == "a" -> viewer on one/*' for each in (issuer, other)]
    await other.__aexit__()
    workloads = open_workloads([issuer, other], rules, fetch)
    assert await find_principal(workloads, issuer.token(sub="a"))


async def test_a_rule_that_is_gone_grants_nothing(issuer: Issuer, fetch: Fetch) -> None:
    rules = ['sub == "a" -> viewer on one/*', 'sub like "a*" -> viewer on two/*']
    credential = await open_workloads([issuer], rules, fetch).read(issuer.token(sub="a"))
    assert credential.expires == pytest.approx(time.time() + 300 + LEEWAY_SECONDS, abs=5)
    fewer = load(open_workloads([issuer], rules[1:], fetch), credential)
    assert [GrantedAccess().may(fewer, READ, name) for name in ("one/x", "two/x")] == [False, True]
    with pytest.raises(CredentialsInvalid):
        load(open_workloads([issuer], ['sub == "b" -> viewer on one/*'], fetch), credential)


async def test_names_fit_into_the_audit_log(issuer: Issuer, fetch: Fetch) -> None:
    workloads = open_workloads([issuer], ['sub like "*" -> viewer on one/*'], fetch)
    with pytest.raises(CredentialsInvalid) as caught:
        await workloads.read(issuer.token(sub="a" * 250))
    assert "longer than 255" in caught.value.reason


async def test_the_rules_of_one_workload_are_bounded(issuer: Issuer, fetch: Fetch) -> None:
    rules = [f'sub == "a" -> viewer on n{number}/*' for number in range(MOST_MATCHING + 1)]
    assert await open_workloads([issuer], rules[1:], fetch).read(issuer.token(sub="a"))
    with pytest.raises(CredentialsInvalid) as caught:
        await open_workloads([issuer], rules, fetch).read(issuer.token(sub="a"))
    assert f"more than {MOST_MATCHING} rules" in caught.value.reason


def test_a_role_that_there_is_not(fetch: Fetch) -> None:
    issuer = Issuer(url="https://issuer.example.org")
    with pytest.raises(WorkloadRuleInvalid, match=r"workload_rules: sub == .* 'owner' is not a role"):
        open_workloads([issuer], ['sub == "a" -> owner on one/*'], fetch)


def test_without_issuers_no_token_is_known(fetch: Fetch) -> None:
    workloads = Workloads(WorkloadSettings(), ROLES, fetch)
    assert not workloads
    assert not workloads.knows("e30.e30.")
