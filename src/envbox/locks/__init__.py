"""From a spec to a lock, and what is done to one."""
