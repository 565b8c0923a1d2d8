"""What preference data holds, what spoils numbers measured on it, and how a model reads it."""
