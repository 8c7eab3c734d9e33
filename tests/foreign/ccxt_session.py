"""A session of unmodified ccxt at a paper exchange; run by ccxt's own interpreter, prints one JSON object.

Usage: python ccxt_session.py '{"rest": …, "ws": …, "api_key": …, "api_secret": …}'
"""

import asyncio
import json
import sys

import ccxt.pro


async def session(address: dict) -> dict:
    exchange = ccxt.pro.binanceusdm(
        {
            "apiKey": address["api_key"],
            "secret": address["api_secret"],
            "options": {"fetchCurrencies": False, "adjustForTimeDifference": True},
        }
    )
    api = exchange.urls["api"]
    for name, url in list(api.items()):
        if isinstance(url, str) and url.startswith("https://fapi.binance.com"):
            api[name] = url.replace("https://fapi.binance.com", address["rest"])
    api["ws"]["linear"] = address["ws"] + "/ws"
    symbol = "BTC/USDT:USDT"
    try:
        markets = await exchange.load_markets()
        tops = [(await exchange.watch_bids_asks([symbol]))[symbol] for _ in range(3)]
        book = await exchange.watch_order_book(symbol)
        price = float(exchange.price_to_precision(symbol, tops[-1]["bid"] * 0.97))
        placed = await exchange.create_order(symbol, "limit", "buy", 0.01, price)
        open_orders = await exchange.fetch_open_orders(symbol)
        canceled = await exchange.cancel_order(placed["id"], symbol)
        left = await exchange.fetch_open_orders(symbol)
        balance = await exchange.fetch_balance()
    finally:
        await exchange.close()
    return {
        "version": ccxt.__version__,
        "markets": sorted(markets),
        "bid": tops[-1]["bid"],
        "ask": tops[-1]["ask"],
        "book": [book["bids"][0][0], book["asks"][0][0]],
        "placed": placed["status"],
        "open": [order["id"] for order in open_orders] == [placed["id"]],
        "canceled": canceled["status"],
        "left": len(left),
        "balance": balance["USDT"]["total"],
    }


print(json.dumps(asyncio.run(session(json.loads(sys.argv[1])))))
