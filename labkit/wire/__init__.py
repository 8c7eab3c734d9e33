"""Bytes ⇄ domain, in both directions, for client and exchange alike. The only home of one-letter names."""
