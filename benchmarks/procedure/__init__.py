"""IBM's documented procedure, run by the tools that a person would use."""
