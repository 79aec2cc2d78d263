"""What surrounds the planner: tables described without data, requests, sweeps, how plans look."""
