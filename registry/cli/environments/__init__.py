"""What `condery env` and `condery build` are about: environments and builds, in the local store or at a server."""
