"""Errors in requests that the registry itself detects; `registry.answers` says what clients get.

    ConderyError (storage.errors)
    ├── RequestError
    │   ├── NameInvalid, DigestMalformed, DigestOfBody, PageInvalid, FilterInvalid, TagsInvalid
    │   ├── TagInvalid
    │   │   └── TagMalformed
    │   ├── ContentRangeInvalid, BodyTooLarge, BodyBroken, BodyInvalid, PathInvalid
    │   ├── SpecificationRefused, NothingMade
    │   ├── Unauthorized           signing in, or another token, may help
    │   ├── Denied
    │   ├── TokenRequestInvalid
    │   │   └── GrantUnsupported, ServiceUnknown, ScopesInvalid
    │   ├── RouteUnknown, NoFiles, MethodUnsupported
    │   ├── StillBuilding, TooManyConnections, TooManyRequests, TooManyStreams
    │   ├── ServerRefused          what another server says to a command
    │   └── LoginFailed
    │       └── NoAnswer
    ├── BrokenPromise
    ├── NotMirrored
    │   └── NothingMirrored
    ├── MirrorError                another registry, or what it sent
    │   ├── UpstreamFailed
    │   │   └── UpstreamLies, UpstreamBroke
    │   ├── UpstreamSlow, UpstreamLimits, BlobFailed
    │   └── UpstreamLacks
    │       └── RepositoryLacking, BlobLacking
    ├── CannotListen, ProcessFailed, CertificateInvalid, InterfaceMissing, InvalidSettings, SecretInvalid
    ├── Detailed
    │   └── BuildUnsuccessful
    └── UsageError, ImageUnknown, EnvironmentNotBuilt, DemoFailed

Those of mirrors are in `registry.mirror.errors`, those of the command line and of a start beside what raises them.
"""

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
    """A digest in a path that is invalid and so names nothing (404, while `DigestInvalid` is 400)."""

    def __init__(self, text: str) -> None:
        super().__init__(str(DigestInvalid(text)))


class PageInvalid(RequestError):
    def __init__(self, parameter: str, value: str, expected: str) -> None:
        super().__init__(f"query parameter {parameter}={quote(value)}: {expected}")


class FilterInvalid(RequestError):
    def __init__(self, text: str) -> None:
        super().__init__(f"query parameter artifactType={quote(text)}: expected a media type")


class TagMalformed(TagInvalid):
    """An invalid tag to push to (400, while an invalid tag to pull is 404)."""


class TagsInvalid(RequestError):
    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"{count} tags in one push; at most {most} are allowed")


class DigestOfBody(RequestError):
    def __init__(self, wanted: str, found: str) -> None:
        super().__init__(f"the body sent for {wanted} has digest {found}")


class ContentRangeInvalid(RequestError):
    def __init__(self, header: str) -> None:
        super().__init__(f"Content-Range {quote(header)}: expected FIRST-LAST, two numbers of bytes")


class BodyTooLarge(RequestError):
    def __init__(self, most: int) -> None:
        super().__init__(f"the body is larger than {most} bytes, the maximum here")


class BodyBroken(RequestError):
    """The body broke off or stalled; `received` is what arrived, if that is kept."""

    def __init__(self, size: int, received: Received | None) -> None:
        super().__init__(f"the body broke off after {size} bytes")
        self.received = received


class Unauthorized(RequestError):
    """The client must log in, or its credentials were not accepted (RFC 6750; distribution's token specification).

    `realm` is the URL that issues tokens, `service` names this registry there, `scope` is what a token has to allow,
    and `error` is RFC 6750's code if the client's credentials were wrong.
    """

    def __init__(
        self,
        realm: str,
        service: str,
        scope: str = "",
        error: str = "",
        message: str = "",
        *,
        tokens_only: bool = False,
    ) -> None:
        super().__init__(
            message
            or (
                f"the credentials were not accepted ({error}); log in again, e.g. with docker login"
                if error
                else "log in first, e.g. with docker login"
            )
        )
        self.realm = realm
        self.service = service
        self.scope = scope
        self.error = error
        self.tokens_only = tokens_only
        """Whether nothing is said of passwords, where tokens are to be had."""

    @property
    def challenges(self) -> tuple[str, ...]:
        """The values of the headers WWW-Authenticate: where tokens are had, and that a password does as well.

        Without a realm no token is to be had. Clients in Python join the headers and take the last realm for the only
        one, so both have the same.
        """
        fields = {"realm": self.realm, "service": self.service, "scope": self.scope, "error": self.error}
        bearer = "Bearer " + ",".join(f"{name}={_quoted_string(text)}" for name, text in fields.items() if text)
        basic = f"Basic realm={_quoted_string(self.realm or self.service)}"
        if self.realm and self.tokens_only:
            return (bearer,)
        return (bearer, basic) if self.realm else (basic,)


