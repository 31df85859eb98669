"""Language models: scales on a causal decoder, likelihoods of answers and generated texts."""
