"""An issuer of identity tokens: discovery, keys that can be changed, and tokens that are signed with them."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import jwt
from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

MAKERS: Mapping[str, Callable[[], PrivateKey]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def to_jwk(key: Any, kid: str, **members: Any) -> dict[str, Any]:
    """The public half of a private key."""
    public = key.public_key()
    kinds = [(rsa.RSAPublicKey, RSAAlgorithm), (ec.EllipticCurvePublicKey, ECAlgorithm)]
    algorithm: Any = next((made for kind, made in kinds if isinstance(public, kind)), OKPAlgorithm)
    return {**algorithm.to_jwk(public, as_dict=True), "kid": kid, "use": "sig", **members}


def segment(document: object) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@dataclass
class Issuer:
    """Listens on a port of this machine, and counts what it is asked for."""

    algorithm: str = "ES256"
    keys: dict[str, PrivateKey] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    discovery: dict[str, Any] = field(default_factory=dict)
    """What the discovery document says otherwise than it should."""
    pause: asyncio.Event | None = None
    """Nothing is answered until it is set."""
    answer: Callable[[web.Request], Any] | None = None
    """Answers to what asks for the keys."""
    odd: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    """Likewise to what asks for a path."""
    url: str = ""
    granted: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Answers of the token endpoint by code or refresh token, each good for once."""
    down: bool = False
    """Whether the token endpoint answers with an error of its own."""
    forms: list[dict[str, str]] = field(default_factory=list)
    """What the token endpoint was sent."""
    person: dict[str, Any] = field(default_factory=dict)
    """What the provider says of whoever is signed in, when it is asked."""

    async def __aenter__(self) -> Self:
        self.rotate("first")
        app = web.Application(middlewares=[self._answer_oddly])
        app.router.add_get("/.well-known/openid-configuration", self._describe)
        app.router.add_get("/keys", self._list_keys)
        app.router.add_post("/token", self._exchange)
        app.router.add_get("/userinfo", self._tell)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def rotate(self, kid: str) -> None:
        """Sign with a new key from now on."""
        self.keys = {kid: MAKERS[self.algorithm]()}

    def claims(self, **claims: Any) -> dict[str, Any]:
        """Those of a token that is good for five minutes."""
        now = int(time.time())
        usual = {"iss": self.url, "aud": "https://registry.example.org", "iat": now, "nbf": now, "exp": now + 300}
        return {**usual, "sub": "somebody", **claims}

    def sign(self, claims: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> str:
        (kid, key), *_ = self.keys.items()
        return jwt.PyJWS().encode(
            json.dumps(claims).encode(), key, algorithm=self.algorithm, headers={"kid": kid, **(headers or {})}
        )

    def token(self, **claims: Any) -> str:
        return self.sign(self.claims(**claims))

    @web.middleware
    async def _answer_oddly(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        return await self.odd.get(request.path, handler)(request)

    async def _describe(self, request: web.Request) -> web.StreamResponse:
        await self._note(request)
        places = {"authorization": "auth", "token": "token", "userinfo": "userinfo"}
        endpoints = {f"{name}_endpoint": f"{self.url}/{path}" for name, path in places.items()}
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **endpoints, **self.discovery}
        return web.json_response(document)

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form | {"authorization": request.headers.get("Authorization", "")})
        if self.down:
            return web.json_response({"error": "temporarily_unavailable"}, status=503)
        answer = self.granted.pop(form.get("code") or form.get("refresh_token", ""), None)
        return web.json_response(answer or {"error": "invalid_grant"}, status=200 if answer else 400)

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.person, status=200 if "Authorization" in request.headers else 401)

    async def _list_keys(self, request: web.Request) -> web.StreamResponse:
        await self._note(request)
        if self.answer is not None:
            response: web.StreamResponse = await self.answer(request)
            return response
        return web.json_response({"keys": [to_jwk(key, kid) for kid, key in self.keys.items()]})

    async def _note(self, request: web.Request) -> None:
        self.asked.append(request.path)
        if self.pause is not None:
            await self.pause.wait()
