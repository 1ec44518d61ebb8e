"""What the arena trains in every arm, beside the small CNN: `evaluate.classifier`."""
