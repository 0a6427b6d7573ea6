"""Packages, locks, images and opened builders."""
