"""Test how many tasks per minute come and go, from looks at made rows."""

from alligator.monitoring.rates import Rate, Rates
from alligator.monitoring.rows import ActivityRow, QueueRow


def queue(left, name="all"):
    return QueueRow(name, left, 0, 0, 0, None, False, 1)


def ended(minute, succeeded, name="all", **counts):
    return ActivityRow(minute, name, "f", succeeded, **counts)


def test_the_first_look_tells_what_went_in_the_last_whole_minute():
    rates = Rates().look([queue(5), queue(0, "low")], [ended(60, 30), ended(120, 9)], 125.0)
    assert rates == {"all": Rate(None, 30.0), "low": Rate(None, 0.0)}


def test_later_looks_compare():
    rates = Rates()
    rates.look([queue(100)], [ended(120, 10)], 130.0)
    found = rates.look([queue(80)], [ended(120, 40, dead=2, expired=1)], 140.0)
    assert found["all"] == Rate(came=13 * 6, went=33 * 6)


def test_over_the_end_of_a_minute():
    rates = Rates()
    rates.look([queue(10)], [ended(60, 50)], 115.0)
    found = rates.look([queue(10)], [ended(60, 60), ended(120, 20)], 145.0)
    assert found["all"] == Rate(60.0, 60.0)


def test_rates_are_those_of_the_last_minute():
    rates, minutes = Rates(), {}
    for second in range(0, 600, 10):
        minute = second // 60 * 60
        minutes[minute] = minutes.get(minute, 0) + (100 if second < 300 else 10)
        rows = [ended(each, count) for each, count in minutes.items() if each >= minute - 60]
        found = rates.look([queue(0)], rows, float(second))
    assert found["all"].went == 60.0


def test_minutes_that_are_over_are_kept_as_sums():
    rates = Rates()
    for minute in range(0, 3600, 60):
        rates.look([queue(0)], [ended(minute, 7)], minute + 30.0)
    assert len(rates._ended) < 10
    assert rates._looks[-1].ended["all"] == 60 * 7


def test_a_dropped_queue_shows_no_negative_rate():
    rates = Rates()
    rates.look([queue(1000)], [], 10.0)
    assert rates.look([queue(0)], [], 20.0)["all"] == Rate(0.0, 0.0)


def test_without_records_nothing_is_known():
    assert Rates().look([queue(5)], None, 100.0) == {}
