"""CI jobs and pods at a server: their tokens as Bearer, as the password of Basic, and at the token endpoint."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from auth.settings import AccessSettings
from auth.sign_in.workload_settings import WorkloadSettings
from registry.http.settings import HttpSettings
from tests.support.registry.people import basic, bearer
from tests.support.registry.serving import Site, serving
from tests.support.servers.issuer import Issuer

AUDIENCE = "https://registry.example.org"
RULES = ('sub == "builder" -> editor on team/*', 'sub == "puller" -> viewer on team/*')
TAGS = "/v2/team/app/tags/list"
SCOPE = "repository:team/app:pull,push"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as running:
        yield running


@contextlib.asynccontextmanager
async def trusting(
    issuer: Issuer, directory: Path, *rules: str, http: HttpSettings | None = None
) -> AsyncIterator[Site]:
    """A server that takes the word of `issuer`."""
    settings = WorkloadSettings(
        workload_issuers=(issuer.url,), workload_audience=AUDIENCE, workload_rules=rules or RULES
    )
    closed = AccessSettings(anonymous_bindings=("none",))
    async with serving(directory, http or HttpSettings(), sign_in=closed, workload=settings) as site:
        yield site


@pytest.fixture
async def site(issuer: Issuer, tmp_path: Path) -> AsyncIterator[Site]:
    async with trusting(issuer, tmp_path) as running:
        yield running


async def status(site: Site, headers: Mapping[str, str], method: str = "GET", path: str = TAGS) -> int:
    async with site.request(method, path, headers=headers) as response:
        await response.read()
        return response.status


async def exchange(site: Site, token: str, method: str) -> str:
    """What the token endpoint gives for a workload's token."""
    if method == "POST":
        form = {"grant_type": "password", "username": "x", "password": token, "service": "condery", "scope": SCOPE}
        request = site.request("POST", "/token", data={**form, "client_id": "test", "access_type": "offline"})
    else:
        path = f"/token?service=condery&scope={SCOPE}&offline_token=true"
        request = site.request("GET", path, headers=basic("x", token) if method == "Basic" else bearer(token))
    async with request as response:
        assert response.status == 200, await response.text()
        document = json.loads(await response.read())
    assert "refresh_token" not in document, "it would outlive the job"
    return str(document["token"])


def granted(token: str) -> list[object]:
    claims = token.split(".")[1]
    found: list[object] = json.loads(base64.urlsafe_b64decode(claims + "=="))["access"]
    return found


@pytest.mark.parametrize("kind", ["Bearer", "Basic"])
async def test_a_token_is_taken_at_once(site: Site, issuer: Issuer, kind: str) -> None:
    def headers(token: str) -> Mapping[str, str]:
        return bearer(token) if kind == "Bearer" else basic("anything", token)

    for _ in range(2):
        # nothing is stored there, which only who may read is told
        assert await status(site, headers(issuer.token(sub="puller"))) == 404
    assert await status(site, headers(issuer.token(sub="builder")), "POST", "/v2/team/app/blobs/uploads/") == 202
    assert await status(site, headers(issuer.token(sub="puller")), "POST", "/v2/team/app/blobs/uploads/") == 403
    assert await status(site, headers(issuer.token(sub="builder")), path="/v2/other/app/tags/list") == 403
    assert await status(site, headers(issuer.token(sub="nobody"))) == 401
    assert await status(site, headers(issuer.token(sub="puller", aud="https://other.example.org"))) == 401
    assert await status(site, headers(issuer.token(sub="puller", exp=1))) == 401
    assert len(issuer.asked) == 2, "the issuer is asked once for its keys"


@pytest.mark.parametrize("method", ["Bearer", "Basic", "POST"])
async def test_a_token_is_exchanged_for_one_of_the_registry(site: Site, issuer: Issuer, method: str) -> None:
    token = await exchange(site, issuer.token(sub="puller"), method)
    assert granted(token) == [{"type": "repository", "name": "team/app", "actions": ["pull"]}]
    assert await status(site, bearer(token)) == 404
    assert await status(site, bearer(token), "POST", "/v2/team/app/blobs/uploads/") == 403
    pushing = await exchange(site, issuer.token(sub="builder"), method)
    assert await status(site, bearer(pushing), "POST", "/v2/team/app/blobs/uploads/") == 202


