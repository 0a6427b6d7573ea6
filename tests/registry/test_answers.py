"""The table of errors and answers."""

from __future__ import annotations

import pytest

from builder.errors import BuilderError, InputInvalid, TooManyBuilds, Unsatisfiable
from registry.answers import ANSWERS, answer_of, error_response
from registry.errors import NameInvalid, Unauthorized
from storage.errors import ServerStopping
from tests.support.errors import all_errors

NEVER_ANSWERED = {
    "registry.settings.loading.InvalidSettings": "read before the server starts",
    "registry.serving.listening.CannotListen": "the server does not start",
    "registry.serving.processes.ProcessFailed": "the server does not start",
    "registry.ui.InterfaceMissing": "the server does not start",
    "registry.serving.tls.CertificateInvalid": "the server does not start, or keeps the certificate it has",
    "registry.webhooks.signing.SecretInvalid": "the server does not start",
    "auth.errors.AuthError": "only the classes below it are raised",
    "auth.errors.PasswordFileUnusable": "the server does not start",
    "auth.sign_in.errors.WorkloadRuleInvalid": "the server does not start",
    "auth.sign_in.errors.ClientSecretUnusable": "the server does not start",
    "auth.sign_in.errors.TrustUnusable": "the server does not start",
    "auth.sign_in.errors.FetchFailed": "the issuer's keys cannot be used, which is said instead",
    "auth.sign_in.errors.IdentityRefused": "the credentials are not accepted, which is said instead",
    "auth.sign_in.errors.SignInEnded": "the browser is signed out, and asked to sign in again",
    "auth.sign_in.errors.DeviceWaits": "only the classes below it are raised",
    "registry.cli.options.UsageError": "of the command line",
    "registry.cli.options.Detailed": "of the command line",
    "registry.cli.commands.explain.ImageUnknown": "of the command line",
    "registry.cli.stored_images.EnvironmentNotBuilt": "of the command line",
    "registry.cli.environments.following.BuildUnsuccessful": "of the command line",
    "registry.cli.demonstration.DemoFailed": "of the command line",
}
"""Errors that no request can meet, and why."""


def test_every_error_has_an_answer() -> None:
    errors = all_errors()
    assert {each.partition(".")[0] for each in errors} >= {"builder", "registry", "storage"}
    assert "registry.mirror.errors.BlobFailed" in errors
    assert {name for name, each in errors.items() if answer_of(each) is None} == NEVER_ANSWERED.keys()


def test_what_is_wrong_with_a_build_is_told_as_404() -> None:
    """Nobody shows the message of a 5xx; podman retries 400 three times before it does."""
    for each in all_errors().values():
        # a file is sent to the REST API, whose clients show its message
        if issubclass(each, BuilderError) and not issubclass(each, InputInvalid):
            answer = answer_of(each)
            assert answer is not None
            # asking again is the right thing to do for the one, and for no other
            assert answer.status == (429 if issubclass(each, TooManyBuilds) else 404), each


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=lambda answer: answer.code)
def test_codes_are_what_the_specification_allows(answer: tuple[int, str]) -> None:
    assert answer[1].replace("_", "").isupper()
    assert 400 <= answer[0] <= 599


def test_each_form_tells_the_error() -> None:
    error = Unsatisfiable("linux-64", "a needs b")
    assert error_response("distribution", error).body == (
        b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"cannot be solved for linux-64: a needs b","detail":null}]}'
    )
    assert error_response("rest", error).body == (
        b'{"status":"error","code":"MANIFEST_UNKNOWN","message":"cannot be solved for linux-64: a needs b"}'
    )


def test_a_server_that_stops_says_when_to_ask_again() -> None:
    response = error_response("distribution", ServerStopping())
    assert (response.status, response.headers["Retry-After"]) == (503, "5")
    assert isinstance(response.body, bytes)
    assert b"stopping" in response.body
    assert b"administrator" not in response.body, "nothing is wrong"


def test_a_page_holds_no_markup_of_others() -> None:
    response = error_response("page", NameInvalid("<script>alert('a')</script>"))
    assert isinstance(response.body, bytes)
    assert b"<script" not in response.body
    assert b"&lt;script&gt;" in response.body
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("realm", ["https://r.example/token", ""])
def test_no_page_has_a_browser_ask_for_a_password_by_itself(realm: str) -> None:
    def challenges(error: Unauthorized) -> list[str]:
        return [each.partition(" ")[0] for each in error_response("page", error).headers.getall("WWW-Authenticate")]

    assert challenges(Unauthorized(realm, "r.example")) == ["Bearer"]
    assert "Basic" in challenges(Unauthorized(realm, "r.example", error="invalid_token"))


@pytest.mark.parametrize(
    ("error", "challenge"),
    [
        (Unauthorized("https://r.example/token", "r.example"), 'realm="https://r.example/token",service="r.example"'),
        (Unauthorized("u", "s", "repository:a/b:pull,push"), 'realm="u",service="s",scope="repository:a/b:pull,push"'),
        (Unauthorized("u", "s", error="invalid_token"), 'realm="u",service="s",error="invalid_token"'),
        # nothing that was sent ends the string or the header
        (Unauthorized("u", "s", 'a"b\\c\r\nX: \u00e9'), 'realm="u",service="s",scope="a\\"b\\\\cX: "'),
    ],
)
def test_a_challenge_says_where_a_token_is_had(error: Unauthorized, challenge: str) -> None:
    response = error_response("distribution", error)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == f"Bearer {challenge}"
    assert isinstance(response.body, bytes)
    assert b'"code":"UNAUTHORIZED"' in response.body
