"""Sparse interactions of any game of up to 1,000 players, from a budget of its rewards."""
