"""Small classifiers: architectures, data sets, and their folders on disk."""
