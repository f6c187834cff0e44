import hashlib
import hmac
import random
import stat
from dataclasses import replace

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.lineage import Lineage
from fedpedbrain.federated.exchange.averaging import average_weights
from fedpedbrain.federated.exchange.secure_sum import (
    BLOCK_VALUES,
    from_fixed_point,
    make_key_files,
    mask,
    read_key,
    sum_masked,
    to_fixed_point,
)
from fedpedbrain.federated.exchange.updates import masking_context

STEP = 2**24
SECRETS = {f"site-{index}": bytes([index + 1]) * 32 for index in range(5)}
KEYS = {
    site: X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    for site, secret in SECRETS.items()
}
ROUND = b"study fedavg seed 0 round 1"


def masked_by(fixed_of_site: dict[str, dict], context: bytes = ROUND) -> list[dict]:
    """Every site's masked update, the masks between exactly these sites."""
    keys = {site: KEYS[site] for site in fixed_of_site}
    return [mask(fixed, site, SECRETS[site], keys, context) for site, fixed in fixed_of_site.items()]


def random_weights(seed: int, values: int = 1000) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(values, 3, generator=generator),
        "bias": torch.randn(7, generator=generator).half(),
        "steps": torch.tensor(10 * seed),
        "empty": torch.zeros(0, 4),
    }


def random_int64(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"weight": torch.randint(-(2**63), 2**63 - 1, (50, 3), generator=generator)}


