"""Pure functions on float64 tensors: no model, no files, no limits."""
