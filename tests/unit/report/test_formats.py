import pytest

from atcon.report.formats import decimal, duration, ends, probability


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1.25, "+1.2"), (-1.26, "−1.3"), (0.0, "0.0"), (-0.04, "0.0"), (0.04, "0.0")],
)
def test_a_signed_number_has_a_true_minus_and_zero_has_no_sign(value, text):
    assert decimal(value, 1, signed=True) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(None, "–"), (0.0, "< 0.001"), (0.0009, "< 0.001"), (0.0123, "0.012"), (0.456, "0.46")],
)
def test_a_small_p_is_never_shown_as_zero(p, text):
    assert probability(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (41.6, "42 s"), (185, "3 min 05 s"), (3720, "1 h 02 min")],
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("bounds", "texts"),
    [
        ((-0.2134, 1.87), ("−0.2", "1.9")),
        ((1.7e-7, 0.0046), ("0", "0.0046")),
        ((0.49991, 0.50032), ("0.49991", "0.50032")),
        ((-812.0, 20.0), ("−812", "20")),
        ((0.5, 0.5), ("0.50", "0.50")),
        ((0.0, 0.0), ("0", "0")),
        ((-2e-8, 3e-8), ("−2.0e−08", "3.0e−08")),
    ],
)
def test_the_ends_of_a_map_keep_two_digits_of_what_lies_between(bounds, texts):
    assert ends(*bounds) == texts
