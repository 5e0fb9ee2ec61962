"""Signals end a sweep in order; only the second Ctrl-C or SIGTERM ends it at once."""

import os
import signal

import pytest

from sweeps.driver.interrupt import Interrupt
from sweeps.driver.storage_errors import reported_in_one_line
from sweeps.run import main

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.mark.parametrize(
    ("signals", "at_once"),
    [
        ((INT,), False),
        ((TERM,), False),
        ((HUP,), False),
        ((HUP, HUP), False),  # of a terminal that closes: from the system and from the shell
        ((TERM, HUP), False),
        ((INT, INT), True),
        ((HUP, INT), True),
        ((INT, TERM), True),
    ],
)
def test_the_first_signal_sets_the_flag_and_the_second_raises(signals, at_once):
    before = [signal.getsignal(number) for number in (INT, TERM, HUP)]
    with Interrupt() as interrupt:
        for number in signals[:-1]:
            os.kill(os.getpid(), number)
        if at_once:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signals[-1])
        else:
            os.kill(os.getpid(), signals[-1])
        assert interrupt.is_set()
    assert [signal.getsignal(number) for number in (INT, TERM, HUP)] == before


def test_a_sweep_under_nohup_outlives_its_terminal():
    before = signal.signal(HUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            interrupt.arm()
            os.kill(os.getpid(), HUP)
            assert not interrupt.is_set()
    finally:
        signal.signal(HUP, before)


def test_a_terminal_that_is_gone_can_not_be_written_to_and_the_flag_is_set(monkeypatch):
    def gone(*_arguments, **_options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.print", gone)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), HUP)
        assert interrupt.is_set()


def test_ctrl_c_twice_is_one_line_that_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "my sweep").mkdir()
    (tmp_path / "my sweep/sweep.yaml").touch()

    def interrupted(_options, _console):
        with reported_in_one_line(tmp_path / "my sweep", Interrupt()):
            raise KeyboardInterrupt

    monkeypatch.setattr("sweeps.run.start_sweep", interrupted)
    handler = signal.getsignal(INT)
    try:
        assert main(["any.yaml"]) == 130
    finally:
        signal.signal(INT, handler)
    line = f"interrupted; continue it: python -m sweeps.run --resume '{tmp_path}/my sweep'\n"
    assert capsys.readouterr().err == line
