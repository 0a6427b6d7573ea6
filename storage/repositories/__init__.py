"""What clients push and mirrors copy: manifests, tags and upload sessions."""
