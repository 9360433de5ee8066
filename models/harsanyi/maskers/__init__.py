"""Maskers: how players of each modality are taken out of a sample."""
