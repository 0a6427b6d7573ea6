"""Accounts of people and robots, their groups, namespaces and bindings, and what each may do now."""
