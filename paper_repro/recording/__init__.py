"""Training the leased runs of a bundle, each to an outcome in its record."""
