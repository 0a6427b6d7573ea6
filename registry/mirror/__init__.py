"""Repositories of other registries under `mirror/`, pulled through this one and kept.

    names       from mirror/HOST/NAME to a registry and a repository there
    tokens      what a registry wants to see before it answers
    client      requests: redirects, authorization, time limits
    upstream    what is asked of a registry, and its answers checked
    download    a blob on its way, for those who wait for it
    fetching    how it comes, and becomes a blob of the store
    service     what is fresh, what is stale, what is fetched

Base images and pushes go through oras (`builder.remote.repository`), in threads that wait for one registry. Here any
number of clients wait for registries that may be slow or dead, and read blobs while they arrive. So this is done on the
event loop by aiohttp, which also lets the address that was checked be the one that is connected to. oras reads
challenges; its addresses are not used, for it guesses where a host ends, and takes the repository `a.b/c` for c of the
host a.b.
"""
