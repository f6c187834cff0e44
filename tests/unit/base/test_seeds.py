from fedpedbrain.base.seeds import derive_seed


def test_a_seed_is_the_same_in_every_process_and_release():
    # First eight bytes of SHA-256 of "0\x1ftraining\x1f3\x1fnorth", without the last bit.
    assert derive_seed(0, "training", 3, "north") == 0xD9528AFEA27D6F94 >> 1


def test_a_seed_fits_a_signed_64_bit_integer():
    assert all(0 <= derive_seed("part", number) < 2**63 for number in range(1000))


def test_every_part_counts():
    seeds = {
        derive_seed(seed, purpose, number, site)
        for seed in (0, 1)
        for purpose in "ab"
        for number in (1, 2)
        for site in "xy"
    }
    assert len(seeds) == 16


def test_parts_do_not_run_into_each_other():
    assert derive_seed("ab", "c") != derive_seed("a", "bc")
    assert derive_seed(1, 12) != derive_seed(11, 2)


def test_the_order_of_parts_counts():
    assert derive_seed("north", "south") != derive_seed("south", "north")
