"""Jupyter servers: in a container, on this machine, and one beside environments that have none."""
