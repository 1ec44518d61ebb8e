"""Copies among synthetic images are found, in flat memory; clusters keep to their quota."""

from __future__ import annotations

import numpy as np
import pytest

from ganaug.screen import kept
from ganaug.screen.kept import KeptCodes, Quota
from ganaug.screen.looks import CODE_BYTES, Codes
from ganaug.screen.threads import one_blas_thread

THRESHOLD = 10.0
SPREAD = 35 * np.arange(1, CODE_BYTES + 1) ** -0.6
"""Standard deviations of codes, about those of photographs."""


def drawn(count: int, seed: int = 0) -> Codes:
    rng = np.random.default_rng(seed)
    return np.clip(np.rint(rng.normal(size=(count, CODE_BYTES)) * SPREAD), -127, 127).astype(np.int8)


def copies_of(codes: Codes, share: float, seed: int = 1) -> Codes:
    """Codes at a share of the threshold from others."""
    moves = np.random.default_rng(seed).normal(size=codes.shape)
    moves *= share * THRESHOLD / np.linalg.norm(moves, axis=1, keepdims=True)
    return np.clip(np.rint(codes + moves), -127, 127).astype(np.int8)


def nearest_distances(codes: Codes, others: Codes) -> np.ndarray:
    """Plainly, one by one."""
    return np.array(
        [np.sqrt(np.square(others.astype(int) - code.astype(int)).sum(1).min()) for code in codes]
    )


@pytest.fixture(scope="module")
def many() -> tuple[KeptCodes, Codes]:
    """Forty thousand kept: the inverted file was made twice and added to in between."""
    codes = drawn(40_000)
    found = KeptCodes(THRESHOLD)
    found.add(codes)
    return found, codes


def test_few_codes_are_compared_exactly() -> None:
    codes, asked = drawn(600), drawn(300, seed=5)
    asked[::2] = copies_of(codes[:150], 0.95)
    found = KeptCodes(THRESHOLD)
    found.add(codes)
    np.testing.assert_array_equal(found.near(asked), nearest_distances(asked, codes) < THRESHOLD)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_of_planted_copies_among_forty_thousand_at_least_95_in_100_are_found(
    share: float, many: tuple[KeptCodes, Codes]
) -> None:
    found, codes = many
    planted = copies_of(codes[np.random.default_rng(2).permutation(len(codes))[:1000]], share)
    assert found.near(planted).mean() >= 0.95


def test_what_is_far_from_everything_is_no_copy_however_much_is_kept(many: tuple[KeptCodes, Codes]) -> None:
    found, codes = many
    asked = drawn(300, seed=7)
    is_far = nearest_distances(asked, codes) >= THRESHOLD
    assert is_far.sum() > 100
    assert not found.near(asked)[is_far].any()


def test_codes_added_in_any_pieces_give_the_same_answers(many: tuple[KeptCodes, Codes]) -> None:
    whole, codes = many
    pieces = KeptCodes(THRESHOLD)
    for part in np.split(codes, [3, 700, 701, 4096, 4097, 9000, 39_000]):
        pieces.add(part)
    asked = copies_of(codes[:2000], 0.99)
    np.testing.assert_array_equal(pieces.near(asked), whole.near(asked))


def test_a_kept_image_takes_no_more_than_64_bytes(many: tuple[KeptCodes, Codes]) -> None:
    found, _ = many
    lists = found._filed.invlists
    sizes = sum(lists.list_size(number) for number in range(found._filed.nlist))
    assert sizes == found.count - found.count % kept.BLOCK
    # Codes and 8-byte numbers; lists that double are at most half empty.
    assert found._filed.code_size + 8 <= 32
    assert found._recent.nbytes == kept.BLOCK * CODE_BYTES
    arrays = [value for value in vars(found).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == found._recent.nbytes


def test_faiss_has_its_threads_back_afterwards(many: tuple[KeptCodes, Codes]) -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    many[0].near(drawn(3))
    assert faiss.omp_get_max_threads() == 2
    faiss.omp_set_num_threads(before)


def test_numpy_has_its_threads_back_when_the_last_of_several_is_done() -> None:
    from threadpoolctl import ThreadpoolController

    def in_use() -> set[int]:
        blas = ThreadpoolController().select(user_api="blas").info()
        return {library["num_threads"] for library in blas}

    before = in_use()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    assert in_use() == {1}
    first.__exit__(None, None, None)
    assert in_use() == {1}
    second.__exit__(None, None, None)
    assert in_use() == before


def test_a_threshold_of_zero_calls_nothing_a_copy() -> None:
    found = KeptCodes(0.0)
    found.add(drawn(10))
    assert not found.near(drawn(10)).any()


def test_no_cluster_exceeds_its_share_once_it_has_started() -> None:
    quota = Quota(np.array([0.8, 0.2]), 2.0)
    counts = np.zeros(2)
    # Nine of ten images come from the cluster that is to have two of ten.
    for cluster in np.random.default_rng(0).choice(2, 5000, p=[0.1, 0.9]).tolist():
        if quota.has_room(cluster):
            quota.add(cluster)
            counts[cluster] += 1
            assert counts[1] <= max(kept.START, 2 * 0.2 * counts.sum())
    assert counts[0] > 400
    assert counts[1] > 0.35 * counts.sum()


def test_a_quota_of_zero_allows_everything() -> None:
    quota = Quota(np.array([0.99, 0.01]), 0.0)
    for _ in range(500):
        assert quota.has_room(1)
        quota.add(1)


def test_a_lone_cluster_is_never_full() -> None:
    quota = Quota(np.array([1.0]), 1.0)
    for _ in range(500):
        assert quota.has_room(0)
        quota.add(0)
