"""Linking: a package's archive → its entries at the image prefix, as a fragment that any layer can take.

The heart of envbox, from the bottom up: `tar` and `frames` (bytes), `target` (the prefix), `package` (reads
an archive and believes nothing), `conda` and `wheel` (what installing means), `install`, `bytecode`,
`compiler`, `conflicts`, `packages`, which makes all of a lock's in parallel, and on top the two forms that
are kept: `fragments` for layers, `folders` for prefixes on this machine.
"""
