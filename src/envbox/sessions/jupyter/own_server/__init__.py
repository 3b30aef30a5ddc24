"""A Jupyter of our own for environments that have none: locked once, and mounted beside them.

It has a prefix of its own, so the environment is what it would be without: nothing of the server is in its
paths, its Python or its image. What it takes from there are the kernels (`configuration`). It is no part of
what somebody makes with an environment, so its lockfile lies in the cache, and `envbox clean jupyter` makes
way for a newer one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from envbox import __version__
from envbox.cache import Memo, memo_key
from envbox.errors import LockfileError, SpecError
from envbox.files import is_regular, only_one, write_whole
from envbox.image_paths import JUPYTER
from envbox.oci import canonical_json, digest_of
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.packages.link.fragments import FileEntry
    from envbox.prefixes.tree import Tree
    from envbox.registry.lock_with_base import LockWithBase

NAME = "envbox-jupyter"
PLACE = "jupyter"
SPEC = Path(__file__).with_name("jupyter.yml")
CONFIGURATION = Path(__file__).with_name("configuration.py")
MEMO_VERSION = 1


@dataclass(frozen=True, slots=True)
class JupyterTarget:
    """What a Jupyter is to run on.

    :param glibc: X.Y of the C library there; None when nobody knows
    :param is_mounted: whether its prefix is to be mounted, and not seen at a path in the cache
    """

    platform: str
    glibc: str | None
    is_mounted: bool = True


def obtain_jupyter(where: JupyterTarget, settings: Settings, report: Reporter) -> Path:
    """Have the prefix of a Jupyter server on this machine, locking it first if it is not locked yet.

    :raises SpecError: when the spec that is set for it is wrong, or not there
    :raises SolveError: when there is no solution for the platform
    :raises PackageError: when a package is not what the lock says
    :raises ToolError: when a channel or the disk fails
    """
    from envbox.lockfile.file import read_lock_bytes
    from envbox.prefixes.links import path_for
    from envbox.prefixes.obtain import obtain_tree
    from envbox.prefixes.request import PrefixRequest
    from envbox.prefixes.tree import find_tree

    spec_path = settings.jupyter or SPEC
    key = sha256(canonical_json([_read(spec_path), where.platform, where.glibc])).hexdigest()[:16]
    lock_path = settings.cache_dir / PLACE / f"{NAME}-{key}.conda-lock.yml"
    if not is_regular(lock_path):
        with only_one(lock_path.parent / ".lock"):
            if not is_regular(lock_path):
                _lock(spec_path, lock_path, where, settings, report)
    data = read_lock_bytes(lock_path)
    digest = digest_of(data)
    seen_at = JUPYTER if where.is_mounted else path_for(NAME, settings, digest, where.platform)
    made_of = (__version__, MEMO_VERSION, "jupyter", digest, where.platform, seen_at, _read(CONFIGURATION))
    path = settings.cache_dir / "builds" / f"{memo_key(*made_of)}.json"
    memo = Memo(path, lambda known: str(known["tree"]), lambda tree: {"tree": tree})
    if known := memo.read():
        tree = find_tree(settings.cache_dir, known)
        if tree is not None:
            return _seen(tree, settings)
    wanted = PrefixRequest(_locked(lock_path, data), where.platform, settings, seen_at, _own_files())
    tree = obtain_tree(wanted, None, report).tree
    memo.write(tree.key)
    return _seen(tree, settings)


def _seen(tree: Tree, settings: Settings) -> Path:
    """Return what is to be mounted; or, of what is not, the path at which it is seen."""
    from envbox.prefixes.links import let_be_seen
    from envbox.prefixes.tree import is_mounted

    let_be_seen(tree, settings)
    return tree.prefix if is_mounted(tree.seen_at) else Path(tree.seen_at)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"cannot read {path}, which is set to be the spec of a Jupyter: {error}",
            "set `jupyter` to a spec's path, or leave it out",
        ) from error


def _lock(
    spec_path: Path, lock_path: Path, where: JupyterTarget, settings: Settings, report: Reporter
) -> None:
    from envbox.lockfile import Base
    from envbox.lockfile.conda_lock_v1 import dumps, sealed
    from envbox.locks.solve.platforms import solve_spec
    from envbox.locks.spec import read_spec

    report.say("locking a Jupyter to put beside environments that have none")
    spec = replace(read_spec(spec_path, [where.platform], settings), name=NAME)
    base = Base("", {}, {where.platform: where.glibc} if where.glibc else {})
    solved = solve_spec(spec, base, settings, report=report)
    write_whole(lock_path, dumps(sealed(replace(solved, base=None))))  # it is put into whatever there is


def _locked(path: Path, data: bytes) -> LockWithBase:
    from envbox.lockfile import Base
    from envbox.lockfile.conda_lock_v1 import loads
    from envbox.registry.lock_with_base import LockWithBase

    try:
        return LockWithBase(loads(data, path), data, Base("", {}, {}))
    except LockfileError as error:
        raise LockfileError(error.message, "envbox clean jupyter: it is locked anew") from error


def _own_files() -> dict[str, FileEntry]:
    from envbox.packages.link.fragments import FileEntry
    from envbox.packages.link.target import ROOT

    path = f"{ROOT}/etc/jupyter/jupyter_server_config.py"
    return {path: FileEntry(_read(CONFIGURATION).encode())}
