"""The executor `dask`: a sweep on the workers of a Dask cluster."""
