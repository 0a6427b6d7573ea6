"""Archives of environments, right ones and others."""
