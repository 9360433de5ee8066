"""Interactions of a game: transforms, the AND-OR split, denoising, aggregation and indices."""
