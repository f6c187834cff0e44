"""From a source of cases to preprocessed shards."""
