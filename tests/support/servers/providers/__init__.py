"""Providers of OpenID Connect, at which people sign in."""
