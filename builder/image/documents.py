"""The documents of an image: OCI config, OCI and docker manifests, OCI index. Pure functions; no clock, no host.

The same lock over the same base gives the same bytes. A manifest starts with what the spec alone decides, so that its
first bytes can be sent while the rest is still being made: see `write_beginning`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder.canonical import canonical_json
from builder.locks.description import describe_spec, find_newest, format_time
from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec
from builder.platforms import oci_platform
from storage.digest import Descriptor, Digest
from storage.oci import (
    DOCKER_CONFIG,
    DOCKER_LAYER_OF,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_OF,
    OCI_MANIFEST,
)

if TYPE_CHECKING:
    from builder.base.vocabulary import BaseImage

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOME = "/home/conda"
"""Home of the non-root user, if there is one."""


@dataclass(frozen=True)
class ImageLayer:
    """A layer of ours: its descriptor, the digest of its uncompressed bytes, and its packages, for the history."""

    descriptor: Descriptor
    diff_id: Digest
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExecutionFacts:
    """What the config says beyond the lock. OCI calls it execution parameters (image-spec config.md)."""

    entrypoint: str | None = None
    """Absolute path of the entrypoint in the image; None if the image has no shell."""
    activation: str | None = None
    """Absolute path of the script that activates a shell; None if the image has no shell."""
    shell: str | None = None
    """Absolute path of a shell in the image."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """From the packages' etc/conda/env_vars.d."""
    user: int | None = None
    """Numeric user and group of the container's process; root when None."""


@dataclass(frozen=True)
class ImageDocuments:
    """One platform's config, and the two manifests that name it and the same layers."""

    config: bytes
    manifest: bytes
    docker_manifest: bytes


def write_beginning(spec: EnvironmentSpec, media_type: str) -> bytes:
    """Write the first bytes that every manifest or index of `media_type` for `spec` has, whatever the solve gives.

    The cut-off date is not among them: a dated tag and `latest` may choose the same lock, and so the same image.
    """
    if media_type == DOCKER_MANIFEST:
        start = _to_json(
            {"schemaVersion": 2, "mediaType": media_type, "config": {"mediaType": DOCKER_CONFIG, "digest": "sha256:"}}
        )
        return start.removesuffix(b'"}}')
    start = _to_json({"schemaVersion": 2, "mediaType": media_type, "annotations": _annotate_spec(spec)})
    return start.removesuffix(b"}}")


def write_image(
    lock: Lock,
    platform: str,
    base: BaseImage,
    layers: Sequence[ImageLayer],
    facts: ExecutionFacts,
) -> ImageDocuments:
    """Write config and manifests of `platform`'s image: the base's layers, then ours."""
    config = _to_json(_write_config(lock, platform, base, layers, facts))
    digest = Digest.of(config)
    descriptors = [*(layer.descriptor for layer in base.layers), *(layer.descriptor for layer in layers)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "annotations": _annotate_spec(lock.spec) | _annotate_lock(lock, platform, base),
        "config": Descriptor(OCI_CONFIG, digest, len(config)).to_json(),
        "layers": [_write_layer(descriptor, OCI_LAYER_OF) for descriptor in descriptors],
    }
    docker_manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": Descriptor(DOCKER_CONFIG, digest, len(config)).to_json(),
        "layers": [_write_layer(descriptor, DOCKER_LAYER_OF) for descriptor in descriptors],
    }
    return ImageDocuments(config, _to_json(manifest), _to_json(docker_manifest))


def write_index(spec: EnvironmentSpec, entries: Sequence[tuple[str, bytes]]) -> bytes:
    """Write the OCI index over `entries`: pairs of conda platform and OCI manifest, in order."""
    manifests = [
        Descriptor(OCI_MANIFEST, Digest.of(manifest), len(manifest), platform=oci_platform(platform)).to_json()
        for platform, manifest in entries
    ]
    return _to_json(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "annotations": _annotate_spec(spec), "manifests": manifests}
    )


def _write_config(
    lock: Lock, platform: str, base: BaseImage, layers: Sequence[ImageLayer], facts: ExecutionFacts
) -> dict[str, Any]:
    """Write the OCI image configuration (image-spec config.md)."""
    packages = lock.packages[platform]
    created = format_time(find_newest(packages))
    inherited = base.config.get("config") or {}
    return {
        "created": created,
        **oci_platform(platform),
        # python-docker's model demands these two fields from docker's own configs, and Volumes below; null says nothing
        "container": None,
        "container_config": None,
        "config": _write_run_config(lock, packages, inherited, facts)
        | {
            "Labels": (inherited.get("Labels") or {}) | _annotate_spec(lock.spec) | _annotate_lock(lock, platform, base)
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [*(layer.diff_id for layer in base.layers), *(layer.diff_id for layer in layers)],
        },
        "history": [*_write_base_history(base, created), *(_write_history(layer, created) for layer in layers)],
    }


