"""What decides: features, learner, policy, sizing, exits and the receipt of every decision."""
