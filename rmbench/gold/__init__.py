"""Gold that replaces the data's: another reward model's scores, or a verifier's verdicts."""
