"""A tracking server for many: MLflow over PostgreSQL, as `make stack` runs it on one machine."""
