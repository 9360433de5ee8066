"""Speed and growth of Harsanyi interactions beside other implementations."""
