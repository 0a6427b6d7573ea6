"""Named environments: what people write down, what is built of it, and its life."""
