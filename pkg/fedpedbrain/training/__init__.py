"""One site's share of a round: batches, augmentation, losses, optimizers and the loop over them."""