async def test_what_was_exchanged_ends_with_the_rule(issuer: Issuer, tmp_path: Path) -> None:
    async with trusting(issuer, tmp_path) as site:
        token = await exchange(site, issuer.token(sub="puller"), "Basic")
        assert await status(site, bearer(token)) == 404
    async with trusting(issuer, tmp_path, RULES[0]) as site:
        assert await status(site, bearer(token)) == 401
    # nor does a rule of another issuer stand in for it
    async with trusting(issuer, tmp_path, RULES[1].replace("viewer", "editor")) as site:
        assert await status(site, bearer(token)) == 401


async def test_the_workloads_of_one_rule_count_as_one_sender(issuer: Issuer, tmp_path: Path) -> None:
    rules = ('sub == "builder" -> editor on team/*', 'sub like "job:*" -> viewer on team/*')
    http = HttpSettings(requests_per_second=0.001)
    async with trusting(issuer, tmp_path, *rules, http=http) as site:
        tokens = [issuer.token(sub=f"job:branch-{number}") for number in range(3)]
        assert await status(site, bearer(tokens[0])) == 404
        assert [await status(site, bearer(token)) for token in tokens] == [429] * 3
        assert await status(site, bearer(issuer.token(sub="builder"))) == 404


async def test_a_workload_is_somebody_without_an_account(issuer: Issuer, tmp_path: Path) -> None:
    headers = bearer(issuer.token(sub="builder"))
    name = f"workload/{issuer.url.removeprefix('http://')}/builder"
    async with trusting(issuer, tmp_path) as site:
        async with site.request("GET", "/api/v1/permission/", headers=headers) as response:
            data = json.loads(await response.read())["data"]
        assert data["authenticated"] is True
        assert data["primary_namespace"] == "default"
        assert set(data["entity_permissions"]) == {"team/*"}
        for body in ({"name": "mine"}, {"primary_namespace": "team"}):
            async with site.request("POST", "/api/v1/token/", headers=headers, json=body) as response:
                assert response.status == 400
                assert f"{name} has no account" in await response.text()
        async with site.request("GET", "/api/v1/token/", headers=headers) as response:
            assert json.loads(await response.read())["data"] == []
    # the log is complete when the server has stopped
    assert {json.loads(line)["principal"] for line in site.log.getvalue().splitlines()} == {name}


async def test_an_issuer_that_does_not_answer(site: Site, issuer: Issuer) -> None:
    issuer.discovery = {"issuer": "https://other.example.org"}
    async with site.request("GET", TAGS, headers=bearer(issuer.token(sub="puller"))) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "10")
        assert "discovery" not in await response.text(), "that is for the log alone"
    assert await status(site, {}) == 401
    assert await status(site, {}, path="/healthz") == 200


async def test_a_slow_issuer_holds_up_nobody_else(site: Site, issuer: Issuer) -> None:
    issuer.pause = asyncio.Event()
    waiting = asyncio.create_task(status(site, bearer(issuer.token(sub="puller"))))
    while not issuer.asked:
        await asyncio.sleep(0.001)
    assert await status(site, {}) == 401
    assert await status(site, bearer("condery_nothing")) == 401
    assert not waiting.done()
    issuer.pause.set()
    assert await waiting == 404


async def test_the_log_has_no_token(issuer: Issuer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [issuer.token(sub="puller"), issuer.token(sub="nobody"), issuer.token(sub="puller", exp=1)]
    async with trusting(issuer, tmp_path) as site:
        for text in texts:
            await status(site, bearer(text))
            await status(site, basic("x", text))
    shown = site.log.getvalue() + "".join(capsys.readouterr())
    assert '"status":401' in shown
    assert "no rule matches 'nobody'" in shown
    for text in texts:
        assert text.rpartition(".")[2] not in shown


async def test_without_issuers_nothing_is_fetched(issuer: Issuer, tmp_path: Path) -> None:
    async with serving(tmp_path, sign_in=AccessSettings(anonymous_bindings=("none",))) as site:
        assert await status(site, bearer(issuer.token(sub="puller"))) == 401
    assert issuer.asked == []
