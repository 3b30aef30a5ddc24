"""From archives to a package's files: fragments and folders."""
