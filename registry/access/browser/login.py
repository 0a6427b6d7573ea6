"""GET and POST /login, POST /logout: people sign in with name and password, or choose to do so at a provider.

Clients of conda-store send name and password as JSON, which no page of another site can.
"""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from auth.accounts.names import is_name
from auth.audit.floods import SIGN_IN
from auth.principal import Principal
from auth.tokens.errors import CredentialsInvalid
from registry.access.browser import form
from registry.access.browser.page import field, page, problem, redirect
from registry.access.browser.page import form as form_of
from registry.access.browser.sessions import SignedInBrowsers
from registry.access.passwords import PasswordSignIns
from registry.errors import BodyInvalid, RouteUnknown
from registry.http.intake import read_limited
from registry.observer import PRINCIPAL
from registry.parts import PROXIES, SETTINGS
from registry.peers.networks import client_of
from registry.trail import note
from storage import strict_json
from storage.errors import JsonInvalid, quote

LOGIN = "/login"
PROVIDER = "/login/provider"
JSON = "application/json"


class LoginPage:
    """For all requests of one process."""

    def __init__(self, passwords: PasswordSignIns | None, browsers: SignedInBrowsers, *, has_provider: bool) -> None:
        """`passwords` is None if browsers sign in at the provider alone."""
        self._passwords = passwords
        self._browsers = browsers
        self._has_provider = has_provider

    async def show(self, request: web.Request) -> web.Response:
        """Raises RouteUnknown where nobody can sign in."""
        next_page = form.next_page(request, request.query.get("next", "/"))
        if self._passwords is None:
            if not self._has_provider:
                raise RouteUnknown(request.rel_url.raw_path)
            return redirect(_at_provider(next_page))
        return self._show(request, next_page)

    async def log_in(self, request: web.Request) -> web.Response:
        """Raises SignInFailed, and what checking passwords raises."""
        if self._passwords is None:
            raise RouteUnknown(request.rel_url.raw_path)
        is_json = request.content_type == JSON
        fields = await (_read_json(request) if is_json else form.read_form(request, (*_FIELDS, "next")))
        name, password = fields.get("username", ""), fields.get("password", "")
        next_page = form.next_page(request, fields.get("next", "/"))
        client = client_of(request.app[PROXIES].client(request))
        response = redirect(next_page)
        try:
            compared = await self._passwords.verify(name, password, client)
            await self._browsers.sign_in(request, response, compared.credential, for_program=is_json)
        except CredentialsInvalid as error:
            note(request, request[PRINCIPAL], SIGN_IN, error.name, outcome="denied", reason=error.reason)
            return self._show(request, next_page, "The name or the password is wrong.", name if is_name(name) else "")
        return response

    async def log_out(self, request: web.Request) -> web.Response:
        response = redirect("/")
        await self._browsers.sign_out(request, response)
        return response

    def _show(self, request: web.Request, next_page: str, said: str = "", name: str = "") -> web.Response:
        token = form.token_of(request)
        fields = (
            field(
                "Name", "username", f'value="{name}" autocomplete="username" autocapitalize="none" required autofocus'
            )
            + field("Password", "password", 'type="password" autocomplete="current-password" required')
            + "<button>Sign in</button>"
        )
        body = _say_who(request[PRINCIPAL]) + problem(said)
        body += form_of(LOGIN, {form.FIELD: token, "next": next_page}, fields)
        if self._has_provider:
            body += f'\n<p><a href="{_at_provider(next_page)}">Sign in at the provider of your organization</a></p>'
        # a browser would ask for a password of its own at 401
        response = page("Sign in", body, status=403 if said else 200)
        form.keep_token(request, response, token)
        return response


def _say_who(principal: Principal) -> str:
    """As HTML, in which no name means anything: it has no character for that."""
    if principal.kind == "anonymous":
        return ""
    leave = form_of("/logout", {}, "<button>Sign out</button>")
    return f"<p>You are signed in as <b>{principal.name}</b>.</p>{leave}<p>Or sign in as somebody else:</p>"


def _at_provider(next_page: str) -> str:
    return f"{PROVIDER}?{urlencode({'next': next_page})}"


async def _read_json(request: web.Request) -> dict[str, str]:
    """Name and password. Raises BodyInvalid, BodyTooLarge, BodyBroken."""
    body = await read_limited(request, form.LARGEST, request.app[SETTINGS].stall_seconds)
    try:
        document = strict_json.parse(body)
    except JsonInvalid as error:
        raise BodyInvalid("", str(error)) from None
    if not isinstance(document, dict) or not all(isinstance(document.get(each), str) for each in _FIELDS):
        raise BodyInvalid("", "expected an object with the texts username and password")
    for name in document.keys() - _FIELDS:
        raise BodyInvalid(quote(name), f"there is no such field; there are {', '.join(_FIELDS)}")
    return {each: document[each] for each in _FIELDS}


_FIELDS = ("username", "password")
