"""What is done with described units: describe a network, audit it, ablate units by their descriptions."""
