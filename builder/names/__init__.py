"""What was asked for: image names and their items, match specs, and the spec made from them."""
