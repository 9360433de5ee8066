"""Solvers of the sparse nonnegative decomposition, and the certificate of their solutions."""

MODULES = {"active_set": "active_set", "admm": "admm", "sklearn": "coordinate_descent"}  # by the name of the solver
SOLVERS = tuple(MODULES)
