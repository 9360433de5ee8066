"""Scores of descriptions by the activations of units on pictures that chose nothing."""
