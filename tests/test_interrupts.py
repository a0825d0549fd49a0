"""Signals that wait for the right moment."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

import pytest

from pipeline.interrupts import Hurried, held_back


class Arrived(BaseException):
    pass


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> object:
    def handle(number: int, _: object) -> None:
        raise Arrived(number)

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block(number: int) -> None:
    reached = False

    def interrupted() -> None:
        nonlocal reached
        with held_back():
            os.kill(os.getpid(), number)
            reached = True

    with pytest.raises(Arrived) as caught:
        interrupted()
    assert reached
    assert caught.value.args == (number,)


def test_a_signal_arrives_where_the_block_asks_for_it() -> None:
    steps = []

    def interrupted() -> None:
        with held_back() as stop_if_asked:
            stop_if_asked()
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("sent")
            stop_if_asked()
            steps.append("never reached")

    with pytest.raises(Arrived):
        interrupted()
    assert steps == ["sent"]


def test_what_the_handler_sets_up_for_the_next_signal_stays() -> None:
    """The first signal's handler lets the second be ignored: runs are being closed."""

    def handle(number: int, _: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Arrived(number)

    signal.signal(signal.SIGINT, handle)

    def interrupted() -> None:
        with held_back() as stop_if_asked:
            os.kill(os.getpid(), signal.SIGINT)
            stop_if_asked()

    with pytest.raises(Arrived):
        interrupted()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_second_sigint_does_not_wait() -> None:
    def impatient() -> None:
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second one waited")

    with pytest.raises(Hurried):
        impatient()


def test_a_second_sigint_is_the_handlers_that_was_there_before_to_answer() -> None:
    """A program that ends in its handler ends where an exception would be lost, too."""
    heard: list[int] = []

    def handle(number: int, _: object) -> None:
        heard.append(number)
        raise Arrived(number)

    signal.signal(signal.SIGINT, handle)
    with held_back():
        os.kill(os.getpid(), signal.SIGINT)
        assert heard == []
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGINT)
    assert heard == [signal.SIGINT, signal.SIGINT]


def test_where_sigint_is_ignored_a_second_one_is() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held_back() as stop_if_asked:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        stop_if_asked()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize(
    "sent",
    [
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGTERM),
    ],
)
def test_of_any_other_two_signals_the_first_is_delivered_and_the_second_forgotten(
    sent: tuple[int, int],
) -> None:
    heard: list[int] = []
    for number in set(sent):
        signal.signal(number, lambda number, _: heard.append(number))
    with held_back() as stop_if_asked:
        for number in sent:
            os.kill(os.getpid(), number)
        assert heard == []
        stop_if_asked()
        stop_if_asked()
    assert heard == [sent[0]]


def test_the_handlers_are_as_before_after_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with held_back():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(Arrived):
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_error_in_the_block_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="own"), held_back():
        raise ValueError("own")


def test_an_error_in_the_block_is_told_rather_than_a_signal_before_it() -> None:
    def failing() -> None:
        with held_back():
            os.kill(os.getpid(), signal.SIGTERM)
            raise ValueError("own")

    with pytest.raises(ValueError, match="own"):
        failing()


def test_other_threads_are_left_alone() -> None:
    entered = []

    def work() -> None:
        with held_back():
            entered.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [True]


def test_what_was_not_delivered_is_forgotten() -> None:
    """Runs are closed after the first signal: a second one that waited must not cut that off."""
    closed = False

    def interrupted() -> None:
        nonlocal closed
        with held_back() as stop_if_asked:
            os.kill(os.getpid(), signal.SIGINT)
            try:
                os.kill(os.getpid(), signal.SIGINT)
            finally:
                stop_if_asked()
                closed = True

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert closed


def test_without_a_handler_sigterm_is_an_exit_that_can_be_tidied_up_after() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def interrupted() -> None:
        with held_back() as stop_if_asked:
            os.kill(os.getpid(), signal.SIGTERM)
            stop_if_asked()

    with pytest.raises(SystemExit) as caught:
        interrupted()
    assert caught.value.code == 143
