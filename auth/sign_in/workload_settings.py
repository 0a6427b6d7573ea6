"""Settings for workloads: which issuers of tokens are trusted, and for what."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from auth.sign_in.issuer_address import check_hosts, check_issuer, name_of_issuer
from auth.sign_in.rules import Rule, parse_rule
from auth.sign_in.shared_issuers import find_picking, find_telling
from storage.errors import quote
from storage.section import Section

MOST_ISSUERS = 32
MOST_RULES = 500


class WorkloadSettings(Section):
    """Issuers of tokens that CI jobs and pods have anyway, and which of these may do what."""

    workload_issuers: tuple[str, ...] = Field(
        (),
        description="Issuers (OpenID Connect) whose tokens CI jobs and pods may show instead of a password, such as "
        "https://token.actions.githubusercontent.com.",
    )
    workload_audience: str | None = Field(
        None,
        pattern=r"^[!-~]{1,255}$",
        description="What tokens of workloads must be made for, such as https://registry.example.org. Tokens for "
        "anything else, or for several audiences, are refused.",
    )
    workload_rules: tuple[str, ...] = Field(
        (),
        description="Which workloads get which role, such as "
        'repository == "org/app" and ref == "refs/heads/main" -> viewer on team/*. '
        "If there are several issuers, each rule names its own with iss == ...",
    )
    workload_longest_token: float = Field(
        86_400,
        gt=0,
        description="Maximum seconds between the time when a workload's token was made and its end; those that last "
        "longer are refused.",
    )
    workload_internal_hosts: tuple[str, ...] = Field(
        (),
        description="Hosts (host, or host:port) with internal addresses from which an issuer's keys may be fetched, "
        "besides those of the issuers themselves.",
    )
    workload_ca_file: Path | None = Field(
        None,
        description="PEM file with further certificate authorities that issuers' certificates are checked against, "
        "such as that of a Kubernetes cluster.",
    )

    @property
    def parsed_rules(self) -> tuple[Rule, ...]:
        return tuple(map(parse_rule, self.workload_rules))

    @field_validator("workload_issuers")
    @classmethod
    def _are_issuers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > MOST_ISSUERS:
            raise ValueError(f"more than {MOST_ISSUERS} issuers")
        for each in value:
            check_issuer(each)
        for each in value:
            if value.count(each) > 1:
                raise ValueError(f"{each!r} is given twice")
            # a workload is called by its issuer and its subject, which must not be confused with those of another
            others = (other for other in value if other != each)
            below = next((other for other in others if name_of_issuer(other).startswith(name_of_issuer(each))), None)
            if below is not None:
                raise ValueError(f"{each!r} and {below!r} would give their workloads the same names")
        return value

    @field_validator("workload_rules")
    @classmethod
    def _are_rules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > MOST_RULES:
            raise ValueError(f"more than {MOST_RULES} rules")
        for each in value:
            parse_rule(each)
        return value

    @field_validator("workload_internal_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_hosts(value)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not self.workload_issuers:
            if self.workload_rules:
                raise ValueError("workload_rules: there are no workload_issuers that they could be about")
            return self
        if self.workload_audience is None:
            raise ValueError(
                "workload_audience: set it to what workloads ask their tokens for, such as the address of this server; "
                "without it a token that was made for another service would be accepted"
            )
        for rule in self.parsed_rules:
            _check_rule(rule, self.workload_issuers)
        return self


def _check_rule(rule: Rule, issuers: tuple[str, ...]) -> None:
    """Raises ValueError for a rule that would be taken for one about another issuer, or about everybody."""
    issuer = rule.issuer or (issuers[0] if len(issuers) == 1 else None)
    where = f"workload_rules: {quote(str(rule))}"
    if issuer is None:
        raise ValueError(f'{where}: name its issuer, since there are several, with iss == "{issuers[0]}"')
    if issuer not in issuers:
        raise ValueError(f"{where}: {quote(issuer)} is not one of workload_issuers")
    picking = find_picking(rule)
    if not picking:
        raise ValueError(f"{where}: it is about everybody who has a token of this issuer; say who, with == or like")
    telling = find_telling(issuer)
    if telling is not None and not any(map(telling.says_whose, picking)):
        raise ValueError(
            f"{where}: anybody in the world can have such a token of {issuer}; say whose, with all of one of these, or "
            f"with its beginning as far as the end of the owner's name: {telling}"
        )
