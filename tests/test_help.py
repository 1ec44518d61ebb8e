"""What `--help` of every verb teaches."""

import inspect

import pytest
from rich.console import Console

from ganaug.cli import app

VERBS = {name: command.default_command for name, command in app._commands.items() if command.default_command}
WITH_EXAMPLES = [name for name, verb in VERBS.items() if "Examples:" in (verb.__doc__ or "")]


def help_of(name, capsys):
    # A console of its own: the application keeps the one that it made for the first message of the process.
    app([name, "--help"], console=Console(width=200, force_terminal=False), result_action="return_value")
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_verb_are_in_its_help(name, capsys):
    lines = help_of(name, capsys)
    text = inspect.cleandoc(VERBS[name].__doc__).partition("Examples:\n")[2].partition("Args:\n")[0]
    examples = [line.strip() for line in text.splitlines() if line.strip()]
    assert examples
    assert set(examples) <= set(lines)


def test_each_setting_of_a_step_stands_on_a_line_of_its_own(capsys):
    lines = help_of("refresh", capsys)
    for setting in ("mode", "max-class-drift", "max-feature-drift", "keep-runs"):
        assert any(line.startswith(f"--refresh.{setting}  [") for line in lines), setting
