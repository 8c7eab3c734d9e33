"""The daily report: tables, figures and the notebook run that makes them."""
