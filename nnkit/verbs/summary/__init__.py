"""The verb summary: what is in a model, step by step, and what it costs."""
