"""The Merkle tree against the published vectors of RFC 6962, and against its definition."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.core.merkle import EMPTY, Frontier, leaf, node

# The test vectors of the reference implementation of RFC 6962 (Certificate Transparency): eight leaves and their roots.
LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 defines it, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaf(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node(tree(leaves[:split]), tree(leaves[split:]))


@pytest.mark.parametrize("size", range(1, 9))
def test_the_published_roots(size: int) -> None:
    frontier = Frontier()
    frontier.extend(map(leaf, LEAVES[:size]))
    assert frontier.root().hex() == ROOTS[size - 1] and frontier.size == size


def test_the_root_of_nothing_is_the_published_one() -> None:
    assert Frontier().root() == EMPTY
    assert EMPTY.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.lists(st.binary(max_size=8), max_size=70), st.integers(0, 70))
def test_growing_in_two_steps_with_a_pause_on_disk_is_the_definition(bodies: list[bytes], pause: int) -> None:
    first = Frontier()
    first.extend(map(leaf, bodies[:pause]))
    assert first.root() == tree(bodies[:pause])
    second = Frontier.unpack(first.size, first.pack())
    second.extend(map(leaf, bodies[pause:]))
    assert second.root() == tree(bodies) and second.size == len(bodies)


@pytest.mark.parametrize(("size", "data"), [(-1, b""), (0, bytes(32)), (3, bytes(32)), (4, bytes(31)), (1, b"")])
def test_what_is_no_frontier_is_refused(size: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="no frontier"):
        Frontier.unpack(size, data)
