"""labkit: a trading laboratory that lives in a Jupyter notebook."""
