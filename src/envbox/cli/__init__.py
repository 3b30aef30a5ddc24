"""The command line: parse, call, print. The one place that turns errors into words and exit codes.

Commands are imported when they are asked for, so `envbox --help` costs no more than click itself.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module

import click

from envbox import __version__
from envbox.cli.context import Invocation
from envbox.errors import EnvboxError

COMMANDS = {
    "init": ("envbox.cli.notebooks", "Write a spec from notebooks, scripts and requirements."),
    "lock": ("envbox.cli.lock", "Solve an environment's spec into its lockfile."),
    "add": ("envbox.cli.edit", "Add packages to a spec, and lock it."),
    "remove": ("envbox.cli.edit", "Remove packages from a spec, and lock it."),
    "import": ("envbox.cli.exchange", "Make a spec and a lockfile of another tool's lockfile."),
    "export": ("envbox.cli.exchange", "Write a lockfile as other tools read it."),
    "build": ("envbox.cli.build", "Assemble an environment's image from its lockfile."),
    "push": ("envbox.cli.publish", "Push an environment's image to a registry, without an engine."),
    "pull": ("envbox.cli.publish", "Pull an image from a registry into the engine."),
    "shell": ("envbox.cli.launch", "Open a shell in an environment, here."),
    "run": ("envbox.cli.launch", "Run a command in an environment, here."),
    "notebook": ("envbox.cli.serve", "Start a Jupyter server in an environment, here."),
    "exec": ("envbox.cli.execute", "Run notebooks in an environment, and keep their outputs."),
    "kernel": ("envbox.cli.kernels", "Give your own Jupyter kernels of locked environments."),
    "ps": ("envbox.cli.serve", "List the running servers."),
    "logs": ("envbox.cli.serve", "Show what a server has written."),
    "stop": ("envbox.cli.serve", "Stop servers."),
    "list": ("envbox.cli.inspect", "List the packages of an environment."),
    "tree": ("envbox.cli.inspect", "Show which package needs which."),
    "why": ("envbox.cli.inspect", "Say why a package is in an environment."),
    "diff": ("envbox.cli.compare", "Show what changed in lockfiles."),
    "outdated": ("envbox.cli.compare", "Show which packages have newer versions."),
    "merge-lock": ("envbox.cli.merge_lock", "Merge lockfiles for git, as its merge driver."),
    "stamp": ("envbox.cli.notebooks", "Bind notebooks to an environment."),
    "check": ("envbox.cli.notebooks", "Check that a lockfile has what notebooks import."),
    "verify": ("envbox.cli.verify", "Check that an image is what its lockfile says."),
    "size": ("envbox.cli.size", "Show what is big in an environment or an image."),
    "trust": ("envbox.cli.trust", "Allow what a project asks for that reaches outside of it."),
    "clean": ("envbox.cli.clean", "Show what the cache holds, and free it."),
    "completion": ("envbox.cli.completion", "Print the completion script for a shell."),
}

INTERRUPTED, BROKEN_PIPE = 130, 141


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-line helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the work: lock, build, launch."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one command that was asked for."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(COMMANDS[cmd_name][0])
        name = cmd_name.replace("-", "_")
        command = getattr(module, name, None) or getattr(module, f"{name}_")  # Python has some names
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "-C",
    "--directory",
    metavar="DIR",
    default=".",
    type=click.Path(exists=True, file_okay=False),
    help="The project's directory, instead of the current one.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option("--offline", is_flag=True, help="Fetch nothing: what the cache has must do.")
@click.option(
    "--trust-python", is_flag=True, help="Let a lockfile's Python compile byte-code without confining it."
)
@click.option("--trust", is_flag=True, help="Allow all that the project asks for, for this call.")
@click.version_option(__version__, prog_name="envbox", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, /, directory: str, **said: bool) -> None:
    """Lock conda environments, assemble them into reproducible images, launch them.

    \b
    envbox lock maps         environments/maps.yml → environments/maps.conda-lock.yml
    envbox shell maps        a shell with that environment, in this directory
    envbox notebook maps     JupyterLab with it
    """
    ctx.obj = Invocation(directory, **said)


def main() -> None:
    """Run the command line and exit: 0 done, 1 envbox's error, 2 usage, 130 interrupted, else the child's."""
    from envbox.cli.words import in_utf8, prepare

    in_utf8()
    prepare()
    code = run(sys.argv[1:])
    if "rattler" in sys.modules:
        # its threads outlive a solve, and one that wakes while the interpreter goes down aborts the process
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, EnvboxError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="envbox", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except EnvboxError as error:
        show_error(error)
        return 1
    except OSError as error:
        from envbox.cache.in_use import fault_in_cache

        if (fault := fault_in_cache(error)) is None:
            raise
        show_error(fault)
        return 1
    except UnicodeEncodeError as error:  # libraries take a path's bytes for UTF-8
        words = (
            f"{error.object[:200]!r} is no {error.encoding} text, which something that is used here demands"
        )
        show_error(EnvboxError(words, "give the file or the folder a name in UTF-8"))
        return 1


def show_error(error: EnvboxError) -> None:
    """Write an error and its hint on stderr, in colour where that is wanted."""
    from envbox.cli.terminal import wants_colour
    from envbox.cli.words import foreign, painted

    colour = wants_colour(sys.stderr, os.environ)
    for label, paint, text in (("error:", "red", error.message), ("hint:", "cyan", error.hint)):
        if text:
            words = f"{click.style(label, fg=paint, bold=True)} {foreign.message(text)}"
            click.echo(words, file=painted(sys.stderr), color=colour)
