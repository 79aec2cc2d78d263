"""From a single-device model to a sharded one: topology, planning, wrapping."""
