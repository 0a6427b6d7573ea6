"""Settings: the models of all parts as one, and the sources that they are read from."""
