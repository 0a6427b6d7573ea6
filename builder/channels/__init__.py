"""Where packages come from: channels, which of them are allowed, and downloads."""
