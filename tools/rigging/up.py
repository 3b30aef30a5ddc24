"""`rig up`, `status`, `down`, `env`: the steps, what each needs, and what they are made of.

Steps run side by side as soon as what they need is there. Each is keyed by what it is made of, so a second
`up` does nothing, and one after a kill does what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from rigging import debian, engine, environment, progress, registry, services, state, wheels
from rigging.debian import ARCHITECTURES
from rigging.places import Places
from rigging.push import Registry
from rigging.services import Service
from rigging.state import RigError

GOALS = ("channel", "pypi", "registry", "engine")
PROFILES = ("full", "small")
BASE = ("continuumio/miniconda3", "25.3.1-1")
WEB = "web"
_HERE = Path(__file__).parent
_CHANNEL_SOURCES = (
    "conda_package.py elf.py names.py from_wheel.py from_debs.py metapackages.py awkward.py tiny_elf.py "
    "gzipped.py channel.py basemap.py geoslib.py debian.py debian_names.py wheels.json requirements.txt"
)


def up(places: Places, profile: str | None, goals: Collection[str]) -> None:
    """Have everything that is asked for ready.

    :param profile: `full` or `small`; None keeps the one that is there
    :raises RigError: of the first step that failed, after the others have ended
    """
    begun = time.monotonic()
    with state.locked(places):
        for left in (*places.root.glob(".base-*"), *places.wheels.glob(".pip-*")):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        chosen = profile or state.read(places).get("profile", "full")
        state.record(places, profile=chosen)
        changed = _Steps(places, chosen, goals).run()
        if changed or "disk" not in state.read(places):
            state.record(places, disk=progress.size(places.root))
    used = progress.megabytes(state.read(places)["disk"])
    progress.say(f"ready in {time.monotonic() - begun:.1f} s; {places.root} takes {used}")


class _Steps:
    """The steps of one `up`. Each returns whether it had to do something."""

    def __init__(self, places: Places, profile: str, goals: Collection[str]) -> None:
        self.places = places
        self.profile = profile
        self.goals = goals

    def run(self) -> bool:
        """Run all that the goals need; raise the first fault when all have ended."""
        needs_packages = set(self.goals) - {"engine"}
        with ThreadPoolExecutor(8) as pool:
            tasks: dict[str, Future[bool]] = {}

            def add(name: str, work: Callable[[], bool], *after: str) -> None:
                tasks[name] = pool.submit(lambda: _after(work, [tasks[other] for other in after]))

            if "engine" in self.goals:
                add("engine", self.engine)
            if needs_packages:
                add("venv", self.venv)
                add("debs", self.debs)
                add("wheels", self.wheels, "venv")
                add("web", self.web)
                add("pypi", self.pypi, "wheels")
                add("channel", self.channel, "debs", "wheels")
            if "registry" in self.goals:
                add("registry", self.registry, "debs")
                add("base", self.base, "channel", "registry")
        faults = [error for task in tasks.values() if (error := task.exception())]
        if faults:
            raise next((e for e in faults if isinstance(e, RigError)), faults[0])
        return any(task.result() for task in tasks.values())

    def engine(self) -> bool:
        """An engine that answers."""
        if engine.version():
            return False
        with progress.step("engine") as details:
            details.append(engine.ensure(self.places))
        return True

    def venv(self) -> bool:
        """The rig's own virtual environment."""
        if environment.is_made(self.places):
            return False
        with progress.step("python environment"):
            environment.make(self.places)
        return True

    def debs(self) -> bool:
        """Debian's packages of both architectures."""
        names = deb_names()
        key = state.key_of([debian.RELEASE, *names])
        if state.read(self.places).get("debs") == key:
            return False
        with progress.step("packages from Debian") as details, ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda a: debian.download(self.places, a, names), ARCHITECTURES.values()))
            details.append(f"{sum(map(len, found))} files")
        state.record(self.places, debs=key)
        return True

    def wheels(self) -> bool:
        """The pinned wheels."""
        missing = [pin for pin in wheels.pins() if not (self.places.wheels / pin.file).exists()]
        if missing:
            with progress.step("wheels from PyPI") as details:
                wheels.download(missing, self.places.wheels, self.places.python)
                details.append(f"{len(missing)} files")
        return bool(missing)

    def channel(self) -> bool:
        """The conda channel."""
        return self._made(
            "channel", self.places.channels / channel_key(self.places, self.profile), self.profile
        )

    def pypi(self) -> bool:
        """The package index."""
        sources = ["pypi_index.py", "wheels.json", "awkward.py", "names.py", "from_wheel.py", "gzipped.py"]
        key = state.key_of([_HERE / name for name in sources])
        return self._made("pypi_index", self.places.indexes / key)

    def _made(self, module: str, target: Path, *arguments: str) -> bool:
        """Have a folder made by a module, show it, and drop those it replaces."""
        made = not target.exists()
        if made:
            with progress.step(module.replace("_", " ")) as details:
                details.append(run_module(self.places, module, *arguments, str(target)))
        for shown in SHOWN[module]:
            link = self.places.www / shown
            inside = target / shown if module == "channel" else target
            if not link.is_symlink() or link.resolve() != inside.resolve():
                state.point(link, inside)
        for other in _entries(target.parent):
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
        return made

    def web(self) -> bool:
        """The web server of channel and index."""
        return services.ensure(web(self.places), self.places)

    def registry(self) -> bool:
        """The registry."""
        return services.ensure(registry.service(self.places), self.places)

    def base(self) -> bool:
        """The base image, in the registry."""
        sources = ["base_image.py", "debian_tree.py", "push.py", "debian.py", "gzipped.py"]
        key = state.key_of([*(_HERE / name for name in sources), channel_key(self.places, self.profile)])
        there = Registry(registry_address(self.places), BASE[0]).digest_of(BASE[1])
        if there and state.read(self.places).get("base") == [key, there]:
            return False
        with progress.step("base image") as details:
            channel = (self.places.www / "conda-forge").resolve()
            digest = run_module(self.places, "base_image", str(channel), registry_address(self.places))
            details.append(digest[:19])
        state.record(self.places, base=[key, digest])
        return True


