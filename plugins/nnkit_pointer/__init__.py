"""Networks whose outputs point at their inputs."""
