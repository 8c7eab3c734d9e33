"""The edge: real clocks, sockets and event loops. Everything inward of it is told the time and handed bytes."""
