"""One edit on every architecture, held to plain PyTorch hooks on the Hugging Face model."""
