# Which files a round of an arm goes on from: the exchanged .pth files are the job graph.
from fedpedbrain.planning.kept_rounds import arms_in_rounds, kept_rounds, rounds_of_kept_states
from fedpedbrain.planning.validation_blocks import validation_blocks


def in_round(wildcards, round_number, file):
    """A file of another round of the same arm and seed."""
    return f"results/models/{wildcards.arm}/seed-{wildcards.seed}/round-{round_number:03d}/{file}"


def initial_model(wildcards):
    """The start of all arms of one network and seed."""
    return f"results/models/initial/{STUDY.recipes[wildcards.arm].start}/seed-{wildcards.seed}.pth"


def pretrained_weights(wildcards):
    """The weights that a network starts from, where it starts from any: a file, or what is fetched."""
    recipe = STUDY.starts[wildcards.network]
    fetched = f"results/models/initial/{wildcards.network}/pretrained.pth"
    return [] if recipe.pretrained["source"] is None else recipe.pretrained_path or fetched


def start_of_round(wildcards):
    """The model that a round starts from: the initial one, the last global one or the best of the phase before."""
    number, arm = int(wildcards.round), STUDY.arms[wildcards.arm]
    if number == 1:
        return initial_model(wildcards)
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


# What stays on the disk when an arm's rounds are over: by arm, the rounds whose models stay, are validated and may be
# chosen, and those whose site states stay.
KEPT_ROUNDS = {
    name: kept_rounds(arm, LAST_ROUND, STUDY.config["study"]["keep_every"]) for name, arm in STUDY.arms.items()
}
ROUNDS_OF_KEPT_STATES = {
    name: rounds_of_kept_states(STUDY.arms[name], STUDY.seeds, LAST_ROUND, kept) for name, kept in KEPT_ROUNDS.items()
}
# Arm to its blocks of rounds that a site validates in one job, by their first round.
VALIDATION_BLOCKS = {name: validation_blocks(STUDY.arms[name], kept) for name, kept in KEPT_ROUNDS.items()}
# Arms in the paths of what stays, by rounds, and of what goes as soon as no job needs it.
WITH_KEPT_MODELS = arms_in_rounds(KEPT_ROUNDS)
WITH_PASSING_MODELS = arms_in_rounds(KEPT_ROUNDS, others=True)
WITH_KEPT_STATES = arms_in_rounds(ROUNDS_OF_KEPT_STATES)
WITH_PASSING_STATES = arms_in_rounds(ROUNDS_OF_KEPT_STATES, others=True)


def of_kept_rounds(file, wildcards):
    """A file of every round of one arm and seed whose model stays."""
    return [in_round(wildcards, number, file) for number in KEPT_ROUNDS[wildcards.arm]]


def validations(wildcards, first_rounds):
    """What each training site wrote of these blocks of one arm and seed, site by site."""
    folder = f"results/models/{wildcards.arm}/seed-{wildcards.seed}/validation"
    return [f"{folder}/{site}/from-{first:03d}.json" for site in STUDY.training_sites for first in first_rounds]


def validations_of_arm(wildcards):
    """Scores of all rounds of one arm and seed whose models stay."""
    return validations(wildcards, VALIDATION_BLOCKS[wildcards.arm])


def validations_of_all_arms(wildcards):
    """The same of every arm and seed."""
    return [path for model in MODELS for path in validations_of_arm(model)]


def logs_of_arm(wildcards):
    """Logs of an arm's jobs, by phase of its cost: in its log every job leaves what it used."""
    of_phases = {
        "training": of_rounds_and_sites("train-{site}.log", wildcards),
        "averaging": of_rounds("aggregate.log", wildcards),
        "validation": [path.replace(".json", ".log") for path in validations_of_arm(wildcards)],
        "prediction": [f"results/evaluation/{wildcards.arm}/seed-{wildcards.seed}/predict.log"],
    }
    return {
        phase: [path.replace("results/", "results/logs/", 1) for path in paths] for phase, paths in of_phases.items()
    }


def kept_states(wildcards):
    """Every site state that stays."""
    arm, seed = STUDY.arms[wildcards.arm], int(wildcards.seed)
    return [
        in_round(wildcards, number, f"states/{site}.pth")
        for number in ROUNDS_OF_KEPT_STATES[wildcards.arm]
        for site in arm.sites_in_round(seed, number)
    ]