class TokenRequestInvalid(RequestError):
    """A request to the token endpoint that makes no sense."""


class GrantUnsupported(TokenRequestInvalid):
    def __init__(self, grant: str) -> None:
        super().__init__(f"grant_type={quote(grant)}: expected password, refresh_token or that of a device code")


class ServiceUnknown(TokenRequestInvalid):
    def __init__(self, service: str, own: str) -> None:
        super().__init__(f"service={quote(service)}: tokens are given here for {own}")


class ScopesInvalid(TokenRequestInvalid):
    def __init__(self, most: int, characters: int) -> None:
        super().__init__(f"a token can be asked for {most} scopes of {characters} characters in all, and not for more")


class BodyInvalid(RequestError):
    """The body of a request to the REST API; `where` is the field's path."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}" if where else problem)


class PathInvalid(RequestError):
    """A part of a path that cannot be the name or the number of anything; `field` is which."""

    def __init__(self, field: str, value: str, expected: str) -> None:
        article = "an" if field.startswith(("a", "e", "i", "o", "u")) else "a"
        super().__init__(f"{quote(value)} in the path cannot be {article} {field}: {expected}")


class SpecificationRefused(RequestError):
    """What somebody asks to have built may not be built here; the text says why."""


class NothingMade(RequestError):
    """What is asked for is made of no build, or not of this one; the text says why."""


class Denied(RequestError):
    """The request is known but not allowed."""


class RouteUnknown(RequestError):
    def __init__(self, path: str) -> None:
        super().__init__(f"nothing is served at {quote(path)}")


class NoFiles(RequestError):
    """The repository has no files: it is pushed, mirrored or does not exist, and the error does not reveal which.

    `root` is the root of on-demand images, and `name` the requested file; `hint` is the end of the sentence: what may
    be meant.
    """

    def __init__(self, repository: str, root: str, name: str, hint: str = "") -> None:
        example = name if name in ARTIFACTS else ARTIFACTS[0]
        super().__init__(
            f"{quote(repository)} has no files: files exist for environments, as in "
            f"/files/NAMESPACE/ENVIRONMENT/latest/{example}, and for on-demand images, as in "
            f"/files/{root}/python/numpy/latest/{example}{hint}"
        )


class MethodUnsupported(RequestError):
    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{quote(method)} is not supported here; this path supports {allowed}")
        self.allowed = allowed


class StillBuilding(RequestError):
    """A file is not ready, and no beginning of it can be sent. The next request waits again."""

    retry_after = 1

    def __init__(self, what: str, build_id: str) -> None:
        super().__init__(
            f"{what} is still being built (build {build_id}); ask again, e.g. with curl --fail --retry 100"
        )


class TooManyConnections(RequestError):
    retry_after = 5

    def __init__(self) -> None:
        super().__init__(f"too many connections are open; try again in {self.retry_after} seconds")


class TooManyRequests(RequestError):
    """The sender exceeds the rate of the settings."""

    def __init__(self, sender: str, retry_after: int) -> None:
        super().__init__(f"too many requests of {sender}; try again in {retry_after} seconds")
        self.sender = sender
        self.retry_after = retry_after
        """Seconds."""


class TooManyStreams(RequestError):
    """One sender follows more logs at a time than one may."""

    retry_after = 30
    """Seconds."""

    def __init__(self, sender: str, most: int) -> None:
        super().__init__(
            f"{quote(sender)} follows {most} logs, which is the maximum (setting streams_per_sender); close some first"
        )
        self.most = most


class BrokenPromise(ConderyError):
    """A manifest does not begin with the bytes of it that were already sent."""

    def __init__(self, digest: str, sent: int) -> None:
        super().__init__(f"manifest {digest} does not begin with the {sent} bytes of it that were already sent")


def _quoted_string(text: str) -> str:
    """`text` as a header's quoted-string (RFC 9110, section 5.6.4), without characters that are not printable ASCII."""
    plain = "".join(each for each in text if " " <= each <= "~")
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
