"""What the market is and was: live quotes over WebSocket, history, candles."""
