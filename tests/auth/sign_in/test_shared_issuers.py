"""Rules for issuers that sign for anybody in the world: each says whose workloads it is about."""

from __future__ import annotations

import pytest
import structlog
from pydantic import ValidationError

from auth.role import Roles
from auth.sign_in.rules import parse_rule
from auth.sign_in.shared_issuers import SHARED_ISSUERS, find_picking, is_about_many
from auth.sign_in.workload_settings import WorkloadSettings
from auth.sign_in.workloads import Workloads

GITHUB = "https://token.actions.githubusercontent.com"
GITLAB = "https://gitlab.com"
BUILDKITE = "https://agent.buildkite.com"
TERRAFORM = "https://app.terraform.io"
GOOGLE = "https://accounts.google.com"
OWN = "https://gitlab.example.org"


def check(issuer: str, conditions: str) -> WorkloadSettings:
    return WorkloadSettings(
        workload_issuers=(issuer,),
        workload_audience="https://registry.example.org",
        workload_rules=(f"{conditions} -> editor on team/*",),
    )


@pytest.mark.parametrize(
    ("issuer", "conditions"),
    [
        (GITHUB, 'ref == "refs/heads/main"'),
        (GITHUB, 'repository != "org/app" and ref == "x"'),
        (GITHUB, 'repository like "*/app"'),
        (GITHUB, 'repository like "**"'),
        (GITHUB, 'repository like "a*"'),
        (GITHUB, 'repository like "org*"'),
        (GITHUB, 'repository like "/*"'),
        (GITHUB, 'repository like "" and ref == "x"'),
        (GITHUB, 'repository == "" and ref == "x"'),
        (GITHUB, "repository == true"),
        (GITHUB, 'repository has "org/app"'),
        (GITHUB, 'repository.x == "org/app"'),
        (GITHUB, 'repository_id like "1*"'),
        (GITHUB, 'repository_owner_id like "1*"'),
        (GITHUB, 'repository_owner like "org*"'),
        (GITHUB, 'sub like "repo:*:ref:refs/heads/main"'),
        (GITHUB, 'sub like "repo:*"'),
        (GITHUB, 'sub like "r*"'),
        (GITHUB, 'sub like "repo:*/app:*"'),
        (GITHUB, 'sub like "repo:org*"'),
        (GITHUB, 'sub like "repo:/*"'),
        (GITHUB, 'sub like "repository_owner:org*"'),
        # the owner of any repository may have such subjects made for it
        (GITHUB, 'sub == "ref:refs/heads/main"'),
        (GITHUB, 'sub == "repository_visibility:private"'),
        (GITHUB, 'sub like "job_workflow_ref:org/shared/.github/workflows/oidc.yml@*"'),
        (GITHUB, 'job_workflow_ref == "org/shared/.github/workflows/oidc.yml@refs/heads/main"'),
        (GITHUB, 'actor == "octocat"'),
        (GITLAB, 'sub like "project_path:*"'),
        (GITLAB, 'sub like "project_path:group*"'),
        (GITLAB, 'project_path like "g*"'),
        (GITLAB, 'project_path like "group*"'),
        (GITLAB, 'namespace_path like "group*"'),
        (GITLAB, 'namespace_id like "7*"'),
        (GITLAB, 'ref_protected == "true"'),
        (GITLAB + "/", 'project_path like "g*"'),
        ("https://GitLab.com", 'project_path like "g*"'),
        (BUILDKITE, 'organization_slug like "acme*"'),
        (BUILDKITE, 'sub like "organization:acme*"'),
        (BUILDKITE, 'pipeline_slug == "build"'),
        (TERRAFORM, 'terraform_workspace_name == "production"'),
        (TERRAFORM, 'sub like "organization:*:workspace:production:*"'),
        (GOOGLE, "email_verified == true"),
        (GOOGLE, 'email like "*@example.org"'),
        (GOOGLE, 'sub like "1*"'),
        (GOOGLE, 'google like "*"'),
        *((issuer, "email_verified == true") for issuer in SHARED_ISSUERS),
    ],
)
def test_a_rule_that_anybody_may_fulfil_is_refused(issuer: str, conditions: str) -> None:
    with pytest.raises(ValidationError, match="anybody in the world can have such a token"):
        check(issuer, conditions)


@pytest.mark.parametrize(
    ("issuer", "conditions"),
    [
        (GITHUB, 'repository == "org/app"'),
        (GITHUB, 'repository like "org/*"'),
        (GITHUB, 'repository like "org/app-*" and ref == "refs/heads/main"'),
        (GITHUB, 'repository_id == "74"'),
        (GITHUB, 'repository_owner == "org"'),
        (GITHUB, 'repository_owner like "org"'),
        (GITHUB, 'sub == "repo:org/app:ref:refs/heads/main"'),
        (GITHUB, 'sub like "repo:org/*"'),
        (GITHUB, 'sub like "repo:org@65/app@74:*"'),
        (GITHUB, 'sub like "repository_owner:org:*"'),
        (GITHUB, 'sub == "repository_owner_id:65"'),
        (GITLAB, 'project_path == "group/app" and ref_protected == "true"'),
        (GITLAB, 'project_path like "group/*"'),
        (GITLAB, 'namespace_path == "group"'),
        (GITLAB, 'sub like "project_path:group/*:ref_type:branch:ref:main"'),
        (BUILDKITE, 'organization_slug == "acme"'),
        (BUILDKITE, 'sub like "organization:acme:pipeline:*"'),
        (TERRAFORM, 'terraform_organization_name == "acme"'),
        (TERRAFORM, 'sub like "organization:acme:project:*"'),
        (GOOGLE, 'sub == "113123456789"'),
        (GOOGLE, 'google.compute_engine.project_id == "acme"'),
        # an issuer of one enterprise's own
        (f"{GITHUB}/acme", 'ref == "refs/heads/main"'),
        (OWN, 'ref_protected == "true"'),
    ],
)
def test_a_rule_about_somebody_is_taken(issuer: str, conditions: str) -> None:
    assert check(issuer, conditions).parsed_rules


@pytest.mark.parametrize(
    ("conditions", "many"),
    [
        ("email_verified == true", True),
        ('ref_protected == "true" and environment == "production"', True),
        ('sub like "*"', True),
        ('sub != "x"', True),
        ("admin == true", True),
        ('sub like "system:*"', False),
        ('"kubernetes.io".namespace == "team"', False),
        ('groups has "dev"', False),
        ('project_path == "group/app"', False),
    ],
)
def test_a_rule_that_says_nobody_is_told_of(conditions: str, many: bool) -> None:
    assert is_about_many(find_picking(parse_rule(f"{conditions} -> viewer on team/*"))) == many


async def test_the_log_names_such_a_rule() -> None:
    async def fetch(url: str) -> bytes:
        raise AssertionError(url)

    with structlog.testing.capture_logs() as events:
        Workloads(check(OWN, 'ref_protected == "true"'), Roles(), fetch)
        Workloads(check(OWN, 'project_path == "group/app"'), Roles(), fetch)
    assert [event["rule"] for event in events] == ['ref_protected == "true" -> editor on team/*']
