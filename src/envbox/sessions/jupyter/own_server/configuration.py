"""The configuration of a Jupyter server beside an environment: its kernels are the environment's.

Not a module of ours: the server reads it, in its own prefix, as `etc/jupyter/jupyter_server_config.py`.
Without it the server would show a kernel of its own, and start it even for a kernelspec that says `python`:
jupyter_client takes that word for the Python that it runs on itself.
"""

import shutil
import sys

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager


class EnvironmentKernels(KernelSpecManager):  # type: ignore[misc]
    """Kernelspecs of the environment and of the user."""

    def _kernel_dirs_default(self) -> list[str]:
        found: list[str] = super()._kernel_dirs_default()
        return [folder for folder in found if not folder.startswith(f"{sys.prefix}/")]

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return one kernelspec, its program with the path that it has in the environment."""
        spec = super().get_kernel_spec(kernel_name)
        program = shutil.which(spec.argv[0]) if spec.argv else None
        if program is not None:
            spec.argv[0] = program
        return spec


c = get_config()  # type: ignore[name-defined]  # noqa: F821  # Jupyter's
c.KernelSpecManager.ensure_native_kernel = False
c.ServerApp.kernel_spec_manager_class = EnvironmentKernels
