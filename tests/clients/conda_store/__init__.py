"""The clients of conda-store, as they were last released, which have to work unmodified."""
