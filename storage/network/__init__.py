"""Hosts and addresses of other machines and this one."""
