"""Write docs/reference/command.md, the help of every command of `attention-rnn`.

python docs/command_page.py
"""

import contextlib
import io
import os
from pathlib import Path

from attention_rnn import cli

PAGE = Path(__file__).parent / "reference" / "command.md"
INTRODUCTION = """# The command

`attention-rnn COMMAND --help` says what stands here; `docs/command_page.py` writes it down. After an error,
`--traceback` shows where it was raised. [Your own file](../guides/own_file.md) is the guide.
"""


def page() -> str:
    parts = [INTRODUCTION]
    for name, command in cli.COMMANDS.items():
        parts.append(f"## {name}\n\n{command.what[0].upper()}{command.what[1:]}.\n\n```text\n{help_of(name)}\n```\n")
    return "\n".join(parts)


def help_of(name: str) -> str:
    output = io.StringIO()
    os.environ["COLUMNS"] = "100"  # of the lines that argparse writes
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        cli.main([name, "--help"])
    return output.getvalue().strip()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
