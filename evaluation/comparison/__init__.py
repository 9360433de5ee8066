"""Versions side by side: who is better beyond chance, on what, by how much, and on which samples they differ."""
