"""What is fixed inside every image: agreed between those who make images and those who start containers."""

PREFIX = "/opt/envbox"
"""The same for every environment of everybody: files have it patched in, so only then can images share
layers."""
JUPYTER = "/opt/envbox-jupyter"
"""Of a Jupyter server that is put beside an environment without one; in no image."""
WORK = "/work"  # where the project is mounted
HOME = "/home/envbox"  # of whoever runs a container; never the project
LOCK_LABEL = "io.envbox.lock"  # the lockfile's digest; an image has it, and gives it to its containers
FORMAT_LABEL = "io.envbox.format"  # the image-format version; what has it was made by envbox
