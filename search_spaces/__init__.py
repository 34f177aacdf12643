"""Search spaces as data: one file per dataset, its command, its duration and what to expect on top."""
