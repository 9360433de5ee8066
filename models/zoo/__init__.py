"""The embedded default: the emoji world, its scenes, and the small encoder trained on them.

Everything here is synthetic and works offline. It is for trying conceptry out and for tests whose truth is known;
what holds on these scenes is no claim about photographs.
"""
