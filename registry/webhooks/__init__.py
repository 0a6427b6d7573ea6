"""Webhooks: who is told of what, and how it reaches them."""
