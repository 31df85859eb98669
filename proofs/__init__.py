"""Proofs that check every transformer class and every reward against an independent computation."""
