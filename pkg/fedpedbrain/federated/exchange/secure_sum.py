"""The sum of all sites' updates without the update of any one site: fixed-point numbers under pairwise masks.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017: the masking of their
section 4, without the recovery of dropouts. Every two sites share a mask that one adds and the other subtracts, so that
the masks vanish from the sum of all sites and from nothing less. This keeps an update from whoever sums as long as the
public keys are the sites' own, and from sites that do not pool their secret keys with whoever sums. Of two sites each
still learns the other's update: it is the sum less its own.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import replacing

FRACTION_BITS = 24
LARGEST_SUM = 2**62  # half of what int64 holds: where masks are left in a sum, every second value is larger
KEY_BYTES = 32
BLOCK_VALUES = 2**16  # 512 KiB of keystream, which stays in the processor's cache


def make_key_pair() -> tuple[bytes, bytes]:
    """A fresh X25519 key pair (RFC 7748) from the operating system's randomness, secret and public, 32 bytes each."""
    key = X25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def make_key_files(secret_path: str | Path, public_path: str | Path) -> None:
    """Write a fresh key pair, 32 raw bytes per file.

    Only its owner may read the secret file, which stays at its site; the public one is for all the other sites.
    """
    secret_key, public_key = make_key_pair()
    with replacing(secret_path) as secret, replacing(public_path) as public:
        secret.touch(mode=0o600)  # before the key is in it
        secret.write_bytes(secret_key)
        public.write_bytes(public_key)


def read_key(path: str | Path) -> bytes:
    """Read a secret or public key: 32 bytes, or a StudyError."""
    try:
        key = Path(path).read_bytes()
    except OSError as error:
        raise StudyError(f"{path}: expected a key file, found: {error.strerror}; make the site's keys") from error
    if len(key) != KEY_BYTES:
        raise StudyError(f"{path}: expected {KEY_BYTES} raw bytes, found {len(key)}; copy the key file again")
    return key


def to_fixed_point(weights: Mapping[str, Tensor], factor: float, num_sites: int) -> dict[str, Tensor]:
    """Weigh one update and round it to whole steps of ``2**-FRACTION_BITS``.

    Parameters
    ----------
    weights : real tensors of any shape; integer ones (counters) are weighed like the others, for a mean of them
    factor : this update's weight, finite and >= 0
    num_sites : how many such updates the sum takes

    Returns
    -------
    int64 tensors of the same shapes, rounded from float64 to nearest, ties to even

    Raises
    ------
    StudyError : at a wrong factor, complex numbers, NaN, infinity, or a value ``num_sites`` of which pass 2**62
    """
    if not (math.isfinite(factor) and factor >= 0):
        raise StudyError(f"factor of the update: expected a finite number >= 0, found {factor}; correct the weighting")
    fixed = {}
    for name, tensor in weights.items():
        if tensor.is_complex():
            raise StudyError(f"tensor {name}: expected real numbers, found {tensor.dtype}; store real and imaginary")
        scaled = tensor.detach().to("cpu", torch.float64, copy=True).mul_(factor * 2**FRACTION_BITS).round_()
        largest = _largest(scaled)
        if not math.isfinite(largest):
            raise StudyError(f"tensor {name}: expected finite numbers, found NaN or infinity; see the log of training")
        if int(largest) * num_sites > LARGEST_SUM:
            limit, found = LARGEST_SUM / num_sites / 2**FRACTION_BITS, largest / 2**FRACTION_BITS
            expected = f"weighted values up to {limit:.3g} for a sum of {num_sites} sites"
            raise StudyError(f"tensor {name}: expected {expected}, found {found:.3g}; see the log of training")
        fixed[name] = scaled.long()
    return fixed


def mask(
    fixed: Mapping[str, Tensor], site: str, secret: bytes, public_keys: Mapping[str, bytes], context: bytes
) -> dict[str, Tensor]:
    """Hide one site's update under the masks that it shares with every other site.

    Of two sites, the one whose name sorts first adds their mask and the other subtracts it, modulo 2**64. A mask is one
    ChaCha20 keystream (RFC 8439) in little-endian words of 64 bits over the tensors in sorted order of their names.

    Parameters
    ----------
    fixed : int64 tensors from ``to_fixed_point``, of the same names and shapes at every site
    site : the name of this site
    secret : this site's secret key, 32 bytes
    public_keys : 32 bytes for each site of the sum, this one included; the same at every site
    context : names the sum (study, arm, seed, round), the same at every site and never used again: two updates masked
        under one context show the difference between them

    Returns
    -------
    int64 tensors of the same shapes, each value uniform over all of int64 to whoever lacks the masks

    Raises
    ------
    StudyError : if there is no other site, or a key is missing, malformed or not the secret's
    """
    streams = _pair_streams(site, secret, public_keys, context)
    zeros, keystream = memoryview(bytes(8 * BLOCK_VALUES)), np.empty(BLOCK_VALUES, "<u8")
    masked = {name: fixed[name].clone(memory_format=torch.contiguous_format) for name in sorted(fixed)}
    for name, tensor in masked.items():
        words = _words(name, tensor)
        for start in range(0, words.size, BLOCK_VALUES):
            block = words[start : start + BLOCK_VALUES]
            shift = keystream[: block.size]
            for stream, combine in streams:
                stream.update_into(zeros[: shift.nbytes], shift.view(np.uint8))
                combine(block, shift, out=block)
    return masked


