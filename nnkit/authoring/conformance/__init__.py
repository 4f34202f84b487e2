"""The conformance suite: the contract that every plugin and every architecture must meet."""
