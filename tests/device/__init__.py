"""Every call on a second device, a GPU or one that is pretended, held to the CPU's numbers."""
