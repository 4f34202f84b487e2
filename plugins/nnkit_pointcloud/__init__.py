"""Networks that take a set of points as it is, without a grid."""
