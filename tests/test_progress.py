"""How long a sweep has to go, by hand."""

import pytest

from pipeline.store.progress import outlook, remaining_s, table
from pipeline.store.results import RunState


def state(name, status, seconds=0.0, profile_s=0.0):
    return RunState(name, status, {"model": name.split("-")[0]}, seconds, profile_s=profile_s)


def test_a_shared_profile_is_billed_once_per_model():
    """Without profiles the runs of a took 40 s; the runs of b are expected to take 40 s, the first a profile more."""
    done = [state("a-1", "done", 100, 60), state("a-2", "done", 40)]
    left = [state("a-3", "waiting"), state("b-1", "waiting"), state("b-2", "waiting")]
    assert remaining_s([*done, *left]) == 40 + (40 + 60) + 40
    assert outlook([*done, *left]) == "2 of 5 runs, about 3.0 min to go"


def test_a_cached_run_has_its_profile_and_a_failed_one_has_not():
    done = [state("a-1", "done", 100, 60)]
    assert remaining_s([*done, state("b-1", "cached"), state("b-2", "waiting")]) == 40
    assert remaining_s([*done, state("b-1", "failed", 5), state("b-2", "waiting")]) == 100


def test_a_profile_that_is_not_shared_is_part_of_every_run():
    assert remaining_s([state("a-1", "done", 100), state("a-2", "waiting"), state("a-3", "waiting")]) == 200


def test_runs_at_once_share_the_time():
    done = [state("a-1", "done", 100, 60)]
    assert remaining_s([*done, state("a-2", "running"), state("a-3", "running")]) == pytest.approx(40)
    assert remaining_s([state("a-2", "running")]) is None


def test_the_end_of_a_sweep_lists_only_what_is_not_done():
    states = [state("a-1", "done", 100), state("a-2", "cached"), RunState("b", "failed", {}, 3.0, "NaN loss")]
    assert table(states, settled=False).splitlines() == [
        "failed   b        3 s  NaN loss",
        "1 done, 1 cached, 1 failed",
    ]
    assert len(table(states).splitlines()) == 4
