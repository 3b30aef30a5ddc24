"""A package's program run where it reaches nothing: no network, home, project or cache, nothing to write.

A lockfile's `python` can be any program, and it compiles the byte-code of images. What it gets is a folder,
to read; bytes, on stdin; and bounds. What it can do is answer.

`launcher` is the program that confines, by namespaces or Landlock, with `syscalls` as its filter; `container`
has an engine do it; `roads` says which of these a machine has; `running` talks with what was started, within
bounds.
"""