def int64_bytes(tensors: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


# Fixed point


def test_a_weight_becomes_its_number_of_steps():
    weights = {"weight": torch.tensor([[1.0, -2.0, 0.5], [0.0, 2.0**-24, -(2.0**-22)]])}
    found = to_fixed_point(weights, 0.5, num_sites=2)["weight"]
    assert found.dtype == torch.int64
    assert found.tolist() == [[STEP // 2, -STEP, STEP // 4], [0, 0, -2]]  # half a step goes to the even step


def test_steps_are_rounded_to_the_nearest_not_cut_off():
    weights = {"weight": torch.tensor([[0.4, 0.6, 1.6], [-0.4, -0.6, -1.6]], dtype=torch.float64) / STEP}
    assert to_fixed_point(weights, 1.0, num_sites=2)["weight"].tolist() == [[0, 1, 2], [0, -1, -2]]


def test_large_float32_weights_keep_their_last_bit():
    # 12345.678 times 2**24 has more bits than float32 holds once it is weighed by a third.
    value = torch.tensor([12345.678])
    assert to_fixed_point({"weight": value}, 1 / 3, num_sites=2)["weight"].item() == round(value.item() / 3 * STEP)


def test_a_fixed_point_mean_has_the_dtypes_and_shapes_of_the_model():
    like = {
        "weight": torch.zeros(2, 3),
        "half": torch.zeros(2, dtype=torch.bfloat16),
        "steps": torch.tensor(0),
        "small": torch.zeros(1, dtype=torch.int32),
    }
    sums = {
        "weight": torch.tensor([[4, 8, -4], [0, 2, 1]]) * STEP,
        "half": torch.tensor([4, -2]) * STEP,
        "steps": torch.tensor(11 * STEP),
        "small": torch.tensor([-13 * STEP]),
    }
    found = from_fixed_point(sums, 4.0, like)
    assert found["weight"].tolist() == [[1.0, 2.0, -1.0], [0.0, 0.5, 0.25]]
    assert found["half"].tolist() == [1.0, -0.5]
    assert (found["steps"].item(), found["small"].item()) == (3, -3)  # 2.75 and -3.25
    assert [(name, t.dtype, t.shape) for name, t in found.items()] == [(n, t.dtype, t.shape) for n, t in like.items()]


def test_counters_become_their_weighted_mean():
    sites = ({"steps": torch.tensor([10, 7])}, 1.0), ({"steps": torch.tensor([20, 8])}, 3.0)
    sums = sum_masked(to_fixed_point(weights, factor, num_sites=2) for weights, factor in sites)
    assert from_fixed_point(sums, 4.0, sites[0][0])["steps"].tolist() == [18, 8]  # 17.5 and 7.75


def test_weights_in_another_memory_layout_give_the_same_update():
    plain = torch.arange(48, dtype=torch.float32).reshape(1, 3, 2, 2, 4)
    mixed = plain.to(memory_format=torch.channels_last_3d)
    assert mixed.stride() != plain.stride()
    for first, second in ((plain, mixed), (mixed, plain)):
        fixed = {
            "site-0": to_fixed_point({"weight": first}, 0.5, num_sites=2),
            "site-1": to_fixed_point({"weight": second}, 0.5, num_sites=2),
        }
        assert torch.equal(from_fixed_point(sum_masked(masked_by(fixed)), 1.0, {"weight": plain})["weight"], plain)
        assert torch.equal(from_fixed_point(sum_masked(fixed.values()), 1.0, {"weight": plain})["weight"], plain)


# Masks


def test_the_sum_of_two_masked_updates_is_the_sum_of_the_updates():
    fixed = {
        "site-0": {"weight": torch.tensor([[1, 2, 3], [4, 5, 6]])},
        "site-1": {"weight": torch.tensor([[10, -2, 0], [0, 1, -7]])},
    }
    found = sum_masked(masked_by(fixed))
    assert found["weight"].dtype == torch.int64
    assert found["weight"].tolist() == [[11, 0, 3], [4, 6, -1]]


@pytest.mark.parametrize("num_sites", [2, 3, 5])
def test_masks_cancel_bit_for_bit(num_sites):
    # More values than one block, a name that is not sorted, a tensor without axes and one without values.
    sites = list(SECRETS)[:num_sites]
    values = BLOCK_VALUES // 2
    fixed = {
        site: to_fixed_point(random_weights(seed, values), 1 / num_sites, num_sites) for seed, site in enumerate(sites)
    }
    found = sum_masked(masked_by(fixed))
    assert found.keys() == fixed["site-0"].keys()
    for name, total in found.items():
        assert torch.equal(total, sum(fixed[site][name] for site in sites))


def test_sums_wrap_around_at_the_ends_of_int64():
    most, least = 2**63 - 1, -(2**63)
    first, second = {"weight": torch.tensor([most, least, most])}, {"weight": torch.tensor([1, -1, most])}
    expected = [least, most, -2]
    assert sum_masked([first, second])["weight"].tolist() == expected
    assert sum_masked(masked_by({"site-0": first, "site-1": second}))["weight"].tolist() == expected


def test_masks_wrap_around_and_still_cancel_for_values_over_all_of_int64():
    fixed = {site: random_int64(seed) for seed, site in enumerate(SECRETS)}
    exact = sum(update["weight"].numpy().astype(object) for update in fixed.values())
    assert any(abs(total) >= 2**63 for total in exact.flat)  # else nothing would wrap around
    wrapped = [(total + 2**63) % 2**64 - 2**63 for total in exact.flat]
    assert sum_masked(masked_by(fixed))["weight"].flatten().tolist() == wrapped


def test_the_secure_mean_is_the_weighted_mean_to_the_fixed_point_step():
    sites = {"site-0": 3.0, "site-1": 1.0, "site-2": 4.0}
    weights = {site: random_weights(seed) for seed, site in enumerate(sites)}
    total = sum(sites.values())
    fixed = {site: to_fixed_point(weights[site], factor, len(sites)) for site, factor in sites.items()}
    like = {name: tensor.double() for name, tensor in weights["site-0"].items()}
    found = from_fixed_point(sum_masked(masked_by(fixed)), total, like)
    expected = average_weights(
        [
            ({name: tensor.double() for name, tensor in weights[site].items()}, factor / total)
            for site, factor in sites.items()
        ]
    )
    assert found.keys() == expected.keys()
    for name, mean in expected.items():
        # Each site is off by half a step at most.
        assert torch.allclose(found[name], mean, rtol=0, atol=len(sites) / total / STEP / 2 + 1e-12), name


def test_the_mask_is_the_published_construction():
    # RFC 5869 written out with HMAC, one whole keystream, tensors in the order of their names.
    fixed = {"b": torch.tensor([[1, 2, 3], [4, 5, 6]]), "a": torch.tensor(9)}
    shared = X25519PrivateKey.from_private_bytes(SECRETS["site-0"]).exchange(
        X25519PublicKey.from_public_bytes(KEYS["site-1"])
    )
    info = b"".join(bytes([0] * 7 + [len(part)]) + part for part in (ROUND, b"site-0", b"site-1"))
    extracted = hmac.digest(bytes(32), shared, hashlib.sha256)
    seed = hmac.digest(extracted, info + b"\x01", hashlib.sha256)
    stream = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(7 * 8))
    words = np.frombuffer(stream, "<i8")
    first, second = masked_by({"site-0": fixed, "site-1": fixed})
    with np.errstate(over="ignore"):
        assert first["a"].item() == 9 + words[0]
        assert np.array_equal(first["b"].numpy().ravel(), np.arange(1, 7) + words[1:])
        assert second["a"].item() == 9 - words[0]
        assert np.array_equal(second["b"].numpy().ravel(), np.arange(1, 7) - words[1:])


def test_a_keystream_goes_on_from_block_to_block():
    zeros = {"weight": torch.zeros(2 * BLOCK_VALUES + 5, dtype=torch.int64)}
    whole = masked_by({"site-0": zeros, "site-1": zeros})[0]["weight"]
    parts = {f"{part}": values for part, values in enumerate(zeros["weight"].split(BLOCK_VALUES - 3))}
    split = masked_by({"site-0": parts, "site-1": parts})[0]
    assert torch.equal(whole, torch.cat(list(split.values())))
    assert whole.unique().numel() == whole.numel()  # no keystream comes twice


def test_a_masked_update_looks_like_noise():
    fixed = to_fixed_point(random_weights(0, 20_000), 0.5, num_sites=2)["weight"]
    assert (fixed.abs() < 2**30).all()  # whose upper bits are all alike
    masked = masked_by({"site-0": {"weight": fixed}, "site-1": {"weight": fixed}})[0]["weight"]
    assert (masked != fixed).all()
    bits = np.unpackbits(masked.numpy().view(np.uint8).reshape(-1, 8), axis=1)
    # 60,000 fair coins a bit: the standard error is 0.002.
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.01
    correlation = np.corrcoef(masked.numpy().ravel().astype(float), fixed.numpy().ravel().astype(float))[0, 1]
    assert abs(correlation) < 0.02


def test_each_site_has_its_own_mask():
    zeros = {"weight": torch.zeros(2, 3, dtype=torch.int64)}
    values = [update["weight"].flatten().tolist() for update in masked_by(dict.fromkeys(SECRETS, zeros))]
    assert len({value for of_site in values for value in of_site}) == 5 * 6


def test_masking_leaves_the_update_as_it_was():
    fixed = {"weight": torch.tensor([[1, 2, 3], [4, 5, 6]])}
    masked = masked_by({"site-0": fixed, "site-1": fixed})
    kept = [int64_bytes(update) for update in masked]
    sum_masked(masked)
    assert fixed["weight"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert [int64_bytes(update) for update in masked] == kept


def test_the_same_update_is_masked_to_the_same_bytes():
    fixed = {"site-0": random_int64(0), "site-1": random_int64(1)}
    assert [int64_bytes(update) for update in masked_by(fixed)] == [int64_bytes(update) for update in masked_by(fixed)]


def test_the_order_of_the_tensors_does_not_change_the_masks():
    fixed = {"b": torch.tensor([1, 2]), "a": torch.tensor([3])}
    turned = {"a": fixed["a"], "b": fixed["b"]}
    found = sum_masked(masked_by({"site-0": fixed, "site-1": turned}))
    assert {name: total.tolist() for name, total in found.items()} == {"a": [6], "b": [2, 4]}


def test_the_order_of_the_updates_does_not_change_a_byte():
    updates = masked_by({site: random_int64(seed) for seed, site in enumerate(SECRETS)})
    expected = int64_bytes(sum_masked(updates))
    for seed in range(5):
        shuffled = random.Random(seed).sample(updates, len(updates))
        assert int64_bytes(sum_masked(shuffled)) == expected


def test_another_context_gives_unrelated_masks():
    zeros = {"weight": torch.zeros(20_000, dtype=torch.int64)}
    sites = dict.fromkeys(("site-0", "site-1"), zeros)
    one, two = (masked_by(sites, context)[0]["weight"].numpy() for context in (b"round 1", b"round 2"))
    assert not np.isin(one, two).any()
    same_bits = 1 - np.unpackbits((one ^ two).view(np.uint8)).mean()
    assert abs(same_bits - 0.5) < 0.005  # 1,280,000 bits: 11 standard errors


@pytest.mark.parametrize(
    "keys",
    [{site: key for site, key in KEYS.items() if site != "site-2"}, KEYS | {"site-2": KEYS["site-3"]}],
    ids=["without a site", "with another key of a site"],
)
def test_a_round_that_is_run_again_masks_every_pair_in_another_way(keys):
    lineage = Lineage("update", "secret", 0, 2, "site-0", 3, 2, "digest", "parent")
    zeros = {"weight": torch.zeros(2, 3, dtype=torch.int64)}
    pair = {site: KEYS[site] for site in ("site-0", "site-1")}
    first, again = (
        mask(zeros, "site-0", SECRETS["site-0"], pair, masking_context(lineage, of_round))["weight"]
        for of_round in (KEYS, keys)
    )
    assert (first != again).all()


def test_all_sites_of_a_round_mask_under_one_context():
    of_site = Lineage("update", "secret", 0, 2, "site-0", 3, 2, "digest", "parent", "cases")
    of_other = replace(of_site, site="site-1", num_cases=9, num_steps=5, cases_sha256="other cases")
    turned = dict(reversed(KEYS.items()))
    assert masking_context(of_site, KEYS) == masking_context(of_other, turned)


def test_a_context_and_a_site_name_never_run_together():
    # Without the lengths, "round 1" + "1" + "b" and "round 11" + "" + "b" would seed one keystream.
    zeros = {"weight": torch.zeros(2, 3, dtype=torch.int64)}
    own, other = KEYS["site-0"], KEYS["site-1"]
    one = mask(zeros, "1", SECRETS["site-0"], {"1": own, "b": other}, b"round 1")
    two = mask(zeros, "", SECRETS["site-0"], {"": own, "b": other}, b"round 11")
    assert (one["weight"] != two["weight"]).all()


def test_a_missing_update_leaves_noise_that_is_refused():
    sites = {site: random_weights(seed) for seed, site in enumerate(SECRETS)}
    fixed = {site: to_fixed_point(weights, 0.2, num_sites=5) for site, weights in sites.items()}
    updates = masked_by(fixed)
    truth = sum(fixed[site]["weight"] for site in list(fixed)[:-1])
    noise = sum_masked(updates[:-1])
    assert (noise["weight"].double() - truth.double()).abs().median() > 2**60
    with pytest.raises(StudyError, match=r"secure sum, tensor bias: expected values up to 2\*\*62, found larger"):
        from_fixed_point(noise, 0.8, {name: sites["site-0"][name] for name in noise})


def test_an_update_of_another_round_leaves_noise_that_is_refused():
    fixed = dict.fromkeys(("site-0", "site-1"), to_fixed_point(random_weights(1), 0.5, num_sites=2))
    mixed = [masked_by(fixed, b"round 1")[0], masked_by(fixed, b"round 2")[1]]
    with pytest.raises(StudyError, match="masks are left; sum one update of each site"):
        from_fixed_point(sum_masked(mixed), 1.0, random_weights(1))


def test_updates_are_taken_one_at_a_time():
    buffer = torch.zeros(2, dtype=torch.int64)  # one for all updates: whoever keeps them sums the last one only
    assert sum_masked({"weight": buffer.fill_(value)} for value in (1, 2, 4))["weight"].tolist() == [7, 7]


# Keys


def test_made_keys_mask_and_cancel(tmp_path):
    secrets, keys = {}, {}
    for site in ("north", "south"):
        secret_path, public_path = tmp_path / site / "secret.key", tmp_path / "public" / f"{site}.key"
        make_key_files(secret_path, public_path)
        secrets[site], keys[site] = read_key(secret_path), read_key(public_path)
    assert len({*secrets.values(), *keys.values()}) == 4
    assert {len(key) for key in (*secrets.values(), *keys.values())} == {32}
    fixed = {"weight": torch.tensor([[1, 2, 3], [4, 5, 6]])}
    masked = [mask(fixed, site, secrets[site], keys, ROUND) for site in keys]
    assert sum_masked(masked)["weight"].tolist() == [[2, 4, 6], [8, 10, 12]]


def test_only_the_owner_may_read_the_secret_key(tmp_path):
    make_key_files(tmp_path / "secret.key", tmp_path / "public.key")
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["public.key", "secret.key"]


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_file_of_another_length_is_refused(tmp_path, length):
    path = tmp_path / "secret.key"
    path.write_bytes(bytes(length))
    with pytest.raises(StudyError) as refusal:
        read_key(path)
    assert str(refusal.value) == f"{path}: expected 32 raw bytes, found {length}; copy the key file again"


def test_a_missing_key_file_is_refused(tmp_path):
    path = tmp_path / "secret.key"
    with pytest.raises(StudyError) as refusal:
        read_key(path)
    assert str(refusal.value) == f"{path}: expected a key file, found: No such file or directory; make the site's keys"


# Refusals

TINY = {"weight": torch.tensor([[1, 2, 3], [4, 5, 6]])}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(value):
    weights = {"bias": torch.zeros(3), "weight": torch.tensor([[1.0, 2.0, 3.0], [4.0, value, 6.0]])}
    with pytest.raises(StudyError, match="tensor weight: expected finite numbers, found NaN or infinity"):
        to_fixed_point(weights, 0.5, num_sites=2)


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_too_large_for_the_sum_are_refused(sign):
    largest = sign * 2.0**37  # two of them are 2**38 * 2**24 = 2**62
    weights = {"weight": torch.tensor([-largest / 2, largest], dtype=torch.float64)}
    assert to_fixed_point(weights, 1.0, num_sites=2)["weight"].tolist() == [-sign * 2**60, sign * 2**61]
    message = r"tensor weight: expected weighted values up to 9\.16e\+10 for a sum of 3 sites, found 1\.37e\+11"
    with pytest.raises(StudyError, match=message):
        to_fixed_point(weights, 1.0, num_sites=3)
    with pytest.raises(StudyError, match="for a sum of 2 sites"):
        to_fixed_point({"weight": torch.nextafter(weights["weight"], 2 * weights["weight"])}, 1.0, num_sites=2)


def test_the_largest_sum_that_passes_is_not_taken_for_noise():
    half = {"weight": torch.tensor([2**61, -(2**61)])}
    like = {"weight": torch.zeros(2)}
    sums = sum_masked(masked_by({"site-0": half, "site-1": half}))
    assert from_fixed_point(sums, 2.0, like)["weight"].tolist() == [2.0**37, -(2.0**37)]
    with pytest.raises(StudyError, match="masks are left"):
        from_fixed_point({"weight": sums["weight"] + torch.tensor([1, 0])}, 2.0, like)


def test_complex_weights_are_refused():
    with pytest.raises(StudyError, match=r"tensor weight: expected real numbers, found torch\.complex64"):
        to_fixed_point({"weight": torch.tensor([1j])}, 0.5, num_sites=2)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), -0.5])
