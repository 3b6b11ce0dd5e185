"""Documents as self-contained HTML, one module for each kind of page."""
