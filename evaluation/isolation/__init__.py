"""Processes that each hold one version, so that it runs its own code: the client, their launcher, and the worker."""
