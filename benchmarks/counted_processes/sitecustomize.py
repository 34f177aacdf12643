"""What every Python process of a counted command imports as it starts: its guards against faults count their time."""

import guard_clock

guard_clock.begin()
