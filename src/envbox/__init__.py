"""Lock conda environments, assemble them into reproducible container images, launch them."""

__version__ = "0.1.0.dev0"
