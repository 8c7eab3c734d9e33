"""Trials of labkit under every fault of the catalogue (N network, X exchange, D data): `labkit weather table`.

`feed`, `orders` and `account` live in virtual time with a feed, a client and a user stream at one venue; `whole_lab`
with a scheduler and its ledger; `on_sockets` in real time through a proxy that does to TCP what networks do;
`client_side` tries what no exchange can cause. `table` holds them all together.
"""
