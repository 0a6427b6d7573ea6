"""What tests share: programs to talk to, and content."""
