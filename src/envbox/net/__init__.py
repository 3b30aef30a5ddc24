"""HTTP, and who we are to a host."""
