"""Images that are mostly not of their class are refused before the arena, class by class."""

import pandas as pd
import pytest
from support.digits import as_synthetic, rare_digits

from ganaug.config import EvaluateConfig
from ganaug.refusal import label_rates, refuse_mislabelled
from ganaug.screen import REASONS

NAMES = tuple("0123456789")
_, _, CUT = rare_digits()


def reasons(right: int, wrong: int) -> pd.Series:
    """Of the right ones half were rejected for something else, which is no matter here."""
    others = [REASONS[1 + number % 5] for number in range(right // 2)]
    return pd.Series([REASONS[0]] * wrong + others + [""] * (right - len(others)))


def refuse(limit, *, bad=(3, 5, 8)):
    found = {class_id: reasons(20, 180) if class_id in bad else reasons(120, 80) for class_id in (3, 5, 8)}
    return refuse_mislabelled(CUT, label_rates(found, NAMES, limit))


def test_the_rate_is_the_share_of_produced_images_whose_label_is_right():
    _, checked = refuse(0.3, bad=(5,))
    assert [(rate.class_name, rate.produced, rate.right_label) for rate in checked.label_rates] == [
        ("3", 200, pytest.approx(0.6)),
        ("5", 200, pytest.approx(0.1)),
        ("8", 200, pytest.approx(0.6)),
    ]
    assert "3 60%, 5 10%, 8 60%" in checked.notes[0]


def test_a_class_under_the_limit_gives_none_of_its_images_and_the_others_all():
    kept, checked = refuse(0.3, bad=(5,))
    assert set(kept.class_ids) == {3, 8}
    assert (kept.class_ids == 3).sum() == (CUT.class_ids == 3).sum()
    assert "5 10.0% of 200 images" in checked.notes[1]
    assert [rate.is_refused for rate in checked.label_rates] == [False, True, False]


def test_with_every_class_under_the_limit_nothing_is_left_and_the_reason_says_what_to_do():
    kept, checked = refuse(0.3)
    assert len(kept) == 0
    for part in ("refused before the arena", "5 10.0% of 200", "asks for 30%", "train.steps", "GPU"):
        assert part in checked.nothing


def test_a_rate_at_the_limit_is_not_under_it():
    kept, _ = refuse(0.1)
    assert len(kept) == len(CUT)


def test_0_refuses_nothing_however_bad():
    kept, checked = refuse_mislabelled(CUT, label_rates({3: reasons(0, 50)}, NAMES, 0.0))
    assert len(kept) == len(CUT)
    assert not checked.label_rates[0].is_refused
    assert checked.nothing == "no synthetic images were kept"


def test_where_the_screen_kept_nothing_of_the_others_that_is_said_too():
    _, checked = refuse_mislabelled(
        as_synthetic(CUT.images[:0], 3), label_rates({3: reasons(1, 99), 5: reasons(90, 10)}, NAMES, 0.3)
    )
    assert "of the other classes no synthetic images were kept" in checked.nothing


def test_a_class_without_images_has_no_rate():
    assert label_rates({3: reasons(0, 0)}, NAMES, 0.3) == ()


def test_the_limit_is_on_unless_it_is_set_to_0():
    assert 0 < EvaluateConfig().min_right_label < 1
