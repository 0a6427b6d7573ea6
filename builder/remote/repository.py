"""Other registries' repositories: base images come from them, and images are pushed to them.

oras keeps the session, tokens and addresses. This module adds what a server needs besides: bodies that are streams
(oras reads an uploaded blob into memory), renewal of a token that is refused, time limits, and care about who gets to
see credentials.

oras takes 9 MB in each process, and most servers have a base of their own. So this is imported where a repository is
opened, in a thread.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import threading
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import oras.auth
import oras.auth.utils
import oras.container
import oras.provider
import oras.utils
import requests

from builder.errors import RemoteUnavailable
from builder.network.addresses import AddressGuard, InternalAddress, split_endpoint
from builder.network.organisation import are_of_one
from builder.remote.guarded_adapter import GuardedAdapter
from builder.remote.logins import Login
from builder.remote.reference import MAX_DOCUMENT, ImageReference
from storage.digest import Descriptor, Digest
from storage.errors import quote
from storage.objects.segments import CHUNK
from storage.oci import DOCKER_HUB, DOCKER_HUB_API, MANIFEST_TYPES
from storage.text import Sent, hide

MOST_REDIRECTS = 5

LONGEST_REASON = 450
"""Characters; the registry's words are a part of many."""


@dataclass(frozen=True)
class RepeatableBody:
    """A request body that is read again each time it is sent. `requests` iterates over it and asks for its length."""

    size: int
    chunks: Callable[[], Iterable[bytes]]

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.chunks())


