"""Settings: the parts' models as one, and the sources they are read from."""
