"""The command `attention-rnn` run within the process of a test."""

import logging

import pytest

from attention_rnn import cli


def run(capsys, *arguments):
    cli.main(list(map(str, arguments)))
    return capsys.readouterr().out


def refused(*arguments):
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(map(str, arguments)))
    return str(exit_.value.code)


@pytest.fixture(scope="module", autouse=True)
def messages():
    """The command leaves out messages, which tests of other files look for."""
    loggers = [
        logging.getLogger(name) for name in ("attention_rnn", "attention_rnn.forecasting", "accelerate", "transformers")
    ]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
