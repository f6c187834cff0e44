# What the jobs of an arm wrote down of their time and memory. Records that are gone are left out: nothing trains again
# for the sake of its bill.


def recorded(products, records):
    """Records of jobs, but for those that are gone while what the job made is there."""
    pairs = zip(products, records, strict=True)
    return [record for product, record in pairs if os.path.exists(record) or not os.path.exists(product)]


def records_of_training(wildcards):
    """What training took, in every round and at every site."""
    products, records = (
        of_rounds_and_sites(name, wildcards) for name in ("metrics/{site}.json", "usage/train-{site}.json")
    )
    return recorded(products, records)


def records_of_rounds(product, record, wildcards):
    """What a job of every round took."""
    folder = "results/models/{arm}/seed-{seed}/round-{round}"
    return recorded(*(rounds_of(f"{folder}/{file}", wildcards) for file in (product, record)))


def records_of_prediction(wildcards):
    """What predicting the held-out patients took."""
    folder = f"results/predictions/{wildcards.arm}/seed-{wildcards.seed}"
    return recorded([f"{folder}/masks.npy"], [f"{folder}/usage.json"])


def count_jobs(wildcards):
    """How many jobs each phase has, with a record or without."""
    num_updates = len(of_rounds_and_sites("", wildcards))
    return {"training": num_updates, "averaging": LAST_ROUND, "validation": LAST_ROUND, "prediction": 1}
