"""The rig: a conda channel, a package index, a registry, a base image and an engine, all on this machine.

What tests, demo and benchmarks stand on where the internet cannot be reached. Everything is made of real
upstream software: CPython and shared libraries from Debian, everything else from PyPI's wheels. The command
(`tools/rig`) needs nothing but Debian's own python3; what converts packages runs in a virtual environment
that it makes itself.
"""
