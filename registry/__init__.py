"""Everything that talks to clients: the distribution API, files beside images, and the command line."""
