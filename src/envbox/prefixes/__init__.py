"""Prefixes on this machine: an environment's files, linked together in the cache, as the image has them.

From the lock without layers: nothing is compressed or hashed. `obtain`, `assembly` and `tree` make and check
a prefix, `background_compile` makes the byte-code behind a session that did not wait for it, `host` gives one
for sessions without a container, `mountable` says whether one can be mounted into a container from here.
"""
