import numpy as np
import pytest

from ganaug.errors import SettingsError
from ganaug.latents import MAX_INDEX, draw, draw_at, quantiles

WORD = 2**64 - 1


def philox(key, counter):
    """Philox4x64-10, straight from Salmon et al. 2011: ten rounds, the key bumped between them."""
    a, b, c, d = ((counter >> (64 * place)) & WORD for place in range(4))
    first, second = key
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * a, 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * c, 2**64)
        a, b, c, d = high1 ^ b ^ first, low1, high0 ^ d ^ second, low0
        first, second = (first + 0x9E3779B97F4A7C15) & WORD, (second + 0xBB67AE8584CAA73B) & WORD
    return [a, b, c, d]


@pytest.mark.parametrize("index", [0, 1, 1000, 2**40])
@pytest.mark.parametrize("z_dim", [1, 12, 13, 64])
def test_latents_are_philox_words_at_the_address_through_the_quantiles(index, z_dim):
    steps = {1: 1, 12: 1, 13: 2, 64: 5}[z_dim]
    # NumPy counts up before each block: its first one has counter 1.
    words = [word for step in range(steps) for word in philox((7, 3), index * steps + step + 1)]
    sixteen_bits = [(words[1 + k // 4] >> (16 * (k % 4))) & 0xFFFF for k in range(z_dim)]
    z, exemplar = draw(7, 3, index, 1, z_dim, exemplars=10)
    np.testing.assert_array_equal(z[0], quantiles()[sixteen_bits])
    assert exemplar[0] == ((words[0] >> 32) * 10) >> 32


@pytest.mark.parametrize(("start", "count"), [(0, 100), (1, 99), (57, 1), (30, 40)])
def test_an_index_has_the_same_latents_in_any_stretch(start, count):
    z, exemplar = draw(0, 1, 0, 100, 24, 5)
    part, part_exemplar = draw(0, 1, start, count, 24, 5)
    np.testing.assert_array_equal(part, z[start : start + count])
    np.testing.assert_array_equal(part_exemplar, exemplar[start : start + count])


def test_scattered_indices_have_the_latents_of_their_stretch():
    for index in (0, 7, 2**40, MAX_INDEX - 1):
        for got, wanted in zip(draw_at(5, 1, [3, index, 3], 24, 5), draw(5, 1, index, 1, 24, 5), strict=True):
            np.testing.assert_array_equal(got[1], wanted[0])
            np.testing.assert_array_equal(got[0], got[2])


@pytest.mark.parametrize("indices", [[-1, 0], [0, MAX_INDEX]])
def test_indices_out_of_range_are_refused(indices):
    with pytest.raises(SettingsError, match="start"):
        draw_at(0, 0, indices, 4)


def test_seeds_classes_and_components_are_independent():
    columns = np.concatenate(
        [draw(seed, class_id, 0, 20_000, 4)[0].T for seed in (0, 1) for class_id in (0, 1)]
    )
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    # Standard deviation of each is 1/sqrt(20,000) = 0.007; 120 of them stay below 5 of these.
    assert np.abs(correlation).max() < 0.035


def test_latents_are_standard_normal():
    from scipy.stats import kstest

    z = draw(0, 0, 0, 50_000, 20)[0].ravel()
    assert abs(z.mean()) < 0.005
    assert abs(z.var() - 1) < 0.01
    assert kstest(z, "norm").pvalue > 0.001


def test_every_exemplar_is_drawn_about_equally_often():
    counts = np.bincount(draw(0, 0, 0, 70_000, 3, exemplars=7)[1], minlength=7)
    assert len(counts) == 7
    assert np.abs(counts - 10_000).max() < 500


@pytest.mark.parametrize(
    ("seed", "start", "count", "name"),
    [
        (-1, 0, 1, "seed"),
        (2**64, 0, 1, "seed"),
        (0, -1, 1, "start"),
        (0, 2**62, 1, "start"),
        (0, 0, -1, "count"),
    ],
)
def test_addresses_that_do_not_exist_are_refused(seed, start, count, name):
    with pytest.raises(SettingsError, match=name):
        draw(seed, 0, start, count, 4)
