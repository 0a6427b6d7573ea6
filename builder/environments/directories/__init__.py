"""Builds as directories on disk, whose files are hard links into one cache of unpacked packages.

    <root>/<namespace>/<name>-<build>      one build, complete or absent
    <root>/<namespace>/envs/<name>         a symbolic link to the current one

docs/on-disk.md is for those who use them.
"""
