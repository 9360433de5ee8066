"""Training of the networks of the zoo and of describers. No registered version carries this folder."""