def of_phase_before(file, wildcards):
    """A file of every kept round of the phase that ended before a round."""
    rounds = STUDY.arms[wildcards.arm].rounds_of_phase_before(int(wildcards.round))
    kept = KEPT_ROUNDS[wildcards.arm]
    return [in_round(wildcards, number, file) for number in rounds if number in kept]


def metrics_of_phase_before(wildcards):
    """Training metrics of every round of the phase that ended before a round."""
    rounds = STUDY.arms[wildcards.arm].rounds_of_phase_before(int(wildcards.round))
    return [in_round(wildcards, number, "metrics.json") for number in rounds]


def validations_of_phase_before(wildcards):
    """Scores of the kept rounds of the phase that ended before a round."""
    rounds = STUDY.arms[wildcards.arm].rounds_of_phase_before(int(wildcards.round))
    return validations(wildcards, [first for first in VALIDATION_BLOCKS[wildcards.arm] if first in rounds])


def rounds_of_block(wildcards):
    """The kept rounds of the block that begins with a round."""
    return VALIDATION_BLOCKS[wildcards.arm][int(wildcards.round)]


def models_of_block(wildcards):
    """The global models of these rounds."""
    return [in_round(wildcards, number, "global.pth") for number in rounds_of_block(wildcards)]


def state_rounds_of_block(wildcards):
    """The round that a site's own weights are from after each of these rounds; None where it has none of its own."""
    arm, seed = STUDY.arms[wildcards.arm], int(wildcards.seed)
    return [arm.personal_round(wildcards.site, seed, number) for number in rounds_of_block(wildcards)]


def states_of_block(wildcards):
    """The states of the site with these weights, each once, in order."""
    numbers = sorted(set(state_rounds_of_block(wildcards)) - {None})
    return [in_round(wildcards, number, f"states/{wildcards.site}.pth") for number in numbers]


def rounds_of_site(wildcards):
    """The last round that a site took part in at every kept round."""
    arm, seed = STUDY.arms[wildcards.arm], int(wildcards.seed)
    rounds = {arm.last_round_with(wildcards.site, seed, number) for number in KEPT_ROUNDS[wildcards.arm]}
    return sorted(rounds - {None})


def states_of_site(wildcards):
    """The states of one site after these rounds, in order."""
    return [in_round(wildcards, number, f"states/{wildcards.site}.pth") for number in rounds_of_site(wildcards)]


def personal_sites(wildcards):
    """Sites that end with a model of their own."""
    return list(STUDY.arms[wildcards.arm].personal_rounds(int(wildcards.seed), LAST_ROUND))


def personal_models(wildcards):
    """The models of these sites."""
    folder = f"results/models/{wildcards.arm}/seed-{wildcards.seed}/personal"
    return [f"{folder}/{site}.pth" for site in personal_sites(wildcards)]


def as_arm(wildcards):
    """A candidate's wildcards as an arm's; None for a model made elsewhere."""
    is_arm = STUDY.candidates[wildcards.candidate].is_arm
    return SimpleNamespace(arm=wildcards.candidate, seed=wildcards.seed) if is_arm else None


def models_of_candidate(wildcards):
    """The models that are scored: an arm's best one, or those made elsewhere, the same for every seed."""
    best = f"results/models/{wildcards.candidate}/seed-{wildcards.seed}/best.pth"
    return STUDY.candidates[wildcards.candidate].model_paths or [best]


def filters_of_candidate(wildcards):
    """The component filters that were chosen for a candidate, where there was a choice."""
    chosen = f"results/models/{wildcards.candidate}/seed-{wildcards.seed}/filters.json"
    return chosen if STUDY.prediction.chooses_filters else []


def prediction_plan_of_candidate(wildcards):
    """How a candidate's models are run on a case."""
    return STUDY.prediction.plan(STUDY.candidates[wildcards.candidate].mean_of)


def personal_sites_of_candidate(wildcards):
    """Sites that are scored with a model of their own."""
    arm = as_arm(wildcards)
    return personal_sites(arm) if arm else []


def personal_models_of_candidate(wildcards):
    """The models of these sites."""
    arm = as_arm(wildcards)
    return personal_models(arm) if arm else []


def beside_models(wildcards):
    """What else belongs to an arm's history: starts of phases, and models of single sites."""
    starts = [
        in_round(wildcards, number, "best_before.pth")
        for number in range(1, LAST_ROUND + 1)
        if STUDY.arms[wildcards.arm].starts_from_best(number)
    ]
    return [*starts, *personal_models(wildcards)]
