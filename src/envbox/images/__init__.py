"""Images: fragments → `layers` → `assemble` (the OCI values) → `archive` and `load` (into an engine).

`build` is the verb that does it all; `activation` makes the environment the active one in a container.
"""
