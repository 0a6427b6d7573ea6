"""A browser that a person signs in with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from multidict import CIMultiDictProxy
from sqlalchemy import update

from auth.changing import AccessData
from storage.database.account_tables import browser_session
from tests.support.registry.serving import Site
from tests.support.servers.issuer import Issuer

PROVIDER = "/login/provider"


@dataclass
class Answer:
    status: int
    headers: CIMultiDictProxy[str]
    text: str
    set_cookies: list[str]

    @property
    def location(self) -> str:
        return self.headers["Location"]


@dataclass
class Browser:
    """Keeps cookies, and follows nothing by itself."""

    site: Site
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        form: Mapping[str, str] | str | None = None,
        **options: Any,
    ) -> Answer:
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        sent = {**(cookie if self.cookies else {}), **(headers or {})}
        async with self.site.request(
            method, path, headers=sent, data=form, allow_redirects=False, **options
        ) as response:
            text = (await response.read()).decode()
            found = response.headers.getall("Set-Cookie", [])
            for each in found:
                name, _, value = each.partition(";")[0].partition("=")
                if "Max-Age=0" in each:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = value
            return Answer(response.status, response.headers, text, found)

    async def open_form(self, path: str) -> dict[str, str]:
        """The hidden fields of the form on a page, and what is filled in already."""
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer.text
        return fields_of(answer.text)

    async def send_form(
        self, page: str, target: str, headers: Mapping[str, str] | None = None, **fields: str
    ) -> Answer:
        return await self.ask("POST", target, headers, form={**await self.open_form(page), **fields})

    async def log_in(self, name: str, password: str, page: str = "/login") -> Answer:
        return await self.send_form(page, "/login", username=name, password=password)

    async def begin(self, path: str = PROVIDER) -> dict[str, str]:
        """What the provider is sent."""
        answer = await self.ask("GET", path)
        assert answer.status == 303, answer.text
        return {name: values[0] for name, values in parse_qs(urlsplit(answer.location).query).items()}

    async def come_back(self, asked: Mapping[str, str], **more: str) -> Answer:
        fields = {"code": "good", "state": asked["state"], **more}
        query = "&".join(f"{name}={value}" for name, value in fields.items())
        return await self.ask("GET", f"/login/callback?{query}")

    async def sign_in(self, issuer: Issuer, path: str = PROVIDER, **claims: Any) -> Answer:
        asked = await self.begin(path)
        grant(issuer, asked, **claims)
        return await self.come_back(asked)

    async def who(self, headers: Mapping[str, str] | None = None) -> object:
        answer = await self.ask("GET", "/api/v1/permission/", headers)
        data = json.loads(answer.text)["data"] if answer.status == 200 else {"authenticated": False}
        return data["primary_namespace"] if data["authenticated"] else 401


def fields_of(text: str) -> dict[str, str]:
    """The fields of a page's form that have a value."""
    found = re.findall(r'<input (?:type="hidden" )?name="([^"]+)" value="([^"]*)"', text)
    return dict(found)


def grant(issuer: Issuer, asked: Mapping[str, str], **claims: Any) -> None:
    """Let the code `good` be exchanged for a token of alice."""
    usual = {"aud": "condery", "sub": "1", "nonce": asked["nonce"], "preferred_username": "alice", "groups": []}
    issuer.granted["good"] = {"id_token": issuer.token(**{**usual, **claims}), "access_token": "access"}


def data_of(site: Site) -> AccessData:
    return AccessData(site.workshop.store.database, site.workshop.store.changes)


async def age(site: Site, seconds: float) -> None:
    """Let the word of the provider about whoever is signed in be older."""
    values = {"checked": browser_session.c.checked - seconds}
    async with data_of(site).database.writing() as connection:
        await connection.execute(update(browser_session).values(values))
