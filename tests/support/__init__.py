"""What tests share: programs to talk to, content to talk about."""
