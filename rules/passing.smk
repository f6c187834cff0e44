# Rounds whose models and states do not stay: the same rules, but for what of their outputs is temporary.


use rule train_site as train_passing_site with:
    output:
        site_update=temp("results/models/{arm}/seed-{seed}/round-{round}/updates/{site}.pth"),
        state=temp("results/models/{arm}/seed-{seed}/round-{round}/states/{site}.pth"),
        metrics=temp("results/models/{arm}/seed-{seed}/round-{round}/metrics/{site}.json"),
    wildcard_constraints:
        arm=WITH_PASSING_STATES,


use rule aggregate_round as aggregate_passing_round with:
    output:
        model=temp("results/models/{arm}/seed-{seed}/round-{round}/global.pth"),
        state=temp("results/models/{arm}/seed-{seed}/round-{round}/server.pth"),
        metrics="results/models/{arm}/seed-{seed}/round-{round}/metrics.json",
        lineage="results/models/{arm}/seed-{seed}/round-{round}/lineage.json",
    wildcard_constraints:
        arm=WITH_PASSING_MODELS,
