"""Figures of pages and notebooks: SVG for pages, matplotlib axes for papers."""
