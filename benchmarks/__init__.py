"""Figures, measured side by side with what one would write by hand. `make bench` runs them; no test does."""
