"""Running searches: budgets, run folders, records, and retraining of what was found."""
