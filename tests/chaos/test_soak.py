"""Test that the soak would see a leak; the soak itself takes too long here."""

import pytest

from chaos.soak import Found, Sample, compare

LEVEL = [Sample(float(second), 50_000_000, 14) for second in range(100)]


def drifting(memory=0.0, descriptors=0.0):
    """Return samples that drift by so many bytes and descriptors over the whole time."""
    return [
        Sample(each.at, int(5e7 + memory * each.at / 100), int(14 + descriptors * each.at / 100))
        for each in LEVEL
    ]


@pytest.mark.parametrize(
    ("samples", "wrong"),
    [
        (LEVEL, []),
        ([Sample(each.at, 30_000_000, 9) for each in LEVEL[:10]] + LEVEL[10:], []),  # warming up
        (drifting(memory=2e6), []),
        (drifting(memory=4e6), ["memory"]),
        (drifting(memory=-4e6), ["memory"]),
        (drifting(descriptors=3), ["descriptors"]),
        (LEVEL[:12], ["too short to tell"]),
    ],
)
def test_what_grows_is_seen_and_what_warms_up_is_not(samples, wrong):
    found = Found("any", samples)
    compare(found, 10)
    assert [each.partition(":")[0] for each in found.wrong] == wrong
