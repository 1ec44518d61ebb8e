"""Everything that trains; the only package that imports torch."""
