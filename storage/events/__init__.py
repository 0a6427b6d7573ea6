"""Changes marked for other processes, announced to other machines, and kept for webhooks."""
