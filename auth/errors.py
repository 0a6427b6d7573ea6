"""What can go wrong with accounts, groups, namespaces, bindings, credentials and sign-ins.

    ConderyError (storage.errors)
    └── AuthError
        ├── AccessRefused
        │   ├── NameUnfit, PasswordUnfit, BindingInvalid, MetadataInvalid, WrongKind
        │   ├── AccessTokenInvalid, IdentityUnfit
        │   └── AccessConflict         it contradicts what exists
        │       └── NameTaken, NamespaceInUse, NamespaceOfServer, LastAdministrator, IdentityTaken
        ├── AccessUnknown
        │   ├── AccountUnknown, GroupUnknown, NamespaceUnknown, BindingUnknown, MembershipUnknown
        │   └── AccessTokenUnknown, IdentityUnknown
        ├── GrantExceeded              nobody grants what they lack
        ├── CredentialsInvalid         forged, expired, revoked or malformed
        ├── TooManyAttempts            wrong passwords
        ├── SignInBusy                 more passwords to check at once than there is room for
        ├── IdentityRefused            a token of an issuer is not accepted
        ├── IssuerUnusable             its keys cannot be fetched now
        ├── FetchFailed                so cannot one of its documents
        ├── SignInFailed               a sign-in with a browser did not come to its end
        │   └── ProviderUnreachable
        ├── SignInRefused              somebody is signed in elsewhere, and cannot be here
        ├── SignInEnded                and is not any more
        ├── DeviceWaits                a device gets no token now
        │   └── DevicePending, DeviceTooFast, DeviceDenied, DeviceExpired
        ├── PasswordFileUnusable       at the first start
        └── WorkloadRuleInvalid, TrustUnusable, ClientSecretUnusable

Those of tokens and of sign-ins elsewhere are in `auth.tokens.errors` and `auth.sign_in.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.errors import ConderyError, quote
from storage.suggestions import did_you_mean


class AuthError(ConderyError):
    """An error about who may do what."""


class AccessRefused(AuthError):
    """The request cannot be carried out as it is."""


class AccessConflict(AccessRefused):
    """The request contradicts what exists."""


class NameUnfit(AccessRefused):
    is_mistake = True

    def __init__(self, what: str, name: str, reason: str) -> None:
        super().__init__(f"{quote(name)} cannot be the name of {what}: {reason}")
        self.what = what
        self.name = name
        self.reason = reason


class NameTaken(AccessConflict):
    def __init__(self, name: str, by: str, remedy: str = "choose another name") -> None:
        super().__init__(f"{name} is the name of {by} already; {remedy}")
        self.name = name
        self.by = by


class PasswordUnfit(AccessRefused):
    def __init__(self, reason: str) -> None:
        super().__init__(f"this cannot be a password: {reason}")
        self.reason = reason


class PasswordFileUnusable(AuthError):
    is_mistake = True

    def __init__(self, path: str, reason: str | None) -> None:
        super().__init__(f"admin_password_file {path}: {reason}")
        self.path = path
        self.reason = reason


class WrongKind(AccessRefused):
    def __init__(self, name: str, kind: str, reason: str) -> None:
        super().__init__(f"{name} is a {kind}: {reason}")
        self.name = name
        self.kind = kind
        self.reason = reason


class BindingInvalid(AccessRefused):
    is_mistake = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MetadataInvalid(AccessRefused):
    is_mistake = True

    def __init__(self, reason: str) -> None:
        super().__init__(f"metadata of a namespace: {reason}")
        self.reason = reason


class NamespaceInUse(AccessConflict):
    def __init__(self, name: str, repository: str) -> None:
        super().__init__(f"namespace {name} holds repositories, such as {repository}; delete what is in them first")
        self.name = name
        self.repository = repository


class NamespaceOfServer(AccessConflict):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"namespace {name} is the server's own and stays; condery namespace quota {name} default ends its own quota"
        )
        self.name = name


class LastAdministrator(AccessConflict):
    def __init__(self) -> None:
        super().__init__(
            "this would leave no person who is admin of everything and can sign in for good: with a password that does "
            "not end or connected with a user elsewhere, and not by a group of a provider alone; first make another "
            "one, e.g. with condery role bind --user NAME '*=admin' and condery user passwd NAME"
        )


class AccessUnknown(AuthError):
    """Something that the request names does not exist."""


class AccountUnknown(AccessUnknown):
    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"there is no account {quote(name)}{did_you_mean(near)}")
        self.name = name
        self.near = tuple(near)


class GroupUnknown(AccessUnknown):
    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"there is no group {quote(name)}{did_you_mean(near)}")
        self.name = name
        self.near = tuple(near)


class NamespaceUnknown(AccessUnknown):
    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"there is no namespace {quote(name)}{did_you_mean(near)}")
        self.name = name
        self.near = tuple(near)


class MembershipUnknown(AccessUnknown):
    def __init__(self, account: str, group: str, source: str | None) -> None:
        why = f"{account} is in group {group} by {source}, which alone can end it" if source else ""
        super().__init__(why or f"{account} is not in group {group}")
        self.account = account
        self.group = group


class BindingUnknown(AccessUnknown):
    def __init__(self, binding: str, holder: str, held: Sequence[str]) -> None:
        has = f"it has {', '.join(held)}" if held else "it has none"
        super().__init__(f"{holder} does not have the binding {binding}; {has}")
        self.binding = binding
        self.holder = holder
        self.held = tuple(held)


class GrantExceeded(AuthError):
    """To grant a role or a token, one needs all its permissions oneself."""

    def __init__(self, granter: str, binding: str, permission: str) -> None:
        super().__init__(f"{granter} cannot grant {binding}: {permission} on all of it is not granted to {granter}")
        self.granter = granter
        self.binding = binding
        self.permission = permission


class TooManyAttempts(AuthError):
    def __init__(self, retry_after: int, name: str = "") -> None:
        super().__init__(f"too many sign-ins with a wrong password; try again in {retry_after} seconds")
        self.retry_after = retry_after
        """Seconds."""
        self.name = name
        """Of the account that was tried, if an account can have it; for the audit log."""


class SignInBusy(AuthError):
    retry_after = 5
    """Seconds."""

    def __init__(self) -> None:
        super().__init__(f"too many passwords are being checked; try again in {self.retry_after} seconds")
