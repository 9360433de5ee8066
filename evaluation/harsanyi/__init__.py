"""The harness of Harsanyi interactions, and the drawing of And-Or graphs."""

from conceptry.evaluation.harsanyi.harness import HarsanyiHarness

HARNESS = HarsanyiHarness()
