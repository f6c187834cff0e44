# Which files a round of an arm goes on from: the exchanged .pth files are the job graph.


def in_round(wildcards, round_number, file):
    """A file of another round of the same arm and seed."""
    return f"results/models/{wildcards.arm}/seed-{wildcards.seed}/round-{round_number:03d}/{file}"


def start_of_round(wildcards):
    """The model that a round starts from: the initial one, the last global one or the best of the phase before."""
    number, arm = int(wildcards.round), STUDY.arms[wildcards.arm]
    if number == 1:
        return f"results/models/initial/seed-{wildcards.seed}.pth"
    return (
        in_round(wildcards, number, "best_before.pth")
        if arm.starts_from_best(number)
        else in_round(wildcards, number - 1, "global.pth")
    )


def start_of_site(wildcards):
    """The model that a site goes on from: the round's start, in a cyclic arm the update of the site before it."""
    number = int(wildcards.round)
    before = STUDY.arms[wildcards.arm].site_before(wildcards.site, int(wildcards.seed), number)
    return start_of_round(wildcards) if before is None else in_round(wildcards, number, f"updates/{before}.pth")


def state_of_site(wildcards):
    """The site's own state after the last round that it took part in; none in its first."""
    arm = STUDY.arms[wildcards.arm]
    number = arm.state_round(wildcards.site, int(wildcards.seed), int(wildcards.round))
    return [] if number is None else in_round(wildcards, number, f"states/{wildcards.site}.pth")


def server_state(wildcards):
    """The server's state after the round before; none in a phase's first."""
    number = int(wildcards.round)
    is_first = number == STUDY.arms[wildcards.arm].phase_of(number).first_round
    return [] if is_first else in_round(wildcards, number - 1, "server.pth")


def broadcast_state(wildcards):
    """The server's state where the arm's sites need it."""
    return server_state(wildcards) if STUDY.arms[wildcards.arm].facts.broadcasts else []


def sites_of_round(wildcards):
    """Who takes part in a round, in the order in which they are averaged."""
    return STUDY.arms[wildcards.arm].sites_in_round(int(wildcards.seed), int(wildcards.round))


def secret_key_of_site(wildcards):
    """The site's own key of the round where the arm sums securely."""
    is_secure = STUDY.arms[wildcards.arm].sums_securely
    return in_round(wildcards, int(wildcards.round), f"keys/{wildcards.site}.secret") if is_secure else []


def public_keys_of_round(wildcards):
    """The keys of all sites of the round where the arm sums securely."""
    return of_round("keys/{site}.public", wildcards) if STUDY.arms[wildcards.arm].sums_securely else []


def shards_of_participant(wildcards):
    """Shards that a participant trains on."""
    return shard_tables(STUDY.arms[wildcards.arm].shards_of[wildcards.site])


def may_be_missing(wildcards):
    """Whether rounds of an arm go on without a site whose training failed, as 0 or 1."""
    return int(STUDY.arms[wildcards.arm].allows_missing_sites)


def plan_of_site(wildcards):
    """How a site's round goes."""
    return STUDY.site_plan(wildcards.arm, int(wildcards.seed), int(wildcards.round), wildcards.site)


def of_round(pattern, wildcards):
    """A file of every site of the round."""
    return [in_round(wildcards, int(wildcards.round), pattern.format(site=site)) for site in sites_of_round(wildcards)]


def of_rounds(file, wildcards):
    """A file of every round of one arm and seed."""
    return [in_round(wildcards, number, file) for number in range(1, LAST_ROUND + 1)]


def of_all_rounds(file):
    """A file of every round of every arm and seed."""
    return [path for model in MODELS for path in of_rounds(file, model)]


def of_rounds_and_sites(pattern, wildcards):
    """A file of every round of one arm and seed and every site in it."""
    arm, seed = STUDY.arms[wildcards.arm], int(wildcards.seed)
    rounds = range(1, LAST_ROUND + 1)
    return [
        in_round(wildcards, number, pattern.format(site=site))
        for number in rounds
        for site in arm.sites_in_round(seed, number)
    ]


def inspections(wildcards):
    """The inspection of every round of every arm whose updates can be read one by one."""
    return expand(
        "results/models/{arm}/seed-{seed}/round-{round}/inspection.tsv",
        arm=STUDY.inspected_arms,
        seed=SEEDS,
        round=[f"{number:03d}" for number in range(1, LAST_ROUND + 1)],
    )
