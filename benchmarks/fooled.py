"""Can the laboratory be fooled? How often it claims an edge where there is none, and how often it finds a real one.

`python benchmarks/fooled.py` prints shares over seeds, each beside what is asked and beside its negative control: the
same judgement with the protection off. About a quarter of an hour of one core.
"""

from __future__ import annotations

from labkit.research import noise_trials
from labkit.research.noise_trials import Share
from labkit.trader.promotion import PromotionRule

BULK_SEEDS = range(52_000, 52_200)
PAIR_SEEDS = range(20_000, 21_000)
TAPE_SEEDS = range(41_000, 42_000)
MARKET_SEEDS = range(51_000, 51_020)
CARELESS = PromotionRule(error=0.9999, drawdown_ratio=1e9)


def tell(what: str, share: Share, asked: str) -> None:
    print(f"{what:<88} {share!s:>20}   {asked}", flush=True)


def main() -> None:
    print("Daily returns in bulk (fat tails, spells of volatility); 200 seeds, for challengers 1,000")
    tell("best of 500 random strategies claimed to have an edge", noise_trials.best_of_many(BULK_SEEDS), "at most 5 %")
    uncounted = noise_trials.best_of_many(BULK_SEEDS[:50], counted=False)
    tell("  the same, had only the best been counted", uncounted, "control: should be most")
    tell("random challenger promoted, asked every day", noise_trials.promoted_noise(PAIR_SEEDS), "at most 5 %")
    for sharpe, days, trials in ((4.0, 365, 1), (4.0, 365, 20), (3.0, 730, 20), (4.0, 730, 20), (4.0, 730, 500)):
        share = noise_trials.planted_edge(BULK_SEEDS[:50], sharpe=sharpe, days=days, strategies=trials)
        asked = "at least 80 %" if (sharpe, days, trials) == (4.0, 730, 20) else ""
        tell(f"true Sharpe ratio {sharpe:g} over {days} days among {trials} trials found", share, asked)

    print("\nWhole markets, bar by bar (no edge, no cost; 120 days, 2 symbols, 12 rules); 1,000 noise tapes")
    tapes = [noise_trials.rules_on_noise(seed) for seed in TAPE_SEEDS]
    tell("best of 12 rules claimed to have an edge", noise_trials.best_rule_on_noise(tapes), "at most 5 %")
    uncounted = noise_trials.best_rule_on_noise(tapes, counted=False)
    tell("  the same, had only the best been counted", uncounted, "control: should be more")
    tell("challenger promoted, asked every day", noise_trials.rules_promoted_on_noise(tapes), "at most 5 %")
    careless = noise_trials.rules_promoted_on_noise(tapes, CARELESS)
    tell("  the same under a rule that asks for nothing", careless, "control: should be most")

    print("\nThe trader through planted markets (5 symbols, fees, spread)")
    for kind, days, asked in (("momentum", 365, "at least 80 %"), ("momentum", 730, ""), ("null", 365, "none")):
        verdicts = [noise_trials.learner_on(kind, seed, days=days) for seed in MARKET_SEEDS]
        share = Share(sum(verdict.evidence for verdict in verdicts), len(verdicts))
        tell(f"{kind}, {days} days: an edge is claimed", share, asked)
        for number, requirement in enumerate(verdicts[0].requirements):
            met = sum(verdict.requirements[number].met for verdict in verdicts)
            tell(f"  its requirement {requirement.name!r} is met", Share(met, len(verdicts)), "")
        print(f"    seed {MARKET_SEEDS[0]}: {verdicts[0].words}")


if __name__ == "__main__":
    main()
