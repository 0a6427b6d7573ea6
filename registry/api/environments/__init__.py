"""Named environments in the REST API: they themselves, their specifications, their builds, and the files of these."""
