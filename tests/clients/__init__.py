"""Real clients against a running server: docker, containerd, podman, skopeo, oras, crane, python-docker, curl."""
