"""Access without an account, and lifetimes of credentials. Times are in seconds unless a name says otherwise."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from auth.binding import check_case, parse_binding, split_binding
from auth.role import Roles, parse_role
from storage.section import Section

AUTO = "auto"
NONE = "none"
ROOT = "{root}"
"""Stands for the `root` of on-demand repositories."""


class AccessSettings(Section):
    """What is granted by default, custom roles, and how long credentials last."""

    roles: tuple[str, ...] = Field(
        (), description="Custom roles, such as publisher=environment::read+environment::create."
    )
    anonymous_bindings: tuple[str, ...] = Field(
        (AUTO,),
        description="What anybody may do without signing in: bindings such as default/*=viewer, `none`, or `auto`: on "
        "a server that only its own machine can reach, everything while there are no accounts, and afterwards reading "
        "everything and building on-demand images; on any other server, nothing.",
    )
    signed_in_bindings: tuple[str, ...] = Field(
        ("default/*=viewer", "filesystem/*=viewer", f"{ROOT}/*=editor"),
        description="What everybody who signed in may do, besides being the admin of the namespace of their own name; "
        f"{ROOT} stands for the first part of on-demand names.",
    )
    admin_password_file: Path | None = Field(
        None,
        description="File with the password of the account `admin`, which is made at the first start of a server that "
        "others can reach; when unset, a one-time password is printed then.",
    )
    realm_path: str = Field(
        "/token",
        pattern=r"^/[!-~]*$",
        description="Path of the token endpoint as clients reach it; set it if a proxy serves /token elsewhere.",
    )
    service_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._:-]{1,255}$",
        description="Name of this registry in its tokens; when unset, the host of public_url, or else condery.",
    )
    token_seconds: int = Field(
        300, ge=60, le=3600, description="Seconds for which a token of the registry's token endpoint is accepted."
    )
    refresh_days: float = Field(
        30, gt=0, description="Days for which a refresh token of the token endpoint is accepted."
    )
    access_token_days: float = Field(
        365, gt=0, description="Maximum number of days for which an access token can be made."
    )
    browser_passwords: bool = Field(
        True,
        description="Whether people can sign in with name and password in a browser, at /login. If not, that page "
        "leads to oidc_issuer at once.",
    )
    sign_in_requests: int = Field(
        120,
        ge=1,
        description="Requests a minute of one address for the pages for signing in and for codes of devices, after "
        "which it has to wait.",
    )
    session_hours: float = Field(12, gt=0, description="Hours for which a browser stays signed in.")
    password_hashes: int = Field(
        2, ge=1, le=64, description="Number of passwords that each process checks at the same time (64 MiB each)."
    )
    login_attempts: int = Field(
        20,
        ge=1,
        description="Failed sign-ins a minute after which an address has to wait; it has to wait after half as many "
        "for one account, and so does every address that failed after ten times as many for one account.",
    )

    audit_days: float = Field(
        400, ge=0, description="Days for which events of the audit log are kept; 0 keeps them for ever."
    )
    audit_pulls: bool = Field(
        False, description="Whether the audit log has pulls too; refusals and everything that changes are always in it."
    )

    @property
    def own_roles(self) -> Roles:
        return Roles(parse_role(each) for each in self.roles)

    def granted_patterns(self, root: str) -> tuple[str, ...]:
        """The patterns on which something is granted to anybody, or to everybody who signed in."""
        texts = (*self.anonymous_bindings, *self.signed_in_bindings)
        given = (text.replace(ROOT, root) for text in texts if text not in (AUTO, NONE))
        return tuple(split_binding(text)[0] for text in given)

    @field_validator("roles")
    @classmethod
    def _are_roles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            parse_role(each)
        return value

    @field_validator("anonymous_bindings", "signed_in_bindings")
    @classmethod
    def _are_bindings(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        roles = Roles(parse_role(each) for each in info.data.get("roles", ()))
        for each in value:
            if each != NONE and (each != AUTO or info.field_name != "anonymous_bindings"):
                check_case(parse_binding(each.replace(ROOT, "root"), roles).pattern)
        return value
