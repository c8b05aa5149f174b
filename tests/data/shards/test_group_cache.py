from lockstep.data.shards.group_cache import GroupCache


class Loads:
    def __init__(self):
        self.loaded = []

    def __call__(self, group):
        self.loaded.append(group)
        return object(), 10


def test_a_group_is_let_go_when_all_of_its_rows_were_taken():
    cache = GroupCache(Loads(), 2)
    cache.take(1, 4, (0, 0))
    cache.take(1, 4, (0, 1))
    assert len(cache) == 1
    cache.take(1, 2, (0, 1))
    assert len(cache) == 0


def test_a_group_that_two_turns_did_not_read_is_let_go():
    loads = Loads()
    cache = GroupCache(loads, 2)
    for group in range(20):
        cache.take(group, 1, (0, 0))  # more than it holds outside of a turn
    for turn in (1, 2):
        cache.take(5, 1, (0, turn))
    assert len(cache) == 1
    cache.take(5, 1, (1, 0))
    assert loads.loaded == [*range(20), 5]


def test_groups_in_flight_are_held_for_the_next_turn():
    loads = Loads()
    cache = GroupCache(loads, 2)
    for turn in range(4):
        for group in range(20):
            cache.take(group, 1, (0, turn))
    assert loads.loaded == list(range(20))


def test_outside_of_a_turn_the_last_groups_are_held():
    loads = Loads()
    cache = GroupCache(loads, 2)
    for group in (1, 2, 1, 3, 1, 2):
        cache.take(group, 5)
    assert loads.loaded == [1, 2, 3, 2]
    assert len(cache) == 2


def test_a_small_set_is_held_for_ever():
    loads = Loads()
    cache = GroupCache(loads, 2, keep=True)
    for epoch in range(3):
        for group in range(9):
            cache.take(group, 10, (epoch, 0))
            cache.take(group, 10)
    assert loads.loaded == list(range(9))
