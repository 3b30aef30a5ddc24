"""`envbox completion`."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash   echo 'eval "$(envbox completion bash)"' >> ~/.bashrc
    zsh    echo 'eval "$(envbox completion zsh)"' >> ~/.zshrc
    fish   envbox completion fish > ~/.config/fish/completions/envbox.fish
    """
    from click.shell_completion import get_completion_class

    from envbox.cli import cli

    maker = get_completion_class(shell)
    assert maker is not None
    click.echo(maker(cli, {}, "envbox", "_ENVBOX_COMPLETE").source())
