"""The standalone verifier's own Ed25519 and Merkle tree against RFC 8032, RFC 6962's definition and another implementation."""

import os
import random
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.audit.merkle import Frontier, inclusion_proofs, root_from_proof
from orchestrator.audit.verify_standalone import Tree, ed25519_verifies, root_of

VECTORS = [  # RFC 8032, section 7.1: public key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_rfc_verify_and_no_flipped_bit_does(public: str, message: str, signature: str) -> None:
    key, words, good = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert ed25519_verifies(key, words, good)
    for bit in random.Random(1).sample(range(512), 24):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        assert not ed25519_verifies(key, words, bytes(bad))
    assert not ed25519_verifies(key, words + b"x", good)


def test_a_signature_with_the_group_order_added_is_refused() -> None:
    """Malleability: s must be below the order."""
    public, message, signature = (bytes.fromhex(part) for part in VECTORS[1])
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    assert not ed25519_verifies(public, message, signature[:32] + s.to_bytes(32, "little"))


def test_it_agrees_with_another_implementation() -> None:
    for size in (0, 1, 63, 64, 1000):
        private, message = Ed25519PrivateKey.generate(), os.urandom(size)
        assert ed25519_verifies(private.public_key().public_bytes_raw(), message, private.sign(message))
        assert not ed25519_verifies(Ed25519PrivateKey.generate().public_key().public_bytes_raw(), message, private.sign(message))


def _defined(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\1" + _defined(leaves[:k]) + _defined(leaves[k:])).digest()


def test_three_ways_to_a_root_agree_at_every_size_and_every_proof_leads_there() -> None:
    for size in range(70):
        leaves = [os.urandom(32) for _ in range(size)]
        grown, other = Frontier(), Tree()
        for leaf in leaves:
            grown.add(leaf)
        other.add_all(b"".join(leaves))
        assert grown.root() == other.root() == _defined(leaves)
        root, proofs = inclusion_proofs(leaves, range(size))
        assert root == _defined(leaves)
        for index, path in proofs.items():
            assert root_from_proof(leaves[index], index, size, path) == root_of(leaves[index], index, size, path) == root
            wrong = (index + 1) % size
            assert size == 1 or root_of(leaves[index], wrong, size, path) != root
            assert not path or root_of(leaves[index], index, size, path[:-1]) != root
