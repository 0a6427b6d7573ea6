"""What another host says, without the secrets that it was sent."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from storage.text import Sent, hide

SECRET = 's3cr/t+of "the" <mirror>&ü~?>'
SENT = Sent(SECRET, "robot")
PAIR = f"robot:{SECRET}".encode()
BASE64 = base64.b64encode(PAIR).decode()


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        quote(quote(SECRET)),
        SECRET.encode().decode("latin-1"),
        html.escape(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        BASE64,
        BASE64.rstrip("="),
        base64.urlsafe_b64encode(PAIR).decode(),
        quote(BASE64, safe=""),
        f"/v2/{BASE64}",
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"robot2:{SECRET}!".encode()).decode(),
        base64.b64encode(b"{password: " + SECRET.encode() + b"}").decode(),
        json.dumps(SECRET, ensure_ascii=False)[1:-1].replace("/", "\\/"),
    ],
)
def test_each_form_is_hidden(form: str) -> None:
    shown = hide(f"you sent {form} to us", [SENT])
    assert "***" in shown
    assert form not in shown
    assert shown.startswith("you sent ")
    assert shown.endswith(" to us")
    for piece in (SECRET[:6], SECRET[-6:], quote(SECRET[-6:], safe=""), BASE64[8:14], BASE64[-8:]):
        assert piece not in shown


@pytest.mark.parametrize("shift", range(4))
def test_a_secret_in_base64_is_found_wherever_it_begins(shift: int) -> None:
    text = base64.b64encode(b"x" * shift + b"hunter2-hunter2" + b"y" * shift).decode()
    for before in ("", "a", "ab", "abc", "abcd"):
        assert hide(f"{before}{text}", [Sent("hunter2-hunter2")]) == "***"


def test_what_was_not_sent_is_shown_as_it_is() -> None:
    text = "https://h.example/a%2Fb?c=%7B cm9ib3Q6c2VjcmV0 denied: requested access to the resource is denied ü"
    assert hide(text, [SENT, Sent("pull"), Sent("")]) == text
    assert hide(text, []) == text
    assert hide("", [SENT]) == ""
    assert SECRET not in repr(SENT)
    assert "robot" not in repr(SENT)


def test_a_short_secret_is_found_in_base64_with_its_user_alone() -> None:
    sent = [Sent("p", "u")]
    assert hide(base64.b64encode(b"u:p").decode(), sent) == "***"
    assert hide("dTpw and QUFBcEFB", sent) == "*** and QUFBcEFB"
    # ":t", which a word may be by chance
    assert hide("OnQ Onta", [Sent("t")]) == "OnQ On***a"


def test_of_two_secrets_the_longer_one_leaves_nothing() -> None:
    token = "hunter2-hunter2"
    sent = [Sent(token), Sent(f"{token}-and-more")]
    for each in (sent, sent[::-1]):
        assert hide("hunter2-hunter2-and-more, hunter2-hunter2", each) == "***, ***"


def test_the_beginning_of_one_that_was_cut_off_is_hidden() -> None:
    sent = [Sent("hunter2-hunter2", "me")]
    for form in ("hunter2-hunter2", base64.b64encode(b"me:hunter2-hunter2").decode()):
        for length in range(4, len(form)):
            assert hide(f"you sent '{form[:length]}...' and ...", sent) == "you sent '***...' and ..."
    assert hide("." * 1000 + " and so on...", sent) == "." * 1000 + " and so on..."
    assert hide("hunter2-hun..." * 15, sent).startswith("***...***...")
