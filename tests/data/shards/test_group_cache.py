import numpy as np
import pytest

from lockstep.data.shards.arrow_values import ColumnGroup
from lockstep.data.shards.group_cache import GroupCache


class Loads:
    """Groups of ten rows that say which they are."""

    def __init__(self):
        self.loaded = []

    def __call__(self, group):
        self.loaded.append(group)
        return ColumnGroup({"x": np.arange(10) + 10 * group}), 10


def take(cache, groups, turn=None):
    """Take a row of each group; return what it says."""
    groups = np.array(groups)
    turns = None if turn is None else np.full(groups.size, turn)
    slots = cache.hold(groups, turns)
    taken = cache.store.take("x", cache.places(slots, groups % 10))
    assert taken.tolist() == [10 * group + group % 10 for group in groups.tolist()]
    cache.let_go(in_turn=turn is not None)


def test_a_group_is_let_go_when_all_of_its_rows_were_taken():
    cache = GroupCache(20, Loads(), 2)
    take(cache, [1] * 4, 0)
    take(cache, [1] * 4, 1)
    assert len(cache) == 1
    take(cache, [1] * 2, 1)
    assert len(cache) == 0


def test_a_group_that_two_turns_did_not_read_is_let_go():
    loads = Loads()
    cache = GroupCache(20, loads, 2)
    take(cache, range(20), 0)  # more than it holds outside of a turn
    for turn in (1, 2):
        take(cache, [5], turn)
    assert len(cache) == 1
    take(cache, [5], 2**40)
    assert loads.loaded == [*range(20), 5]


def test_several_turns_at_once_are_those_of_their_rows():
    loads = Loads()
    cache = GroupCache(20, loads, 2)
    cache.hold(np.array([1, 2, 1, 3]), np.array([0, 0, 1, 2]))
    take(cache, [3], 2)
    assert [group for group in range(20) if cache.holds(group)] == [1, 3]


def test_groups_in_flight_are_held_for_the_next_turn():
    loads = Loads()
    cache = GroupCache(20, loads, 2)
    for turn in range(4):
        take(cache, range(20), turn)
    assert loads.loaded == list(range(20))


def test_outside_of_a_turn_the_last_groups_are_held():
    loads = Loads()
    cache = GroupCache(20, loads, 2)
    for group in (1, 2, 1, 3, 1, 2):
        take(cache, [group] * 5)
    assert loads.loaded == [1, 2, 3, 2]
    assert len(cache) == 2
    take(cache, [*range(4, 9)] * 2)
    take(cache, [7, 8])
    assert loads.loaded == [1, 2, 3, 2, *range(4, 9)]


def test_a_small_set_is_held_for_ever():
    loads = Loads()
    cache = GroupCache(20, loads, 2, keep=True)
    for turn in range(3):
        take(cache, [*range(9)] * 10, turn)
        take(cache, [*range(9)] * 10)
    assert loads.loaded == list(range(9))


@pytest.mark.parametrize("seed", range(5))
def test_room_of_groups_that_were_let_go_is_used_again(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 50, 400)
    cache = GroupCache(400, lambda group: (ColumnGroup({"x": np.full(sizes[group], group)}), sizes[group]), 2)
    for turn in range(400 - 8):
        groups = np.arange(turn, turn + 8)
        slots = cache.hold(groups, np.full(8, turn))
        assert cache.store.take("x", cache.places(slots, sizes[groups] - 1)).tolist() == groups.tolist()
        cache.let_go(in_turn=True)
    assert cache.store._capacity < 3 * 9 * 50


def test_columns_of_another_type_are_held_beside_the_others():
    groups = [
        ColumnGroup({"x": np.arange(3)}),
        ColumnGroup({"x": np.arange(3.0)}),
        ColumnGroup({"x": [5, None, 7]}),
    ]
    cache = GroupCache(3, lambda group: (groups[group], 3), 2)
    cache.hold(np.array([0, 1, 2]), np.zeros(3, np.int64))
    assert cache.rest(0) is None
    assert cache.rest(1).columns["x"].dtype == np.float64
    assert cache.rest(2).columns["x"] == [5, None, 7]
    assert not cache.all_stored
