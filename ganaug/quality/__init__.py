"""How good generators are, measured on real held-out images: what `ganaug evaluate-generator` does."""
