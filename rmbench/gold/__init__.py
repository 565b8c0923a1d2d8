"""Gold in place of the data's: another reward model's scores, or a verifier's verdicts."""
