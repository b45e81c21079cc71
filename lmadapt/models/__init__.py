"""The base model: fetched, loaded, spoken to through one chat template, and asked for log-likelihoods."""
