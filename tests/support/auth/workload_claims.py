"""Claims of workloads' tokens as their issuers document them; tests give them another issuer, audience and time.

GitHub: "OpenID Connect reference"; GitLab: "ID token payload"; Kubernetes: "Managing Service Accounts", "Schema for
service account private claims".
"""

from __future__ import annotations

from typing import Any

GITHUB_JOB: dict[str, Any] = {
    "jti": "example-id",
    "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
    "aud": "https://github.com/octo-org",
    "ref": "refs/heads/main",
    "sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e",
    "repository": "octo-org/octo-repo",
    "repository_owner": "octo-org",
    "actor_id": "12",
    "repository_visibility": "private",
    "repository_id": "74",
    "repository_owner_id": "65",
    "run_id": "9876543210",
    "run_number": "10",
    "run_attempt": "2",
    "runner_environment": "github-hosted",
    "actor": "octocat",
    "workflow": "example-workflow",
    "head_ref": "",
    "base_ref": "",
    "event_name": "push",
    "ref_protected": "true",
    "ref_type": "branch",
    "workflow_ref": "octo-org/octo-repo/.github/workflows/build.yml@refs/heads/main",
    "workflow_sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e",
    "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
    "job_workflow_sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e",
    "iss": "https://token.actions.githubusercontent.com",
    "enterprise": "octo-enterprise",
    "enterprise_id": "3",
}

GITLAB_JOB: dict[str, Any] = {
    "namespace_id": "72",
    "namespace_path": "my-group",
    "project_id": "20",
    "project_path": "my-group/my-project",
    "user_id": "1",
    "user_login": "sample-user",
    "user_email": "sample-user@example.com",
    "user_identities": [{"provider": "github", "extern_uid": "2435223452345"}],
    "user_access_level": "developer",
    "pipeline_id": "574",
    "pipeline_source": "push",
    "job_id": "302",
    "ref": "feature-branch-1",
    "ref_type": "branch",
    "ref_path": "refs/heads/feature-branch-1",
    "ref_protected": "true",
    "groups_direct": ["mygroup/mysubgroup", "myothergroup/myothersubgroup"],
    "environment": "test-environment2",
    "environment_protected": "false",
    "deployment_tier": "testing",
    "environment_action": "start",
    "runner_id": 1,
    "runner_environment": "self-hosted",
    "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
    "project_visibility": "public",
    "ci_config_ref_uri": "gitlab.example.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main",
    "ci_config_sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
    "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
    "iss": "https://gitlab.example.com",
    "iat": 1681395193,
    "nbf": 1681395188,
    "sub": "project_path:my-group/my-project:ref_type:branch:ref:feature-branch-1",
    "aud": "https://vault.example.com",
}

KUBERNETES_POD: dict[str, Any] = {
    "aud": ["https://kubernetes.default.svc.cluster.local"],
    "iss": "https://kubernetes.default.svc.cluster.local",
    "jti": "ea28ed49-2e11-4280-9ec5-bc3d1d84661a",
    "kubernetes.io": {
        "namespace": "team",
        "node": {"name": "127.0.0.1", "uid": "58456cb0-dd00-45ed-b797-5578fdceaced"},
        "pod": {"name": "runner-69cbfb9798-jv9gn", "uid": "778a530c-b3f4-47c0-9cd5-ab018fb64f33"},
        "serviceaccount": {"name": "puller", "uid": "a087d5a0-e1dd-43ec-93ac-f13d89cd13af"},
        "warnafter": 1700081020,
    },
    "sub": "system:serviceaccount:team:puller",
}
