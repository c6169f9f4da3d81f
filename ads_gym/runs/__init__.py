"""Running searches: budgets, run folders, records, reports, and retraining of what was found."""
