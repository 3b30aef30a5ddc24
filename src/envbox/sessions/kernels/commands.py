"""What the environment's own Python is told: which kernels there are, and to become one.

Kernelspecs: https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs
"""

from __future__ import annotations

_LIST = """\
import glob, json, os, sys
found = {}
for path in glob.glob(os.path.join(sys.prefix, "share/jupyter/kernels/*/kernel.json")):
    with open(path, encoding="utf-8") as file:
        found[os.path.basename(os.path.dirname(path))] = json.load(file)
print(json.dumps(found))
"""
# It becomes the kernel: signals and the exit code are then the kernel's own. What it shall listen on in there
# is written into a copy, which only it can read; the file that the client has stays as it is.
_START = """\
import json, os, sys
kernel, path, address = sys.argv[1:]
folder = os.path.join(sys.prefix, "share/jupyter/kernels", kernel)
try:
    with open(os.path.join(folder, "kernel.json"), encoding="utf-8") as file:
        spec = json.load(file)
except OSError:
    sys.exit("error: there is no kernel %s in the environment" % kernel)
if address:
    with open(path) as file:
        connection = dict(json.load(file), ip=address)
    path = "/tmp/kernel-%s.json" % os.urandom(8).hex()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(connection, file)
told = {"{connection_file}": path, "{resource_dir}": folder}
argv = []
for word in spec["argv"]:
    for name, value in told.items():
        word = word.replace(name, value)
    argv.append(word)
if argv[0] in ("python", "python3", "python%d.%d" % sys.version_info[:2]):
    argv[0] = sys.executable
os.environ.update({name: os.path.expandvars(value) for name, value in spec.get("env", {}).items()})
os.execvp(argv[0], argv)
"""


def list_argv() -> tuple[str, ...]:
    """Return a command that prints the environment's kernelspecs as JSON, by name."""
    return ("python", "-I", "-S", "-c", _LIST)


def start_argv(kernel: str, connection_file: str, address: str) -> tuple[str, ...]:
    """Return a command that becomes a kernel.

    :param connection_file: where it finds it, which is never a secret; what is in it is
    :param address: to listen on, instead of the one in the file; "" keeps that
    """
    return ("python", "-I", "-S", "-c", _START, kernel, connection_file, address)
