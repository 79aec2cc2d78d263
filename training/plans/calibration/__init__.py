"""How a machine measures up to the estimates: tables and a page."""
