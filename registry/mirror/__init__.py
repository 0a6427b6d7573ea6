"""Repositories of other registries under `mirror/`, pulled through this one and kept.

    names       maps mirror/HOST/NAME to a registry and a repository there
    tokens      what a registry demands before it answers
    client      requests: redirects, authorization, time limits
    upstream    requests to a registry by purpose, and checks of its answers
    download    a blob in transit, for those who wait for it
    fetching    transfers a blob and makes it a blob of the store
    service     serves what is fresh, fetches what is not, and falls back to stale copies

Base images and pushes use oras (`builder.remote.repository`), in threads that each wait for one registry. Here any
number of clients wait for registries that may be slow or dead, and read blobs while they arrive. So this runs on the
event loop with aiohttp, which can also connect to the very address that was checked.
oras's references are not used, since it guesses where a host ends: it takes `a.b/c`, a repository, for c on host a.b.
"""
