"""Speed of exemplars, descriptions and training of MILAN beside literal implementations."""
