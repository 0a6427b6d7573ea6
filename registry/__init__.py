"""Everything that speaks to a client: the distribution API, files beside the manifests, and the command line."""
