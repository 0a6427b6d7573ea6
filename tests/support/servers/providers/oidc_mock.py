"""An OpenID Connect provider that starts in a second: PyPI's oidc-provider-mock, in a process of its own.

It takes everybody for whom they say they are, and any client. Its one key has a name that its tokens leave out, and a
refresh gives no identity token.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

from tests.support.servers.providers.child import Child


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class OidcMock(Child):
    def start(self) -> None:
        """On the port of before, if it ran before: then with another key, and without anybody's tokens."""
        self.choose_url()
        # what its libraries have to say about each other is none of ours
        command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--require-nonce", "true"]
        self.run([*command, "--port", self.url.rpartition(":")[2]])

    def set_user(self, subject: str, **claims: object) -> None:
        """What it says of somebody from now on."""
        self._send("PUT", f"{self.url}/users/{quote(subject, safe='')}", json.dumps(claims).encode())

    def revoke_tokens(self, subject: str) -> None:
        """Somebody's, those that were given before."""
        self._send("POST", f"{self.url}/users/{quote(subject, safe='')}/revoke-tokens")

    def authorize(self, url: str, subject: str) -> str:
        """Where it sends the browser of `subject`, which came to `url`."""
        answer = self._send("POST", url, urlencode({"sub": subject}).encode(), "application/x-www-form-urlencoded")
        found = re.search(r"^location: (.*)$", answer, re.MULTILINE | re.IGNORECASE)
        assert found, answer
        return found[1].strip()

    def _send(self, method: str, url: str, body: bytes = b"", content_type: str = "application/json") -> str:
        """The headers of the answer, which is no error."""
        request = urllib.request.Request(url, body, {"Content-Type": content_type}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
        try:
            with opener.open(request, timeout=60) as response:
                return str(response.headers)
        except HTTPError as error:
            with error:
                if error.code >= 400:
                    raise AssertionError(error.read().decode()) from None
                return str(error.headers)
