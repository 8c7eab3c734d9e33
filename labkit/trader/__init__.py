"""What decides: features, learner, policy, virtual positions, sizing, exits and receipts. Statistics are floats."""