def _write_run_config(
    lock: Lock, packages: Sequence[LockedPackage], inherited: Mapping[str, Any], facts: ExecutionFacts
) -> dict[str, Any]:
    """Write how the container starts. The base's own settings remain where ours do not replace them."""
    names = {package.name for package in packages}
    env = _list_variables(lock.spec.prefix, names, inherited.get("Env") or (), facts)
    # the base's entrypoint belongs to the base's program, which this image does not start
    kept = {name: value for name, value in inherited.items() if name not in ("Entrypoint", "Cmd", "Healthcheck")}
    run = {"Volumes": None, **kept, "Env": [f"{name}={value}" for name, value in env.items()]}
    if facts.entrypoint:
        run["Entrypoint"] = [facts.entrypoint]
    if "python" in names:
        run["Cmd"] = ["python"]
    elif facts.shell:
        run["Cmd"] = [facts.shell]
    run["WorkingDir"] = inherited.get("WorkingDir") or "/"
    if facts.user is not None:
        run["User"] = f"{facts.user}:{facts.user}"
        run["WorkingDir"] = HOME
    return run


def _list_variables(prefix: str, names: set[str], inherited: Sequence[str], facts: ExecutionFacts) -> dict[str, str]:
    variables = dict(entry.partition("=")[::2] for entry in inherited)
    variables["PATH"] = f"{prefix}/bin:{variables.get('PATH') or DEFAULT_PATH}"
    variables["CONDA_PREFIX"] = prefix
    variables["CONDA_DEFAULT_ENV"] = prefix
    variables["LANG"] = "C.UTF-8"
    if "ca-certificates" in names:
        variables["SSL_CERT_FILE"] = f"{prefix}/ssl/cacert.pem"
    if facts.user is not None:
        # the base's passwd may not list this user, and HOME would then be /
        variables["HOME"] = HOME
    if facts.activation:
        # a non-interactive bash sources it: `docker exec IMAGE bash -c` bypasses the entrypoint
        variables["BASH_ENV"] = facts.activation
    return variables | dict(facts.variables)


def _write_base_history(base: BaseImage, created: str) -> list[Any]:
    """Return the base's history, or one entry per layer if the history does not describe each layer."""
    history = list(base.config.get("history") or ())
    told = sum(not entry.get("empty_layer") for entry in history)
    if told == len(base.layers):
        return history
    return [{"created": created, "created_by": f"base layer of {base.reference}"} for _ in base.layers]


def _write_history(layer: ImageLayer, created: str) -> dict[str, str]:
    return {"created": created, "created_by": f"condery: {', '.join(layer.packages)}" if layer.packages else "condery"}


def _write_layer(descriptor: Descriptor, media_types: Mapping[str, str]) -> dict[str, Any]:
    media_type = media_types.get(descriptor.media_type, descriptor.media_type)
    return Descriptor(media_type, descriptor.digest, descriptor.size).to_json()


def _annotate_spec(spec: EnvironmentSpec) -> dict[str, str]:
    """Annotations that are known before the solve."""
    undated = dataclasses.replace(spec, until=None)
    return {
        "org.opencontainers.image.title": describe_spec(spec),
        "org.opencontainers.image.description": _describe(spec),
        "io.condery.spec": canonical_json(undated.to_json()).decode(),
    }


def _describe(spec: EnvironmentSpec) -> str:
    return (
        f"A conda environment at {spec.prefix} with {describe_spec(spec)} and all they depend on, from the channels "
        f"{', '.join(spec.channels)}. condery made it when it was asked for, out of the packages' own archives: "
        f"nothing was installed and nothing was run. {spec.prefix}/conda-meta records every package with its files and "
        "their hashes, and holds the lock file from which the same image can be made again; the tag "
        "lock-<io.condery.lock> names it."
    )


def _annotate_lock(lock: Lock, platform: str, base: BaseImage) -> dict[str, str]:
    annotations = {
        "org.opencontainers.image.created": format_time(find_newest(lock.packages[platform])),
        "io.condery.lock": lock.key,
        "org.opencontainers.image.base.name": base.reference,
    }
    if base.digest:
        annotations["org.opencontainers.image.base.digest"] = base.digest
    return annotations


def _to_json(document: Any) -> bytes:
    """Write compact JSON in the order of the document's own keys, on which `write_beginning` relies."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
