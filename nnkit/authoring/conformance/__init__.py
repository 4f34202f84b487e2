"""The conformance suite: what every plugin and every architecture must keep to."""
