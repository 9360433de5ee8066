"""Interactions of tree ensembles, exactly and of any number of players."""
