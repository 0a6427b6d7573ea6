"""Checking whether everything stored is whole, repairing it, and backing it up."""
