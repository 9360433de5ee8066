from conceptry.evaluation.progress import remaining


def test_what_is_left_follows_from_the_pace_of_the_stage() -> None:
    now = 0.0
    left = remaining(lambda: now)
    assert left(0.01) == ""  # too early to tell
    now = 60.0
    assert left(0.25) == ", 0:03:00 left"
    now = 120.0
    assert left(0.98) == ""  # soon
    assert left(0.0) == ""  # the next stage
    now = 150.0
    assert left(0.5) == ", 0:00:30 left"
