"""`image-gateway completion`: the script with which a shell completes commands and options."""

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

COMPLETION_CLASSES = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
PROGRAM = "image-gateway"
COMPLETION_VARIABLE = "_IMAGE_GATEWAY_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(list(COMPLETION_CLASSES)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    Add one line to your shell's start file:
      bash  eval "$(image-gateway completion bash)"      in ~/.bashrc
      zsh   eval "$(image-gateway completion zsh)"       in ~/.zshrc, after compinit
      fish  image-gateway completion fish | source       in ~/.config/fish/config.fish
    """
    root = context.find_root().command
    click.echo(COMPLETION_CLASSES[shell](root, {}, PROGRAM, COMPLETION_VARIABLE).source())
