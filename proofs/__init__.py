"""Proofs of the built-in parts: every transformer class, every reward, each by an independent route."""
