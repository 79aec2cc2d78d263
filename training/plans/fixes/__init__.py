"""Why there is no plan, and what to change: fixes that were planned before they are told."""
