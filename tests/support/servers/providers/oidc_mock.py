"""An OpenID Connect provider that starts in a second: PyPI's oidc-provider-mock, in a process of its own.

It takes everybody for whom they say they are, and any client. Its one key has a name that its tokens leave out, and a
refresh gives no identity token.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from urllib.error import HTTPError
from urllib.parse import quote, urlencode


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@dataclass
class OidcMock:
    url: str = field(init=False, default="")
    process: subprocess.Popen[str] | None = field(init=False, default=None)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """On the port of before, if it ran before: then with another key, and without anybody's tokens."""
        if not self.url:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        # what its libraries have to say about each other is none of ours
        command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--require-nonce", "true"]
        self.process = subprocess.Popen(
            [*command, "--port", self.url.rpartition(":")[2]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        lines = iter(self.process.stderr.readline, "")
        assert any("running on" in line for line in lines), "it did not start"

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

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
