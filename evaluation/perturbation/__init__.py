"""Sparse perturbations: evaluating versions, and presenting probes and counterfactuals."""
