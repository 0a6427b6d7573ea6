"""Issuers that sign for anybody in the world, and what a rule has to say so that it is about somebody.

Whose a workload is, is told by an id or a name in full, or by a text whose fixed beginning names the owner to the end:
`repository like "org/*"`, while `org*` is also the beginning of `org-of-somebody-else`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from auth.sign_in.rules import Condition, Rule

Path = tuple[str, ...]


@dataclass(frozen=True)
class Telling:
    """The claims of an issuer that say for whom it signs, so that nobody else can have them."""

    whole: tuple[Path, ...] = ()
    """Those that do by all of their text, or a number."""
    begun: Mapping[Path, str] = field(default_factory=dict)
    """Those that do by their beginning: a regular expression for it."""

    def says_whose(self, condition: Condition) -> bool:
        exact = _read_exact(condition)
        if exact and condition.path in self.whole:
            return True
        pattern = self.begun.get(condition.path)
        # nothing follows a text that is exact, so that it is not the beginning of another name
        start = f"{exact}:" if exact else str(condition.value).partition("*")[0] if condition.operator == "like" else ""
        return pattern is not None and re.match(pattern, start) is not None

    def __str__(self) -> str:
        return ", ".join(sorted(".".join(path) for path in {*self.whole, *self.begun}))


def _paths(*names: str) -> tuple[Path, ...]:
    return tuple(tuple(name.split(".")) for name in names)


def _by_subject(pattern: str, *whole: str) -> Telling:
    return Telling(_paths(*whole), {("sub",): pattern})


_SUBJECT = Telling(_paths("sub"))
_TERRAFORM = _by_subject(
    "organization:[^:]+:",
    "terraform_organization_id",
    "terraform_organization_name",
    "terraform_project_id",
    "terraform_workspace_id",
)

SHARED_ISSUERS: Mapping[str, Telling] = {
    # whoever owns a repository chooses what its subjects consist of, so that they need not say whose it is
    "https://token.actions.githubusercontent.com": Telling(
        _paths("repository", "repository_id", "repository_owner", "repository_owner_id"),
        {
            ("repository",): "[^/]+/",
            ("sub",): "(repo|repository):[^/:]+/|(repository_id|repository_owner|repository_owner_id):[^:]+:",
        },
    ),
    "https://gitlab.com": Telling(
        _paths("project_path", "project_id", "namespace_path", "namespace_id"),
        {("project_path",): "[^/]+/", ("namespace_path",): "[^/]+/", ("sub",): "project_path:[^/:]+/"},
    ),
    "https://agent.buildkite.com": _by_subject(
        "organization:[^:]+:", "organization_id", "organization_slug", "pipeline_id"
    ),
    "https://app.terraform.io": _TERRAFORM,
    "https://app.eu.terraform.io": _TERRAFORM,
    "https://oidc.codefresh.io": _by_subject("account:[^:]+:", "account_id", "pipeline_id"),
    "https://oidc.vercel.com": _by_subject("owner:[^:]+:", "owner", "owner_id", "project_id"),
    "https://api.pulumi.com/oidc": _by_subject("pulumi:[a-z]+:org:[^:]+:"),
    "https://accounts.google.com": Telling(
        _paths("sub", "hd", "google.compute_engine.project_id", "google.compute_engine.project_number")
    ),
    "https://appleid.apple.com": _SUBJECT,
    "https://github.com/login/oauth": _SUBJECT,
    "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0": _SUBJECT,
    "https://oauth2.sigstore.dev/auth": _SUBJECT,
    "https://slack.com": _SUBJECT,
    "https://www.facebook.com": _SUBJECT,
}

_OF_MANY = frozenset(
    {
        "base_ref",
        "deployment_tier",
        "email_verified",
        "environment",
        "environment_protected",
        "event_name",
        "head_ref",
        "pipeline_source",
        "project_visibility",
        "ref",
        "ref_path",
        "ref_protected",
        "ref_type",
        "repository_visibility",
        "runner_environment",
        "workflow",
    }
)
"""Claims that do not say whose a workload is, at any issuer."""


def find_telling(issuer: str) -> Telling | None:
    """What a rule for `issuer` has to say; None if it is not known to sign for everybody."""
    return SHARED_ISSUERS.get(issuer.lower().rstrip("/"))


def is_about_many(conditions: Iterable[Condition]) -> bool:
    """Whether none of the conditions says whose a workload is, as far as can be told of an issuer that is not known."""
    return not any(
        each.path[0] not in _OF_MANY
        and (
            _read_exact(each)
            or (each.operator == "has" and not isinstance(each.value, bool))
            or (each.operator == "like" and not str(each.value).startswith("*"))
        )
        for each in conditions
    )


def find_picking(rule: Rule) -> list[Condition]:
    """The conditions that leave out somebody who has a token of the issuer for us."""
    return [each for each in rule.conditions if each.path not in (("iss",), ("aud",)) and each.operator != "!="]


def _read_exact(condition: Condition) -> str:
    """What the claim has to be; empty if it may be several things, or is one that anybody has."""
    value = condition.value
    if isinstance(value, bool) or (condition.operator == "like" and "*" in str(value)):
        return ""
    return str(value) if condition.operator in ("==", "like") else ""
