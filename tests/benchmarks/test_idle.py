"""Whether others used the processor: arithmetic on made-up counters, and the real ones where there are any."""

import os
import time

import pytest

from editkit.benchmarks import idle
from editkit.benchmarks.idle import Reading, Watch, others

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def test_busy_seconds_are_all_but_idle_and_waiting(tmp_path):
    stat = tmp_path / "stat"
    user, nice, system, rest, waiting, irq, soft, stolen, guest = 1, 2, 4, 1000, 2000, 8, 16, 32, 64
    numbers = [n * TICKS for n in (user, nice, system, rest, waiting, irq, soft, stolen, guest)]
    stat.write_text("cpu  " + " ".join(map(str, numbers)) + " 0\ncpu0 1 2 3\n")
    assert idle.busy_seconds(stat) == 1 + 2 + 4 + 8 + 16 + 32  # a guest's seconds are in user already


@pytest.mark.parametrize("text", [None, "", "processor 0\n"])
def test_where_the_system_does_not_say_it_is_unknown(tmp_path, text):
    stat = tmp_path / "stat"
    if text is not None:
        stat.write_text(text)
    assert idle.busy_seconds(stat) is None


def test_ones_own_work_is_not_that_of_others():
    before = Reading(clock=10.0, busy=100.0, own=5.0)
    assert others(before, Reading(12.0, 103.0, 7.0)) == pytest.approx(
        0.5
    )  # 3 s of work, 2 of them ours, in 2 s
    assert others(before, Reading(12.0, 101.9, 7.0)) == 0.0  # counted a little less than we know of
    assert others(before, Reading(12.0, None, 7.0)) is None


def test_counters_that_do_not_show_our_own_work_are_not_believed():
    assert others(Reading(0.0, 0.0, 0.0), Reading(10.0, 0.0, 10.0)) is None


def watch_of(*readings):
    supply = iter(readings)
    return Watch(lambda: next(supply), pause=0)


def test_a_phase_is_averaged_over_its_time_and_the_worst_phase_decides():
    watch = watch_of(
        Reading(0, 0, 0), Reading(1, 0, 0), Reading(1, 0, 0), Reading(4, 0.3, 0), Reading(5, 0.7, 0)
    )
    watch.tick("before")
    watch.start()
    watch.tick("timing")
    watch.tick("timing")
    shares = watch.shares()
    assert shares == pytest.approx({"before": 0.0, "timing": 0.7 / 4})
    assert watch.idle() is False


def test_a_machine_on_which_nothing_else_ran_is_idle():
    watch = watch_of(Reading(0, 0, 0), Reading(2, 2.1, 2.0))
    watch.tick("timing")
    assert watch.idle() is True


def test_short_samples_wait_for_the_next_one():
    watch = watch_of(Reading(0, 0, 0), Reading(0.5, 0.5, 0), Reading(1.5, 0.6, 0))
    watch.tick("timing")
    assert watch.samples == {}
    watch.tick("timing")
    assert watch.shares() == pytest.approx({"timing": 0.4})


def test_one_unknown_sample_makes_all_unknown():
    watch = watch_of(Reading(0, 0, 0), Reading(2, 0, 0), Reading(4, None, 0))
    watch.tick("before")
    watch.tick("after")
    assert watch.shares() is None and watch.idle() is None
    assert watch_of(Reading(0, 0, 0)).idle() is None  # nothing was sampled


@pytest.mark.skipif(not idle.STAT.exists(), reason="no /proc/stat on this system")
def test_the_real_counters_see_this_process_work():
    before, end = idle.read(), time.process_time() + 0.3
    while time.process_time() < end:
        pass
    after = idle.read()
    assert after.own - before.own >= 0.3
    if others(before, after) is None:
        pytest.skip("/proc/stat does not count here")
    assert after.busy - before.busy >= 0.15
