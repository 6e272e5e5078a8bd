"""Model parallelism: one net on several devices."""
