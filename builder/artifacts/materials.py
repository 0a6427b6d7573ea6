"""The packages of a lock as bills of materials have them: each once, with its purl, licence and dependencies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from builder.locks.lock import Lock, LockedPackage
from builder.policy.license_expression import Either, Every, Expression, License, parse_license

_PYPI = "https://pypi.org/simple"


@dataclass(frozen=True)
class Material:
    """A package archive, the platforms whose environments have it, and the URLs of the archives that it needs there."""

    package: LockedPackage
    platforms: tuple[str, ...]
    needs: tuple[str, ...]

    @property
    def purl(self) -> str:
        return write_purl(self.package)


def list_materials(lock: Lock) -> list[Material]:
    """List every archive of `lock` once, sorted by name and URL."""
    packages: dict[str, LockedPackage] = {}
    platforms: dict[str, list[str]] = {}
    needs: dict[str, set[str]] = {}
    for platform, group in sorted(lock.packages.items()):
        by_name = {package.name: package.url for package in group}
        for package in group:
            packages[package.url] = package
            platforms.setdefault(package.url, []).append(platform)
            needs.setdefault(package.url, set()).update(by_name[name] for name in package.needs if name in by_name)
    return [
        Material(package, tuple(platforms[url]), tuple(sorted(needs[url] - {url})))
        for url, package in sorted(packages.items(), key=lambda each: (each[1].name, each[0]))
    ]


def write_purl(package: LockedPackage) -> str:
    """Write the package URL of an archive (purl-spec, types/conda and pypi)."""
    if package.is_wheel:
        qualifiers = {"file_name": package.file_name}
        # the specification's default is PyPI itself
        if package.channel.rstrip("/") != _PYPI:
            qualifiers["repository_url"] = package.channel
        return _write("pypi", package.title, package.version, qualifiers)
    qualifiers = {
        "build": package.build,
        "channel": package.channel,
        "subdir": package.subdir,
        "type": "tar.bz2" if package.file_name.endswith(".tar.bz2") else "conda",
    }
    return _write("conda", package.name, package.version, qualifiers)


def _write(kind: str, name: str, version: str, qualifiers: Mapping[str, str]) -> str:
    written = "&".join(f"{name}={_quote(value)}" for name, value in sorted(qualifiers.items()) if value)
    return f"pkg:{kind}/{_quote(name)}@{_quote(version)}?{written}"


def _quote(text: str) -> str:
    return quote(text, safe="/:")


def write_license(text: str | None) -> str | None:
    """Write a channel's licence as an SPDX expression; None if it says none, or says it in words of its own."""
    expression = parse_license(text)
    return _write_expression(expression) if expression is not None and _is_known(expression) else None


def _is_known(expression: Expression) -> bool:
    if isinstance(expression, License):
        return expression.known and expression.exception_known
    return all(map(_is_known, expression.parts))


def _write_expression(expression: Expression) -> str:
    if isinstance(expression, License):
        return str(expression)
    if isinstance(expression, Either):
        return " OR ".join(map(_write_expression, expression.parts))
    return " AND ".join(_write_part_of_every(part) for part in expression.parts)


def _write_part_of_every(part: Expression) -> str:
    written = _write_expression(part)
    return f"({written})" if isinstance(part, Either) else written


def list_own_licenses(text: str | None) -> list[str]:
    """List the identifiers `LicenseRef-...` in a licence, which SPDX has no text of."""
    expression = parse_license(text)
    found: list[str] = []
    waiting: list[Expression] = [expression] if expression is not None else []
    while waiting:
        each = waiting.pop()
        if isinstance(each, Either | Every):
            waiting += each.parts
        elif each.name.startswith("LicenseRef-"):
            found.append(each.name)
    return found
