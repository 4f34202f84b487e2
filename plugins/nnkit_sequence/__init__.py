"""Networks of sequences, such as text, sound and time series."""
