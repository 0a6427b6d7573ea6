"""What is wrong with a request, as far as the registry itself knows; `registry.answers` has what clients are told."""

from __future__ import annotations

from builder.artifacts.artifact import ARTIFACTS
from storage.errors import ConderyError, DigestInvalid, quote
from storage.repositories.uploads import Received


class RequestError(ConderyError):
    """The request itself cannot be answered."""


class NameInvalid(RequestError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"{quote(name)} is not a repository name: parts of a-z and 0-9, joined inside by '.', '_', '__' or any "
            "number of '-', separated by '/', 255 characters at most"
        )


class TagInvalid(RequestError):
    def __init__(self, tag: str) -> None:
        super().__init__(
            f"{quote(tag)} is not a tag: a letter, digit or '_', then at most 127 letters, digits, '_', '.' or '-'"
        )


class DigestMalformed(RequestError):
    """A digest in a path that names nothing because it is none (404, where `DigestInvalid` is 400)."""

    def __init__(self, text: str) -> None:
        super().__init__(str(DigestInvalid(text)))


class PageInvalid(RequestError):
    def __init__(self, parameter: str, value: str, expected: str) -> None:
        super().__init__(f"query parameter {parameter}={quote(value)}: {expected}")


class FilterInvalid(RequestError):
    def __init__(self, text: str) -> None:
        super().__init__(f"query parameter artifactType={quote(text)}: expected a media type")


class TagMalformed(TagInvalid):
    """What something is to be pushed as (400, where a tag that is asked for is a 404)."""


class TagsInvalid(RequestError):
    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"{count} tags in one push; at most {most} are taken")


class DigestOfBody(RequestError):
    def __init__(self, wanted: str, found: str) -> None:
        super().__init__(f"the body sent for {wanted} has digest {found}")


class ContentRangeInvalid(RequestError):
    def __init__(self, header: str) -> None:
        super().__init__(f"Content-Range {quote(header)}: expected FIRST-LAST, two numbers of bytes")


class BodyTooLarge(RequestError):
    def __init__(self, most: int) -> None:
        super().__init__(f"the body is larger than {most} bytes, which is the maximum here")


class BodyBroken(RequestError):
    """The body ended before its end or stopped coming; `received` is what came of it, where that is kept."""

    def __init__(self, size: int, received: Received | None) -> None:
        super().__init__(f"the body broke off after {size} bytes")
        self.received = received


class Unauthorized(RequestError):
    """Whoever asks has to say who they are, or did and was not believed (RFC 6750; distribution's token specification).

    `realm` is the URL that tokens are had from, `service` names this registry there, `scope` is what a token has to
    allow, and `error` is RFC 6750's code, where something was wrong with credentials that were sent.
    """

    def __init__(self, realm: str, service: str, scope: str = "", error: str = "") -> None:
        super().__init__(
            f"the credentials were not accepted ({error}); log in again, e.g. with docker login"
            if error
            else "log in first, e.g. with docker login"
        )
        self.realm = realm
        self.service = service
        self.scope = scope
        self.error = error

    @property
    def challenge(self) -> str:
        """The value of the header WWW-Authenticate."""
        fields = {"realm": self.realm, "service": self.service, "scope": self.scope, "error": self.error}
        return "Bearer " + ",".join(f"{name}={_quoted_string(text)}" for name, text in fields.items() if text)


class Denied(RequestError):
    """What is asked for is known and not allowed."""


class RouteUnknown(RequestError):
    def __init__(self, path: str) -> None:
        super().__init__(f"nothing is served at {quote(path)}")


class NoFiles(RequestError):
    """Files of a repository that is pushed or mirrored, or is none: it is not told which.

    `root` is that of images on demand, and `name` the file that was asked for.
    """

    def __init__(self, repository: str, root: str, name: str) -> None:
        example = name if name in ARTIFACTS else ARTIFACTS[0]
        super().__init__(
            f"{quote(repository)} has no files: files exist only for on-demand images, such as "
            f"/files/{root}/python/numpy/latest/{example}"
        )


class MethodUnsupported(RequestError):
    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{quote(method)} is not supported here; this serves {allowed}")
        self.allowed = allowed


class StillBuilding(RequestError):
    """A file that is not there yet, and of which no beginning can be sent. Asking again waits again."""

    retry_after = 1

    def __init__(self, what: str, build_id: str) -> None:
        super().__init__(
            f"{what} is still being built (build {build_id}); ask again, e.g. with curl --fail --retry 100"
        )


class TooManyConnections(RequestError):
    retry_after = 5

    def __init__(self) -> None:
        super().__init__(f"too many connections are open; try again in {self.retry_after} seconds")


class BrokenPromise(ConderyError):
    """A manifest that does not begin with what was sent of it."""

    def __init__(self, digest: str, sent: int) -> None:
        super().__init__(f"manifest {digest} does not begin with the {sent} bytes that were sent of it")


def _quoted_string(text: str) -> str:
    """`text` as a header's quoted-string (RFC 9110, 5.6.4); what is not printable ASCII is left out."""
    plain = "".join(each for each in text if " " <= each <= "~")
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
