"""The toolkit by one name."""
