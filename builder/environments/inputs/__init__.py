"""What people write down: environment files, lock files and manifests, read into an `EnvironmentInput`."""