def test_a_wrong_factor_is_refused(factor):
    with pytest.raises(StudyError, match=f"factor of the update: expected a finite number >= 0, found {factor}"):
        to_fixed_point({"weight": torch.ones(2, 3)}, factor, num_sites=2)


@pytest.mark.parametrize("total", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_wrong_total_is_refused(total):
    with pytest.raises(StudyError, match=f"total of the factors: expected a finite number > 0, found {total}"):
        from_fixed_point(TINY, total, {"weight": torch.zeros(2, 3)})


def test_a_site_alone_is_refused():
    with pytest.raises(
        StudyError, match="secure sum: expected 2 sites or more, found site-0 alone, whose update it is"
    ):
        mask(TINY, "site-0", SECRETS["site-0"], {"site-0": KEYS["site-0"]}, ROUND)


def test_a_site_without_its_own_public_key_is_refused():
    keys = {site: key for site, key in KEYS.items() if site != "site-0"}
    with pytest.raises(StudyError, match="public key of site-0: expected that of its secret key, found none"):
        mask(TINY, "site-0", SECRETS["site-0"], keys, ROUND)


def test_a_secret_key_of_another_site_is_refused():
    with pytest.raises(StudyError, match="public key of site-0: expected that of its secret key, found another"):
        mask(TINY, "site-0", SECRETS["site-1"], KEYS, ROUND)


def test_a_secret_key_of_another_length_is_refused():
    with pytest.raises(StudyError, match="secret key of site-0: expected 32 bytes, found 31"):
        mask(TINY, "site-0", SECRETS["site-0"][:31], KEYS, ROUND)


@pytest.mark.parametrize("key", [KEYS["site-1"][:31], bytes(32)], ids=["short", "point of small order"])
def test_a_public_key_that_is_none_is_refused(key):
    message = f"public key of site-1: expected an X25519 key, found {len(key)} bytes that are none"
    with pytest.raises(StudyError, match=message):
        mask(TINY, "site-0", SECRETS["site-0"], KEYS | {"site-1": key}, ROUND)


def test_an_update_that_is_not_in_fixed_point_is_refused():
    weights = {"weight": torch.ones(2, 3)}
    with pytest.raises(StudyError, match=r"tensor weight: expected int64, found torch\.float32"):
        mask(weights, "site-0", SECRETS["site-0"], KEYS, ROUND)
    for updates in ([weights, TINY], [TINY, weights]):
        with pytest.raises(StudyError, match=r"tensor weight: expected int64, found torch\.float32"):
            sum_masked(updates)


def test_updates_of_different_models_are_refused():
    longer, more = {"weight": torch.tensor([[1, 2, 3]])}, TINY | {"bias": torch.tensor([1])}
    message = r"masked update 2, tensor weight: expected shape \[2, 3\], found \[1, 3\]"
    with pytest.raises(StudyError, match=message):
        sum_masked([TINY, longer])
    with pytest.raises(StudyError, match=r"masked update 2, tensor bias: expected shape none, found \[1\]"):
        sum_masked([TINY, more])
    with pytest.raises(StudyError, match=r"masked update 2, tensor bias: expected shape \[1\], found none"):
        sum_masked([more, TINY])


def test_a_mean_for_another_model_is_refused():
    with pytest.raises(StudyError, match=r"secure sum, tensor weight: expected shape \[3, 2\], found \[2, 3\]"):
        from_fixed_point(TINY, 1.0, {"weight": torch.zeros(3, 2)})


def test_a_sum_of_no_updates_is_refused():
    with pytest.raises(StudyError, match="secure sum: expected one masked update a site, found none"):
        sum_masked([])
