"""Tasks are handed over when what they need is there, and heard of when they end."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.submission import Submission


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as made:
        yield made


def test_a_task_is_handed_over_when_what_it_needs_has_ended(pool):
    submission, done = Submission(), []
    gate = threading.Event()

    def first():
        gate.wait()
        done.append("first")
        return 1

    handed = []

    def second(before):
        handed.append([future.result() for future in before])
        return pool.submit(lambda: done.append("second"))

    one = submission.ask(lambda before: pool.submit(first))
    two = submission.ask(second, [one])
    assert handed == []
    gate.set()
    two.result()
    assert handed == [[1]]
    assert done == ["first", "second"]
    assert submission.ask(lambda before: pool.submit(len, before), [one, two]).result() == 2


def test_tasks_whose_turn_came_go_in_the_order_in_which_they_were_asked_for(pool):
    submission, order = Submission(at_once=1), []
    parts = {}
    for name, after in [
        ("base", ()),
        ("a", ["base"]),
        ("b", ["base"]),
        ("export a", ["a"]),
        ("export b", ["b"]),
    ]:
        parts[name] = submission.ask(
            lambda before, name=name: pool.submit(order.append, name), [parts[one] for one in after]
        )
    for part in parts.values():
        part.result()
    assert order == ["base", "a", "b", "export a", "export b"]


def test_no_more_tasks_are_handed_over_than_may_run_at_a_time(pool):
    submission, running, most = Submission(at_once=2), [], []

    def work(number):
        running.append(number)
        most.append(len(running))
        time.sleep(0.01)
        running.remove(number)

    parts = [submission.ask(lambda before, n=number: pool.submit(work, n)) for number in range(8)]
    for part in parts:
        part.result()
    assert max(most) <= 2


def test_what_needs_a_task_that_failed_is_never_begun_and_raises_the_same(pool):
    submission, begun = Submission(), []

    def fail():
        raise ValueError("no")

    failed = submission.ask(lambda before: pool.submit(fail))
    follower = submission.ask(lambda before: pool.submit(begun.append, 1), [failed])
    last = submission.ask(lambda before: pool.submit(begun.append, 2), [follower])
    other = submission.ask(lambda before: pool.submit(lambda: "fine"))
    for part in (
        last,
        follower,
        failed,
        submission.ask(lambda before: pool.submit(begun.append, 3), [failed]),
    ):
        with pytest.raises(ValueError, match="no"):
            part.result()
    assert other.result() == "fine"
    assert begun == []


def test_whoever_asks_hears_of_each_end_in_the_thread_of_the_flow(pool):
    submission, heard = Submission(), []
    part = submission.ask(
        lambda before: pool.submit(lambda: "done"),
        tell=lambda outcome: heard.append((outcome, threading.current_thread() is threading.main_thread())),
    )
    part.result()
    part.result()
    assert heard == [("done", True)]