def _pair_streams(
    site: str, secret: bytes, public_keys: Mapping[str, bytes], context: bytes
) -> list[tuple[CipherContext, np.ufunc]]:
    """For every other site, the keystream shared with it and whether this site adds or subtracts it."""
    if len(secret) != KEY_BYTES:
        raise StudyError(f"secret key of {site}: expected {KEY_BYTES} bytes, found {len(secret)}; make the site's keys")
    own = X25519PrivateKey.from_private_bytes(secret)
    if public_keys.get(site) != own.public_key().public_bytes_raw():
        found = "another" if site in public_keys else "none"
        raise StudyError(f"public key of {site}: expected that of its secret key, found {found}; give it to all sites")
    others = sorted(public_keys.keys() - {site})
    if not others:
        raise StudyError(f"secure sum: expected 2 sites or more, found {site} alone, whose update it is; add a site")
    return [
        (_pair_stream(own, site, other, public_keys[other], context), np.add if site < other else np.subtract)
        for other in others
    ]


def _pair_stream(own: X25519PrivateKey, site: str, other: str, public: bytes, context: bytes) -> CipherContext:
    """Keystream of one pair from a seed of one sum: X25519 (RFC 7748), then HKDF-SHA256 (RFC 5869)."""
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:  # not 32 bytes, or a point of small order, whose mask all would know
        found = f"{len(public)} bytes that are none"
        raise StudyError(f"public key of {other}: expected an X25519 key, found {found}; make it anew") from error
    parts = (context, *(name.encode() for name in sorted((site, other))))
    info = b"".join(len(part).to_bytes(8, "big") + part for part in parts)  # the lengths keep the parts apart
    seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(shared)
    return Cipher(algorithms.ChaCha20(seed, nonce=bytes(16)), mode=None).encryptor()


def sum_masked(updates: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Add int64 updates from ``mask`` modulo 2**64, in any order; in the sum of all sites the masks cancel.

    Taken one at a time, so that one update and one sum are in memory. A StudyError if there is none, or if one differs
    from the first in names, shapes or dtype.
    """
    sums: dict[str, Tensor] = {}
    for number, update in enumerate(updates, start=1):
        sums = sums or {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in update.items()}
        _require_same_tensors(f"masked update {number}", update, sums)
        for name, total in sums.items():
            words = _words(name, total)
            np.add(words, _words(name, update[name]), out=words)
    if not sums:
        raise StudyError("secure sum: expected one masked update a site, found none; give it the sites' updates")
    return sums


def from_fixed_point(sums: Mapping[str, Tensor], total: float, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the sum of all sites' fixed-point updates into their weighted mean.

    Parameters
    ----------
    sums : int64 tensors from ``sum_masked``
    total : the sum of the sites' factors, finite and > 0
    like : weights of the same names and shapes, whose dtypes the mean takes

    Returns
    -------
    the mean from float64, integer tensors rounded to nearest. Of S sites it is within
    ``S / total * 2**-(FRACTION_BITS + 1)`` of the exact mean, before it takes its dtype

    Raises
    ------
    StudyError : at a wrong total, other tensors than in ``like``, or values that only masks in the sum explain
    """
    if not (math.isfinite(total) and total > 0):
        raise StudyError(f"total of the factors: expected a finite number > 0, found {total}; correct the weighting")
    _require_same_tensors("secure sum", sums, like)
    means = {}
    for name, pattern in like.items():
        if _largest(sums[name]) > LARGEST_SUM:
            found = "larger ones: masks are left; sum one update of each site, all of one context and the same keys"
            raise StudyError(f"secure sum, tensor {name}: expected values up to 2**62, found {found}")
        mean = sums[name].double().div_(total * 2**FRACTION_BITS)
        means[name] = (mean if pattern.is_floating_point() else mean.round_()).to(pattern.dtype)
    return means


def _largest(tensor: Tensor) -> float:
    """The largest magnitude, 0 of an empty tensor; NaN if there is one."""
    return max(abs(bound.item()) for bound in tensor.aminmax()) if tensor.numel() else 0


def _words(name: str, tensor: Tensor) -> np.ndarray:
    """The values of an int64 tensor as flat uint64, whose arithmetic wraps around by definition; shared memory."""
    if tensor.dtype != torch.int64:
        raise StudyError(f"tensor {name}: expected int64, found {tensor.dtype}; bring the update to fixed point first")
    return tensor.reshape(-1).numpy().view(np.uint64)


def _require_same_tensors(what: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors with other names or shapes than expected."""
    for name in sorted(found.keys() | expected.keys()):
        wanted, given = (list(side[name].shape) if name in side else "none" for side in (expected, found))
        if wanted != given:
            raise StudyError(f"{what}, tensor {name}: expected shape {wanted}, found {given}; train one model for all")
