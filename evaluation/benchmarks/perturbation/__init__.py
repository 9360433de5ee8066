"""Speed and growth of perturbations beside the bare passes and other implementations."""
