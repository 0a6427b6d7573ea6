"""From packages to layers: the plan, the fragments, and how fragments are joined."""
