"""`envbox notebook`, and what there is to do with servers: `ps`, `logs`, `stop`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from envbox.cli.beside import with_jupyter_beside_image
from envbox.cli.context import (
    Invocation,
    frozen_option,
    json_option,
    name_argument,
    names_argument,
    print_json,
)
from envbox.cli.launch import launch_options, prepare_launch, start
from envbox.cli.words import echo_line, whole_lines, write_data

if TYPE_CHECKING:
    from envbox.sessions.jupyter.command import ServeOptions
    from envbox.sessions.jupyter.servers import Server
    from envbox.sessions.launch.container import Launch

BROWSER_SECONDS = 5  # a browser that was not there before takes a while to come up
PORT_HELP = "The server's port on this machine, instead of the first free one from 8888."


@click.command()
@name_argument
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@click.option("-d", "--detach", is_flag=True, help="Leave the server running in the background.")
@click.option("--server-port", type=click.IntRange(1, 65535), metavar="PORT", help=PORT_HELP)
@click.option("--lab", "app", flag_value="lab", help="JupyterLab, which is the default where it is there.")
@click.option("--classic", "app", flag_value="classic", help="The classic Notebook, one document at a time.")
@click.option(
    "--idle-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="MINUTES",
    help="End idle kernels, and then the server, after that long without use; an open page is use.",
)
@json_option
@frozen_option
@launch_options
@click.pass_context
def notebook(ctx: click.Context, /, name: str | None, **options: Any) -> None:
    """Start a Jupyter server in an environment, with the project's directory mounted.

    It listens on this machine only and asks for a token. One URL is printed when it answers. Ctrl-C ends it,
    unless --detach; then `envbox ps`, `envbox logs` and `envbox stop` are there. A server that runs here
    already is taken. An environment that has a kernel and no Jupyter gets envbox's own beside it. NAME may be
    a notebook's path, which means the environment that it is bound to (envbox stamp): then that notebook is
    opened.
    """
    from envbox.sessions.jupyter.command import ServeOptions
    from envbox.sessions.jupyter.server import attend
    from envbox.sessions.launch.host import server_here

    invocation = ctx.find_object(Invocation)
    assert invocation is not None
    no_browser, detach, as_json = (options.pop(key) for key in ("no_browser", "detach", "as_json"))
    minutes = options.pop("idle_timeout")
    idle = None if minutes is None else max(1, round(minutes * 60))
    serve_options = ServeOptions(port=options.pop("server_port"), app=options["app"], idle=idle)
    in_container = click.UsageError(
        "--detach and --json are for servers in containers; this one would have none"
    )
    if (detach or as_json) and (options["engine"] or invocation.as_written.engine) == "host":
        raise in_container
    launch = prepare_launch(invocation, name, "notebook", (), options)
    if launch.prefix is not None:
        if detach or as_json:
            raise in_container
        start(invocation, server_here(launch, serve_options, browser=not no_browser))
    server = _serve(invocation, name, launch, serve_options)
    if (found := invocation.for_notebook(name)) and server.url is not None:
        path = found[1]
        if path.is_relative_to(launch.project):
            server = replace(server, url=page_of(server.url, path.relative_to(launch.project).as_posix()))

    def announce(server: Server) -> None:
        print_json(server_json(server)) if as_json else click.echo(server.url)
        sys.stdout.flush()
        if not no_browser and not detach:
            open_page(server, invocation)

    if detach or not server.is_new:
        announce(server)
    else:
        ctx.exit(attend(server, invocation.engine, invocation.report, announce))


@click.command()
@json_option
@click.pass_obj
def ps(invocation: Invocation, as_json: bool) -> None:
    """List your servers on this engine, of all projects."""
    from envbox.sessions.jupyter.servers import servers

    found = servers(invocation.engine)
    if as_json:
        print_json([server_json(server) for server in found])
    elif not found:
        invocation.report.say("no servers; envbox notebook starts one")
    else:
        rows = [("NAME", "STATE", "STARTED", "PROJECT", "URL"), *map(_row, found)]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            echo_line("  ".join([*cells, row[4]]).rstrip())


@click.command()
@name_argument
@click.option("-f", "--follow", is_flag=True, help="Go on as it writes, until Ctrl-C.")
@click.pass_obj
def logs(invocation: Invocation, name: str | None, follow: bool) -> None:
    """Show what a server has written. NAME is an environment's, or a container's as `ps --json` names it."""
    from envbox.cache.in_use import release
    from envbox.sessions.jupyter import servers

    server = _find(invocation, name)
    release()
    chunks = servers.logs(server, invocation.engine, follow=follow)
    for piece in whole_lines(chunks) if sys.stdout.isatty() else chunks:
        write_data(piece)
        sys.stdout.flush()


@click.command()
@names_argument
@click.option("-a", "--all", "everything", is_flag=True, help="All of your servers, of all projects.")
@click.option("--forget", is_flag=True, help="Remove what they keep for the next time, too.")
@click.pass_obj
def stop(invocation: Invocation, names: tuple[str, ...], everything: bool, forget: bool) -> None:
    """End servers and their kernels.

    What they saved stays; so do Jupyter's settings, history and layout, in a volume of the engine, for the
    next server of the same environment and project.
    """
    from envbox.sessions.jupyter import servers

    found = (
        servers.servers(invocation.engine) if everything else [_find(invocation, n) for n in names or (None,)]
    )
    for server in found:
        servers.stop(server, invocation.engine)
        if forget:
            invocation.engine.remove_volume(server.container)
        invocation.report.say(f"stopped {server.name}")


def server_json(server: Server) -> dict[str, Any]:
    """Return what programs are told of a server."""
    return {
        "name": server.name,
        "url": server.url,
        "port": server.port,
        "image": server.image,
        "container": server.container,
        "project": str(server.project),
        "state": server.state,
        "created": server.created,
    }


def page_of(url: str, notebook: str) -> str:
    """Return the address of a notebook on a server.

    :param url: of the page that the server itself shows first
    :param notebook: relative to the server's root
    """
    from urllib.parse import quote, urlsplit

    parts = urlsplit(url)
    place = "/notebooks/" if parts.path.startswith("/tree") else "/lab/tree/"
    return parts._replace(path=place + quote(notebook)).geturl()


def open_page(server: Server, invocation: Invocation) -> None:
    """Open a server's page in a browser, if there is one."""
    from envbox.sessions.jupyter.browser import open_browser
    from envbox.sessions.jupyter.servers import browser_page

    if server.url is not None and server.token_path is not None:

        def failed() -> None:
            invocation.report.warn("no browser could be opened: open the address that is printed yourself")

        opening = open_browser(server.url, browser_page(server.token_path), failed)
        if opening is not None and not server.is_new:
            opening.join(BROWSER_SECONDS)  # we end at once, and it would end with us


def _serve(invocation: Invocation, name: str | None, launch: Launch, options: ServeOptions) -> Server:
    """Start a server; beside an image that somebody else made and that proves to have none."""
    from envbox.project import is_reference
    from envbox.sessions.jupyter.command import NoJupyterError
    from envbox.sessions.jupyter.server import serve

    try:
        return serve(launch, invocation.engine, invocation.settings, options, invocation.report)
    except NoJupyterError:
        if launch.jupyter is not None or name is None or not is_reference(name):
            raise
    launch = with_jupyter_beside_image(invocation, launch, options.app)
    return serve(launch, invocation.engine, invocation.settings, options, invocation.report)


def _find(invocation: Invocation, name: str | None) -> Server:
    from envbox.project import check_name
    from envbox.sessions.jupyter.servers import find, find_only

    if name is not None:
        return find(invocation.engine, check_name(name), invocation.root)
    return find_only(invocation.engine, invocation.root, invocation.as_written.environment)


def _row(server: Server) -> tuple[str, str, str, str, str]:
    from datetime import datetime

    started = datetime.fromtimestamp(server.created).astimezone().strftime("%Y-%m-%d %H:%M")
    return server.name, server.state, started, str(server.project), server.url or ""
