"""Webhooks: which events each one gets, and their delivery."""
