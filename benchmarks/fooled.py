"""Can the laboratory be fooled? How often it claims an edge where there is none, and how often it finds a real one.

`python benchmarks/fooled.py` prints shares over seeds, each beside what is asked and beside its negative control: the
same judgement with the protection off. About five minutes of one core.
"""

from __future__ import annotations

from labkit.research import noise_trials
from labkit.research.noise_trials import Share
from labkit.trader.promotion import PromotionRule

BULK_SEEDS = range(7_000, 7_200)
TAPE_SEEDS = range(7_300, 7_500)
MARKET_SEEDS = range(7_600, 7_610)
CARELESS = PromotionRule(error=0.9999, drawdown_ratio=1e9)


def tell(what: str, share: Share, asked: str) -> None:
    print(f"{what:<88} {share!s:>20}   {asked}", flush=True)


def main() -> None:
    print("Daily returns in bulk (fat tails, spells of volatility); 200 seeds")
    tell("best of 500 random strategies claimed to have an edge", noise_trials.best_of_many(BULK_SEEDS), "at most 5 %")
    uncounted = noise_trials.best_of_many(BULK_SEEDS[:50], counted=False)
    tell("  the same, had only the best been counted", uncounted, "control: should be most")
    tell("random challenger promoted, asked every day", noise_trials.promoted_noise(BULK_SEEDS), "at most 5 %")
    for sharpe, days, trials in ((4.0, 365, 1), (4.0, 365, 20), (3.0, 730, 20), (4.0, 730, 20), (4.0, 730, 500)):
        share = noise_trials.planted_edge(BULK_SEEDS[:50], sharpe=sharpe, days=days, strategies=trials)
        asked = "at least 80 %" if (sharpe, days, trials) == (4.0, 730, 20) else ""
        tell(f"true Sharpe ratio {sharpe:g} over {days} days among {trials} trials found", share, asked)

    print("\nWhole markets, bar by bar (no edge, no cost; 120 days, 2 symbols, 12 rules); 200 noise tapes")
    tapes = [noise_trials.rules_on_noise(seed) for seed in TAPE_SEEDS]
    tell("best of 12 rules claimed to have an edge", noise_trials.best_rule_on_noise(tapes), "at most 5 %")
    uncounted = noise_trials.best_rule_on_noise(tapes, counted=False)
    tell("  the same, had only the best been counted", uncounted, "control: should be more")
    tell("challenger promoted, asked every day", noise_trials.rules_promoted_on_noise(tapes), "at most 5 %")
    careless = noise_trials.rules_promoted_on_noise(tapes, CARELESS)
    tell("  the same under a rule that asks for nothing", careless, "control: should be most")

    print("\nThe trader through a planted year (5 symbols, fees, slippage, spread)")
    for kind, asked in (("momentum", "at least 80 %"), ("null", "none")):
        verdicts = [noise_trials.learner_on(kind, seed) for seed in MARKET_SEEDS]
        share = Share(sum(verdict.evidence for verdict in verdicts), len(verdicts))
        tell(f"{kind}: an edge is claimed", share, asked)
        print(f"    seed {MARKET_SEEDS[0]}: {verdicts[0].words}")


if __name__ == "__main__":
    main()
