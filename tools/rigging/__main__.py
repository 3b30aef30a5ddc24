"""The command: parse, call, print. Words go to stderr, data to stdout."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from rigging import progress, second, services, state, up
from rigging.places import Places, places
from rigging.state import RigError

_STOPPED = ("engine", "registry", up.WEB)


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 done, 1 not, 2 usage, 130 interrupted."""
    options = _parser().parse_args(arguments)
    where = places(os.environ)
    try:
        return int(options.verb(where, options))
    except RigError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/rig",
        description="A channel, a package index, a registry, a base image and an engine, here.",
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    verb = verbs.add_parser("up", help="make what is missing, start what is not running")
    verb.add_argument("--profile", choices=up.PROFILES, help="how much the channel carries (default: full)")
    verb.add_argument("--only", choices=up.GOALS, action="append", help="just this part; may be repeated")
    verb.set_defaults(verb=_up)
    verb = verbs.add_parser("status", help="say what is there; exit 1 when something is not")
    verb.set_defaults(verb=_status)
    verb = verbs.add_parser("env", help='print shell exports: eval "$(tools/rig env)"')
    verb.set_defaults(verb=_env)
    verb = verbs.add_parser("down", help="stop what the rig started")
    verb.set_defaults(verb=_down)
    verb = verbs.add_parser("engine", help="another engine, in namespaces of its own; root only")
    verb.add_argument("deed", choices=("start", "stop"))
    verb.add_argument("kind", choices=second.KINDS)
    verb.add_argument("--size", type=int, default=0, metavar="MB", help="of its store, then in memory")
    verb.set_defaults(verb=_engine)
    verb = verbs.add_parser("synthetic", help="make an index of conda-forge's size; print its URL")
    verb.add_argument("--records", type=int, default=450_000, help="how many one platform sees (%(default)s)")
    verb.add_argument("--seed", type=int, default=1)
    verb.set_defaults(verb=_synthetic)
    verb = verbs.add_parser("repin", help="resolve the wheels anew and pin them (for maintainers)")
    verb.set_defaults(verb=_repin)
    return parser


def _up(where: Places, options: argparse.Namespace) -> int:
    up.up(where, options.profile, options.only or up.GOALS)
    return 0


def _status(where: Places, _: argparse.Namespace) -> int:
    from rigging import report

    text, is_well = report.status(where)
    print(text)
    return 0 if is_well else 1


def _env(where: Places, _: argparse.Namespace) -> int:
    from rigging import report

    print(report.exports(where), end="")
    return 0


def _down(where: Places, _: argparse.Namespace) -> int:
    with state.locked(where):
        for name in _STOPPED:
            if services.stop(name, where):
                progress.say(f"stopped {name}")
    for name in second.running(where):
        if second.stop(where, name):
            progress.say(f"stopped {name}")
    return 0


def _engine(where: Places, options: argparse.Namespace) -> int:
    if options.deed == "start":
        print(f"export DOCKER_HOST=unix://{second.start(where, options.kind, options.kind, options.size)}")
    elif second.stop(where, options.kind):
        progress.say(f"stopped {options.kind}")
    return 0


def _synthetic(where: Places, options: argparse.Namespace) -> int:
    up.up(where, None, ("channel",))
    print(up.synthetic(where, options.records, options.seed))
    return 0


def _repin(where: Places, _: argparse.Namespace) -> int:
    from rigging import repin

    up.up(where, None, ("pypi",))
    repin.repin(where.python)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
