"""`rig status` and `rig env`: what is there, and the exports that point envbox at it."""

from __future__ import annotations

import shlex

from rigging import engine, progress, registry, services, state, up
from rigging.places import Places
from rigging.push import Registry
from rigging.state import RigError


def variables(places: Places) -> dict[str, str]:
    """The environment variables that make envbox use the rig.

    :raises RigError: when the rig is not ready
    """
    ports = state.read(places).get("ports", {})
    if up.WEB not in ports or registry.NAME not in ports or not (places.www / "conda-forge").exists():
        raise RigError("the rig is not ready", "run tools/rig up")
    web = f"http://127.0.0.1:{ports[up.WEB]}"
    mirrors = {
        "https://conda.anaconda.org/conda-forge": f"{web}/conda-forge",
        "https://conda.anaconda.org/awkward": f"{web}/awkward",
        "docker.io": f"127.0.0.1:{ports[registry.NAME]}",
        "https://pypi.org/simple": f"{web}/pypi/simple",
        "https://files.pythonhosted.org/packages": f"{web}/pypi/packages",
    }
    return {
        "ENVBOX_MIRRORS": " ".join(f"{old}={new}" for old, new in mirrors.items()),
        "ENVBOX_MAPPING_URL": f"{web}/pypi/mapping.json",
        "ENVBOX_CACHE_DIR": str(places.cache),
        "RIG_REGISTRY": mirrors["docker.io"],
        "RIG_CHANNEL_DIR": str(places.www / "conda-forge"),
    }


def exports(places: Places) -> str:
    """The same as text for a shell to evaluate."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables(places).items())


def status(places: Places) -> tuple[str, bool]:
    """A line for each part of the rig, and whether all is well."""
    recorded = state.read(places)
    ports = recorded.get("ports", {})
    web_port, registry_port = ports.get(up.WEB), ports.get(registry.NAME)
    web_runs = bool(web_port) and services.answers(f"http://127.0.0.1:{web_port}/alive")
    registry_runs = bool(registry_port) and services.answers(f"http://127.0.0.1:{registry_port}/v2/")
    base = Registry(f"127.0.0.1:{registry_port}", up.BASE[0]).digest_of(up.BASE[1]) if registry_runs else None
    channel = (places.www / "conda-forge").resolve()
    packages = len(list(channel.glob("*/*.conda"))) if channel.exists() else 0
    found = engine.version()
    parts = [
        ("channel", packages > 0, f"{packages} packages, {recorded.get('profile', 'full')}"),
        ("web", web_runs, f"http://127.0.0.1:{web_port}" if web_runs else "not running"),
        ("registry", registry_runs, f"127.0.0.1:{registry_port}" if registry_runs else "not running"),
        ("base", bool(base), f"{':'.join(up.BASE)} {base[:19]}" if base else "not there"),
        ("engine", bool(found), _engine(found, places)),
    ]
    lines = [f"{name:9} {'ok  ' if is_well else '--  '} {words}" for name, is_well, words in parts]
    if places.root.exists():
        lines.append(f"{'disk':9}      {progress.megabytes(progress.size(places.root))} in {places.root}")
    return "\n".join(lines), all(is_well for _, is_well, _ in parts)


def _engine(found: str | None, places: Places) -> str:
    if not found:
        return "none answers"
    return f"{found}, {'started by the rig' if services.process('engine', places) else 'not ours'}"
