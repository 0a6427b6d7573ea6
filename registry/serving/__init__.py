"""The running server: sockets, TLS and processes."""
