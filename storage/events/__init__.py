"""What has happened: marked for other processes, told to other machines, kept for webhooks."""
