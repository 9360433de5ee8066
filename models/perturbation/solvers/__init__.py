"""Solvers: from a checked problem to the best perturbation, within a budget of pixels or the fewest of them."""
