"""Who is at the other end: addresses, proxies, connections, and the pages of browsers."""
