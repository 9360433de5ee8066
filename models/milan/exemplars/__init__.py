"""Exemplars: for each unit of a network, the images that activate it most, and where in them."""
