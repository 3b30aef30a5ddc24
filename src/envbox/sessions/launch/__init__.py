"""Launches: `container` is the value and its argument list, `session` starts a shell or a command in one.

`jupyter` starts a server, `servers` are those that run.
"""