SHOWN = {"channel": ("conda-forge", "awkward"), "pypi_index": ("pypi",)}


def _after(work: Callable[[], bool], needed: list[Future[bool]]) -> bool:
    for other in needed:
        other.result()
    return work()


def _entries(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def deb_names() -> list[str]:
    """All Debian packages that the rig wants, what they depend on apart."""
    from rigging.debian_names import LIBRARY_DEBS, TREE

    return sorted({*LIBRARY_DEBS, *TREE, registry.DEB})


def channel_key(places: Places, profile: str) -> str:
    """What the channel is made of: the code that makes it, the wheels' pins, Debian's files, the profile."""
    debs = [path.name for a in ARCHITECTURES.values() for path in sorted(places.debs(a).glob("*.deb"))]
    return state.key_of([*(_HERE / name for name in _CHANNEL_SOURCES.split()), *debs, profile])


def run_module(places: Places, module: str, *arguments: str) -> str:
    """Run one of these modules in the rig's virtual environment; return the last line that it prints."""
    command = [str(places.python), "-m", f"rigging.{module}", str(places.root), *arguments]
    variables = {**os.environ, "PYTHONPATH": str(_HERE.parent), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if done.returncode:
        log = places.run / f"{module}.log"
        state.write_whole(log, done.stderr.encode())
        raise RigError(f"{module}: {done.stderr.strip().rpartition(chr(10))[2]}", f"all it wrote is in {log}")
    return done.stdout.strip().rpartition("\n")[2]


def web(places: Places) -> Service:
    """The web server as a service."""
    places.www.mkdir(parents=True, exist_ok=True)
    state.write_whole(places.www / "alive", b"rig\n")
    number = services.port(places, WEB)
    variables = (("PYTHONPATH", str(_HERE.parent)),)
    command = (sys.executable, "-m", "rigging.http_server", str(places.www), str(number))
    return Service(
        WEB,
        command,
        lambda: services.answers(f"http://127.0.0.1:{number}/alive"),
        variables,
        version=state.key_of([_HERE / "http_server.py"]),
    )


def synthetic(places: Places, records: int, seed: int) -> str:
    """Have a synthetic index; return the URL it is served at."""
    with state.locked(places):
        channel = (places.www / "conda-forge").resolve().parent.name
        key = state.key_of([_HERE / "synthetic.py", channel, str(records), str(seed)])
        target = places.synthetic / key
        if not target.exists():
            with progress.step("synthetic index") as details:
                details.append(run_module(places, "synthetic", str(records), str(seed), str(target)))
        state.point(places.www / "synthetic" / f"{records}-{seed}", target)
        for other in _entries(places.synthetic):
            if not any(link.resolve() == other for link in _entries(places.www / "synthetic")):
                shutil.rmtree(other, ignore_errors=True)
    return f"http://127.0.0.1:{state.read(places)['ports'][WEB]}/synthetic/{records}-{seed}"


def registry_address(places: Places) -> str:
    """The registry's host:port."""
    return f"127.0.0.1:{state.read(places)['ports'][registry.NAME]}"
