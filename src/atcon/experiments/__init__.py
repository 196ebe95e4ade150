"""Where the parts meet: configurations, the run, its evaluation and its records."""
