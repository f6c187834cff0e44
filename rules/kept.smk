# Which files of an arm stay on the disk when its rounds are over, and what is made of them.
from fedpedbrain.planning.kept_rounds import arms_in_rounds, kept_rounds, rounds_of_kept_states

# Arm to the rounds whose models stay on the disk, are validated, and may be chosen, and to those whose site states stay.
KEPT_ROUNDS = {
    name: kept_rounds(arm, LAST_ROUND, STUDY.config["study"]["keep_every"]) for name, arm in STUDY.arms.items()
}
ROUNDS_OF_KEPT_STATES = {
    name: rounds_of_kept_states(STUDY.arms[name], STUDY.seeds, LAST_ROUND, kept) for name, kept in KEPT_ROUNDS.items()
}
# Arms in the paths of what stays, by rounds, and of what goes as soon as no job needs it.
WITH_KEPT_MODELS = arms_in_rounds(KEPT_ROUNDS)
WITH_PASSING_MODELS = arms_in_rounds(KEPT_ROUNDS, others=True)
WITH_KEPT_STATES = arms_in_rounds(ROUNDS_OF_KEPT_STATES)
WITH_PASSING_STATES = arms_in_rounds(ROUNDS_OF_KEPT_STATES, others=True)


def of_kept_rounds(file, wildcards):
    """A file of every round of one arm and seed whose model stays."""
    return [in_round(wildcards, number, file) for number in KEPT_ROUNDS[wildcards.arm]]


def of_all_kept_rounds(file):
    """A file of every such round of every arm and seed."""
    return [path for model in MODELS for path in of_kept_rounds(file, model)]


def logs_of_arm(wildcards):
    """Logs of an arm's jobs, by phase of its cost: in its log every job leaves what it used."""
    of_phases = {
        "training": of_rounds_and_sites("train-{site}.log", wildcards),
        "averaging": of_rounds("aggregate.log", wildcards),
        "validation": of_kept_rounds("validate.log", wildcards),
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


def personal_sites_of_round(wildcards):
    """Sites that have weights of their own after a round."""
    arm, number = STUDY.arms[wildcards.arm], int(wildcards.round)
    return list(arm.personal_rounds(int(wildcards.seed), number))


def personal_states_of_round(wildcards):
    """The states of these sites, each after the last round that it took part in."""
    rounds = STUDY.arms[wildcards.arm].personal_rounds(int(wildcards.seed), int(wildcards.round))
    return [in_round(wildcards, number, f"states/{site}.pth") for site, number in rounds.items()]


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


def beside_models(wildcards):
    """What else belongs to an arm's history: starts of phases, and models of single sites."""
    starts = [
        in_round(wildcards, number, "best_before.pth")
        for number in range(1, LAST_ROUND + 1)
        if STUDY.arms[wildcards.arm].starts_from_best(number)
    ]
    return [*starts, *personal_models(wildcards)]
