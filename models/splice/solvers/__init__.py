"""Solvers of the sparse nonnegative decomposition, and the certificate of their solutions."""
