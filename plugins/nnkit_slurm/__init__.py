"""The executor `slurm`: a sweep as an array of Slurm jobs."""
