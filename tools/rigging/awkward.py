"""Packages that are hard to install: one for each thing that a linker can get wrong.

All are ours, named `awkward-…`, and small. `tests/test_rig.py` says what each promises.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterator, Mapping

from rigging import gzipped, names, tiny_elf
from rigging.conda_package import PLACEHOLDER, Entry, Package, directory, softlink

GENERIC = {"noarch": "generic"}
LONG = "deep-" * 22 + "down"  # a folder that makes a shebang longer than the 127 bytes that conda allows
_SHARE = "share/awkward"


def packages() -> Iterator[Package]:
    """All of them, in `.conda` format; `old_format` is apart."""
    yield _generic("awkward-activate", "1.0", _activation("1.0"))
    yield _generic("awkward-activate", "1.1", _activation("1.1"))
    variables = {"AWKWARD_VARIABLE": "from env_vars.d", "AWKWARD_QUOTED": 'it\'s "quoted" & $HOME stays'}
    yield _generic(
        "awkward-variables", "1.0", _one("etc/conda/env_vars.d/awkward.json", json.dumps(variables))
    )
    yield from _prefix()
    yield _generic(
        "awkward-post-link",
        "1.0",
        {
            "bin/.awkward-post-link-post-link.sh": _script(
                'echo linked > "$PREFIX/share/awkward-post-link.txt"'
            )
        },
    )
    yield _generic("awkward-symlinks", "1.0", _symlinks())
    yield _generic(
        "awkward-names",
        "1.0",
        {
            f"{_SHARE}/a file with spaces.txt": Entry(b"spaces\n"),
            f"{_SHARE}/naïve Ωmega файл.txt": Entry(b"beyond ASCII\n"),
            f"{_SHARE}/a 'quote' and a \"double\" one.txt": Entry(b"quotes\n"),
            f"{_SHARE}/{'long-' * 45}name.txt": Entry(b"a path longer than a ustar header holds\n"),
        },
    )
    yield _generic("awkward-empty-directory", "1.0", {f"{_SHARE}/empty": directory()})
    yield _generic(
        "awkward-hardlinks",
        "1.0",
        {
            f"{_SHARE}/hard/first.txt": Entry(b"one file, three names\n"),
            f"{_SHARE}/hard/second.txt": Entry(
                b"one file, three names\n", same_as=f"{_SHARE}/hard/first.txt"
            ),
            "bin/awkward-hard": Entry(b"one file, three names\n", same_as=f"{_SHARE}/hard/first.txt"),
        },
    )
    yield from _clobbering()
    for version in ("1.0", "1.1", "2.0"):
        yield _generic("awkward-tiny", version, _one(f"{_SHARE}/tiny.txt", f"{version}\n"))
    yield Package(
        "awkward-only-aarch64",
        "1.0",
        "linux-aarch64",
        files={"bin/awkward-only-aarch64": Entry(tiny_elf.program("linux-aarch64", b"aarch64"), 0o755)},
    )
    yield _noarch_python("1.0.post1", "1.0.post1")
    yield _noarch_python("1!2.0rc1", "1!2.0rc1+local.7")
    yield from _bytecode()


def elsewhere() -> Iterator[Package]:
    """The packages of a second channel, for `channel::package` and channel priority."""
    yield _generic("awkward-elsewhere", "1.0", _one(f"{_SHARE}/elsewhere.txt", "from the other channel\n"))
    yield _generic("awkward-tiny", "9.0", _one(f"{_SHARE}/tiny.txt", "9.0, from the other channel\n"))


def old_format() -> Package:
    """The one to be written as `.tar.bz2`."""
    files = _one(f"{_SHARE}/old.txt", f"an older archive at {PLACEHOLDER}\n")
    return _generic("awkward-old-format", "1.0", files)


def sdist() -> tuple[str, bytes]:
    """A source distribution of a project that has no wheel: file name and bytes."""
    stem = "awkward_sdist-1.0"
    files = {
        "PKG-INFO": b"Metadata-Version: 2.1\nName: awkward-sdist\nVersion: 1.0\n",
        "pyproject.toml": b'[build-system]\nrequires = ["setuptools"]\n',
        "setup.py": b'from setuptools import setup\nsetup(name="awkward-sdist", version="1.0")\n',
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{stem}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return f"{stem}.tar.gz", gzipped.compress(buffer.getvalue())


def _generic(name: str, version: str, files: Mapping[str, Entry]) -> Package:
    return Package(name, version, "noarch", files=files, index=GENERIC)


def _one(path: str, text: str) -> dict[str, Entry]:
    return {path: Entry(text.encode())}


def _script(body: str) -> Entry:
    return Entry(f"#!/bin/sh\n{body}\n".encode(), 0o755)


def _activation(version: str) -> dict[str, Entry]:
    activate = (
        f'export AWKWARD_ACTIVATED="{version} at $CONDA_PREFIX"\n'
        'AWKWARD_UNEXPORTED=secret\nexport PATH="$CONDA_PREFIX/share/awkward/bin:$PATH"\n'
        "awkward_function() { echo function; }\n"
    )
    return {
        "etc/conda/activate.d/awkward-activate.sh": Entry(activate.encode()),
        "etc/conda/deactivate.d/awkward-activate.sh": Entry(b"unset AWKWARD_ACTIVATED\n"),
        f"{_SHARE}/bin/awkward-on-path": _script("echo found"),
    }


def _prefix() -> Iterator[Package]:
    """The prefix in a binary (that prints it), in texts, and in a shebang that is too long for the kernel."""
    for subdir in ("linux-64", "linux-aarch64"):
        binary = tiny_elf.program(subdir, f"{PLACEHOLDER}/share/awkward".encode())
        yield Package(
            "awkward-prefix-binary",
            "1.0",
            subdir,
            files={
                "bin/awkward-where": Entry(binary, 0o755),
                # twice in one NUL-terminated string, the way a compiled-in search path is
                f"{_SHARE}/path.bin": Entry(f"\0A={PLACEHOLDER}/a:{PLACEHOLDER}/b\0tail\0".encode()),
            },
        )
    deep = f"{_SHARE}/{LONG}"
    yield Package(
        "awkward-prefix-text",
        "1.0",
        "noarch",
        depends=("python",),
        index=GENERIC,
        files={
            f"{_SHARE}/where.txt": Entry(f"here: {PLACEHOLDER}; and {PLACEHOLDER}/share\n".encode()),
            f"{_SHARE}/latin-1.txt": Entry(b"caf\xe9 at " + PLACEHOLDER.encode() + b"\n"),
            "bin/awkward-short-shebang": _python_script(f"{PLACEHOLDER}/bin/python"),
            "bin/awkward-long-shebang": _python_script(f"{PLACEHOLDER}/{deep}/python -I"),
            f"{deep}/python": softlink("../../../bin/python"),
        },
    )


def _python_script(interpreter: str) -> Entry:
    return Entry(f"#!{interpreter}\nimport sys\nprint(sys.prefix)\n".encode(), 0o755)


def _symlinks() -> dict[str, Entry]:
    return {
        f"{_SHARE}/links/folder/file.txt": Entry(b"the file\n"),
        f"{_SHARE}/links/to-file": softlink("folder/file.txt"),
        f"{_SHARE}/links/to-folder": softlink("folder"),
        f"{_SHARE}/links/to-link": softlink("to-file"),
        f"{_SHARE}/links/dangling": softlink("folder/not-there.txt"),
        "bin/awkward-link-up": softlink("../share/awkward/links/folder/file.txt"),
    }


def _clobbering() -> Iterator[Package]:
    """`one` and `two` know nothing of each other; `dependent` depends on `one`, so its file is kept."""
    path = f"{_SHARE}/clobbered.txt"
    for name in ("one", "two"):
        files = {**_one(path, f"{name}\n"), **_one(f"{_SHARE}/clobber-{name}.txt", f"{name}\n")}
        yield _generic(f"awkward-clobber-{name}", "1.0", files)
    yield Package(
        "awkward-clobber-dependent",
        "1.0",
        "noarch",
        depends=("awkward-clobber-one",),
        index=GENERIC,
        files=_one(path, "dependent\n"),
    )


def _noarch_python(version: str, upstream: str) -> Package:
    """A noarch Python package whose project has a name and a version that PEP 440 and PEP 503 normalise."""
    module = b'"""Awkward."""\n\n\ndef main():\n    print("awkward noarch python")\n'
    dist_info = f"site-packages/Awkward.Noarch_Python-{upstream}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: Awkward.Noarch_Python\nVersion: {upstream}\n"
    return Package(
        "awkward-noarch-python",
        version,
        "noarch",
        build="pyh",
        depends=("python >=3.8",),
        index={"noarch": "python"},
        entry_points=(
            "awkward-noarch = awkward_noarch:main",
            "awkward.dotted=awkward_noarch.inner:Thing.run",
        ),
        files={
            "site-packages/awkward_noarch/__init__.py": Entry(module),
            "site-packages/awkward_noarch/inner.py": Entry(
                b'class Thing:\n    @staticmethod\n    def run():\n        print("dotted")\n'
            ),
            "site-packages/awkward_noarch/broken_syntax.py": Entry(b"print 'for another Python'\n"),
            f"{dist_info}/METADATA": Entry(metadata.encode()),
            f"{dist_info}/INSTALLER": Entry(b"conda"),
            "python-scripts/awkward-script": Entry(
                f"#!{PLACEHOLDER}/bin/python\nimport awkward_noarch\nawkward_noarch.main()\n".encode(), 0o755
            ),
        },
    )


_MODULE = b"VALUE = 'from the file'\n"
# What CPython 3.11 compiles _MODULE to, after the 16 bytes of the header, with the name
# `lib/python3.11/site-packages/awkward_bytecode.py`. Kept here since the rig may run on another Python.
_CODE = base64.b85decode(
    ";{X5v000000000000961000000P_j}005T&WB^(KWC2qEDFS*8W^!+BAarPDAZBT7Wlkvp+67iYOjSjx0P_F<008<hY-wUIa"
    "CvlSZ*DU#F)=T5X>?^RaA9L>VP|D?FJX6UcVTj5Ut)Q5Wn*t-WiD`e`UpI2Z)A0BWj=BS000010001U4gdfE@B;w>0oVu^fC"
    "YdBfCX{{0000"
)


def _bytecode() -> Iterator[Package]:
    """A module that ships its own `.pyc`, made for an mtime with a fraction (PAX), floored as Python does."""
    site = f"lib/python{names.PYTHON}/site-packages"
    mtime = 1700000000.75
    header = b"\xa7\x0d\x0d\x0a" + (0).to_bytes(4, "little")
    header += int(mtime).to_bytes(4, "little") + len(_MODULE).to_bytes(4, "little")
    cached = f"{site}/__pycache__/awkward_bytecode.cpython-311.pyc"
    for subdir in ("linux-64", "linux-aarch64"):
        yield Package(
            "awkward-bytecode",
            "1.0",
            subdir,
            depends=("python 3.11.*", "python_abi 3.11.* *_cp311"),
            files={
                f"{site}/awkward_bytecode.py": Entry(_MODULE, mtime=mtime),
                cached: Entry(header + _CODE, mtime=mtime),
            },
        )
