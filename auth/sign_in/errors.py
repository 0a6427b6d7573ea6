"""Why somebody is not taken at an issuer's word."""

from __future__ import annotations

from auth.errors import AccessConflict, AccessRefused, AccessUnknown, AuthError
from storage.errors import quote


class FetchFailed(AuthError):
    """A document that an issuer should publish could not be fetched."""

    def __init__(self, url: str, reason: str, status: int = 0, code: str = "") -> None:
        super().__init__(f"{url} {reason}")
        self.url = url
        self.reason = reason
        self.status = status
        """Of the answer, if there was one and it is not usable; 0 if there was none."""
        self.code = code
        """What it says is wrong, in OAuth's words (RFC 6749, section 5.2); empty if it does not say."""


class IdentityRefused(AuthError):
    """A token of an issuer is forged, expired, malformed or for somebody else; which of these is for the log alone."""

    def __init__(self, reason: str) -> None:
        super().__init__("this identity token is not accepted here")
        self.reason = reason


class IssuerUnusable(AuthError):
    """The issuer's keys are not known, and cannot be fetched now."""

    retry_after = 10
    """Seconds."""

    def __init__(self, issuer: str, reason: str) -> None:
        super().__init__(f"the keys of {issuer} cannot be fetched now; try again in {self.retry_after} seconds")
        self.issuer = issuer
        self.reason = reason
        """For the log alone."""


class WorkloadRuleInvalid(AuthError):
    """A rule that cannot be used with the other settings."""

    is_mistake = True


class TrustUnusable(AuthError):
    is_mistake = True

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"certificate authorities {path}: {reason}")
        self.path = path
        self.reason = reason


class SignInRefused(AuthError):
    """Somebody is signed in elsewhere, and cannot be here."""


class IdentityUnfit(AccessRefused):
    def __init__(self, text: str) -> None:
        super().__init__(f"{quote(text)} is no issuer and no subject: 1 to 255 printable characters")
        self.text = text


class IdentityTaken(AccessConflict):
    def __init__(self, subject: str, issuer: str, holder: str) -> None:
        super().__init__(
            f"{quote(subject)} of {issuer} is {holder} here already; first: condery user disconnect {holder} "
            f"--issuer {issuer}"
        )
        self.holder = holder


class IdentityUnknown(AccessUnknown):
    def __init__(self, name: str, issuer: str) -> None:
        super().__init__(f"{name} is not connected with anybody of {quote(issuer)}")
        self.name = name
        self.issuer = issuer


class SignInFailed(AuthError):
    """A sign-in at a provider that did not come to its end; beginning again may help."""


class ProviderUnreachable(SignInFailed):
    """Whoever signs in there, or is asked about: it does not answer, or has an error of its own."""


class SignInEnded(AuthError):
    """The provider does not vouch any more for somebody who signed in there."""


class DeviceWaits(AuthError):
    """A device that asks for its token does not get one now (RFC 8628, section 3.5)."""


class DevicePending(DeviceWaits):
    def __init__(self) -> None:
        super().__init__("nobody has allowed it yet; ask again")


class DeviceTooFast(DeviceWaits):
    def __init__(self, interval: int) -> None:
        super().__init__(f"ask again after {interval} seconds, and not sooner")
        self.retry_after = interval
        """Seconds."""


class DeviceDenied(DeviceWaits):
    def __init__(self) -> None:
        super().__init__("the person at the browser did not allow it")


class DeviceExpired(DeviceWaits):
    def __init__(self) -> None:
        super().__init__("this device code has expired or was used, or there never was one; begin again")


class ClientSecretUnusable(AuthError):
    is_mistake = True

    def __init__(self, path: str, reason: str | None) -> None:
        super().__init__(f"oidc_client_secret_file {path}: {reason}")
        self.path = path
        self.reason = reason
