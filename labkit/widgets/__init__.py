"""What a person sees in the notebook: views of snapshots that send events."""
