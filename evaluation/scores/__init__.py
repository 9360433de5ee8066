"""Scores of explanations that several methods share, pure functions over arrays."""
