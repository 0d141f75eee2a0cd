"""Hub, client, hotline: what users hold."""
