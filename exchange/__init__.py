"""Results in the formats of others: weights with the scales folded in, and PEFT's IA3 adapters."""
