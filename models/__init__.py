"""The four methods, the encoders they explain and the zoo of small networks; see the submodules."""
