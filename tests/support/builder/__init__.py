"""Packages, locks, images and open builders."""
