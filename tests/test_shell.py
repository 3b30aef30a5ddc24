"""A shell in an environment, through a real pseudo-terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pexpect
import pytest
from support.containers import Lab

pytestmark = pytest.mark.rig

PROMPT = r"\(lab\) /work[^\r\n]*[$#] "
Start = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def start(lab: Lab) -> Iterator[Start]:
    """Start `envbox shell lab` (or something else) in a terminal, and wait for the prompt."""
    children = []

    def starter(*arguments: str, prompt: str = PROMPT, **environ: str) -> pexpect.spawn[str]:
        command, *rest = lab.argv(*(arguments or ("shell", "lab")))
        child = pexpect.spawn(
            command,
            rest,
            env={**lab.environ, "TERM": "xterm-256color", **environ},
            encoding="utf-8",
            timeout=30,
            dimensions=(30, 100),
        )
        children.append(child)
        child.expect(prompt)
        return child

    yield starter
    for child in children:
        child.close(force=True)
    lab.wait_for_no_container()


def ask(child: pexpect.spawn[str], line: str) -> str:
    """Type a line and give what it wrote, without the echo."""
    child.sendline(line)
    child.expect(PROMPT)
    assert isinstance(child.before, str)
    return "\n".join(
        child.before.replace("\x1b[?2004l", "").replace("\x1b[?2004h", "").splitlines()[1:]
    ).strip()


def test_the_prompt_names_the_environment_and_it_is_active(start: Start) -> None:
    child = start()
    assert ask(child, "command -v python") == "/opt/envbox/bin/python"
    assert ask(child, "echo $CONDA_PREFIX $LAB_VARIABLE $-").startswith("/opt/envbox set by the spec ")
    assert ask(child, "cat data.txt") == "of the project"


def test_the_exit_code_is_the_shells(start: Start) -> None:
    child = start()
    child.sendline("exit 42")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 42


def test_the_end_of_input_ends_it(start: Start) -> None:
    child = start()
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_reaches_the_command_and_not_the_shell(start: Start) -> None:
    child = start()
    child.sendline("bash -c 'echo st''arted; exec sleep 100'")
    child.expect("started")
    child.sendintr()
    child.expect(PROMPT)
    assert ask(child, "echo $?") == "130"


def test_it_follows_the_size_of_the_terminal(start: Start) -> None:
    child = start()
    assert ask(child, "stty size") == "30 100"
    child.setwinsize(41, 132)
    for _ in range(50):  # the client passes it on in its own time
        if (size := ask(child, "stty size")) == "41 132":
            break
    assert size == "41 132"


def test_ctrl_p_is_the_last_command_at_once(start: Start) -> None:
    """The client would keep it back, as the first key of its own way to detach."""
    child = start()
    ask(child, "echo one")
    child.send("\x10")
    child.expect("echo one")


def test_the_terminal_and_its_colours_are_known_inside(start: Start) -> None:
    child = start(TERM="xterm-kitty", COLORTERM="truecolor")
    assert ask(child, "echo $TERM $COLORTERM; tput colors") == "xterm-256color truecolor\n256"


def test_a_terminal_that_is_closed_takes_the_container_along(lab: Lab, start: Start) -> None:
    child = start()
    assert lab.containers()
    child.close(force=True)
    lab.wait_for_no_container()


def test_a_run_in_a_terminal_has_one(start: Start) -> None:
    child = start("run", "lab", "--", "python", "-i", prompt=">>> ")
    child.sendline("import sys; sys.stdout.isatty()")
    child.expect("True")
    child.sendline("sys.exit(9)")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 9


def test_a_script_can_be_piped_in(lab: Lab) -> None:
    done = lab.run("shell", "lab", input="command -v python\nexit 5\n")
    assert (done.stdout, done.returncode) == ("/opt/envbox/bin/python\n", 5)
