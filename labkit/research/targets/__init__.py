"""Figures for the feed's and the client's targets (G5 to G10, G13), measured by programs: `labkit weather figures`."""
