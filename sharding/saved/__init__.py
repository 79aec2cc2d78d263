"""Plans as documents: what each is for, where its tables go, what it comes to."""
