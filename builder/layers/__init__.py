"""From packages to layers: the plan, fragments, and how they are joined."""
