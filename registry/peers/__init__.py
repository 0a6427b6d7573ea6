"""The other end of a connection: addresses, proxies, limits on connections, and web pages in browsers."""
