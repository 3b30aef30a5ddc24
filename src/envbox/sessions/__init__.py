"""From a lock or an image to what runs: a shell, a command, a server, a kernel, a notebook run."""
