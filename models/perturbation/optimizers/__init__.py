"""Optimizers that stay within a ball around their start: Frank-Wolfe and projected steps."""
