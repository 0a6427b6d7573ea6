"""Outgoing connections: which addresses others may send us to, and which proxies lead there."""
