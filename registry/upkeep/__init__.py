"""What a server does that nobody asked for: garbage is collected, and environments are looked after."""