class RemoteRepository:
    """One repository in another registry. Methods block, may be called from threads, and raise RemoteUnavailable."""

    def __init__(
        self,
        reference: ImageReference,
        *,
        logins: Mapping[str, Login],
        insecure: Collection[str] = (),
    ) -> None:
        self.reference = reference
        api = DOCKER_HUB_API if reference.host == DOCKER_HUB else reference.host
        self._name = _parse_host(api)
        self._insecure = _is_local(self._name) or bool({reference.host, self._name} & set(insecure))
        self._login = logins.get(reference.host) or logins.get(self._name)
        self._container = oras.container.Container(f"{api}/{reference.repository}")
        self._client = oras.provider.Registry(hostname=api, insecure=self._insecure)
        session: requests.Session = self._client.session
        session.auth = _keep_headers
        session.hooks["response"].append(self._check_redirect)
        session.max_redirects = MOST_REDIRECTS
        guard = AddressGuard([split_endpoint(self._url(api)), *insecure])
        for scheme in ("https://", "http://"):
            session.mount(scheme, GuardedAdapter(guard))
        self._session = session
        self._authorizing = threading.Lock()
        # A token has one scope: one to read and one to write are kept, or threads would take turns in renewing them.
        self._authorization: dict[bool, dict[str, str]] = {}

    def manifest(self, target: str) -> tuple[bytes, str]:
        """Return the document at a tag or digest, checked against the digest, and its media type."""
        url = self._url(self._container.manifest_url(target))
        with self._send("GET", url, headers={"Accept": ", ".join(MANIFEST_TYPES)}, stream=True) as response:
            self._expect(response, f"manifest {target}", 200)
            body = _read_limited(response, self.reference)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if target.startswith("sha") and ":" in target:
            self._check(Digest.parse(target), body)
        return body, media_type

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield the blob in chunks.

        Whoever stores it checks the digest. Raises as soon as it is longer than announced.
        """
        url = self._url(self._container.get_blob_url(descriptor.digest))
        received = 0
        with self._send("GET", url, stream=True) as response:
            self._expect(response, f"blob {descriptor.digest}", 200)
            try:
                for chunk in response.iter_content(CHUNK):
                    received += len(chunk)
                    if received > descriptor.size:
                        raise self._error(
                            f"{descriptor.digest} is longer than the {descriptor.size} bytes announced",
                        )
                    yield chunk
            except requests.RequestException as error:
                raise self._describe_failure(error) from None

    def small_blob(self, descriptor: Descriptor) -> bytes:
        """Return a config of at most MAX_DOCUMENT bytes."""
        if descriptor.size > MAX_DOCUMENT:
            raise self._error(f"{descriptor.digest} is larger than {MAX_DOCUMENT} bytes")
        return b"".join(self.blob(descriptor))

    def has_blob(self, digest: Digest) -> bool:
        with self._send("HEAD", self._url(self._container.get_blob_url(digest))) as response:
            self._expect(response, f"blob {digest}", 200, 404)
            return response.status_code == 200

    def put_blob(self, digest: Digest, body: RepeatableBody) -> None:
        """Upload in one PUT (distribution-spec, POST then PUT)."""
        # The POST without a body also fetches the token to write, so that the body is not sent in vain.
        with self._send(
            "POST", self._url(self._container.upload_blob_url()), headers={"Content-Length": "0"}
        ) as started:
            self._expect(started, "upload", 202)
            location = urllib.parse.urljoin(started.url, started.headers.get("Location", ""))
        self._check_address(location)
        url = oras.utils.append_url_params(location, {"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        with self._send("PUT", url, headers=headers, data=body if body.size else b"") as response:
            self._expect(response, f"blob {digest}", 201)

    def put_manifest(self, target: str, media_type: str, body: bytes) -> None:
        url = self._url(self._container.manifest_url(target))
        with self._send("PUT", url, headers={"Content-Type": media_type}, data=body) as response:
            self._expect(response, f"manifest {target}", 201)

    def _url(self, address: str) -> str:
        return f"{self._client.prefix}://{address}"

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: RepeatableBody | bytes | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Send a request, and send it once more with new authorization if the answer is 401."""
        writing = method not in ("GET", "HEAD")
        try:
            for attempt in (1, 2):
                # Uploads may go to another host, such as a storage service, which must not see the credentials.
                own = self._authorization.get(writing, {}) if _split_host(url) == self._name else {}
                response = self._session.request(
                    method, url, data=data, headers={**(headers or {}), **own}, stream=stream
                )
                if response.status_code != 401 or attempt == 2:
                    break
                response.close()
                self._authorize(response, writing, own)
        except InternalAddress as error:
            raise self._error(
                f"{self.reference.host} refers to {error.host}, an internal address; if that is intended, the setting "
                "insecure_registries must name it",
            ) from None
        except requests.RequestException as error:
            raise self._describe_failure(error) from None
        return response

    def _authorize(self, refused: requests.Response, writing: bool, used: Mapping[str, str]) -> None:
        """Get the authorization that a 401 asks for, unless another thread has done so meanwhile."""
        with self._authorizing:
            if self._authorization.get(writing, {}) != used:
                return
            challenge = refused.headers.get("WWW-Authenticate", "")
            basic = challenge.lower().startswith("basic")
            if self._login is None and basic:
                raise self._error(f"{self.reference.host} asks for a login, but none is set")
            backend = oras.auth.get_auth_backend("basic" if basic else "token", self._session, self._insecure)
            if self._login:
                backend.set_basic_auth(self._login.username, self._login.password)
            if not basic:
                self._check_realm(oras.auth.utils.parse_auth_header(challenge).realm or "")
            headers, changed = backend.authenticate_request(refused, {}, refresh=True)
            if not changed:
                raise self._error(f"{self.reference.host} gives no token for it: log in")
            self._authorization[writing] = {"Authorization": headers["Authorization"]}

    def _check_realm(self, realm: str) -> None:
        """Check the token server, which the registry names.

        It may get the password only if one organisation owns both.
        """
        name = _split_host(realm)
        if not urllib.parse.urlsplit(realm).scheme:
            raise self._error(f"{self.reference.host} names {quote(realm)} as its token server, which is no URL")
        self._check_address(realm)
        if self._login is not None and not are_of_one(name, self._name):
            raise self._error(f"{self.reference.host} asks to send its login to {name}")

    def _check_redirect(self, response: requests.Response, *_args: Any, **_options: Any) -> None:
        if response.is_redirect:
            self._check_address(urllib.parse.urljoin(response.url, response.headers["Location"]))

    def _check_address(self, url: str) -> None:
        """Refuse to be sent to an unsupported address, or from https to http.

        IP addresses are checked on connecting.
        """
        name = _split_host(url)
        parts = urllib.parse.urlsplit(url)
        scheme = parts.scheme
        if (
            scheme not in (("http", "https") if self._insecure else ("https",))
            or not name
            or parts.username is not None
        ):
            raise self._error(f"{self.reference.host} refers to {scheme or 'no'}://{name}")

    def _expect(self, response: requests.Response, what: str, *statuses: int) -> None:
        if response.status_code in statuses:
            return
        if response.history:
            # what another host says is only for that host's own clients
            raise self._error(f"{what}: it is not where {self.reference.host} refers to")
        raise self._error(f"{what}: {response.status_code} {_read_error(response)}".rstrip())

    def _check(self, digest: Digest, body: bytes) -> None:
        if hashlib.new(digest.algorithm, body).hexdigest() != digest.hex:
            raise self._error(f"the content sent for {digest} has another digest")

    def _error(self, reason: str) -> RemoteUnavailable:
        """The error without what the registry was sent, which it may have repeated."""
        tokens = [each["Authorization"].partition(" ")[2] for each in list(self._authorization.values())]
        login = [Sent(self._login.password, self._login.username)] if self._login else []
        return RemoteUnavailable(str(self.reference), hide(reason, [*login, *map(Sent, tokens)])[:LONGEST_REASON])

    def _describe_failure(self, error: requests.RequestException) -> RemoteUnavailable:
        if isinstance(error, requests.Timeout):
            reason = "does not answer in time"
        elif isinstance(error, requests.exceptions.SSLError):
            reason = "has no certificate that is trusted here"
        elif isinstance(error, requests.ConnectionError):
            reason = "cannot be reached, or broke the connection"
        else:
            reason = type(error).__name__
        return self._error(f"{self.reference.host} {reason}")


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep the Authorization header. As a session's auth, this stops `requests` from taking one from a .netrc."""
    return request


def _read_limited(response: requests.Response, reference: ImageReference) -> bytes:
    body = b""
    for chunk in response.iter_content(CHUNK):
        body += chunk
        if len(body) > MAX_DOCUMENT:
            raise RemoteUnavailable(str(reference), f"its manifest is larger than {MAX_DOCUMENT} bytes")
    return body


def _read_error(response: requests.Response) -> str:
    """Return the registry's own message (distribution-spec, error codes), or else the status line's."""
    try:
        body = next(response.iter_content(4096), b"")
        first = json.loads(body)["errors"][0]
        return f"{first.get('code', '')} {first.get('message', '')}".strip()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, requests.RequestException):
        return response.reason or ""


def _parse_host(host: str) -> str:
    return (urllib.parse.urlsplit(f"//{host}").hostname or "").lower()


def _split_host(url: str) -> str:
    return (urllib.parse.urlsplit(url).hostname or "").lower()


def _is_local(name: str) -> bool:
    """Whether docker's rule applies: localhost and 127.0.0.0/8 are contacted over HTTP."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
