"""How sites and server go through a round; one behaviour per module, chosen in ``study.strategy_facts``."""
