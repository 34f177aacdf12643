"""What ``make docs`` writes: pages of commands, fields and lints."""
