"""Where runs execute: submitit executors and the worker that they start."""
