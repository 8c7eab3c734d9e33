"""The words of the trade: plain immutable facts and the arithmetic on them. No clock, no socket, no asyncio."""
