"""The command line: parses and prints, and knows nothing of torch."""
